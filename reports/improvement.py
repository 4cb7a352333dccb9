"""How often one method beats another: probability of improvement, a line per ordered pair of methods and group of strata."""

from collections.abc import Collection, Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from reports.aggregates import interval_of
from reports.estimates import even_shares, improvement, percentiles, resampled_shares
from reports.scores import ARM
from reports.strata import APART, STRATUM, FloatArray, add_group, arms_of, checked, score_matrix

OTHER = ("other", "other_variant")  # the arm that an arm is compared with


def probability_of_improvement(
    scores: pd.DataFrame,
    exact: Mapping[str, Collection[str]],
    *,
    value: str = "score",
    level: float = 0.95,
    draws: int = 5_000,
    seed: int = 0,
) -> pd.DataFrame:
    """P(X > Y) that a seed of one method scores higher than one of another, averaged over the families that both have.

    Ties count half. The seeds of the two are resampled independently, within families. P(Y > X) is 1 − P(X > Y), interval
    included. Scores are compared within a family only, so they need no normalisation.

    Args:
      scores, exact, value, level, draws, seed: as in `reports.aggregates.aggregate`.
    Returns:
      One line per suite, budget and split (where known), `group`, arm and other arm (`other`, `other_variant`), sorted:
      `value`; `low` and `high`, NaN where a family has fewer than three seeds of either; `interval`; `n_seeds`, the fewest of
      either in any family; `n_families` that both have, and `n_left_out` that only one of them has. Pairs without a common
      family have no line.
    Raises:
      ValueError: if `scores` names two scores alike, lacks a column, or holds what is no number.
    Source:
      Agarwal et al. 2021 (arXiv 2108.13264), § 4.3.
    """
    table = add_group(checked(scores, value), exact).dropna(subset=["value"])
    keys = [*(name for name in APART if name in table), "group"]
    found = []
    for key, lines in table.groupby(keys):
        for (arm, mine), (other, theirs) in combinations(arms_of(lines).items(), 2):
            common = mine[list(STRATUM)].merge(theirs[list(STRATUM)]).drop_duplicates()
            if common.empty:
                continue
            x, y = (score_matrix(of_arm.merge(common, on=list(STRATUM))) for of_arm in (mine, theirs))
            p, low, high = _estimate(x, y, np.random.default_rng(seed), level, draws)
            n_seeds = min(int((~np.isnan(values)).sum(axis=1).min()) for values in (x, y))
            n_all = pd.concat([mine, theirs])["family"].nunique()
            n_families = common["family"].nunique()
            counts = (interval_of(x, y), n_seeds, n_families, n_all - n_families)
            found += [(*key, *arm, *other, p, low, high, *counts), (*key, *other, *arm, 1 - p, 1 - high, 1 - low, *counts)]
    names = [*keys, *ARM, *OTHER]
    columns = [*names, "value", "low", "high", "interval", "n_seeds", "n_families", "n_left_out"]
    return pd.DataFrame(found, columns=columns).sort_values(names, ignore_index=True)


def _estimate(
    x: FloatArray, y: FloatArray, generator: np.random.Generator, level: float, draws: int
) -> tuple[float, float, float]:
    p = float(improvement(x, y, even_shares(x), even_shares(y)))
    if not interval_of(x, y):
        return p, np.nan, np.nan
    resampled = improvement(x, y, resampled_shares(x, generator, draws), resampled_shares(y, generator, draws))
    low, high = percentiles(resampled, level)
    return p, float(low), float(high)
