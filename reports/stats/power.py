"""Student's t, and how large a difference of two methods a given number of seeds can detect."""

from functools import lru_cache
from math import erf, exp, inf, isnan, lgamma, log, log1p, pi, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(400)


def student_tail(t: float, freedom: float) -> float:
    """The upper tail of Student's t distribution.

        P(T_ν > t) = ½ I_w(ν/2, ½),   w = ν/(ν + t²),   for t ≥ 0

    with I the regularised incomplete beta function.

    Args:
      t: any number, including infinities.
      freedom: ν, positive; it need not be whole.
    Raises:
      ValueError: if `freedom` is not positive, or either is NaN.
    Source:
      Abramowitz and Stegun 1964, 26.5.27 and 26.7.1.
    """
    if isnan(t) or not freedom > 0:
        raise ValueError(
            f"expected a number and positive degrees of freedom, got t = {t} and ν = {freedom}"
        )
    if t < 0:
        return 1 - student_tail(-t, freedom)
    return 0.0 if t == inf else _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2


@lru_cache(maxsize=4096)
def student_quantile(p: float, freedom: float) -> float:
    """The number that Student's t with ν degrees of freedom stays below with probability `p`.

    Raises:
      ValueError: if `p` is not in (0, 1) or `freedom` is not positive.
    """
    if not 0 < p < 1:
        raise ValueError(f"expected a probability in (0, 1), got {p}")
    if p == 0.5:
        return 0.0
    tail = min(p, 1 - p)
    t = NormalDist().inv_cdf(1 - tail)
    for _ in range(200):  # Newton: the tail is convex and t too small at first, so it only grows
        step = (student_tail(t, freedom) - tail) / _density(t, freedom)
        t += step
        if step <= 1e-14 * t:
            break
    return t if p > 0.5 else -t


def pooled_deviation(x: ArrayLike, y: ArrayLike) -> float:
    """Deviation over seeds within each of two methods, pooled.

        s² = (Σ (x_i − x̄)² + Σ (y_j − ȳ)²) / (n + m − 2)

    Args:
      x, y: [n], [m] one value per seed.
    Returns:
      s, in the units of the values; NaN where both have one seed.
    """
    samples = [np.asarray(values, dtype=float) for values in (x, y)]
    freedom = sum(sample.size for sample in samples) - 2
    squares = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in samples)
    return sqrt(squares / freedom) if freedom > 0 else float("nan")


def detectable_effect(
    deviation: float, n: int, m: int, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest difference of means that a two-sided two-sample t-test detects at a given power.

        Δ = δ s √(1/n + 1/m),   P(|T_ν(δ)| > t_{ν, 1 − α/2}) = power,   ν = n + m − 2

    with T_ν(δ) noncentral t. It is exact for normal scores with equal deviations, and a guide for
    the permutation test, whose discreteness makes it a little weaker with few seeds. α is the level
    of a single test: nothing here corrects for the number of tests.

    Args:
      deviation: s, pooled over the seeds of both, in the units of the scores.
      n, m: numbers of seeds.
      alpha: level of the test, in (0, 1).
      power: chance to detect a difference Δ, in (alpha, 1).
    Returns:
      Δ in the units of `deviation`; NaN if that is NaN.
    Raises:
      ValueError: if there are fewer than three seeds in all, or `alpha`, `power` or `deviation` is
        out of range.
    Source:
      Cohen 1988, Statistical power analysis, ch. 2; Colas et al. 2018 (arXiv 1806.08295).
    """
    if not 0 < alpha < power < 1:
        raise ValueError(f"expected 0 < alpha < power < 1, got alpha = {alpha} and power = {power}")
    if np.isnan(deviation):
        return float("nan")
    if min(n, m) < 1 or n + m < 3:
        raise ValueError(
            f"a deviation needs at least three seeds in all and one of each method, got {n} and {m}"
        )
    if deviation < 0:
        raise ValueError(f"a deviation cannot be negative, got {deviation}")
    return deviation * sqrt(1 / n + 1 / m) * _noncentrality(n + m - 2, alpha, power)


@lru_cache
def _noncentrality(freedom: int, alpha: float, power: float) -> float:
    """The δ at which noncentral t exceeds the two-sided critical value with probability `power`."""
    critical = _root(lambda t: -_beyond(t, 0.0, freedom), -alpha)
    return _root(lambda delta: _beyond(critical, delta, freedom), power)


def _beyond(t: float, delta: float, freedom: int) -> float:
    """P(|T_ν(δ)| > t): mean of Φ(δ − t r) + Φ(−δ − t r) over r = √(χ²_ν/ν), by Gauss–Legendre."""
    end = 1 + 9 / sqrt(freedom)  # the rest of χ² is negligible
    r = end * (_NODES + 1) / 2
    weight = end * _WEIGHTS / 2
    half = freedom / 2
    density = np.exp(
        log(2) + half * log(half) - lgamma(half) + (freedom - 1) * np.log(r) - half * r**2
    )
    return float((weight * density * (_normal(delta - t * r) + _normal(-delta - t * r))).sum())


def _density(t: float, freedom: float) -> float:
    """Density of Student's t."""
    peak = exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2)) / sqrt(freedom * pi)
    return float(peak * (1 + t * t / freedom) ** (-(freedom + 1) / 2))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b) by its continued fraction, where that converges fast, or from I_{1−x}(b, a)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    c = 1.0
    d = 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 1_000):  # a few dozen suffice
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / (1 + term * d)
            c = 1 + term / c
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * value


def _normal(z: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    return np.array([0.5 * (1 + erf(value / sqrt(2))) for value in z.tolist()])


def _root(increasing: Any, target: float) -> float:
    """The positive argument at which an increasing function reaches `target`, by bisection."""
    low = 0.0
    high = 1.0
    while increasing(high) < target:
        low = high
        high = 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if increasing(middle) < target else (low, middle)
    return (low + high) / 2
