"""Canvas, legend, step axis and bands of figures, under the theme of `reports.parts.styles`.

Here as in all of `reports`, matplotlib is imported by the functions that draw: the process that
computes a report leaves drawing to other processes and does not need it.
"""

import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from reports.stats.scores import BOUNDS, IN_DISTRIBUTION, Arm
from reports.stats.shift_axes import EXACT
from reports.text import escape_label, method_name, one_line, slug

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# line patterns of the bounds, which are drawn as thin lines at their return before any step
_DASHES: dict[str, Any] = {"random": (0, (1, 1.5)), "zero": (0, (6, 2, 1, 2))}
# line of the multi-task policy, see `blind_policy`
BLIND: dict[str, Any] = {
    "color": "#000000",
    "linestyle": (0, (9, 2)),
    "linewidth": 0.9,
    "alpha": 0.8,
}
GREY = "#BDBDBD"  # for arms that are not in focus
# for points where some seeds are missing
HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 1.2, "linestyle": ""}
_THIN = 0.9  # points; line width of arms that are not in focus
_PANEL = (4.4, 3.0)  # inches
_LEGEND = 1.6  # inches
_NOTE_LINE = 0.16  # inches


class Style(NamedTuple):
    """How a method is drawn, in every figure."""

    colour: str
    marker: str
    # whether it stands out; other arms are grey in files, and shown in the page only on request
    focus: bool = True


def tag(kind: str, arm: Arm, style: Style) -> str:
    """The `gid` by which the page shows and hides an arm: kind, arm, whether it is in focus."""
    return f"{kind}:{slug(method_name(*arm))}{'' if style.focus else ':rest'}"


def canvas(
    n_columns: int,
    title: str,
    note: str,
    n_rows: int = 1,
    panel: tuple[float, float] = _PANEL,
    beside: float = _LEGEND,
    **shared: Any,
) -> "tuple[Figure, list[Axes]]":
    """Create a figure with panels row by row, a title above and a note below, both wrapped.

    `panel` and the room `beside` the panels are in inches. `shared` holds further arguments of
    matplotlib's `subplots`; panels share their y axis unless it has another `sharey`.
    """
    from matplotlib.figure import Figure

    width = beside + panel[0] * n_columns
    below = textwrap.wrap(one_line(note), int(width * 16))
    above = textwrap.wrap(one_line(title), int((width - beside) * 11.5))[:4]  # not above the legend
    foot = _NOTE_LINE * len(below) + 0.08
    figure = Figure(
        figsize=(width, panel[1] * n_rows + 0.7 + 0.2 * len(above) + foot), layout="constrained"
    )
    height = figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, foot / height, 1, 1 - foot / height))  # type: ignore[union-attr, call-arg]
    figure.text(
        0.01,
        0.06 / height,
        _literal(below),
        fontsize=7.5,
        color="#4D4D4D",
        va="bottom",
        linespacing=1.3,
    )
    figure.suptitle(_literal(above), x=0.01, ha="left", fontweight="bold")
    return figure, list(
        figure.subplots(n_rows, n_columns, squeeze=False, **({"sharey": True} | shared)).flat
    )


def head_panel(
    axes: "Axes", axis: str, exact: Collection[str], pad: float = 6, family: str = ""
) -> None:
    """Title a panel: family if given, shift axis, and EXACT if the axis is one of `exact`."""
    name = (
        "in-distribution tasks" if axis == IN_DISTRIBUTION else f"shift axis: {escape_label(axis)}"
    )
    if family:
        name = f"{escape_label(family)}, {name.removeprefix('shift axis: ')}"
    axes.set_title(f"{name}\n{EXACT}" if axis in exact else name, pad=pad)


def legend(figure: "Figure", arms: Mapping[Arm, Style], blind: pd.DataFrame | None = None) -> None:
    """Draw the legend right of the panels: `arms` in order, below them the task-blind policy.

    Args:
      blind: from `blind_policy`; None or empty leaves its line out.
    """
    from matplotlib.lines import Line2D

    shown = {arm: style for arm, style in arms.items() if style.focus}
    handles = [Line2D([], [], **look(arm, style)) for arm, style in shown.items()]
    names = [escape_label(method_name(*arm)) for arm in shown]
    tags: list[str | None] = [tag("legend", arm, style) for arm, style in shown.items()]
    if blind is not None and len(blind):
        handles.append(Line2D([], [], **BLIND))
        names.append(
            "multi-task"
            f" policy\n({escape_label(method_name(*blind[['method', 'variant']].iloc[0]))} at b"
            " = 0)"
        )
        tags.append(None)
    if len(shown) < len(arms):
        handles.append(Line2D([], [], color=GREY, linewidth=_THIN))
        names.append(f"{len(arms) - len(shown)} others")
        tags.append("others")
    drawn = figure.legend(
        handles, names, loc="outside right upper", frameon=False, handlelength=2.6
    )
    for name, *parts in zip(tags, drawn.legend_handles, drawn.get_texts(), strict=True):
        for part in filter(None, parts):
            part.set_gid(name)


def band_alpha(arms: Mapping[Arm, Style]) -> float:
    """How opaque a band is, so that the bands of many arms on top of each other hide no curve."""
    return min(
        0.18,
        1
        / max(1, sum(style.focus and method not in BOUNDS for (method, _), style in arms.items())),
    )


def step_back(figure: "Figure") -> None:
    """Draw the arms that are not in focus in grey, without their bands, and behind the others."""
    from matplotlib.lines import Line2D

    for artist in figure.findobj(lambda artist: (artist.get_gid() or "").endswith(":rest")):
        if isinstance(artist, Line2D):
            artist.set(color=GREY, markeredgecolor=GREY, markerfacecolor=GREY, zorder=1.5)
        else:
            artist.set_visible(False)


