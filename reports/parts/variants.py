"""Variants of a method side by side: scores before any step, after two episodes, at the end."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from reports.parts.captions import STOPPED, seeds_note
from reports.parts.drawing import HOLLOW, Style, canvas, draw_blind, legend, look, short_steps, tag
from reports.parts.styles import themed
from reports.stats.curve_areas import horizon
from reports.stats.scores import ARM, BOUNDS, GROUP, Arm, blind_policy, select, summarise
from reports.text import (
    escape_label,
    escape_markdown,
    markdown_table,
    method_name,
    plus_minus,
    seeds_text,
    steps,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# inches: height per variant, width of a panel
_ROW = 0.34
_WIDTH = 3.1


def variants_of(arms: Iterable[Arm]) -> dict[str, list[Arm]]:
    """Methods with two variants or more, each with its arms.

    The base comes first, then its other settings, then other methods, in the order of `arms`. A
    variant is the same method with other settings, or a method named after a base among `arms`,
    such as apb-random.
    """
    learners = [arm for arm in dict.fromkeys(arms) if arm[0] not in BOUNDS]
    methods = dict.fromkeys(method for method, _ in learners)
    groups: dict[str, list[Arm]] = {}
    for method, variant in learners:
        prefix = method.split("-")[0]
        groups.setdefault(prefix if prefix in methods else method, []).append((method, variant))
    return {
        base: sorted(group, key=lambda arm: (arm[0] != base, arm[0] == base and arm[1] != ""))
        for base, group in groups.items()
        if len(group) > 1
    }


def variant_scores(scores: pd.DataFrame, arms: Sequence[Arm]) -> pd.DataFrame:
    """Select the scores of `arms`, per seed, at the moments that are compared.

    Args:
      scores: `adaptation_scores` of one suite, budget, family, split and axis.
    Returns:
      Their lines with a column `at`, the moment in environment steps: 0, 2H (if the checkpoints
      show H) and the end of the budget. A method that stopped earlier has its last scores there.
    """
    checkpoints = sorted(int(b) for b in scores["env_steps"].unique())
    few_shot = 2 * (horizon(checkpoints) or 0)
    mine = scores[[arm in arms for arm in scores[list(ARM)].itertuples(index=False, name=None)]]
    taken = []
    for at in sorted({0, few_shot, checkpoints[-1]}):
        before = mine[mine["env_steps"] <= at]
        taken.append(
            before[
                before["env_steps"] == before.groupby(list(ARM))["env_steps"].transform("max")
            ].assign(at=at)
        )
    return pd.concat(taken, ignore_index=True)


def variant_points(scores: pd.DataFrame) -> pd.DataFrame:
    """Summary over seeds of `variant_scores`, one line per arm and moment `at`."""
    return summarise(scores, by=(*GROUP, "at", "env_steps"))


@themed
def variants_figure(
    scores: pd.DataFrame,
    references: pd.DataFrame,
    expected: pd.DataFrame,
    styles: Mapping[Arm, Style],
    title: str,
) -> "Figure":
    """Returns of one method's variants: a panel per moment, a line per variant.

    Each line shows the mean, its interval, and small dots for seeds.

    Args:
      scores: `variant_scores` of one axis.
      references: summary of the scores of all arms on that axis, from which the bounds and the
        multi-task policy are drawn.
      expected: `coverage` of the variants, in their order from top to bottom.
      styles: from `method_styles`.
      title: plain text above the panels.
    """
    from matplotlib.ticker import MaxNLocator

    points = variant_points(scores)
    arms = list(expected[list(ARM)].itertuples(index=False, name=None))
    moments = sorted(int(at) for at in points["at"].unique())
    said = [*seeds_note(points, expected, "line", ARM), "Small dots: each seed."]
    if (points["env_steps"] < points["at"]).any():
        said.append(STOPPED)
    size = (_WIDTH, 0.5 + _ROW * len(arms))
    figure, panels = canvas(len(moments), title, " ".join(said), 1, size, sharex=True)
    blind = blind_policy(references)
    bounds = references[(references["env_steps"] == 0) & references["method"].isin(BOUNDS)]
    for axes, at in zip(panels, moments, strict=True):
        for bound in bounds.itertuples():
            arm = (bound.method, bound.variant)
            axes.axvline(
                bound.mean, gid=tag("bound", arm, styles[arm]), zorder=1.5, **look(arm, styles[arm])
            )
        for value in blind["mean"]:
            draw_blind(axes, [value] * 2, [-0.6, len(arms) - 0.4])
        for y, arm in enumerate(arms):
            seeds, point = (
                select(table[table["at"] == at], ARM, arm) for table in (scores, points)
            )
            _draw_variant(axes, y, seeds, point=point, points=points, arm=arm, style=styles[arm])
        axes.set_title(moment_name(at, moments))
        axes.set_xlabel("return")
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.grid(False, axis="y")
    panels[0].set_yticks(range(len(arms)), [escape_label(method_name(*arm)) for arm in arms])
    panels[0].set_ylim(len(arms) - 0.4, -0.6)
    legend(
        figure,
        {
            (bound.method, bound.variant): styles[bound.method, bound.variant]
            for bound in bounds.itertuples()
        },
        blind,
    )
    return figure


def moment_name(at: int, moments: Sequence[int]) -> str:
    """A moment of adaptation: "zero-shot (b = 0)", "few-shot (b = 100)", "end (b = 3k)"."""
    kind = "zero-shot" if at == 0 else "end of the budget" if at == moments[-1] else "few-shot"
    return f"{kind} (b = {short_steps(at)})"


def variants_table(points: pd.DataFrame, expected: pd.DataFrame) -> str:
    """The numbers of `variants_figure` in Markdown; `points` is `variant_points`."""
    moments = sorted(int(at) for at in points["at"].unique())
    lines = []
    for arm in expected.itertuples():
        found = (
            select(points, ARM, (arm.method, arm.variant))
            .set_index("at")[["mean", "low", "high"]]
            .reindex(moments)
        )
        seeds = seeds_text(arm.n_expected, arm.n_done, arm.n_failed)
        returns = [plus_minus(*numbers) for numbers in found.itertuples(index=False, name=None)]
        lines.append([escape_markdown(method_name(arm.method, arm.variant)), seeds, *returns])
    return markdown_table(["variant", "seeds", *(f"b = {steps(at)}" for at in moments)], lines)


def _draw_variant(
    axes: "Axes",
    y: int,
    seeds: pd.DataFrame,
    point: pd.DataFrame,
    points: pd.DataFrame,
    arm: Arm,
    style: Style,
) -> None:
    """Draw one line: the mean with the arm's marker, its interval, and the seeds just below."""
    dots: dict[str, Any] = {
        "color": style.colour,
        "marker": "o",
        "markersize": 3,
        "alpha": 0.45,
        "linestyle": "",
        "markeredgewidth": 0,
    }
    axes.plot(
        seeds["return_mean"], [y + 0.2] * len(seeds), gid=tag("seed", arm, style), zorder=2, **dots
    )
    for found in point[["mean", "low", "high", "n_seeds"]].itertuples():
        line: dict[str, Any] = {
            "color": style.colour,
            "gid": tag("interval", arm, style),
            "solid_capstyle": "butt",
        }
        axes.plot([found.low, found.high], [y, y], zorder=3, **line)
        few = found.n_seeds < select(points, ARM, arm)["n_seeds"].max()
        hollow = HOLLOW | {"markeredgecolor": style.colour} if few else {}
        gid = tag("few" if few else "mean", arm, style)
        axes.plot(
            [found.mean], [y], gid=gid, zorder=4, **(look(arm, style) | {"markersize": 7} | hollow)
        )
