"""Numbers → pictures. Every function takes a table of points and returns a matplotlib Figure; no global setting is changed."""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pandas as pd
import seaborn as sns
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reports.drawing import BOUNDS, Arm, Style, canvas, draw_curve, legend, short_steps, step_axis
from reports.files import write_bytes
from reports.scores import ARM, IN_DISTRIBUTION, select
from reports.stats import BOOTSTRAP, FEW_SEEDS, MIN_MAX
from reports.tables import seeds_text
from reports.text import escape_label, listing, method_name

# Okabe and Ito's colours, told apart with any colour vision; their yellow is darkened to be seen on white.
COLOURS = {
    "apb": "#0072B2", "apb-random": "#56B4E9", "td3": "#E69F00", "maml": "#009E73", "cavia": "#CC79A7", "pearl": "#D55E00",
    "varibad": "#6A3D9A", "rl2": "#A6960A", "finetune": "#000000", "random": "#7F7F7F", "zero": "#7F7F7F",
}  # fmt: skip
# Tol's muted colours, for methods that the project does not know.
_MORE_COLOURS = ("#882255", "#44AA99", "#332288", "#999933", "#AA4499", "#117733", "#661100", "#6699CC")
_MARKERS = "osD^vPX<>hp"
_THEME = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.labelsize": 9, "axes.titlesize": 9.5, "legend.fontsize": 8.5,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "figure.titlesize": 11, "grid.color": "#E6E6E6", "grid.linewidth": 0.7,
    "axes.edgecolor": "#4D4D4D", "axes.linewidth": 0.8, "lines.linewidth": 1.7, "lines.markersize": 5.2,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.bottom": True, "pdf.fonttype": 42,
}  # fmt: skip

P = ParamSpec("P")
R = TypeVar("R")


