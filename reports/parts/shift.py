"""How scores decay as test tasks move away from the training law, by shift axis."""

from collections.abc import Collection, Hashable, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

import pandas as pd

from reports.parts.captions import STOPPED, seeds_note
from reports.parts.drawing import (
    Style,
    band_alpha,
    canvas,
    draw_blind,
    draw_points,
    head_panel,
    legend,
    short_steps,
)
from reports.parts.styles import themed
from reports.stats.scores import (
    ARM,
    BOUNDS,
    GROUP,
    IN_DISTRIBUTION,
    TABLE,
    Arm,
    blind_policy,
    summarise,
)
from reports.stats.shift_axes import in_order, unit
from reports.text import (
    escape_label,
    escape_markdown,
    markdown_table,
    method_name,
    number,
    plus_minus,
    steps,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# values of `moment`: before any step on the test task, and at the arm's last checkpoint
START = "start"
LAST = "last"
_NORMAL = "normalised"  # the score at LAST, normalised
_PANEL = (4.4, 2.6)  # inches


def shift_points(levels: pd.DataFrame, value: str = "return_mean") -> pd.DataFrame:
    """Scores against shift at b = 0 and at each arm's last checkpoint, on axes with several levels.

    Args:
      levels: `level_scores`.
      value: the column of `levels` to summarise; unless it is the return, points that no seed has
        are left out.
    Returns:
      Summary over seeds, one line per GROUP, `moment` (START or LAST), `level` and the `env_steps`
      of that moment.
    """
    n_levels = levels.groupby([*TABLE, "axis"])["level"].transform("nunique")
    compared = levels[(n_levels > 1) & (levels["axis"] != IN_DISTRIBUTION)]
    last = compared.groupby(list(GROUP))["env_steps"].transform("max")
    start = compared[compared["env_steps"] == 0].assign(moment=START)
    end = compared[compared["env_steps"] == last].assign(moment=LAST)
    points = summarise(pd.concat([start, end]), value, by=(*GROUP, "moment", "level", "env_steps"))
    return points if value == "return_mean" else points.dropna(subset=["mean"])


@themed
def shift_figure(
    points: pd.DataFrame,
    expected: pd.DataFrame,
    styles: Mapping[Arm, Style],
    title: str,
    exact: Collection[str] = (),
    normal: pd.DataFrame | None = None,
) -> "Figure":
    """Return against shift, a column per shift axis.

    The rows are, from the top, the return before any step, the return at the arm's last checkpoint,
    and, where tasks have references, the normalised score at that checkpoint.

    Args:
      points: `shift_points` of one suite, budget, family and split.
      expected: `coverage` of the same; its order is the legend's.
      styles: from `method_styles`.
      title: plain text above the panels.
      exact: shift axes whose tasks are exact linear images of training tasks.
      normal: `shift_points` of the normalised scores of the same; None or empty if there are none.
    """
    names = in_order(points["axis"])
    scored = (
        points.iloc[:0]
        if normal is None
        else normal[normal["moment"] == LAST].assign(moment=_NORMAL)
    )
    moments = [
        START,
        *[LAST] * bool(points["env_steps"].max() > 0),
        *[_NORMAL] * (not scored.empty),
    ]
    every = points if scored.empty else pd.concat([points, scored])
    curves = {
        key: curve.sort_values("level") for key, curve in every.groupby([*ARM, "axis", "moment"])
    }
    drawn = {key[:2] for key in curves}
    named = expected[list(ARM)].itertuples(index=False, name=None)
    arms = {arm: styles[arm] for arm in named if arm in drawn}
    blind = blind_policy(points[points["moment"] == START])
    figure, panels = canvas(
        len(names), title, _note(points, expected), len(moments), _PANEL, sharex="col", sharey="row"
    )
    for axes, (moment, name) in zip(panels, product(moments, names), strict=True):
        for arm in arms:
            if (*arm, name, moment) in curves:
                draw_points(
                    axes,
                    curves[*arm, name, moment],
                    "level",
                    arm=arm,
                    style=styles[arm],
                    alpha=band_alpha(arms),
                )
        if moment == LAST and name in set(blind["axis"]):
            at_start = blind[blind["axis"] == name].sort_values("level")
            draw_blind(axes, at_start["level"].to_list(), at_start["mean"].to_list())
        if moment == moments[0]:
            head_panel(axes, name, exact)
        if moment == moments[-1]:
            axes.set_xlabel(
                "distance from the training law,"
                f" {escape_label(name)}{f' ({unit(name)})' if unit(name) else ''}"
            )
        axes.set_xlim(0, points.loc[points["axis"] == name, "level"].max() * 1.04)
    firsts = dict(zip(moments, panels[:: len(names)], strict=True))
    end = short_steps(points["env_steps"].max())
    labels = {
        START: "return at b = 0",
        LAST: f"return at b = {end}",
        _NORMAL: f"normalised score at b = {end}",
    }
    for moment, axes in firsts.items():
        axes.set_ylabel(labels[moment])
    if LAST in firsts:
        _align(firsts[START], firsts[LAST])
    legend(figure, arms, blind if LAST in moments else None)
    return figure


def _align(one: "Axes", other: "Axes") -> None:
    """Give both panels the same y limits, so that they can be compared."""
    low, high = zip(one.get_ylim(), other.get_ylim(), strict=True)
    for axes in (one, other):
        axes.set_ylim(min(low), max(high))


def shift_table(points: pd.DataFrame, expected: pd.DataFrame, axis: str) -> str:
    """Scores by level of shift on one axis, in Markdown: per arm, at b = 0 and its last checkpoint.

    Args:
      points: `shift_points` of one suite, budget, family and split, of returns or of normalised
        scores.
      expected: `coverage` of the same, in the order of the table.
    """
    on_axis = points[points["axis"] == axis]
    levels = sorted(on_axis["level"].unique())
    header = [
        "method",
        "steps on the test task",
        *(f"shift {level:.4g} {unit(axis)}".strip() for level in levels),
    ]
    found = on_axis.drop_duplicates([*ARM, "env_steps", "level"]).to_dict("records")
    lines = []
    for arm in expected.itertuples():
        mine = {
            (point["env_steps"], point["level"]): point
            for point in found
            if (point["method"], point["variant"]) == (arm.method, arm.variant)
        }
        for b in sorted({b for b, _ in mine}) or [float("nan")]:
            returns = [_cell(mine.get((b, level)), arm.n_done) for level in levels]
            lines.append(
                [escape_markdown(method_name(arm.method, arm.variant)), steps(b), *returns]
            )
    return markdown_table(header, lines)


def _cell(point: Mapping[Hashable, Any] | None, n_done: int) -> str:
    if point is None:
        return number(float("nan"))
    text = plus_minus(point["mean"], point["low"], point["high"])
    return (
        f"{text} ({point['n_seeds']:.0f} of {n_done} seeds)" if point["n_seeds"] < n_done else text
    )


def _note(points: pd.DataFrame, expected: pd.DataFrame) -> str:
    said = seeds_note(points, expected, "band", (*ARM, "axis", "moment"))
    learned = points[(points["moment"] == LAST) & ~points["method"].isin(BOUNDS)]
    if learned["env_steps"].nunique() > 1:
        said.append(STOPPED)
    return " ".join(["A point is the mean over the tasks at that distance.", *said])
