"""A suite's leaderboard: sentences, a figure with a line per method, a table per axis group."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from reports.parts.captions import few
from reports.parts.drawing import GREY, Style, canvas, look, tag
from reports.parts.overall import group_name
from reports.parts.styles import themed
from reports.stats.claims import FAMILIES, JUDGED_AT, META_RL
from reports.stats.leaderboard import AREA, END, START
from reports.stats.score_matrix import OTHERS, add_group
from reports.stats.scores import ARM, BOUNDS, TOLD, Arm, select
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# inches: height per method, width of a panel
_ROW = 0.27
_WIDTH = 3.3
_SHOWN = 3  # number of methods that the sentence names
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
    """The cost of each arm in a suite, budget, split and `group`: environment `steps`, `seconds`.

    Both include meta-training and adaptation to all tasks of the split, summed over the families of
    the group.

    Args:
      costs: `reports.parts.cost.cost_points`, which repeats a family's costs for each of its axes.
      exact: `reports.stats.shift_axes.exact_axes`.
    """
    keys = ["suite", "budget", "split", "group", *ARM]
    once = add_group(costs, exact).drop_duplicates([*keys, "family"])
    spent = once.groupby(keys)[["steps", "seconds"]]
    return spent.agg(lambda costs: costs.sum(skipna=False)).reset_index()  # a missing cost is not 0


def leader_sentences(board: pd.DataFrame) -> Iterator[str]:
    """Yield who leads at the end of adaptation and how apb compares with other meta-RL.

    Args:
      board: `leaderboard` of one suite, budget and split.
    Returns:
      A paragraph of Markdown for each group of strata.
    """
    for group, lines in board.groupby("group", sort=False):
        shown = lines[
            ~lines["method"].isin((*BOUNDS, TOLD)) & lines[END].notna() & lines["complete"]
        ]
        told = []
        if ranked := shown.to_dict("records"):
            strata = lines["strata"].iloc[0]
            alone = group == OTHERS and board["group"].nunique() == 1
            where = escape_markdown(strata if alone else f"{group_name(str(group))} ({strata})")
            score = f"{lines['unit'].iloc[0]} {number(ranked[0][END])}"
            others = f", ahead of {_listed(ranked[1:_SHOWN])}" if len(ranked) > 1 else ""
            told.append(f"On {where}, **{_name(ranked[0])}** ends highest ({score}){others}.")
            told += _beside(ranked)
        if left_out := lines["left_out"].iloc[0]:
            names = escape_markdown(left_out)
            told.append(
                f"Left out of these numbers because they have no reference returns: {names}."
            )
        if told:
            yield " ".join(told)


def _beside(ranked: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield whose interval overlaps with that of the first, and the scores of apb and other meta-RL
    as far as they are not among the methods already named.
    """
    first, *rest = ranked
    near = [_name(line) for line in rest if line[f"{END}_high"] >= first[f"{END}_low"]]
    if near:
        yield f"Its interval overlaps with {'those' if near[1:] else 'that'} of {listing(near)}."
    usual = [line for line in ranked if line["variant"] == ""]
    rest = [line for line in usual if line not in ranked[:_SHOWN]]
    meta_rl = [line for line in rest if line["method"] in META_RL]
    if not meta_rl or all(line["method"] != "apb" for line in usual):
        return
    apb = [f"apb scores {number(line[END])}; other" for line in rest if line["method"] == "apb"]
    yield f"{apb[0] if apb else 'Other'} meta-RL: {_listed(meta_rl)}."


def _listed(lines: Sequence[Mapping[str, Any]]) -> str:
    return listing(f"{_name(line)} ({number(line[END])})" for line in lines)


def not_judged(board: pd.DataFrame, budget: str) -> str:
    """A note on families of a `leaderboard` that no claim is judged on, "" if there are none."""
    families = {name for names in board["families"] for name in names.split(",")}
    others = sorted(families - FAMILIES)
    if budget in JUDGED_AT and families & FAMILIES:
        return f"No claim is judged on {listing(others)}." if others else ""
    return (
        "No claim is judged on these families at this budget: the scores show that methods learn,"
        " not who wins."
    )


@themed
def leaderboard_figure(board: pd.DataFrame, styles: Mapping[Arm, Style], title: str) -> "Figure":
    """A panel per axis group, a line per method: final score with interval, area, and b = 0.

    Args:
      board: `leaderboard` of one suite, budget and split.
      styles: from `reports.parts.styles.focused`.
      title: plain text above the panels.
    """
    from matplotlib.lines import Line2D

    groups = list(board["group"].unique())
    places = board.groupby("group")[END].rank(ascending=False)
    best = places.groupby([board[name] for name in ARM]).mean().sort_values(kind="stable")
    arms: list[Arm] = [arm for arm in best.index if arm[0] not in BOUNDS]
    note = (
        "Filled: the score at the end of adaptation, with its 95 % interval. Vertical bar: the area"
        " under the curve over log b, "
    )
    note += "floored at the zero action. Hollow: b = 0. Interquartile means over seeds × families. "
    note += few(board["n_seeds"].dropna())
    figure, panels = canvas(
        len(groups), title, note, n_rows=1, panel=(_WIDTH, 0.5 + _ROW * len(arms)), beside=1.3
    )
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


def _draw_line(axes: "Axes", y: int, line: Mapping[str, float], arm: Arm, style: Style) -> None:
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
      untrained: arms to mark as such.
    """
    spent = board.merge(costs, on=list(ARM), how="left", suffixes=("", "_spent"))
    lines = []
    for line in spent.to_dict("records"):
        marked = "" if line["complete"] else "†"
        if (line["method"], line["variant"]) in untrained:
            marked += ", untrained"
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