def _themed(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` under the report's theme and leave the user's settings as they were."""

    @wraps(function)
    def themed(*args: P.args, **kwargs: P.kwargs) -> R:
        with style.context(["default", sns.axes_style("whitegrid"), _THEME]):
            return function(*args, **kwargs)

    return themed


def method_styles(arms: Sequence[Arm]) -> dict[Arm, Style]:
    """Colour and marker of every (method, variant), for use in all figures of a report.

    A method the project knows always has the same colour; others get theirs in the order of `arms`. Variants of a method share
    its colour and differ in their markers.
    """
    unknown = list(dict.fromkeys(method for method, _ in arms if method not in COLOURS))
    colours = COLOURS | {method: _MORE_COLOURS[i % len(_MORE_COLOURS)] for i, method in enumerate(unknown)}
    place = {method: i for i, method in enumerate(colours)}
    n_seen: dict[str, int] = {}
    styles = {}
    for method, variant in dict.fromkeys(arms):
        n_seen[method] = n_seen.get(method, -1) + 1
        styles[method, variant] = Style(colours[method], _MARKERS[(place[method] + n_seen[method]) % len(_MARKERS)])
    return styles


@_themed
def adaptation_figure(points: pd.DataFrame, expected: pd.DataFrame, styles: Mapping[Arm, Style], title: str) -> Figure:
    """Return against environment steps on the test task, a panel per shift axis, a line per method, a band over seeds.

    Args:
      points: summary of the scores of one suite, budget, family and split, with `held_to`.
      expected: `coverage` of the same; its order is the legend's, and its gaps are said below the picture.
      styles: of `method_styles`.
      title: plain text above the panels.
    """
    names = sorted(points["axis"].unique(), key=lambda name: (name != IN_DISTRIBUTION, name))
    checkpoints = sorted(int(b) for b in points["env_steps"].unique())
    curves = {(*arm, axis): curve for (*arm, axis), curve in points.groupby([*ARM, "axis"])}
    arms = [
        arm for arm in expected[list(ARM)].itertuples(index=False, name=None) if any((*arm, axis) in curves for axis in names)
    ]
    figure, panels = canvas(len(names), title, adaptation_note(points, expected))
    for axes, name in zip(panels, names, strict=True):
        for arm in arms:
            if (*arm, name) in curves:
                draw_curve(axes, curves[*arm, name].sort_values("env_steps"), arm, styles[arm], checkpoints[-1])
        step_axis(axes, checkpoints)
        axes.set_title("in-distribution tasks" if name == IN_DISTRIBUTION else f"shift axis: {escape_label(name)}", pad=16)
        axes.set_xlabel("environment steps on the test task")
    horizon = _horizon(checkpoints)
    panels[0].set_ylabel(f"return (sum over {'H' if horizon is None else horizon} steps)")
    legend(figure, {arm: styles[arm] for arm in arms})
    return figure


@_themed
def meta_training_figure(scores: pd.DataFrame, points: pd.DataFrame, styles: Mapping[Arm, Style], title: str) -> Figure:
    """Return on training tasks against environment steps summed over them: a thin line per seed, a thick one for their mean.

    Args:
      scores: `meta_training_scores` of one budget and family.
      points: their summary; a mean is drawn only where every seed of the method reported.
      styles: of `method_styles`; its order is the legend's.
      title: plain text above the panel.
    """
    seeds = scores.groupby(list(ARM))["seed"].nunique()
    note = (
        f"Thick: mean of {_span(seeds)}; thin: each seed. Episodes of the method's own on training tasks, exploration included."
    )
    figure, (axes,) = canvas(1, title, f"{note} {_few(seeds)}")
    arms = [arm for arm in styles if arm in seeds.index]
    for arm in arms:
        for _, one in select(scores, ARM, arm).groupby("seed"):
            axes.plot(one["env_steps"], one["return_mean"], color=styles[arm].colour, linewidth=0.7, alpha=0.5, gid="seed")
        mean = select(points[points["n_seeds"] == seeds[arm]], ARM, arm)
        axes.plot(mean["env_steps"], mean["mean"], color=styles[arm].colour, gid="mean")
    ends = scores.groupby(list(ARM))["env_steps"].max()
    if ends.max() > 20 * ends.min():  # on-policy budgets dwarf off-policy ones
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short_steps(x)))
    axes.set_xlabel("environment steps, summed over training tasks")
    axes.set_ylabel("return (sum over an episode)")
    legend(figure, {arm: Style(styles[arm].colour, "") for arm in arms})
    return figure


def adaptation_note(points: pd.DataFrame, expected: pd.DataFrame) -> str:
    """What a reader must know beside the curves: seeds, the kind of band, frozen policies, and what is not finished."""
    learners = expected[~expected["method"].isin(BOUNDS) & (expected["n_done"] > 0)]
    kinds = set(points["interval"]) - {""}
    bands = {frozenset({BOOTSTRAP}): "95 % percentile bootstrap over seeds", frozenset({MIN_MAX}): "lowest to highest seed"}
    band = bands.get(frozenset(kinds), "95 % percentile bootstrap over seeds, lowest to highest where there are only two")
    said = [f"Mean of {_span(learners['n_done'])}{f'; band: {band}' if kinds else ''}.", _few(learners["n_done"])]
    if points.loc[~points["method"].isin(BOUNDS), "held_to"].notna().any():
        said.append("Dashed: the method has stopped learning, its policy is carried to the end of the budget.")
    if (points["n_seeds"] < points.groupby([*ARM, "axis"])["n_seeds"].transform("max")).any():
        said.append("Hollow: not every finished seed has a score there.")
    said.append(unfinished_note(expected))
    return " ".join(filter(None, said))


def unfinished_note(expected: pd.DataFrame) -> str:
    """The arms with seeds that are not done, as a sentence; "" where there are none."""
    open_arms = expected[expected["n_done"] < expected["n_expected"]]
    texts = (
        f"{method_name(arm.method, arm.variant)} {seeds_text(arm.n_expected, arm.n_done, arm.n_failed)}"
        for arm in open_arms.itertuples()
    )
    return f"Not complete: {listing(texts)}." if len(open_arms) else ""


@_themed
def save_figure(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Write `stem`.png (150 dpi) and `stem`.pdf, each atomically; the same figure gives the same bytes.

    Raises:
      ReportError: if they cannot be written there.
    """
    return _save(figure, stem, "png", {"Software": None}), _save(figure, stem, "pdf", {"CreationDate": None})


def _save(figure: Figure, stem: Path, kind: str, metadata: dict[str, Any]) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return write_bytes(stem.with_name(f"{stem.name}.{kind}"), buffer.getvalue())


def _horizon(checkpoints: Sequence[int]) -> int | None:
    """H, where the checkpoints show it: the first after 0, if the next is twice as far."""
    return checkpoints[1] if len(checkpoints) > 2 and checkpoints[2] == 2 * checkpoints[1] else None


def _span(seeds: "pd.Series[int]") -> str:
    low, high = (int(seeds.min()), int(seeds.max())) if len(seeds) else (0, 0)
    return f"{low} seed{'s' * (low != 1)}" if low == high else f"{low} to {high} seeds"


def _few(seeds: "pd.Series[int]") -> str:
    few = len(seeds) and seeds.min() < FEW_SEEDS
    return "Fewer than five seeds: a description, not a test." if few else ""
