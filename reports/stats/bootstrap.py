"""The stratified bootstrap of a statistic over seeds × families, corrected for few seeds.

Axes are those of `reports.stats.estimates`.

The percentile interval from resamples of all n seeds is too narrow: their means spread less, by
√((n − 1)/n), than means of fresh seeds do, and normal quantiles are too small when there are few
seeds. `estimate` therefore draws n − 1 seeds of n, so that resampled means have the variance s²/n,
and stretches the interval about the estimate by t_ν/z, with the degrees of freedom of `freedom_of`.
In 4000 simulations each of normal scores with equal deviations, for 5 and 10 seeds in one family,
then for 5 and 10 seeds in six families, it covered

    mean                94.3, 94.7; 95.9, 95.5 %   (not corrected: 84, 90; 91, 93 %)
    IQM                 95.7, 96.8; 96.2, 95.5 %
    median              94.3, 94.7; 97.7, 98.0 %   (six families of one mean)
                                    95.5, 95.8 %   (six families whose means differ)
    optimality gap      93.8, 94.4; 95.8, 94.9 %

With 5 seeds in six families, one of which has five times the deviation of the others, it covered
the mean in 94.5 % and the IQM in 97.8 %. If all seeds agree on a share or a probability, as in 10
wins out of 10, so do all resamples: the interval has no width, which does not mean certainty.
"""

from statistics import NormalDist

import numpy as np

from reports.stats.estimates import Statistic, even_shares, present, variances_of
from reports.stats.intervals import INTERVAL_SEEDS
from reports.stats.power import student_quantile
from reports.stats.score_matrix import FloatArray

BOOTSTRAP = "95 % bootstrap"
UNBOUNDED = (-np.inf, np.inf)
SHARE = (0.0, 1.0)  # the range of a share or a probability


def resampled_shares(
    values: FloatArray, generator: np.random.Generator, draws: int, fewer: int = 1
) -> FloatArray:
    """Resample the seeds of every family with replacement, each family by itself.

    Args:
      values: [F, S] scores, NaN where there is none.
      generator: source of the resamples; the same state gives the same resamples.
      draws: number of resamples.
      fewer: how many fewer seeds are drawn than a family has. With 1, a resampled mean has the
        variance s²/n; 0 is the bootstrap without correction. At least one seed is drawn from every
        family.
    Returns:
      [draws, F, S] how often each seed was drawn, divided by the number drawn in its family.
    Raises:
      ValueError: if a family has no score, a row has a score after a missing one, or there are no
        draws.
    Source:
      Agarwal et al. 2021 (arXiv 2108.13264), § 4.1, stratified bootstrap; Rao and Wu 1988, n − 1 of
      n; families of different sizes are ours.
    """
    if draws < 1:
        raise ValueError(
            f"expected at least one resample, got draws = {draws}; some thousands are usual"
        )
    found = present(values)
    n_families, n_seeds = found.shape
    size = found.sum(axis=1, keepdims=True)  # [F, 1]
    if (found != (np.arange(n_seeds) < size)).any():
        raise ValueError(
            "a score follows a missing one; put the seeds of each family first, then NaN"
        )
    taken = np.maximum(size - fewer, 1)
    chosen = generator.integers(size, size=(draws, n_families, n_seeds))
    cell = chosen + n_seeds * np.arange(draws * n_families).reshape(draws, n_families, 1)
    drawn = np.broadcast_to(np.arange(n_seeds) < taken, cell.shape)
    counts = np.bincount(cell[drawn], minlength=cell.size).reshape(cell.shape)
    return np.asarray(counts / taken)


def estimate(
    values: FloatArray,
    statistic: Statistic,
    generator: np.random.Generator,
    level: float = 0.95,
    draws: int = 5_000,
    *,
    bounds: tuple[float, float] = UNBOUNDED,
    corrected: bool = True,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A statistic with its stratified bootstrap interval, corrected for few seeds.

        low = θ − t_ν/z (θ − q_low),   high = θ + t_ν/z (q_high − θ)

    where θ is the statistic of the scores and q are its percentiles over resamples of n − 1 seeds
    of each family; θ itself is always inside.

    Args:
      values: [F, S] scores, NaN where there is none.
      statistic: one of `reports.stats.estimates`, or one with the same arguments; its result may
        have trailing axes, such as thresholds.
      generator: source of the resamples.
      level: how often the interval should cover, in (0, 1).
      draws: number of resamples.
      bounds: the range that the statistic cannot leave, such as SHARE.
      corrected: False gives the plain percentiles from n seeds, as other libraries do.
    Returns:
      (value, low, high), each with the statistic's trailing axes; `low` and `high` are NaN where a
      family has fewer than three seeds, which are too few to resample.
    Raises:
      ValueError: if `values` is not such an array, or `level` or `draws` is out of range.
    """
    value = statistic(values, even_shares(values))
    if not resampled_enough(values):
        return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
    low, high = percentiles(
        statistic(values, resampled_shares(values, generator, draws, int(corrected))), level
    )
    if not corrected:
        return value, low, high
    variances, sizes = variances_of(values)
    return value, *stretched(
        value, low, high, freedom=freedom_of(variances, sizes), level=level, bounds=bounds
    )


def freedom_of(variances: FloatArray, sizes: FloatArray) -> float:
    """Degrees of freedom of a sum of means over seeds, each with its own deviation.

        ν = (Σ_f v_f)² / Σ_f v_f²/(n_f − 1),   v_f = s_f²/n_f

    or Σ_f (n_f − 1) if no family varies over its seeds. ν lies between the smallest n_f − 1, where
    one family varies much more than the others, and Σ_f (n_f − 1), where all vary alike.

    Args:
      variances, sizes: v_f and n_f of every family; all v_f have the same unit.
    Source:
      Satterthwaite 1946, for the mean; used here for the other statistics too.
    """
    spent = float((variances**2 / (sizes - 1)).sum())
    return float(variances.sum()) ** 2 / spent if spent > 0 else float((sizes - 1).sum())


def stretched(
    value: FloatArray,
    low: FloatArray,
    high: FloatArray,
    freedom: float,
    level: float,
    bounds: tuple[float, float],
) -> tuple[FloatArray, FloatArray]:
    """Widen an interval about `value` by Student's t over the normal quantile, within `bounds`."""
    p = (1 + level) / 2
    factor = student_quantile(p, freedom) / NormalDist().inv_cdf(p)
    far = (
        np.minimum(value, value - factor * (value - low)),
        np.maximum(value, value + factor * (high - value)),
    )
    return np.maximum(far[0], bounds[0]), np.minimum(far[1], bounds[1])


def percentiles(resampled: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Bounds [...] that leave (1 − level)/2 of the resampled statistics [draws, ...] on each side.

    Raises:
      ValueError: if `level` is not in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"expected a level in (0, 1), got {level}")
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def resampled_enough(values: FloatArray) -> bool:
    """Whether every family has at least the three seeds that an interval needs."""
    return bool((present(values).sum(axis=1) >= INTERVAL_SEEDS).all())
