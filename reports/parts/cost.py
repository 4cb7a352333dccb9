"""What a score cost: time, environment steps and gradient steps, meta-training included."""

from collections.abc import Collection, Hashable, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

import pandas as pd

from reports.parts.captions import seeds_note
from reports.parts.drawing import Style, canvas, head_panel, legend, look, short_tick, tag
from reports.parts.styles import themed
from reports.stats.scores import (
    ARM,
    BOUNDS,
    CELL,
    GROUP,
    TABLE,
    Arm,
    last_scores,
    select,
    summarise,
    training_rows,
)
from reports.stats.shift_axes import in_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


COSTS = {
    "seconds": "seconds of one process",
    "steps": "environment steps, all tasks",
    "updates": "optimiser steps",
}
_PANEL = (3.0, 2.5)  # inches
_ON = (*CELL, "seed")


def cost_points(rows: pd.DataFrame, cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The last score of every arm and what it cost, one line per GROUP.

    Args:
      rows: the store's rows. cells: the expected cells. scores: `adaptation_scores` of them.
    Returns:
      `mean`, `low`, `high`, `n_seeds` and `interval` of the return, and the means over seeds of
      `seconds`, `steps` (of all training and test tasks of the split together) and `updates`
      (optimiser steps on weights, of meta-training and of one test task). A seed counts if it has
      a score; it is left out of the mean of any cost that its adaptation rows lack.
    """
    last = last_scores(scores).dropna(subset=["return_mean"])
    meta = _spent(training_rows(rows, cells, CELL))
    own = _spent(rows[rows["stage"] == "adapt"])
    found = last.merge(own, on=list(_ON), how="left").merge(
        meta, on=list(_ON), how="left", suffixes=("", "_meta")
    )
    for name in ("wall_s", "updates", "meta_env_steps"):
        found[name] = found[name].astype(float)
    found["seconds"] = found["wall_s"] + found["wall_s_meta"].astype(float).fillna(0.0)
    found["updates"] = found["updates"] + found["updates_meta"].astype(float).fillna(0.0)
    found["steps"] = found["meta_env_steps"].fillna(0.0) + found["env_steps"] * found[
        "n_split_tasks"
    ].astype(float)
    costs = found.groupby(list(GROUP))[list(COSTS)].mean().reset_index()
    return summarise(last, by=GROUP).merge(costs, on=list(GROUP))


def _spent(rows: pd.DataFrame) -> pd.DataFrame:
    """The largest time and number of updates that a stage reported, and how many tasks it had."""
    table = rows.assign(variant=rows["variant"].astype(object).fillna("").astype(str)).astype(
        {"seed": "int64"}
    )
    grouped = table.astype(dict.fromkeys(CELL, object)).groupby(list(_ON))
    return grouped.agg(
        wall_s=("wall_s", "max"),
        updates=("updates", "max"),
        n_split_tasks=("task_index", "nunique"),
    ).reset_index()


@themed
def cost_figure(
    points: pd.DataFrame,
    expected: pd.DataFrame,
    styles: Mapping[Arm, Style],
    title: str,
    exact: Collection[str] = (),
) -> "Figure":
    """Return against each cost, a row of panels per shift axis; up and to the left is better.

    Args:
      points: `cost_points` of one suite, budget, family and split.
      expected: `coverage` of the same; its order is the legend's.
      styles: from `method_styles`.
      title: plain text above the panels.
      exact: shift axes whose tasks are exact linear images of training tasks.
    """
    names = in_order(points["axis"])
    found = {
        (line["axis"], line["method"], line["variant"]): line for line in points.to_dict("records")
    }
    drawn = {key[1:] for key in found}
    arms = [arm for arm in expected[list(ARM)].itertuples(index=False, name=None) if arm in drawn]
    said = seeds_note(points, expected, "bar", (*ARM, "axis"))
    note = " ".join(
        [
            "Up and to the left is better.",
            *said,
            "Time is measured on the run's machine and includes evaluation.",
        ]
    )
    figure, panels = canvas(len(COSTS), title, note, len(names), _PANEL, sharey="row", sharex="col")
    for axes, (name, cost) in zip(panels, product(names, COSTS), strict=True):
        for arm in arms:
            if (name, *arm) in found:
                _draw(axes, found[name, *arm], cost, arm, styles[arm])
        _cost_axis(axes, points.loc[~points["method"].isin(BOUNDS), cost])
        if cost == "steps":
            head_panel(axes, name, exact)
        if name == names[-1]:
            axes.set_xlabel(COSTS[cost])
    for row in range(len(names)):
        panels[row * len(COSTS)].set_ylabel("return at the end")
    legend(figure, {arm: styles[arm] for arm in arms})
    return figure


def _draw(axes: "Axes", point: Mapping[Hashable, Any], cost: str, arm: Arm, style: Style) -> None:
    if arm[0] in BOUNDS:
        axes.axhline(point["mean"], gid=tag("bound", arm, style), **look(arm, style))
        return
    at = point[cost]
    interval: dict[str, Any] = {
        "color": style.colour,
        "linewidth": 1.0,
        "alpha": 0.7,
        "gid": tag("interval", arm, style),
    }
    axes.plot([at, at], [point["low"], point["high"]], **interval)
    axes.plot([at], [point["mean"]], gid=tag("cost", arm, style), zorder=3, **look(arm, style))


def _cost_axis(axes: "Axes", costs: "pd.Series[float]") -> None:
    """Make the axis logarithmic, with room for costs of zero."""
    from matplotlib.ticker import FuncFormatter, NullLocator, SymmetricalLogLocator

    positive = costs[costs > 0]
    if positive.empty:
        return
    least = float(positive.min())
    most = float(positive.max())
    axes.set_xscale("symlog", linthresh=least, linscale=0.5)
    axes.set_xlim(0.7 * least if (costs > 0).all() else -0.2 * least, 1.5 * most)
    subs = (1.0, 2.0, 5.0) if most < 50 * least else (1.0,)
    axes.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=least, subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(short_tick))
    axes.xaxis.set_minor_locator(NullLocator())


def costs_of(points: pd.DataFrame, table: tuple[str, ...]) -> pd.DataFrame:
    """The `cost_points` of one suite, budget, family and split for which any cost is known."""
    return select(points, TABLE, table).dropna(subset=list(COSTS), how="all")
