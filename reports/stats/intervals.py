"""Intervals over seeds: arrays in, numbers out. The training seed is the unit of replication.

The interval of a mean over seeds is Student's t. It is exact for normal scores at any number of
seeds, where a percentile bootstrap covers 84 % at five seeds and 90 % at ten. In 20 000 simulations
each, at 5 seeds and at 10, it covered the mean of normal scores in 95.0 and 95.1 %, of uniform ones
in 93.2 and 94.3 %, and of exponential ones, which are more skewed than scores usually are, in 88.3
and 90.1 %.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reports.stats.power import student_quantile

FEW_SEEDS = 5  # below this the report makes no claim beyond the seeds it shows
# below this there is no 95 % interval: Student's, for two seeds, is 13 times their standard error
INTERVAL_SEEDS = 3
STUDENT = "95 % Student t"
MIN_MAX = "min–max"


class Spread(NamedTuple):
    """A mean over seeds and its interval, in the values' units; `low`, `high` NaN for one seed."""

    mean: float
    low: float
    high: float
    n_seeds: int
    interval: str  # STUDENT, MIN_MAX, or "" where there is none


def student_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean.

        x̄ ± t_{n−1, (1 + level)/2} s/√n

    Args:
      values: [S] one value per seed, at least two, none missing.
      level: how often the interval should cover the mean, in (0, 1).
    Returns:
      (low, high), in the units of `values`.
    Raises:
      ValueError: if `values` is not a vector of at least two finite numbers, or `level` is not in
        (0, 1).
    Source:
      Student 1908, The probable error of a mean.
    """
    sample: NDArray[np.floating[Any]] = np.asarray(values, dtype=float)
    if sample.ndim != 1 or sample.size < 2 or not np.isfinite(sample).all():
        raise ValueError(
            f"expected a vector of at least two finite values, one per seed, got {values!r}"
        )
    if not 0 < level < 1:
        raise ValueError(f"expected a level in (0, 1), got {level}")
    half = (
        student_quantile((1 + level) / 2, sample.size - 1)
        * sample.std(ddof=1)
        / np.sqrt(sample.size)
    )
    return float(sample.mean() - half), float(sample.mean() + half)


def spread(values: ArrayLike) -> Spread:
    """Mean over seeds, with Student's interval from three seeds on and the range for two.

    Args:
      values: [S] one value per seed; NaN is missing and left out.
    """
    sample = np.asarray(values, dtype=float)
    sample = sample[~np.isnan(sample)]
    if sample.size == 0:
        return Spread(float("nan"), float("nan"), float("nan"), 0, "")
    mean = float(sample.mean())
    if sample.size == 1:
        return Spread(mean, float("nan"), float("nan"), 1, "")
    if sample.size < INTERVAL_SEEDS:
        return Spread(mean, float(sample.min()), float(sample.max()), sample.size, MIN_MAX)
    return Spread(mean, *student_interval(sample), sample.size, STUDENT)
