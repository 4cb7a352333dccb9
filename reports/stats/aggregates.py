"""Aggregates and performance profiles over all families, with intervals, by group of strata.

Every interval starts from the same generator state, so that no method's numbers change when another
joins the table.
"""

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from reports.stats.bootstrap import BOOTSTRAP, SHARE, estimate, resampled_enough
from reports.stats.estimates import Statistic, iqm, mean, median, optimality_gap, share_above
from reports.stats.score_matrix import (
    APART,
    STRATUM,
    FloatArray,
    add_group,
    arms_of,
    checked,
    score_matrix,
)
from reports.stats.scores import ARM

IQM = "IQM"
MEDIAN = "median"
MEAN = "mean"
OPTIMALITY_GAP = "optimality gap"
STATISTICS: dict[str, Statistic] = {
    IQM: iqm,
    MEDIAN: median,
    MEAN: mean,
    OPTIMALITY_GAP: optimality_gap,
}
THRESHOLDS = np.linspace(-0.5, 1.5, 81)  # of normalised scores: 0 is the better bound, 1 the expert
COUNTS = ("n_seeds", "n_families", "n_scores", "n_missing", "n_left_out", "n_uncertain")


def aggregate(
    scores: pd.DataFrame,
    exact: Mapping[str, Collection[str]],
    expected: pd.DataFrame | None = None,
    *,
    value: str = "score",
    level: float = 0.95,
    draws: int = 5_000,
    seed: int = 0,
    corrected: bool = True,
) -> pd.DataFrame:
    """IQM, median, mean and optimality gap over seeds × families, with bootstrap intervals.

    A missing score is left out, never replaced. A family on two shift axes of one group enters once
    for each.

    Args:
      scores: one line per `family`, `axis`, `method`, `variant` and `seed`, and per `suite`,
        `budget` and `split` where it has them, such as `reports.stats.scores.last_scores`; NaN
        where a score is missing.
      exact: `reports.stats.shift_axes.exact_axes`.
      expected: `reports.stats.scores.coverage`; its arms get a line even if none of their cells
        is finished, and its seeds are the expected ones. None: the arms and seeds of `scores`.
      value: the column to aggregate, which must mean the same in every family: "normalised" of
        `adaptation_scores`.
      level: how often an interval should cover.
      draws: number of resamples.
      seed: generator seed, from which the intervals of every arm in every group start afresh.
      corrected: whether to correct for few seeds, as `reports.stats.bootstrap.estimate` does.
    Returns:
      One line per suite, budget and split (where known), `group`, arm and `statistic`, sorted, the
      statistics in their order: `value`; `low` and `high`, NaN where a family has fewer than three
      seeds; the kind of `interval`; `n_seeds`, the fewest in any family that entered; `n_families`
      and `n_scores` that entered; `n_missing`, expected scores that are missing in families where
      some method has one; `n_left_out`, families where none has one, for want of references;
      `n_uncertain`, families that entered although their references are close (if `scores` has the
      column `uncertain`).
    Raises:
      ValueError: if `scores` has duplicate keys, lacks a column, or holds a non-number.
    Source:
      Agarwal et al. 2021 (arXiv 2108.13264); intervals for few seeds are widened here.
    """
    table = add_group(checked(scores, value), exact)
    table["uncertain"] = (
        scores["uncertain"].astype(object).eq(True).to_numpy() if "uncertain" in scores else False
    )
    apart = [name for name in APART if name in table]
    cells = _cells(table, apart, expected)
    lines: list[tuple[Any, ...]] = []
    for key, of_arm in cells.groupby([*apart, "group", *ARM]):
        mine = table.merge(of_arm[[*apart, *STRATUM, *ARM]], on=[*apart, *STRATUM, *ARM]).dropna(
            subset=["value"]
        )
        counts = _counts(of_arm, mine)
        for name, *numbers in _statistics(mine, level, draws, seed, corrected):
            lines.append((*key, name, *numbers, *counts))
    columns = [*apart, "group", *ARM, "statistic", "value", "low", "high", "interval", *COUNTS]
    return pd.DataFrame(lines, columns=columns)


