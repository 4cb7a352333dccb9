"""The first part of a page: what each suite found, as sentences, curves and a leaderboard."""

from collections.abc import Iterator

import pandas as pd

from reports.page.output import Output
from reports.page.report_data import ReportData
from reports.page.sections import figure_links, of_suite
from reports.parts.captions import few
from reports.parts.curves import overview_figure
from reports.parts.leaderboard import (
    leader_costs,
    leader_sentences,
    leaderboard_figure,
    leaderboard_table,
    not_judged,
)
from reports.parts.overall import group_name
from reports.parts.provenance import finished
from reports.parts.untrained import untrained
from reports.stats.leaderboard import leaderboard, strata_of, text_of
from reports.stats.score_matrix import add_group
from reports.stats.scores import select
from reports.text import escape_markdown, slug

_TABLES = """\
Interquartile means over seeds × families; a normalised score of 0 is the better of zero and random
actions, 1 is TD3 trained on the task alone. Environment steps, and minutes of a single process, are
per seed and cover meta-training and adaptation to all tasks of these families.
"""
_PARTLY = "† lacks a score on some families or axes that others have, and is listed last.\n"
_PLACE = ("suite", "budget", "split")


def answer_section(numbers: ReportData, out: Output) -> Iterator[str]:
    """Yield what each suite found by budget and split, in Markdown; write figures and CSV files."""
    board = leaderboard(numbers.scores, numbers.exact)
    costs = leader_costs(numbers.costs, numbers.exact)
    for plan in numbers.plans:
        focused, expected = of_suite(numbers, plan)
        yield f"### {escape_markdown(plan['suite'])}: {escape_markdown(plan['question'])}\n"
        if focused.points[focused.points["suite"] == plan["suite"]].empty:
            yield f"Nothing is finished yet, so there is no answer. {finished(expected)}\n"
            continue
        for place, of_place in expected.groupby(["budget", "split"], sort=False):
            key = (plan["suite"], *map(str, place))
            mine, spent = (select(table, _PLACE, key) for table in (board, costs))
            yield from _answer(focused, key, of_place, board=mine, costs=spent, out=out)


def _answer(
    numbers: ReportData,
    key: tuple[str, ...],
    expected: pd.DataFrame,
    board: pd.DataFrame,
    costs: pd.DataFrame,
    out: Output,
) -> Iterator[str]:
    """The answer of one suite at one budget on one split."""
    suite, budget, split = key
    name = "_".join([*map(slug, key), "overview"])
    title = f"{suite}, split {split} (budget {budget})"
    yield f"#### Split {escape_markdown(split)}, budget {escape_markdown(budget)}\n"
    for paragraph in (*leader_sentences(board), *_unranked(numbers, key, board)):
        yield f"{paragraph}\n"
    said = [not_judged(board, budget), few(board["n_seeds"].dropna())] if len(board) else []
    yield f"{' '.join(filter(None, (*said, finished(expected))))}\n"
    points = select(numbers.points, _PLACE, key)
    if points.empty:
        return
    out.figure(
        name,
        overview_figure,
        points,
        expected,
        styles=numbers.styles,
        title=title,
        exact=numbers.exact,
    )
    out.table(points, name)
    yield figure_links(title, name, name)
    if board.empty:
        return
    data = "_".join([*map(slug, key), "leaderboard"])
    out.figure(data, leaderboard_figure, board, numbers.styles, f"{title}: leaderboard")
    out.table(board, data)
    yield figure_links(f"{title}: leaderboard", data, data)
    below = {
        arm
        for family in expected["family"].unique()
        for arm in untrained(numbers.floors, suite, budget, str(family))
    }
    yield _TABLES + (_PARTLY if not board["complete"].all() else "")
    for group, lines in board.groupby("group", sort=False):
        unit, strata = lines[["unit", "strata"]].iloc[0]
        heading = f"{unit}, {group_name(str(group))}: {strata}"
        yield f"{escape_markdown(heading[:1].upper() + heading[1:])}\n"
        yield leaderboard_table(lines, costs[costs["group"] == group], below)


def _unranked(numbers: ReportData, key: tuple[str, ...], board: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence for each group of strata that has scores but no line of the leaderboard."""
    for group, scores in add_group(select(numbers.scores, _PLACE, key), numbers.exact).groupby(
        "group"
    ):
        if group not in set(board["group"]):
            places = escape_markdown(text_of(strata_of(scores)))
            told = f"No reference returns yet to rank methods on {group_name(str(group))}"
            yield f"{told} ({places})."
