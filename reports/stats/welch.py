"""Welch's t: the interval of a difference of two means over seeds, and a test of equivalence."""

from functools import cache
from math import inf, nan, sqrt
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reports.stats.intervals import INTERVAL_SEEDS
from reports.stats.power import student_quantile, student_tail

_MANY = 1_000  # more seeds than anybody runs


class Difference(NamedTuple):
    """x̄ − ȳ, its standard error √(s_x²/n + s_y²/m), and Welch–Satterthwaite degrees of freedom."""

    value: float
    error: float
    freedom: float


class Equivalence(NamedTuple):
    """One-sided p-values: x is at least as good as y; x is worse by more than the margin."""

    supports: float
    contradicts: float


def difference(x: ArrayLike, y: ArrayLike) -> Difference:
    """The difference of two means over seeds, whose spreads may differ.

        ν = (a + b)² / (a²/(n − 1) + b²/(m − 1)),   a = s_x²/n,   b = s_y²/m

    Args:
      x, y: [n], [m] one value per seed, at least two.
    Raises:
      ValueError: if `x` or `y` is not a vector of at least two finite numbers.
    Source:
      Welch 1947; Satterthwaite 1946.
    """
    samples = [_sample(values) for values in (x, y)]
    a, b = (float(sample.var(ddof=1)) / sample.size for sample in samples)
    n, m = (sample.size for sample in samples)
    freedom = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1)) if a + b > 0 else float(n + m - 2)
    return Difference(float(samples[0].mean() - samples[1].mean()), sqrt(a + b), freedom)


def welch_interval(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Welch's interval of x̄ − ȳ, (NaN, NaN) with fewer than three seeds of either.

    In 4000 simulations each of normal scores it covered the difference in 94.9 % for 5 seeds
    against 5, 95.0 % for 10 against 10, and 94.1 % for 10 against 4 with three times the deviation.
    """
    if min(np.size(x), np.size(y)) < INTERVAL_SEEDS:
        return nan, nan
    found = difference(x, y)
    half = student_quantile((1 + level) / 2, found.freedom) * found.error
    return found.value - half, found.value + half


def equivalence(x: ArrayLike, y: ArrayLike, margin: float) -> Equivalence:
    """Whether x is equivalent to y, by two one-sided Welch t-tests.

    `supports` is the p-value of "equivalent, or better": equivalent if the difference is shown to
    lie above −margin and below margin, p being the larger of the two; better if it is shown to lie
    above 0. If x is worse by the margin or more, `supports` is below α with a probability of at
    most α. `contradicts` is the p-value of a difference below −margin.

    Args:
      x, y: [n], [m] one value per seed, at least two.
      margin: the largest difference that counts as none, in the units of the values.
    Raises:
      ValueError: if `x` or `y` is not a vector of at least two finite numbers, or `margin` is not
        positive.
    Source:
      Schuirmann 1987, two one-sided tests; Welch's t in place of Student's is ours.
    """
    if not margin > 0:
        raise ValueError(f"expected a positive margin, got {margin}")
    found = difference(x, y)
    above, below, better = (
        _p_above(found, bound, sign) for bound, sign in ((-margin, 1), (margin, -1), (0.0, 1))
    )
    return Equivalence(min(max(above, below), better), _p_above(found, -margin, -1))


def shown_margin(
    deviation: float, n: int, m: int, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest margin within which equal means are found equivalent with about the given power.

        (t_{ν, 1 − α} + t_{ν, (1 + power)/2}) s √(1/n + 1/m),   ν = n + m − 2

    Args:
      deviation: s, pooled over the seeds of both, in the units of the scores; NaN gives NaN.
      n, m: numbers of seeds.
    Source:
      Julious 2004, Sample sizes for clinical trials with normal data, § 4 (normal quantiles there,
      Student's here).
    """
    return deviation * sqrt(1 / n + 1 / m) * _quantiles(n + m - 2, alpha, power)


def seeds_for_equivalence(
    deviation: float, margin: float, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """The fewest seeds per method that find equal means equivalent at that power; None over 999."""
    normal = NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf((1 + power) / 2)
    # a lower bound, because Student's quantiles are larger than normal ones
    least = 2 * (normal * deviation / margin) ** 2
    if not least < _MANY:
        return None
    return next(
        (
            n
            for n in range(max(2, int(least)), _MANY)
            if shown_margin(deviation, n, n, alpha, power) <= margin
        ),
        None,
    )


@cache
def _quantiles(freedom: int, alpha: float, power: float) -> float:
    return student_quantile(1 - alpha, freedom) + student_quantile((1 + power) / 2, freedom)


def _p_above(found: Difference, bound: float, sign: int) -> float:
    """One-sided p-value of sign (x̄ − ȳ) lying above sign · bound."""
    distance = sign * (found.value - bound)
    if found.error == 0:  # all seeds are alike
        return student_tail(inf if distance > 0 else -inf, found.freedom)
    return student_tail(distance / found.error, found.freedom)


def _sample(values: ArrayLike) -> NDArray[np.floating[Any]]:
    sample: NDArray[np.floating[Any]] = np.asarray(values, dtype=float)
    if sample.ndim != 1 or sample.size < 2 or not np.isfinite(sample).all():
        raise ValueError(
            f"expected a vector of at least two finite values, one per seed, got {values!r}"
        )
    return sample
