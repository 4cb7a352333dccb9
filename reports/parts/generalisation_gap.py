"""The generalisation gap: what a method loses outside the training distribution, seed by seed."""

from collections.abc import Collection, Mapping

import pandas as pd

from reports.stats.intervals import spread
from reports.stats.score_matrix import STRATUM, checked
from reports.stats.scores import ARM, IN_DISTRIBUTION, last_scores
from reports.stats.shift_axes import axis_text
from reports.text import escape_markdown, markdown_table, method_name, plus_minus


def generalisation_gaps(
    scores: pd.DataFrame, *, value: str = "score", inside: str = "id", outside: str = "ood"
) -> pd.DataFrame:
    """Score in distribution minus score outside, by family, shift axis and arm, paired by seed.

        gap = 1/S Σ_s (J_s^ID − J_s^OOD)

    over the seeds that have both; a positive gap is a loss. Axes are kept apart, each compared with
    the same in-distribution tasks. The two splits may come from different suites. Returns on
    different tasks may differ because other returns are attainable there; normalised scores correct
    for that.

    Args:
      scores: one line per `split`, `family`, `axis`, `method`, `variant` and `seed`, and per
        `budget` where it has that, such as `reports.stats.scores.last_scores` of the suites that
        hold the two splits; NaN where a score is missing.
      value: the column to compare.
      inside, outside: the splits in and out of distribution.
    Returns:
      One line per budget (where known), `family`, `axis` (of `outside`) and arm, sorted: `gap`,
      `low`, `high` and the kind of `interval`, as `reports.stats.intervals.spread` gives them;
      `n_seeds`, the seeds with both scores, and `n_unpaired`, those with only one.
    Raises:
      ValueError: if `inside` and `outside` are the same split, two lines of `scores` have the same
        keys, tasks of `inside` lie on a shift axis, or `scores` lacks a column or holds a
        non-number.
    Source:
      Kirk et al. 2023 (arXiv 2111.09794), § 3.
    """
    if inside == outside:
        raise ValueError(f"a gap needs two splits, got {inside!r} for both")
    table = checked(scores, value, ("split", *STRATUM, *ARM, "seed"), apart=("budget",)).dropna(
        subset=["value"]
    )
    known, shifted = (
        table[table["split"] == split].drop(columns="split") for split in (inside, outside)
    )
    if (strange := known.loc[known["axis"] != IN_DISTRIBUTION, "axis"]).size:
        raise ValueError(
            f"the split {inside!r} has tasks on the shift axis {strange.iloc[0]!r}; name a split"
            " within the law"
        )
    apart = ["budget"] if "budget" in table else []
    keys = [*apart, "family", *ARM, "seed"]
    curve = [*apart, *STRATUM, *ARM]
    axes = shifted[[*apart, *STRATUM]].drop_duplicates()
    at_home = known.drop(columns="axis").merge(axes, on=[*apart, "family"])
    pairs = at_home.merge(shifted, on=[*keys, "axis"], how="outer", suffixes=("_in", "_out"))
    pairs["gap"] = pairs["value_in"] - pairs["value_out"]
    found = [(*key, *spread(of_arm["gap"]), len(of_arm)) for key, of_arm in pairs.groupby(curve)]
    result = pd.DataFrame(
        found, columns=[*curve, "gap", "low", "high", "n_seeds", "interval", "n_pairs"]
    )
    result["n_unpaired"] = result["n_pairs"] - result["n_seeds"]
    return result.drop(columns="n_pairs")


def gaps_of(scores: pd.DataFrame) -> pd.DataFrame:
    """Compute a store's gaps at the end of adaptation, from `adaptation_scores` of all suites.

    Returns:
      `generalisation_gaps` of returns, and `normalised_…` of normalised scores; empty unless a
      family has both splits. A score that two suites share counts once.
    """
    last = last_scores(scores).drop_duplicates(["budget", "split", *STRATUM, *ARM, "seed"])
    last = last[last["split"].isin(("id", "ood"))]
    both = last.groupby(["budget", "family"])["split"].transform("nunique") == 2
    gaps, normal = (
        generalisation_gaps(last[both], value=value) for value in ("return_mean", "normalised")
    )
    keys = ["budget", *STRATUM, *ARM]
    normal = normal[[*keys, "gap", "low", "high"]].rename(
        columns=lambda name: name if name in keys else f"normalised_{name}"
    )
    return gaps[gaps["n_seeds"] > 0].merge(normal, on=keys, how="left")


def gaps_table(gaps: pd.DataFrame, exact: Mapping[str, Collection[str]]) -> str:
    """Format `gaps_of` as Markdown; `exact` is `reports.stats.shift_axes.exact_axes`."""
    parts = []
    for (budget, family, axis), of_axis in gaps.groupby(["budget", "family", "axis"]):
        place = f"{family}, {axis_text(str(axis), exact.get(str(family), ()))}, budget {budget}"
        lines = [
            [
                escape_markdown(method_name(one["method"], one["variant"])),
                *(
                    plus_minus(*(one[f"{kind}{name}"] for name in ("gap", "low", "high")))
                    for kind in ("", "normalised_")
                ),
                str(one["n_seeds"]),
            ]
            for one in of_axis.to_dict("records")
        ]
        table = markdown_table(
            ["method", "gap in return", "gap in normalised score", "seeds"], lines
        )
        parts.append(f"### {escape_markdown(place)}\n\n{table}")
    return "\n".join(parts)
