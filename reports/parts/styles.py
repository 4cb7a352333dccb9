"""Colours, markers and theme of every figure of a report; no global settings are changed."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

from reports.parts.drawing import Style
from reports.stats.scores import BOUNDS, Arm

# Okabe and Ito's colours without the yellow, which is hard to see on white, and others that are far
# from them in CIELAB for any colour vision. Their order determines the markers.
COLOURS = {
    "apb": "#0072B2", "apb-random": "#56B4E9", "td3": "#E69F00", "maml": "#009E73",
    "cavia": "#CC79A7", "pearl": "#D55E00", "varibad": "#6A3D9A", "apb-pre": "#5E5EEB",
    "apb-post": "#592D54", "rl2": "#592D00", "finetune": "#000000", "random": "#7F7F7F",
    "zero": "#7F7F7F", "apb-none": "#00BF60", "apb-unfrozen": "#0000EB", "apb-reset": "#7A9A01",
    "maml+ft": "#005C43", "cavia+ft": "#8C3A6B", "rl2+ft": "#A65E2E", "varibad+ft": "#4000A0",
    "pearl+ft": "#FF8C5A", "maml-5": "#7FB800", "cavia-5": "#E3A8CB",
}  # fmt: skip
# Tol's muted colours, for methods that the project does not know.
_MORE_COLOURS = (
    "#44AA99",
    "#882255",
    "#332288",
    "#999933",
    "#AA4499",
    "#117733",
    "#6699CC",
    "#661100",
)
_MARKERS = "osD^vPX<>hp"
_THEME = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.labelsize": 9, "axes.titlesize": 9.5,
    "legend.fontsize": 8.5, "xtick.labelsize": 8, "ytick.labelsize": 8, "figure.titlesize": 11,
    "grid.color": "#E6E6E6", "grid.linewidth": 0.7, "axes.edgecolor": "#4D4D4D",
    "axes.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False,
    "lines.linewidth": 1.7, "lines.markersize": 5.2, "xtick.bottom": True, "pdf.fonttype": 42,
}  # fmt: skip

# the paper's five methods, and standard RL
MAIN = ("apb", "maml", "cavia", "pearl", "varibad", "td3")
_MANY = 9  # learners; with more, only some are in focus

P = ParamSpec("P")
R = TypeVar("R")


def themed(function: Callable[P, R]) -> Callable[P, R]:
    """Wrap `function` to run under the report's theme without changing the user's settings."""

    @wraps(function)
    def themed(*args: P.args, **kwargs: P.kwargs) -> R:
        """Call `function` under the theme."""
        import seaborn as sns
        from matplotlib import style

        with style.context(["default", sns.axes_style("whitegrid"), _THEME]):
            return function(*args, **kwargs)

    return themed


def method_styles(arms: Sequence[Arm]) -> dict[Arm, Style]:
    """Choose the colour and marker of every (method, variant) for all figures of a report.

    A method the project knows always has the same colour; others get theirs in the order of `arms`.
    Variants of a method share its colour and differ in their markers.
    """
    unknown = list(dict.fromkeys(method for method, _ in arms if method not in COLOURS))
    colours = COLOURS | {
        method: _MORE_COLOURS[i % len(_MORE_COLOURS)] for i, method in enumerate(unknown)
    }
    place = {method: i for i, method in enumerate(colours)}
    n_seen: dict[str, int] = {}
    styles = {}
    for method, variant in dict.fromkeys(arms):
        n_seen[method] = n_seen.get(method, -1) + 1
        styles[method, variant] = Style(
            colours[method], _MARKERS[(place[method] + n_seen[method]) % len(_MARKERS)]
        )
    return styles


def focused(styles: Mapping[Arm, Style], arms: Collection[Arm]) -> dict[Arm, Style]:
    """Return the styles of `arms`, which are drawn together, with their `focus`.

    If there are many, only MAIN, the bounds, variants, and methods that the project does not know
    are in focus.
    """
    few = sum(method not in BOUNDS for method, _ in set(arms)) <= _MANY
    known = {(method, "") for method in COLOURS} - {(method, "") for method in (*MAIN, *BOUNDS)}
    return {
        arm: style._replace(focus=few or arm not in known)
        for arm, style in styles.items()
        if arm in arms
    }
