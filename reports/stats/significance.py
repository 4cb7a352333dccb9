"""Whether two methods differ: permutation tests over seeds, corrected for multiple testing."""

from functools import lru_cache
from itertools import chain, combinations
from math import comb

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from reports.stats.power import detectable_effect, pooled_deviation
from reports.stats.score_matrix import APART, STRATUM, FloatArray, arms_of, checked
from reports.stats.scores import ARM, OTHER

EXACT_UP_TO = 200_000  # rearrangements, all evaluated; ten seeds against ten have 184 756
DRAWN = 20_000  # rearrangements to draw if there are more
_SLACK = 1e-9  # relative; sums of the same numbers in another order differ in their last digits


def permutation_test(
    x: ArrayLike,
    y: ArrayLike,
    generator: np.random.Generator,
    exact_up_to: int = EXACT_UP_TO,
    draws: int = DRAWN,
) -> float:
    """Two-sided p-value of a difference of means between seeds of two methods.

        p = #{rearrangements π : |x̄_π − ȳ_π| ≥ |x̄ − ȳ|} / #{π}

    over all ways to call n of the n + m seeds x; if there are too many, over randomly drawn ones,
    as (1 + #) / (1 + draws). The test is exact for any number of seeds if both methods have the
    same distribution. Methods of equal means but different spread are called different too often if
    the one with fewer seeds has the larger spread (normal, 10 seeds against 4 with three times the
    deviation: 20 % at the 5 % level), but hardly if the numbers are equal (5 against 5: 8 %). With
    n and m seeds p is never below `lowest_p(n, m)`.

    Args:
      x, y: [n], [m] one value per seed, none missing.
      generator: source of the rearrangements, used only if they are drawn.
      exact_up_to: the number of rearrangements up to which all are evaluated.
      draws: the number to draw otherwise.
    Returns:
      p in (0, 1].
    Raises:
      ValueError: if `x` or `y` is not a vector of at least one finite value, or `draws` is below
        one.
    Source:
      Fisher 1935; Phipson and Smyth 2010 for the drawn ones.
    """
    x = _sample(x)
    y = _sample(y)
    if draws < 1:
        raise ValueError(
            f"expected at least one rearrangement, got draws = {draws}; some thousands are usual"
        )
    pooled = np.concatenate((x, y))
    # then the sum of those called x is the difference of means up to a factor
    pooled = pooled - pooled.mean()
    observed = abs(pooled[: x.size].sum()) - _SLACK * np.abs(pooled).sum()
    if comb(pooled.size, x.size) <= exact_up_to:
        return float((np.abs(pooled[_all(pooled.size, x.size)].sum(axis=1)) >= observed).mean())
    order = generator.permuted(np.broadcast_to(pooled, (draws, pooled.size)), axis=1)
    return float((1 + (np.abs(order[:, : x.size].sum(axis=1)) >= observed).sum()) / (1 + draws))


def lowest_p(n: int, m: int, exact_up_to: int = EXACT_UP_TO, draws: int = DRAWN) -> float:
    """The lowest p-value `permutation_test` can give with n and m seeds, however far apart.

    The most extreme rearrangement is one of all, or one of two that mirror each other if n = m.
    """
    total = comb(n + m, n)
    return (1 + (n == m)) / total if total <= exact_up_to else 1 / (1 + draws)


