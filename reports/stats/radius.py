"""The adaptation radius: how far from the training law a method still adapts.

At each level of a shift axis a seed's gain is scaled so that doing nothing is 0 and an expert is 1:
by the reference returns of the tasks if all have them, else by the zero action and the best method
of the same table other than TOLD. The radius is the largest distance up to which half of that is
reached.
"""

import numpy as np
import pandas as pd

from reports.stats.intervals import STUDENT, spread
from reports.stats.score_matrix import FloatArray
from reports.stats.scores import ARM, BOUNDS, GROUP, IN_DISTRIBUTION, TABLE, TOLD

HALF = 0.5
_ON_AXIS = (*TABLE, "axis")


def adaptation_radius(levels: pd.DataFrame, threshold: float = HALF) -> pd.DataFrame:
    """The radius of every arm on every axis with several levels, at its last checkpoint.

    Args:
      levels: `level_scores`.
      threshold: the scaled gain that has to be reached.
    Returns:
      One line per GROUP, sorted: `mean` over seeds, `low` and `high` of Student's interval from
      three seeds on, `n_seeds`, `farthest`, the farthest level tried, `beyond`, how many seeds
      still reach the threshold there, which makes the mean too small, and `scaled_by`, "references"
      or "the best here".
    """
    columns = [*GROUP, "mean", "low", "high", "n_seeds", "farthest", "beyond", "scaled_by"]
    n_levels = levels.groupby(list(_ON_AXIS))["level"].transform("nunique")
    tried = levels[(n_levels > 1) & (levels["axis"] != IN_DISTRIBUTION)]
    if tried.empty:
        return pd.DataFrame(columns=columns)
    ends = tried.groupby([*GROUP, "seed"])["env_steps"].transform("max")
    lines = []
    for place, at_end in tried[tried["env_steps"] == ends].groupby(list(_ON_AXIS)):
        gains, scaled_by = _gains(at_end)
        learners = at_end.assign(gain=gains)
        for arm, of_arm in learners[~learners["method"].isin(BOUNDS)].groupby(list(ARM)):
            table = of_arm.pivot(index="seed", columns="level", values="gain")
            distances = table.columns.to_numpy(float)
            radii = [reach(distances, row, threshold) for row in table.to_numpy(float)]
            mean, low, high, n_seeds, interval = spread(radii)
            if interval != STUDENT:
                low = high = float("nan")
            beyond = sum(radius >= distances[-1] for radius in radii)
            lines.append((*place, *arm, mean, low, high, n_seeds, distances[-1], beyond, scaled_by))
    return pd.DataFrame(lines, columns=columns)


def reach(distances: FloatArray, gains: FloatArray, threshold: float) -> float:
    """The distance at which gains first fall below the threshold, interpolated between levels.

    0 if the gain at the nearest level is already below it, the farthest distance if none is, NaN if
    a gain is missing before that.

    Args:
      distances: [levels] ascending, above 0. gains: [levels].
    """
    for i, gain in enumerate(gains):
        if np.isnan(gain):
            return float("nan")
        if gain < threshold:
            if i == 0:
                return 0.0
            near, far = gains[i - 1], gain
            share = (near - threshold) / (near - far)
            return float(distances[i - 1] + share * (distances[i] - distances[i - 1]))
    return float(distances[-1])


def _gains(at_end: pd.DataFrame) -> "tuple[pd.Series[float], str]":
    """The scaled gain of every line of one place, and what it was scaled by."""
    if at_end["normalised"].notna().all():
        return at_end["normalised"], "references"
    means = at_end.groupby(["level", *ARM])["return_mean"].mean().reset_index()
    floor = means[means["method"] == "zero"].set_index("level")["return_mean"]
    best = means[means["method"] != TOLD].groupby("level")["return_mean"].max()
    low, high = (at_end["level"].map(by_level) for by_level in (floor, best))
    gains = (at_end["return_mean"] - low) / (high - low).where(high > low)
    # where no method beats doing nothing, the gain is 0
    return gains.where(high > low, 0.0).where(low.notna()), "the best here"