def performance_profiles(
    scores: pd.DataFrame,
    exact: Mapping[str, Collection[str]],
    thresholds: ArrayLike = THRESHOLDS,
    *,
    value: str = "score",
    level: float = 0.95,
    draws: int = 5_000,
    seed: int = 0,
    corrected: bool = True,
) -> pd.DataFrame:
    """Share of every method's seeds × families that score above each τ, with pointwise intervals.

    Args:
      scores, exact, value, level, draws, seed, corrected: as in `aggregate`.
      thresholds: [K] values of τ, in the units of the scores.
    Returns:
      One line per suite, budget and split (where known), `group`, arm and `threshold`, sorted:
      `value`, `low`, `high`, `interval`, `n_seeds`, `n_families`. Arms without a score have no
      line.
    Raises:
      ValueError: as in `aggregate`, and if `thresholds` is not a vector of finite numbers.
    Source:
      Agarwal et al. 2021 (arXiv 2108.13264), § 4.3; intervals hold for each τ by itself.
    """
    tau = np.asarray(thresholds, dtype=float)
    if tau.ndim != 1 or not tau.size or not np.isfinite(tau).all():
        raise ValueError(f"expected a vector of finite thresholds, got {thresholds!r}")
    tau = np.unique(tau)
    table = add_group(checked(scores, value), exact).dropna(subset=["value"])
    keys = [*(name for name in APART if name in table), "group"]
    found = []
    for key, lines in table.groupby(keys):
        for arm, mine in arms_of(lines).items():
            values = score_matrix(mine)
            above = partial(share_above, thresholds=tau)
            generator = np.random.default_rng(seed)
            share, low, high = estimate(
                values, above, generator, level, draws, bounds=SHARE, corrected=corrected
            )
            curve = pd.DataFrame(
                dict(zip([*keys, *ARM], (*key, *arm), strict=True)), index=range(len(tau))
            )
            numbers = {
                "threshold": tau,
                "value": share,
                "low": low,
                "high": high,
                "interval": interval_of(values),
            }
            found.append(
                curve.assign(
                    **numbers, n_seeds=_fewest(values), n_families=mine["family"].nunique()
                )
            )
    columns = [
        *keys,
        *ARM,
        "threshold",
        "value",
        "low",
        "high",
        "interval",
        "n_seeds",
        "n_families",
    ]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def interval_of(*arms: FloatArray) -> str:
    """The kind of interval for scores [F, S] of some arms: BOOTSTRAP, or "" for too few seeds."""
    return BOOTSTRAP if all(resampled_enough(values) for values in arms) else ""


def _cells(table: pd.DataFrame, apart: list[str], expected: pd.DataFrame | None) -> pd.DataFrame:
    """Every arm on every stratum expected of it, with `group` and `n_expected`.

    `scored` tells whether any arm has a score on the stratum.
    """
    place = [*apart, *STRATUM]
    strata = (
        table.assign(scored=table["value"].notna())
        .groupby([*place, "group"])["scored"]
        .any()
        .reset_index()
    )
    seen = table.groupby([*place, *ARM]).size().rename("n_lines").reset_index()
    if expected is None:
        return seen.rename(columns={"n_lines": "n_expected"}).merge(strata, on=place)
    counted = checked(expected, "n_expected", ("family", *ARM), apart).rename(
        columns={"value": "n_expected"}
    )
    planned = strata[place].merge(
        counted, on=[name for name in (*apart, "family") if name in counted]
    )
    cells = planned.merge(seen, on=[*place, *ARM], how="outer").merge(strata, on=place)
    return cells.assign(n_expected=cells[["n_expected", "n_lines"]].max(axis=1))


def _counts(of_arm: pd.DataFrame, mine: pd.DataFrame) -> tuple[int, ...]:
    """COUNTS of one arm in one group, from its cells and the scores that it has there."""
    n_seeds = int(mine.groupby(list(STRATUM)).size().min()) if len(mine) else 0
    n_expected = int(of_arm.loc[of_arm["scored"], "n_expected"].sum())
    left_out = of_arm.loc[~of_arm["scored"], "family"].nunique()
    uncertain = mine.loc[mine["uncertain"], "family"].nunique()
    return n_seeds, mine["family"].nunique(), len(mine), n_expected - len(mine), left_out, uncertain


def _statistics(
    mine: pd.DataFrame, level: float, draws: int, seed: int, corrected: bool
) -> Iterator[tuple[Any, ...]]:
    """Yield (statistic, value, low, high, interval), all of them from the same resamples."""
    if mine.empty:
        yield from ((name, np.nan, np.nan, np.nan, "") for name in STATISTICS)
        return
    values = score_matrix(mine)
    numbers = estimate(
        values, _together, np.random.default_rng(seed), level, draws, corrected=corrected
    )
    for name, *found in zip(STATISTICS, *numbers, strict=True):
        yield (name, *found, interval_of(values))


def _together(values: FloatArray, shares: FloatArray) -> FloatArray:
    return np.stack([statistic(values, shares) for statistic in STATISTICS.values()], axis=-1)


def _fewest(values: FloatArray) -> int:
    return int((~np.isnan(values)).sum(axis=1).min())
