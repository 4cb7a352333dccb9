"""How much better frozen test tasks are solved than sealed ones at the same shifts."""

import re
from collections.abc import Collection, Mapping

import pandas as pd

from reports.stats.intervals import spread
from reports.stats.scores import ARM, TABLE, last_scores
from reports.stats.shift_axes import axis_text
from reports.text import escape_markdown, markdown_table, method_name, plus_minus

_SEALED = re.compile(r"(.+)-sealed-[0-9]+")  # names of the splits of `envs.sealed`
_KEYS = (*TABLE, "axis", *ARM)


def overfits(scores: pd.DataFrame) -> pd.DataFrame:
    """Return on frozen minus return on sealed tasks at the end of adaptation, paired by seed.

        1/S Σ_s (J_s^frozen − J_s^sealed)

    Several sealed draws of a split are averaged first. Both start from the same trained states.

    Args:
      scores: `reports.stats.scores.adaptation_scores` of all suites.
    Returns:
      One line per TABLE (of the frozen split), `axis` and arm: the means `frozen` and `sealed`,
      their `difference` with `low`, `high` and the kind of `interval`, and `n_seeds`, the seeds
      that have both. Empty if the store has no sealed tasks, or not the frozen ones beside them.
    """
    last = last_scores(scores).dropna(subset=["return_mean"])
    drawn = last["split"].str.extract(_SEALED)[0]
    keys = [*_KEYS, "seed"]
    sealed = (
        last[drawn.notna()]
        .assign(split=drawn.dropna())
        .groupby(keys)["return_mean"]
        .mean()
        .reset_index()
    )
    pairs = last[[*keys, "return_mean"]].merge(sealed, on=keys, suffixes=("", "_sealed"))
    pairs["difference"] = pairs["return_mean"] - pairs["return_mean_sealed"]
    found = []
    for key, of_arm in pairs.groupby(list(_KEYS), sort=False):
        mean, low, high, n_seeds, interval = spread(of_arm["difference"])
        means = of_arm[["return_mean", "return_mean_sealed"]].mean()
        found.append((*key, *means, mean, low, high, interval, n_seeds))
    columns = [*_KEYS, "frozen", "sealed", "difference", "low", "high", "interval", "n_seeds"]
    return pd.DataFrame(found, columns=columns)


def overfits_table(found: pd.DataFrame, exact: Mapping[str, Collection[str]]) -> str:
    """Format `overfits` as Markdown; `exact` is `reports.stats.shift_axes.exact_axes`."""
    parts = []
    for key, of_axis in found.groupby([*TABLE, "axis"], sort=False):
        _, budget, family, split, axis = map(str, key)
        shown = axis_text(axis, exact.get(family, ()))
        place = f"{family}, split {split}, {shown}, budget {budget}"
        lines = [
            [
                escape_markdown(method_name(one["method"], one["variant"])),
                f"{one['frozen']:.1f}",
                f"{one['sealed']:.1f}",
                plus_minus(one["difference"], one["low"], one["high"]),
                str(one["n_seeds"]),
            ]
            for one in of_axis.to_dict("records")
        ]
        header = ["method", "frozen tasks", "sealed tasks", "frozen − sealed", "seeds"]
        parts.append(f"### {escape_markdown(place)}\n\n{markdown_table(header, lines)}")
    return "\n".join(parts)