def holm(p_values: ArrayLike) -> FloatArray:
    """Correct p-values for their number, so that P(any false rejection) is at most the level.

        p̃_(i) = max_{j ≤ i} min(1, (m − j + 1) p_(j))

    over the m p-values in ascending order; NaN, a test that was not made, stays NaN and does not
    count.

    Args:
      p_values: [m] p-values of tests that may depend on each other in any way.
    Returns:
      [m] in the order of `p_values`.
    Raises:
      ValueError: if `p_values` is not a vector of numbers in [0, 1] or NaN.
    Source:
      Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    p = np.asarray(p_values, dtype=float)
    made = ~np.isnan(p)
    if p.ndim != 1 or ((p[made] < 0) | (p[made] > 1)).any():
        raise ValueError(f"expected a vector of p-values in [0, 1], got {p_values!r}")
    order = np.argsort(p, kind="stable")[: made.sum()]  # NaN is last
    adjusted = np.full_like(p, np.nan)
    adjusted[order] = np.minimum(
        np.maximum.accumulate(p[order] * np.arange(order.size, 0, -1)), 1.0
    )
    return adjusted


def differences(
    scores: pd.DataFrame,
    against: tuple[str, str] | None = None,
    *,
    value: str = "score",
    alpha: float = 0.05,
    power: float = 0.8,
    seed: int = 0,
) -> pd.DataFrame:
    """Differences of means over seeds in each family, with p-values and detectable effects.

    Scores are compared within a family and shift axis only, so returns need no normalisation.
    Leave out of `scores` whatever is not to be corrected for, such as other methods.

    Args:
      scores: one line per `family`, `axis`, `method`, `variant` and `seed`, and per `suite`,
        `budget` and `split` where it has them, such as `reports.stats.scores.last_scores`; NaN
        where a score is missing.
      against: the arm that the others are compared with; None compares every pair, the later arm
        with the earlier.
      value: the column to compare.
      alpha, power: level and power that the smallest detectable effect is computed for.
      seed: generator seed, from which each test starts afresh.
    Returns:
      One line per suite, budget and split (where known), arm, other arm (`other`, `other_variant`),
      `family` and `axis`, sorted: `difference`, arm − other; `p`; `p_holm`, corrected over all
      lines of the same suite, budget and split; `lowest_p` that so few seeds can give; `deviation`,
      pooled over the two; `smallest_effect`, the difference that a two-sample t-test would detect
      with that power, in the units of the scores, and infinite where `lowest_p` > `alpha`, since
      then none is ever detected; `n_seeds` and `n_other`. A family that only one of the two has
      gets no line.
    Raises:
      ValueError: if `against` has no score, or `scores` has duplicate keys, lacks a column, or
        holds a non-number.
    """
    table = checked(scores, value).dropna(subset=["value"])
    apart = [name for name in APART if name in table]
    if against is not None and len(table) and tuple(against) not in (arms := arms_of(table)):
        raise ValueError(
            f"there is no score of {against!r}; the arms (method, variant) are"
            f" {', '.join(map(str, arms))}"
        )
    found = []
    for key, lines in table.groupby([*apart, *STRATUM]):
        arms = {arm: mine["value"].to_numpy() for arm, mine in arms_of(lines).items()}
        for other, arm in combinations(arms, 2):
            if against is not None and tuple(against) not in (arm, other):
                continue
            if against is not None and arm == tuple(against):
                arm, other = other, arm
            tested = _tested(arms[arm], arms[other], alpha, power, np.random.default_rng(seed))
            found.append((*key, *arm, *other, *tested))
    result = pd.DataFrame(found, columns=[*apart, *STRATUM, *ARM, *OTHER, *_TESTED])
    together = (
        result.groupby(apart)["p"].transform(holm)
        if apart and len(result)
        else holm(result["p"].to_numpy(float))
    )
    names = [*apart, *ARM, *OTHER, *STRATUM]
    columns = [*names, "difference", "p", "p_holm", *_TESTED[2:]]
    return result.assign(p_holm=together)[columns].sort_values(names, ignore_index=True)


_TESTED = ("difference", "p", "lowest_p", "deviation", "smallest_effect", "n_seeds", "n_other")


def _tested(
    x: FloatArray, y: FloatArray, alpha: float, power: float, generator: np.random.Generator
) -> tuple[float, ...]:
    """The columns _TESTED of one pair of arms."""
    p = permutation_test(x, y, generator)
    least = lowest_p(x.size, y.size)
    deviation = pooled_deviation(x, y)
    effect = np.inf
    if least <= alpha:
        effect = detectable_effect(deviation, x.size, y.size, alpha, power)
    return x.mean() - y.mean(), p, least, deviation, effect, x.size, y.size


@lru_cache(maxsize=8)
def _all(total: int, size: int) -> NDArray[np.int8]:
    """[comb(total, size), size] all ways to choose `size` of `total` places."""
    flat = np.fromiter(chain.from_iterable(combinations(range(total), size)), dtype=np.int8)
    return flat.reshape(-1, size)


def _sample(values: ArrayLike) -> FloatArray:
    sample: FloatArray = np.asarray(values, dtype=float)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"expected a vector of finite values, one per seed, got {values!r}")
    return sample
