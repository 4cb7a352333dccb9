"""APB's bound beside the shortfall of adapted policies: a figure and two tables."""

from typing import TYPE_CHECKING

import pandas as pd

from reports.parts.captions import few
from reports.parts.drawing import canvas
from reports.parts.styles import themed
from reports.stats.scores import ARM
from reports.stats.theory import TERMS
from reports.text import escape_label, escape_markdown, markdown_table, method_name, number
from results.measures import (
    BOUND,
    COUNT_FREE_BOUND,
    FARTHEST,
    HEAD_NORM,
    LIPSCHITZ,
    LIPSCHITZ_SEEN,
    OUTSIDE,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {
    LIPSCHITZ: "L, product of norms",
    LIPSCHITZ_SEEN: "L, largest gradient seen",
    HEAD_NORM: "‖ρₜ‖",
    OUTSIDE: "|X_OOD|",
    FARTHEST: "ε_max",
    BOUND: "2 L ‖ρₜ‖ |X_OOD| ε_max",
    COUNT_FREE_BOUND: "L ‖ρₜ‖ ε_max",
}
_PANEL = (4.0, 3.2)  # inches
_WIDE = 10  # times the median; larger terms do not fit on a linear axis
_MARKERS = "osD^v<>P"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")


@themed
def bound_figure(points: pd.DataFrame, title: str) -> "Figure":
    """Shortfall against the bound, a panel for each of its two forms, a dot per task and seed.

    Args:
      points: the lines with a bound in `bound_points` of one suite, budget, family and arm.
      title: plain text above the panels.
    """
    seeds = pd.Series([points["seed"].nunique()])
    said = ["A dot is one test task and seed, at the end of adaptation.", few(seeds)]
    figure, panels = canvas(2, title, " ".join(filter(None, said)), panel=_PANEL)
    for axes, term in zip(panels, (COUNT_FREE_BOUND, BOUND), strict=True):
        groups = points.groupby(["split", "axis"], sort=True)
        for i, ((split, axis), group) in enumerate(groups):
            axes.plot(
                group[term],
                group["shortfall"],
                linestyle="",
                marker=_MARKERS[i % len(_MARKERS)],
                color=_COLOURS[i % len(_COLOURS)],
                markersize=4,
                alpha=0.7,
                label=escape_label(f"{split}: {axis}"),
                gid=f"dots:{split}:{axis}",
            )
        if points[term].max() > _WIDE * points[term].median():
            axes.set_xscale("symlog", linthresh=max(float(points[term].quantile(0.1)), 1e-3))
        axes.set_xlabel(escape_label(NAMES[term]))
    panels[0].set_ylabel("return short of the best")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", frameon=False)
    return figure


def terms_table(points: pd.DataFrame) -> str:
    """Means of the terms over tasks and seeds, by method, split and axis, in Markdown."""
    lines = [
        [
            escape_markdown(method_name(str(method), str(variant))),
            escape_markdown(f"{split}: {axis}"),
            *(number(value) for value in group[[*TERMS, "shortfall"]].mean()),
        ]
        for (method, variant, split, axis), group in points.groupby(
            [*ARM, "split", "axis"], sort=False
        )
    ]
    header = ["method", "test tasks", *(escape_markdown(NAMES[term]) for term in TERMS)]
    return markdown_table([*header, "return short of the best"], lines, words=(1,))


def correlations_table(correlations: pd.DataFrame) -> str:
    """Format `rank_correlations` of one family and budget as Markdown."""
    lines = [
        [
            escape_markdown(method_name(one.method, one.variant)),
            escape_markdown(NAMES[one.term]),
            number(one.mean),
            "–" if pd.isna(one.low) else f"[{number(one.low)}, {number(one.high)}]",
            str(one.n_seeds),
        ]
        for one in correlations[correlations["n_seeds"] > 0].itertuples()
    ]
    header = ["method", "term", "rank correlation with the shortfall", "interval", "seeds"]
    return markdown_table(header, lines, words=(1,))
