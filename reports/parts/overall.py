"""Methods over all families of a suite: aggregates, performance profiles, and who beats whom."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reports.parts.captions import few
from reports.parts.drawing import Style, band_alpha, canvas, draw_points, legend
from reports.parts.styles import themed
from reports.stats.aggregates import STATISTICS
from reports.stats.score_matrix import EXACT_IMAGES, OTHERS
from reports.stats.scores import ARM, IN_DISTRIBUTION, OTHER, Arm, select
from reports.text import escape_label, escape_markdown, markdown_table, method_name, plus_minus

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_PANEL = (4.4, 2.8)  # inches
_SQUARE = 0.36  # inches; side of the square for a pair of methods
_FEW = 8  # methods; with more, matrices are placed one below the other
_MOST = 30  # methods; with more, squares show colours only, without numbers
_NAMES = {
    EXACT_IMAGES: "shift axes of exact linear images",
    OTHERS: "other shift axes",
    IN_DISTRIBUTION: "in-distribution tasks",
}


def group_name(group: str) -> str:
    """The name of a group of strata in a heading."""
    return _NAMES[group]


def aggregate_table(found: pd.DataFrame, arms: Sequence[Arm]) -> str:
    """The aggregates of one group in Markdown, a line per method.

    Args:
      found: `aggregate` of one suite, budget, split and group.
      arms: in the order of the table.
    """
    lines = []
    for arm in arms:
        mine = select(found, ARM, arm)
        if mine.empty:
            continue
        one = mine.iloc[0]
        values = mine.set_index("statistic").reindex(list(STATISTICS))
        shown = [plus_minus(row.value, row.low, row.high) for row in values.itertuples()]
        doubtful = "?" * bool(one["n_uncertain"]) + "†" * bool(
            one["n_families"] < found["n_families"].max()
        )
        counts = [
            str(one["n_families"]),
            str(one["n_left_out"]),
            str(one["n_seeds"]),
            str(one["n_missing"]),
        ]
        lines.append([escape_markdown(method_name(*arm)) + doubtful, *shown, *counts])
    note = (
        "† covers fewer families than others: not comparable with them.\n"
        if found["n_families"].nunique() > 1
        else ""
    )
    header = [
        "method",
        *STATISTICS,
        "families",
        "families without references",
        "seeds",
        "scores missing",
    ]
    return markdown_table(header, lines) + (f"\n{note}" if note else "")


@themed
def profile_figure(
    points: pd.DataFrame, arms: Sequence[Arm], styles: Mapping[Arm, Style], title: str
) -> "Figure":
    """Share of seeds × families that score above τ, a panel per group.

    Args:
      points: `performance_profiles` of one suite, budget and split.
      arms: in the order of the legend.
      styles: from `method_styles`.
      title: plain text above the panels.
    """
    groups = [group for group in _NAMES if group in set(points["group"])]
    band = (
        "; band: 95 % stratified bootstrap, corrected for few seeds, pointwise in τ"
        if (points["interval"] != "").any()
        else ""
    )
    note = f"Share of seeds × families whose normalised score lies above τ{band}. {_seeds(points)}"
    figure, panels = canvas(len(groups), title, note, panel=_PANEL)
    drawn = {
        arm: styles[arm]._replace(marker="") for arm in arms if not select(points, ARM, arm).empty
    }
    for axes, group in zip(panels, groups, strict=True):
        for arm in drawn:
            curve = select(points[points["group"] == group], ARM, arm).rename(
                columns={"value": "mean"}
            )
            if not curve.empty:
                draw_points(
                    axes, curve, "threshold", arm=arm, style=drawn[arm], alpha=band_alpha(drawn)
                )
        axes.set_title(group_name(group))
        axes.set_xlabel(
            "normalised score τ: 0 = better of zero and random actions, 1 = expert", fontsize=8
        )
        axes.set_ylim(-0.03, 1.03)
    panels[0].set_ylabel("share above τ")
    legend(figure, drawn)
    return figure


@themed
def improvement_figure(pairs: pd.DataFrame, arms: Sequence[Arm], title: str) -> "Figure":
    """P(row beats column) as a matrix, a panel per group; methods that win most come first.

    Args:
      pairs: `probability_of_improvement` of one suite, budget and split.
      arms: their order breaks ties between rows and columns.
      title: plain text above the panels.
    """
    groups = [group for group in _NAMES if group in set(pairs["group"])]
    n_arms = max(len(_ranked(pairs[pairs["group"] == group], arms)) for group in groups)
    many = n_arms > _FEW
    side = max(2.4, _SQUARE * n_arms) + 0.9
    note = (
        "Probability that a seed of the row's method scores higher (purple) than one of the"
        " column's, averaged over"
    )
    note = f"{note} families; ties count half. Methods that win most come first."
    if pairs["n_left_out"].any():
        note = f"{note} *: averaged only over the families that both methods have."
    place: dict[str, Any] = (
        {"n_columns": 1, "n_rows": len(groups), "beside": 0.3}
        if many
        else {"n_columns": len(groups)}
    )
    figure, panels = canvas(
        title=title, note=f"{note} {_seeds(pairs)}", panel=(side, side), sharey=False, **place
    )
    for axes, group in zip(panels, groups, strict=True):
        of_group = pairs[pairs["group"] == group]
        ranked = _ranked(of_group, arms)
        values, partial = (_matrix(of_group, ranked, name) for name in ("value", "n_left_out"))
        # limits beyond [0, 1] keep colours pale: the map's ends are too dark for numbers
        axes.imshow(values, cmap="PuOr", vmin=-1.0, vmax=2.0)
        for i, j in np.argwhere(~np.isnan(values)):
            if n_arms <= _MOST:
                text = f"{100 * values[i, j]:.0f}{'*' * bool(partial[i, j])}"
                axes.text(j, i, text, ha="center", va="center", fontsize=8, color="#1A1A1A")
        names = [escape_label(method_name(*arm)) for arm in ranked]
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.grid(False)
        axes.set_title(f"{group_name(group)}, %")
    return figure


def _ranked(pairs: pd.DataFrame, arms: Sequence[Arm]) -> list[Arm]:
    """The arms of one group, those that beat the others most often on average first."""
    wins = pairs.groupby(list(ARM))["value"].mean()
    there = [arm for arm in arms if arm in wins.index]
    # rounded, because sums in a different order differ in their last digits
    return sorted(there, key=lambda arm: -round(float(wins[arm]), 9))


def _seeds(points: pd.DataFrame) -> str:
    """How few seeds there are, and whether some methods have fewer families than others."""
    said = [
        f"Fewest seeds in any family: {points['n_seeds'].min()}.",
        few(points["n_seeds"]),
    ]
    if points.groupby("group")["n_families"].nunique().max() > 1:
        said.append("Methods cover different families: compare only methods with the same ones.")
    return " ".join(filter(None, said))


def _matrix(
    pairs: pd.DataFrame, arms: Sequence[Arm], name: str
) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    place = {arm: i for i, arm in enumerate(arms)}
    values = np.full((len(arms), len(arms)), np.nan)
    for line in pairs.to_dict("records"):
        arm = (line["method"], line["variant"])
        other = (line[OTHER[0]], line[OTHER[1]])
        values[place[arm], place[other]] = line[name]
    return values
