"""Figures of adaptation and meta-training.

Every function takes a table of points and returns a matplotlib Figure.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from reports.parts.captions import adaptation_note, few
from reports.parts.drawing import (
    Style,
    band_alpha,
    canvas,
    draw_blind,
    draw_curve,
    head_panel,
    legend,
    look,
    short_tick,
    step_axis,
    tag,
)
from reports.parts.styles import COLOURS, themed
from reports.stats.scores import ARM, Arm, blind_policy, select
from reports.stats.shift_axes import in_order
from reports.text import span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_ZERO: Arm = ("zero", "")
# panels side by side in an overview, and their size in inches
_COLUMNS = 3
_SMALL = (2.9, 2.2)
_ALONE = (5.2, 2.9)  # of a panel that has no others beside it


@themed
def adaptation_figure(
    points: pd.DataFrame,
    expected: pd.DataFrame,
    styles: Mapping[Arm, Style],
    title: str,
    exact: Collection[str] = (),
) -> "Figure":
    """Return against environment steps on the test task: a panel per axis, a line per method.

    Bands are over seeds. A thin line marks the task-blind multi-task policy where it was measured.

    Args:
      points: summary of the scores of one suite, budget, family and split, with `held_to`.
      expected: `coverage` of the same; its order is the legend's, and its unfinished arms are
        named below the figure.
      styles: from `method_styles`.
      title: plain text above the panels.
      exact: shift axes whose tasks are exact linear images of training tasks.
    """
    names = in_order(points["axis"])
    shown = _shown(points, expected, styles)
    blind = blind_policy(points)
    figure, panels = canvas(len(names), title, adaptation_note(points, expected))
    for axes, name in zip(panels, names, strict=True):
        _draw_panel(axes, points, name, shown, blind)
        head_panel(axes, name, exact, pad=16)
        axes.set_xlabel("environment steps on the test task")
    panels[0].set_ylabel("return (sum over an episode)")
    legend(figure, shown, blind)
    return figure


@themed
def overview_figure(
    points: pd.DataFrame,
    expected: pd.DataFrame,
    styles: Mapping[Arm, Style],
    title: str,
    exact: Mapping[str, Collection[str]],
) -> "Figure":
    """Return against environment steps on the test task, a small panel per family and shift axis.

    Each panel has a line per method.

    Args:
      points: summary of the scores of one suite, budget and split, with `held_to`.
      expected: `coverage` of the same; its order is that of the legend and of the families.
      styles: from `method_styles`.
      title: plain text above the panels.
      exact: by family, the shift axes whose tasks are exact linear images of training tasks.
    """
    by_family = {str(family): of_family for family, of_family in points.groupby("family")}
    families = [family for family in expected["family"].unique() if family in by_family]
    places = [(family, name) for family in families for name in in_order(by_family[family]["axis"])]
    shown = _shown(points, expected, styles)
    n_columns = min(_COLUMNS, len(places))
    rows = -(-len(places) // n_columns)
    note = adaptation_note(points, expected)
    size = _SMALL if len(places) > 1 else _ALONE
    figure, panels = canvas(n_columns, title, note, rows, size, sharey=False)
    for axes, (family, name) in zip(panels, places, strict=False):
        _draw_panel(axes, by_family[family], name, shown, blind_policy(by_family[family]))
        head_panel(axes, name, exact.get(family, ()), pad=14, family=family)
    for axes in panels[::n_columns]:
        axes.set_ylabel("return")
    for axes in panels[len(places) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(places) - n_columns) : len(places)]:
        axes.set_xlabel("environment steps on the test task")
    legend(figure, shown, blind_policy(points))
    return figure


def _shown(
    points: pd.DataFrame, expected: pd.DataFrame, styles: Mapping[Arm, Style]
) -> dict[Arm, Style]:
    """The arms that have a point, in the order of `expected`."""
    drawn = set(points[list(ARM)].itertuples(index=False, name=None))
    return {
        arm: styles[arm]
        for arm in expected[list(ARM)].itertuples(index=False, name=None)
        if arm in drawn
    }


def _draw_panel(
    axes: "Axes", points: pd.DataFrame, name: str, shown: Mapping[Arm, Style], blind: pd.DataFrame
) -> None:
    """Draw the adaptation curves of one family on the shift axis `name`."""
    checkpoints = sorted(int(b) for b in points["env_steps"].unique())
    curves = dict(iter(points[points["axis"] == name].groupby(list(ARM))))
    for arm, style in shown.items():
        if arm in curves:
            draw_curve(
                axes,
                curves[arm].sort_values("env_steps"),
                arm,
                style=style,
                alpha=band_alpha(shown),
                end=checkpoints[-1],
            )
    for value in blind.loc[blind["axis"] == name, "mean"]:
        draw_blind(axes, [0, checkpoints[-1]], [value] * 2)
    step_axis(axes, checkpoints)


@themed
def meta_training_figure(
    scores: pd.DataFrame,
    points: pd.DataFrame,
    styles: Mapping[Arm, Style],
    title: str,
    floors: pd.DataFrame | None = None,
) -> "Figure":
    """Return on training tasks against steps summed over them: thin lines per seed, thick means.

    Args:
      scores: `meta_training_scores` of one budget and family.
      points: their summary; a mean is drawn only where every seed of the method reported.
      styles: from `method_styles`; its order is the legend's.
      title: plain text above the panel.
      floors: `training_floors` of the same; the mean return of the zero action is drawn as a line.
    """
    from matplotlib.ticker import FuncFormatter

    seeds = scores.groupby(list(ARM))["seed"].nunique()
    own = (
        "The method's own episodes on training tasks, with its exploration noise; where exploration"
        " is separate, those of adapted policies."
    )
    note = f"Thick: mean of {span(seeds)}; thin: each seed. {own}"
    figure, (axes,) = canvas(1, title, f"{note} {few(seeds)}")
    arms = [arm for arm in styles if arm in seeds.index]
    for arm in arms:
        for _, one in select(scores, ARM, arm).groupby("seed"):
            line: dict[str, Any] = {
                "color": styles[arm].colour,
                "gid": tag("seed", arm, styles[arm]),
                "linewidth": 0.7,
                "alpha": 0.5,
            }
            axes.plot(one["env_steps"], one["return_mean"], **line)
        mean = select(points[points["n_seeds"] == seeds[arm]], ARM, arm)
        axes.plot(
            mean["env_steps"],
            mean["mean"],
            color=styles[arm].colour,
            gid=tag("mean", arm, styles[arm]),
        )
    shown = {arm: styles[arm]._replace(marker="") for arm in arms}
    if floors is not None and not floors.empty:
        shown[_ZERO] = Style(COLOURS["zero"], "")
        axes.axhline(
            floors["zero"].mean(), gid=tag("zero", _ZERO, shown[_ZERO]), **look(_ZERO, shown[_ZERO])
        )
    ends = scores.groupby(list(ARM))["env_steps"].max()
    if ends.max() > 20 * ends.min():  # on-policy budgets dwarf off-policy ones
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(short_tick))
    axes.set_xlabel("environment steps, summed over training tasks")
    axes.set_ylabel("return (sum over an episode)")
    legend(figure, shown)
    return figure
