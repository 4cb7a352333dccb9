"""The parts that figures are drawn from: canvas, legend, step axis, bands. Called under the theme of `reports.figures`."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from reports.text import escape_label, method_name, one_line

# References, not learners: thin lines in these patterns, at their return before any step.
BOUNDS: dict[str, Any] = {"random": (0, (1, 1.5)), "zero": (0, (6, 2, 1, 2))}
_PANEL = (4.4, 3.0)  # inches
_LEGEND = 1.6  # inches
_NOTE_LINE = 0.16  # inches

Arm: TypeAlias = tuple[str, str]  # method, variant


class Style(NamedTuple):
    """How a method is drawn, in every figure."""

    colour: str
    marker: str


def canvas(n_panels: int, title: str, note: str) -> tuple[Figure, list[Axes]]:
    """A figure with `n_panels` panels side by side, a title above and a note, wrapped, below."""
    width = _LEGEND + _PANEL[0] * n_panels
    lines = textwrap.wrap(one_line(note).replace("$", r"\$"), int(width * 16))
    below = _NOTE_LINE * len(lines) + 0.08
    figure = Figure(figsize=(width, _PANEL[1] + 0.9 + below), layout="constrained")
    figure.get_layout_engine().set(rect=(0, below / figure.get_figheight(), 1, 1 - below / figure.get_figheight()))  # type: ignore
    figure.text(
        0.01, 0.06 / figure.get_figheight(), "\n".join(lines), fontsize=7.5, color="#4D4D4D", va="bottom", linespacing=1.3
    )
    figure.suptitle(escape_label(title), x=0.01, ha="left", fontweight="bold")
    return figure, list(figure.subplots(1, n_panels, squeeze=False, sharey=True)[0])


def legend(figure: Figure, arms: Mapping[Arm, Style]) -> None:
    """The legend to the right of the panels, in the order of `arms`."""
    handles = [Line2D([], [], **_look(arm, style)) for arm, style in arms.items()]
    names = [escape_label(method_name(*arm)) for arm in arms]
    figure.legend(handles, names, loc="outside right upper", frameon=False, handlelength=2.6)


def draw_curve(axes: Axes, curve: pd.DataFrame, arm: Arm, style: Style, end: int) -> None:
    """One method's points, in order of steps: the mean, its band, and dashed to `held_to` where it has frozen.

    A bound is one thin line from 0 to `end`. Points to which not every seed contributes are hollow.
    """
    look = _look(arm, style)
    steps, mean = curve["env_steps"].to_numpy(float), curve["mean"].to_numpy(float)
    if arm[0] in BOUNDS:
        axes.plot([0, end], [mean[0]] * 2, gid="bound", **look)
        return
    axes.plot(steps, mean, gid="curve", zorder=3, **look)
    few = (curve["n_seeds"] < curve["n_seeds"].max()).to_numpy()
    if few.any():
        hollow = {"markerfacecolor": "white", "markeredgecolor": style.colour, "markeredgewidth": 1.2, "linestyle": ""}
        axes.plot(steps[few], mean[few], gid="few", zorder=4, **(look | hollow))
    if (curve["n_seeds"] > 1).any():
        low, high = curve["low"].to_numpy(float), curve["high"].to_numpy(float)
        axes.fill_between(steps, low, high, color=style.colour, alpha=0.18, linewidth=0, zorder=2)
    for last in curve[curve["held_to"].notna()].itertuples():
        dashed = {"linestyle": (0, (3, 2)), "marker": ""}
        axes.plot([last.env_steps, last.held_to], [last.mean] * 2, gid="held", zorder=3, **(look | dashed))


def step_axis(axes: Axes, checkpoints: Sequence[int]) -> None:
    """Logarithmic from the first checkpoint on and linear before it, so that 0 shows; marks zero-, few- and many-shot."""
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
    zero_end, few_end = first / 2, float(np.sqrt(2 * 5)) * first  # between 0 and H, and between 2H and 5H
    regions = [("zero-shot", -0.2 * first, zero_end), ("few-shot", zero_end, few_end), ("many-shot", few_end, end * 1.12)]
    for name, left, right in regions:
        _region(axes, name, left, min(right, end * 1.12))


def _look(arm: Arm, style: Style) -> dict[str, Any]:
    if arm[0] in BOUNDS:
        return {"color": style.colour, "linestyle": BOUNDS[arm[0]], "linewidth": 1.1}
    # white edges keep markers apart where curves cross
    return {"color": style.colour, "marker": style.marker, "markeredgecolor": "white", "markeredgewidth": 0.5}


def short_steps(count: float) -> str:
    """A number of steps for an axis: 500, 2.5k, 100k, 1M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(count) >= size:
            return f"{count / size:.4g}{unit}"
    return f"{count:g}"


def _region(axes: Axes, name: str, left: float, right: float) -> None:
    if left >= right:
        return
    place = axes.transData.transform([(left, 0), (right, 0)])[:, 0]
    x = (axes.transAxes.inverted().transform([(float(place.mean()), 0)]))[0, 0]
    axes.text(x, 1.025, name, transform=axes.transAxes, ha="center", va="bottom", fontsize=7.5, color="#666666")
    if left > 0:
        axes.axvline(left, color="#B0B0B0", linewidth=0.8, linestyle=(0, (1, 2)), zorder=1, gid="shot")


def _spaced(axes: Axes, checkpoints: Sequence[int]) -> list[int]:
    """The checkpoints whose labels do not touch; the first and the last are always among them."""
    places = axes.transScale.transform([(b, 1) for b in checkpoints])[:, 0]
    apart = 0.085 * (places[-1] - places[0])
    kept = [0]
    for i in range(1, len(checkpoints) - 1):
        if places[i] - places[kept[-1]] >= apart and places[-1] - places[i] >= apart:
            kept.append(i)
    return [checkpoints[i] for i in [*kept, len(checkpoints) - 1]]