def draw_blind(axes: "Axes", x: Sequence[float], y: Sequence[float]) -> None:
    """Draw the return of the task-blind multi-task policy as a thin line."""
    axes.plot(x, y, gid="blind", zorder=2.5, **BLIND)


def draw_curve(
    axes: "Axes", curve: pd.DataFrame, arm: Arm, style: Style, alpha: float, end: int
) -> None:
    """Draw an arm's mean and band in order of steps, and a dashed line to `held_to` if it froze.

    A bound is one thin line from 0 to `end`. Points to which not every seed contributes are hollow.
    """
    drawn = look(arm, style)
    if arm[0] in BOUNDS:
        axes.plot([0, end], [curve["mean"].iloc[0]] * 2, gid=tag("bound", arm, style), **drawn)
        return
    draw_points(axes, curve, "env_steps", arm=arm, style=style, alpha=alpha)
    ends = curve.loc[curve["held_to"].notna(), ["env_steps", "held_to", "mean"]]
    for last, held_to, mean in ends.to_numpy(float):
        dashed = {"linestyle": (0, (3, 2)), "marker": ""}
        gid = tag("held", arm, style)
        axes.plot([last, held_to], [mean] * 2, gid=gid, zorder=3, **(drawn | dashed))


def draw_points(
    axes: "Axes", curve: pd.DataFrame, x: str, arm: Arm, style: Style, alpha: float
) -> None:
    """Draw an arm's means against column `x`, with a band of opacity `alpha`; a bound as a line.

    `curve` is sorted by `x`.
    """
    drawn = look(arm, style)
    at = curve[x].to_numpy(float)
    mean = curve["mean"].to_numpy(float)
    if arm[0] in BOUNDS:
        axes.plot(at, mean, gid=tag("bound", arm, style), **drawn)
        return
    axes.plot(at, mean, gid=tag("curve", arm, style), zorder=3, **drawn)
    n_seeds = curve["n_seeds"].to_numpy()
    few = n_seeds < n_seeds.max()
    if few.any():
        hollow = drawn | HOLLOW | {"markeredgecolor": style.colour}
        axes.plot(at[few], mean[few], gid=tag("few", arm, style), zorder=4, **hollow)
    if (n_seeds > 1).any():
        low = curve["low"].to_numpy(float)
        high = curve["high"].to_numpy(float)
        gid = tag("band", arm, style)
        axes.fill_between(
            at, low, high, color=style.colour, alpha=alpha, linewidth=0, zorder=2, gid=gid
        )


def step_axis(axes: "Axes", checkpoints: Sequence[int]) -> None:
    """Make the step axis logarithmic and mark the zero-, few- and many-shot regions.

    Up to the first checkpoint after 0 it is linear, to show 0.
    """
    from matplotlib.ticker import NullLocator

    end = checkpoints[-1]
    if end == 0:
        axes.set_xticks([0])
        return
    first = checkpoints[1]
    axes.set_xscale("symlog", linthresh=first, linscale=0.8)
    axes.set_xlim(-0.2 * first, end * 1.12)
    ticks = _spaced(axes, checkpoints)
    axes.set_xticks(ticks, [short_steps(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    # between 0 and H, and between 2H and 5H (their geometric mean)
    zero_end = first / 2
    few_end = float(np.sqrt(2 * 5)) * first
    regions = [
        ("zero-shot", -0.2 * first, zero_end),
        ("few-shot", zero_end, few_end),
        ("many-shot", few_end, end * 1.12),
    ]
    for name, left, right in regions:
        _region(axes, name, left, min(right, end * 1.12))


def _literal(lines: Sequence[str]) -> str:
    return "\n".join(lines).replace("$", r"\$")  # no mathematics


def look(arm: Arm, style: Style) -> dict[str, Any]:
    """The line and marker of an arm, as matplotlib's keywords."""
    if arm[0] in BOUNDS:
        return {"color": style.colour, "linestyle": _DASHES[arm[0]], "linewidth": 1.1}
    # white edges keep markers apart where curves cross
    drawn = {
        "color": style.colour,
        "marker": style.marker,
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
    }
    return drawn if style.focus else drawn | {"linewidth": _THIN, "markersize": 3}


def short_steps(count: float) -> str:
    """A number of steps for an axis: 500, 2.5k, 100k, 1M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(count) >= size:
            return f"{count / size:.4g}{unit}"
    return f"{count:g}"


def short_tick(count: float, position: int | None) -> str:
    """`short_steps` with the signature of a matplotlib tick formatter."""
    return short_steps(count)


def _region(axes: "Axes", name: str, left: float, right: float) -> None:
    if left >= right:
        return
    place = axes.transData.transform([(left, 0), (right, 0)])[:, 0]
    x = (axes.transAxes.inverted().transform([(float(place.mean()), 0)]))[0, 0]
    axes.text(
        x,
        1.025,
        name,
        transform=axes.transAxes,
        ha="center",
        va="bottom",
        fontsize=7.5,
        color="#666666",
    )
    if left > 0:
        axes.axvline(
            left, color="#B0B0B0", linewidth=0.8, linestyle=(0, (1, 2)), zorder=1, gid="shot"
        )


def _spaced(axes: "Axes", checkpoints: Sequence[int]) -> list[int]:
    """The checkpoints whose labels do not touch; the first and the last are always among them."""
    places = axes.transScale.transform([(b, 1) for b in checkpoints])[:, 0]
    apart = 0.085 * (places[-1] - places[0])
    kept = [0]
    for i in range(1, len(checkpoints) - 1):
        if places[i] - places[kept[-1]] >= apart and places[-1] - places[i] >= apart:
            kept.append(i)
    return [checkpoints[i] for i in [*kept, len(checkpoints) - 1]]
