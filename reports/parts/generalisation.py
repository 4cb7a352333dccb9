"""Returns of adapted policies on neighbouring tasks and under noise: a figure and a table."""

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from reports.parts.captions import seeds_note
from reports.parts.drawing import Style, band_alpha, canvas, draw_points, legend, short_steps
from reports.parts.styles import themed
from reports.stats.generalisation import PLACES, SEED_CURVE, at_equal_return, kept_on_neighbours
from reports.stats.scores import ARM, GROUP, Arm, last_scores, select, summarise
from reports.text import escape_markdown, markdown_table, method_name, number, plus_minus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANEL = (3.6, 3.0)  # inches


def generalisation_points(scores: pd.DataFrame, elsewhere: pd.DataFrame) -> pd.DataFrame:
    """Summarise the returns of every arm's last policies by distance and noise, over seeds.

    Args:
      scores: `adaptation_scores` of one suite, budget, family, split and axis.
      elsewhere: `tried_elsewhere` of the same.
    Returns:
      One line per GROUP, `name` and `at`, where 0 is the task itself, as `summarise` gives them.
    """
    on = [*SEED_CURVE, "env_steps"]
    last = last_scores(scores)[[*on, "return_mean"]]
    there = elsewhere.merge(last[on], on=on)
    tried = last.merge(there[on].drop_duplicates(), on=on)
    home = [tried.assign(name=name, at=0.0) for name in PLACES]
    return summarise(pd.concat([*home, there], ignore_index=True), by=(*GROUP, "name", "at"))


@themed
def generalisation_figure(
    points: pd.DataFrame, expected: pd.DataFrame, styles: Mapping[Arm, Style], title: str, end: int
) -> "Figure":
    """Return against distance and noise, a panel each.

    Args:
      points: `generalisation_points`.
      expected: `coverage` of the same; its order is the legend's.
      styles: from `method_styles`.
      title: plain text above the panels.
      end: steps on the test task after which the policies were tried.
    """
    curves = {key: curve.sort_values("at") for key, curve in points.groupby([*ARM, "name"])}
    named = expected[list(ARM)].itertuples(index=False, name=None)
    arms = {arm: styles[arm] for arm in named if arm in {key[:2] for key in curves}}
    said = ["No learning takes place on neighbours or under noise; 0 is the task itself."]
    note = " ".join([*said, *seeds_note(points, expected, "band", ARM)])
    figure, panels = canvas(len(PLACES), title, note, panel=_PANEL)
    for axes, (name, what) in zip(panels, PLACES.items(), strict=True):
        for arm, style in arms.items():
            if (*arm, name) in curves:
                curve = curves[*arm, name]
                draw_points(axes, curve, "at", arm=arm, style=style, alpha=band_alpha(arms))
        axes.set_xlabel(what)
        axes.set_xlim(left=0)
    panels[0].set_ylabel(f"return at b = {short_steps(end)}")
    legend(figure, arms)
    return figure


def generalisation_table(scores: pd.DataFrame, expected: pd.DataFrame) -> str:
    """Returns on the neighbours at equal steps and at equal return, in Markdown.

    Args:
      scores: from `with_neighbours`, of one suite, budget, family, split and axis.
      expected: `coverage` of the same, in the order of the table.
    """
    last, equal = kept_on_neighbours(scores), at_equal_return(scores)
    columns = {
        "on own task": (last, "return_mean"),
        "on neighbours": (last, "neighbours"),
        "neighbours − own task": (last, "kept"),
        f"on neighbours, at {number(equal['home'].iloc[0])} on own task": (equal, "equal"),
    }
    lines = [
        [escape_markdown(method_name(*arm)), *_returns(columns.values(), arm)]
        for arm in expected[list(ARM)].itertuples(index=False, name=None)
    ]
    return markdown_table(["method", *columns], lines)


def _returns(columns: Iterable[tuple[pd.DataFrame, str]], arm: Arm) -> list[str]:
    return [_mean(select(table, ARM, arm), column) for table, column in columns]


def _mean(lines: pd.DataFrame, column: str) -> str:
    """A mean over seeds with its interval, and the number of seeds that have a value if not all."""
    known = lines.dropna(subset=[column])
    if known.empty:
        return "never" if len(lines) else "–"
    one: Mapping[Hashable, Any] = summarise(known, column, by=ARM).to_dict("records")[0]
    text = plus_minus(one["mean"], one["low"], one["high"])
    return text if len(known) == len(lines) else f"{text} ({len(known)} of {len(lines)} seeds)"
