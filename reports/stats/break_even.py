"""The break-even number of test tasks, after which meta-training has paid for itself.

Meta-training costs M environment steps once. On each test task the method then reaches half of the
expert's gain after s steps, and standard RL, which needs no meta-training, after t. So it is ahead
from n test tasks on, with

    M + n s = n t,   n = M / (t − s)
"""

from math import inf, nan

import numpy as np
import pandas as pd

from reports.stats.curve_areas import steps_to
from reports.stats.scores import BOUNDS, GROUP, TABLE, TOLD

STANDARD = "td3"  # learns each task alone
_ON_AXIS = (*TABLE, "axis")


def break_even(scores: pd.DataFrame) -> pd.DataFrame:
    """The break-even number of every arm against STANDARD, wherever both are finished.

    Steps are medians over seeds, because some seeds may never get there. A curve is known only at
    its checkpoints, so steps are late by up to the distance between two of them.

    Args:
      scores: `adaptation_scores`.
    Returns:
      One line per GROUP, sorted: `meta_env_steps` M, `steps` s and `standard_steps` t (infinite for
      never), and `tasks`: n, 0 where nothing was meta-trained and s < t, infinite where s ≥ t, NaN
      where neither gets there. Arms without normalised scores have no line.
    """
    columns = [*GROUP, "meta_env_steps", "steps", "standard_steps", "tasks"]
    learners = scores[~scores["method"].isin((*BOUNDS, TOLD))]
    known = learners[learners.groupby(list(GROUP))["normalised"].transform("count") > 0]
    if known.empty:
        return pd.DataFrame(columns=columns)
    steps = steps_to(known).dropna(subset=["steps"])
    medians = steps.groupby(list(GROUP))["steps"].median().reset_index()
    standard = medians[(medians["method"] == STANDARD) & (medians["variant"] == "")]
    alone = dict(
        zip(
            standard[list(_ON_AXIS)].itertuples(index=False, name=None),
            standard["steps"],
            strict=True,
        )
    )
    cost = scores.groupby(list(GROUP))["meta_env_steps"].max().fillna(0.0)
    lines = []
    for one in medians.itertuples(index=False):
        key = tuple(getattr(one, name) for name in GROUP)
        if key[: len(_ON_AXIS)] in alone and (one.method, one.variant) != (STANDARD, ""):
            t = alone[key[: len(_ON_AXIS)]]
            lines.append((*key, cost[key], one.steps, t, tasks_needed(cost[key], one.steps, t)))
    return pd.DataFrame(lines, columns=columns)


def tasks_needed(meta: float, steps: float, standard: float) -> float:
    """n = M / (t − s) for M steps of meta-training, s and t steps on a test task.

    Infinite where s ≥ t; 0 where t is infinite and s is not, since one task is then enough whatever
    M is; NaN where both are infinite.
    """
    if np.isinf(steps) and np.isinf(standard):
        return nan
    return inf if steps >= standard else meta / (standard - steps)
