"""What a method loses out of distribution, in parts: before it learns, while it does, and for good.

Losses are measured against a policy that is told the parameters of its task and goes on training
there: the return R that it reaches in the end is possible with the same training tasks and steps.

    zero-shot = R − J(0)    speed = J(B) − A    ceiling = R − J(B)

J(b) is the return after b steps on the test task, B the budget and A the mean height of the
adaptation curve over log b. What a method loses on average while it adapts, R − A, is speed plus
ceiling.
"""

from math import nan

import numpy as np
import pandas as pd

from reports.stats.curve_areas import ZERO, adaptation_areas
from reports.stats.intervals import STUDENT, spread
from reports.stats.score_matrix import FloatArray
from reports.stats.scores import BOUNDS, GROUP, TABLE, TOLD, last_scores
from reports.stats.welch import welch_interval

PARTS = ("zero_shot", "speed", "ceiling")
_ON_AXIS = (*TABLE, "axis")


def loss_parts(scores: pd.DataFrame) -> pd.DataFrame:
    """The parts of every arm's loss, wherever TOLD is finished in its default settings.

    Args:
      scores: `adaptation_scores`.
    Returns:
      One line per GROUP and `part` (of PARTS), sorted, without the bounds: `mean` over seeds with
      its 95 % interval `low`, `high`, NaN for fewer than three seeds of either; `n_seeds`.
      Differences from R have Welch's interval, as R has seeds of its own, and speed has Student's.
      For TOLD itself, zero-shot is paired by seed, and the ceiling is 0 by definition.
    """
    last = last_scores(scores.dropna(subset=["return_mean"]))
    last = last[~last["method"].isin(BOUNDS)]
    told = last[(last["method"] == TOLD) & (last["variant"] == "")]
    reached = {place: lines["return_mean"].to_numpy() for place, lines in told.groupby([*_ON_AXIS])}
    columns = [*GROUP, "part", "mean", "low", "high", "n_seeds"]
    places = last[list(_ON_AXIS)].itertuples(index=False, name=None)
    here = last[[place in reached for place in places]]
    if here.empty:
        return pd.DataFrame(columns=columns)
    start = scores[scores["env_steps"] == 0].set_index([*GROUP, "seed"])["return_mean"]
    # without the zero action, so that areas are not floored at it: a curve may lie below it
    learners = scores[scores["method"] != ZERO]
    areas = adaptation_areas(learners, value="return_mean").set_index([*GROUP, "seed"])["area"]
    lines: list[tuple[object, ...]] = []
    for key, of_arm in here.groupby([*GROUP]):
        seeds = pd.MultiIndex.from_frame(of_arm[[*GROUP, "seed"]])
        end = of_arm["return_mean"].to_numpy()
        r = reached[key[: len(_ON_AXIS)]]
        begin, area = (table.reindex(seeds).to_numpy() for table in (start, areas))
        itself = key[len(_ON_AXIS) :] == (TOLD, "")
        zero_shot = _student(end - begin) if itself else _less(r, begin)
        ceiling = (0.0, nan, nan, end.size) if itself else _less(r, end)
        lines += [
            (*key, "zero_shot", *zero_shot),
            (*key, "speed", *_student(end - area)),
            (*key, "ceiling", *ceiling),
        ]
    return pd.DataFrame(lines, columns=columns)


def _less(reached: FloatArray, found: FloatArray) -> tuple[float, float, float, int]:
    """Mean of R − J with Welch's interval, and the number of seeds of J."""
    found = found[~np.isnan(found)]
    if not found.size:
        return nan, nan, nan, 0
    mean = float(reached.mean() - found.mean())
    return mean, *welch_interval(reached, found), found.size


def _student(values: FloatArray) -> tuple[float, float, float, int]:
    """Mean over seeds with Student's interval."""
    mean, low, high, n_seeds, interval = spread(values)
    return (mean, low, high, n_seeds) if interval == STUDENT else (mean, nan, nan, n_seeds)
