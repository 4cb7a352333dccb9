"""A suite's leaderboard: a sentence, a figure with a line per method, a table per axis group."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.parts.captions import few
from reports.parts.drawing import GREY, Style, canvas, look, tag
from reports.parts.overall import group_name
from reports.parts.styles import themed
from reports.stats.claims import FAMILIES, JUDGED_AT, META_RL
from reports.stats.leaderboard import AREA, END, START
from reports.stats.score_matrix import add_group
from reports.stats.scores import ARM, BOUNDS, Arm, select
from reports.text import (
    escape_label,
    escape_markdown,
    listing,
    markdown_table,
    method_name,
    number,
    plus_minus,
    steps,
)

# inches: height per method, width of a panel
_ROW = 0.27
_WIDTH = 3.3
_SHOWN = 3  # methods that the sentence names
_HEADER = (
    "method",
    "b = 0",
    "area over log b",
    "environment steps",
    "minutes",
    "seeds",
    "steps used on a test task",
    "at the end",
)


def leader_costs(costs: pd.DataFrame, exact: Mapping[str, Collection[str]]) -> pd.DataFrame:
    """What each arm of a suite, budget, split and `group` cost: environment `steps`, `seconds`.

    Both are of meta-training and adaptation to all tasks of the split, the families of the group
    together.

    Args:
      costs: `reports.parts.cost.cost_points`; the axes of a family repeat its costs.
      exact: `reports.stats.shift_axes.exact_axes`.
    """
    keys = ["suite", "budget", "split", "group", *ARM]
    once = add_group(costs, exact).drop_duplicates([*keys, "family"])
    return once.groupby(keys)[["steps", "seconds"]].sum().reset_index()


def leader_sentences(board: pd.DataFrame) -> Iterator[str]:
    """Who leads at the end of adaptation, in Markdown, and how apb compares with other meta-RL.

    Args:
      board: `leaderboard` of one suite, budget and split.
    """
    for group, lines in board.groupby("group", sort=False):
        ranked = lines[~lines["method"].isin(BOUNDS) & lines[END].notna()].to_dict("records")
        if not ranked:
            continue
        where = f"{group_name(str(group))} ({lines['strata'].iloc[0]})"
        told = f"On {escape_markdown(where)}, **{_name(ranked[0])}** ends highest"
        told += f" ({lines['unit'].iloc[0]} {number(ranked[0][END])})"
        yield told + (f", before {_listed(ranked[1:_SHOWN])}." if len(ranked) > 1 else ".")
        compared = [line for line in ranked if line["method"] in ("apb", *META_RL)]
        if "apb" in {line["method"] for line in compared} and len(compared) > 1:
            yield f"Of apb and the meta-RL methods it is compared with: {_listed(compared)}."


def _listed(lines: Sequence[Mapping[str, Any]]) -> str:
    return listing(f"{_name(line)} ({number(line[END])})" for line in lines)


def toy(expected: pd.DataFrame) -> str:
    """A warning if claims are judged on nothing in `expected` (a suite's `coverage`), else ""."""
    if set(expected["family"]) & FAMILIES and set(expected["budget"]) & set(JUDGED_AT):
        return ""
    return (
        "This is a toy: it shows that methods learn, not who wins. Claims are judged on locomotion"
        " at desk and paper only."
    )


@themed
def leaderboard_figure(board: pd.DataFrame, styles: Mapping[Arm, Style], title: str) -> Figure:
    """A panel per axis group, a line per method: final score with interval, area, and b = 0.

    Args:
      board: `leaderboard` of one suite, budget and split.
      styles: from `reports.parts.styles.focused`.
      title: plain text above the panels.
    """
    groups = list(board["group"].unique())
    best = board.groupby(list(ARM))[END].mean().sort_values(ascending=False, kind="stable")
    arms: list[Arm] = [arm for arm in best.index if arm[0] not in BOUNDS]
    note = (
        "Filled: the score at the end of adaptation, with its 95 % interval. Upright: the area"
        " under the curve over log b, "
    )
    note += "floored at the zero action. Hollow: b = 0. Interquartile means over seeds × families. "
    note += few(board["n_seeds"].dropna())
    figure, panels = canvas(len(groups), title, note, 1, (_WIDTH, 0.5 + _ROW * len(arms)), 1.3)
    for axes, group in zip(panels, groups, strict=True):
        of_group = board[board["group"] == group]
        for y, arm in enumerate(arms):
            for line in select(of_group, ARM, arm).to_dict("records"):
                _draw_line(axes, y, line, arm, styles[arm])
        for bound in of_group[of_group["method"].isin(BOUNDS)].itertuples():
            arm = (str(bound.method), str(bound.variant))
            axes.axvline(
                getattr(bound, END),
                gid=tag("bound", arm, styles[arm]),
                zorder=1,
                **look(arm, styles[arm]),
            )
        axes.set_title(group_name(str(group)))
        axes.set_xlabel(of_group["unit"].iloc[0])
        axes.grid(False, axis="y")
    panels[0].set_yticks(range(len(arms)), [escape_label(method_name(*arm)) for arm in arms])
    panels[0].set_ylim(len(arms) - 0.4, -0.6)
    bounds = [arm for arm in best.index if arm[0] in BOUNDS]
    handles = [Line2D([], [], **look(arm, styles[arm])) for arm in bounds]
    figure.legend(
        handles, [method_name(*arm) for arm in bounds], loc="outside right upper", frameon=False
    )
    return figure


def _draw_line(axes: Axes, y: int, line: Mapping[str, float], arm: Arm, style: Style) -> None:
    colour = style.colour if style.focus else GREY
    row = tag("row", arm, style._replace(focus=True))
    axes.plot(
        [line[f"{END}_low"], line[f"{END}_high"]],
        [y, y],
        color=colour,
        gid=row,
        solid_capstyle="butt",
        linewidth=2.4,
    )
    axes.plot(
        [line[AREA]],
        [y],
        color=colour,
        marker="|",
        markersize=9,
        markeredgewidth=1.4,
        linestyle="",
        gid=row,
    )
    marks: dict[str, Any] = {
        "marker": "o",
        "markersize": 5,
        "linestyle": "",
        "markeredgecolor": colour,
        "gid": row,
    }
    axes.plot([line[START]], [y], color="white", zorder=3, **marks)
    axes.plot([line[END]], [y], color=colour, zorder=4, **(marks | {"markersize": 7}))


def leaderboard_table(
    board: pd.DataFrame, costs: pd.DataFrame, untrained: Collection[Arm] = ()
) -> str:
    """One group of a `leaderboard` in Markdown, the best method first.

    Args:
      costs: `leader_costs` of the same suite, budget and split.
      untrained: arms to mark.
    """
    spent = board.merge(costs, on=list(ARM), how="left", suffixes=("", "_spent"))
    lines = []
    for line in spent.to_dict("records"):
        marked = ", untrained" if (line["method"], line["variant"]) in untrained else ""
        scores = [
            plus_minus(line[moment], line[f"{moment}_low"], line[f"{moment}_high"])
            for moment in (START, AREA, END)
        ]
        cost = [steps(line["steps"]), number(line["seconds"] / 60), f"{line['n_seeds']:.0f}"]
        used = steps(line["env_steps"])
        lines.append([_name(line) + marked, *scores[:2], *cost, used, scores[2]])
    return markdown_table(_HEADER, lines)


def _name(line: Mapping[str, object]) -> str:
    return escape_markdown(method_name(str(line["method"]), str(line["variant"])))
