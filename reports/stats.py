"""Intervals over seeds: arrays in, numbers out. The training seed is the replication unit."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEW_SEEDS = 5  # below this the report makes no claim beyond the seeds it shows
BOOTSTRAP_SEEDS = 3  # below this a bootstrap has nothing to resample
BOOTSTRAP = "95 % bootstrap"
MIN_MAX = "min–max"


class Spread(NamedTuple):
    """A mean over seeds and the interval around it, in the units of the values; `low` and `high` are NaN for one seed."""

    mean: float
    low: float
    high: float
    n_seeds: int
    interval: str  # BOOTSTRAP, MIN_MAX, or "" where there is none


def bootstrap_interval(
    values: ArrayLike, generator: np.random.Generator, level: float = 0.95, draws: int = 5_000
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    Args:
      values: [S] one value per seed, none missing.
      generator: where the resamples come from; the same generator state gives the same interval.
      level: share of the resampled means inside the interval, in (0, 1).
      draws: number of resamples.
    Returns:
      (low, high), in the units of `values`.
    Raises:
      ValueError: if `values` is not a vector of at least one finite number, or `level` is not in (0, 1).
    Source:
      Efron 1979, Bootstrap methods: another look at the jackknife; percentile method.
    """
    sample: NDArray[np.floating[Any]] = np.asarray(values, dtype=float)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"expected a vector of finite values, one per seed, got {values!r}")
    if not 0 < level < 1:
        raise ValueError(f"expected a level in (0, 1), got {level}")
    chosen = generator.integers(sample.size, size=(draws, sample.size))  # [draws, S]
    low, high = np.quantile(sample[chosen].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def spread(values: ArrayLike, generator: np.random.Generator) -> Spread:
    """Mean over seeds with a bootstrap interval from three seeds on, and from lowest to highest for two.

    Args:
      values: [S] one value per seed; NaN is missing and left out.
      generator: where the resamples come from.
    """
    sample = np.asarray(values, dtype=float)
    sample = sample[~np.isnan(sample)]
    if sample.size == 0:
        return Spread(float("nan"), float("nan"), float("nan"), 0, "")
    mean = float(sample.mean())
    if sample.size == 1:
        return Spread(mean, float("nan"), float("nan"), 1, "")
    if sample.size < BOOTSTRAP_SEEDS:
        return Spread(mean, float(sample.min()), float(sample.max()), sample.size, MIN_MAX)
    return Spread(mean, *bootstrap_interval(sample, generator), sample.size, BOOTSTRAP)
