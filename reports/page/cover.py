"""A suite's compact figure: adaptation curves of the methods in focus."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reports import ReportError
from reports.files import write_text
from reports.page.output import fast_texts
from reports.page.report_data import compute
from reports.page.sections import of_suite
from reports.page.svg import to_svg
from reports.parts.curves import overview_figure
from reports.parts.drawing import Style
from reports.parts.styles import themed
from reports.stats.scores import ARM, BOUNDS, Arm

if TYPE_CHECKING:
    from results.publication import Publication
    from results.store import Store

SEEDS = 3


@fast_texts()
@themed
def write_cover(
    results: "Store | Publication", suite: str, budgets: Sequence[str], path: Path
) -> None:
    """Write a suite's adaptation curves on the first split of one budget, as SVG.

    The budget is the last of `budgets` at which most of the learners in focus have `SEEDS` seeds,
    and only arms that have them are drawn. If there is no such budget, it is the first one that has
    anything finished, with every arm in focus.

    Raises:
      ReportError: if nothing of the suite is finished at these budgets, or `path` cannot be
        written.
      results.store.StoreError: if the results cannot be read.
    """
    plans = [plan for plan in results.plans() if plan["suite"] == suite]
    remembering = {name for plan in plans for name in plan.get("remembering", ())}
    rows, cells = results.read([suite])
    numbers, expected = of_suite(compute(rows, cells, plans, remembering=remembering), plans[0])
    there = [name for name in budgets if name in set(numbers.points["budget"])]
    if not there:
        raise ReportError(f"suite {suite} has nothing finished at {', '.join(budgets)} to draw")
    focused = {arm: style for arm, style in numbers.styles.items() if style.focus}
    budget, arms = _largest(rows, there, set(focused or numbers.styles))
    styles = {arm: style for arm, style in numbers.styles.items() if arm in arms}
    of_budget = expected[expected["budget"] == budget]
    split = of_budget["split"].iloc[0]
    points, shown = (
        _in_focus(table[(table["budget"] == budget) & (table["split"] == split)], styles)
        for table in (numbers.points, of_budget)
    )
    title = f"{suite}, split {split} (budget {budget})"
    write_text(path, to_svg(overview_figure(points, shown, styles, title, numbers.exact), suite))


def _largest(rows: pd.DataFrame, budgets: Sequence[str], arms: set[Arm]) -> tuple[str, set[Arm]]:
    """Choose the budget to draw and the subset of `arms` to show."""
    learners = _learners(arms & set(_seeds(rows, budgets[0]).index))
    for budget in reversed(budgets):
        seeds = _seeds(rows, budget)
        enough = arms & set(seeds[seeds >= SEEDS].index)
        if 2 * len(_learners(enough) & learners) > len(learners):
            return budget, enough
    return budgets[0], arms


def _learners(arms: set[Arm]) -> set[Arm]:
    return {arm for arm in arms if arm[0] not in BOUNDS}


def _seeds(rows: pd.DataFrame, budget: str) -> pd.Series:
    """The number of seeds of each arm at a budget, in the family where it has the fewest."""
    adapted = rows[(rows["budget"] == budget) & (rows["stage"] == "adapt")]
    found = adapted[adapted["status"] == "ok"].groupby(["family", *ARM])["seed"].nunique()
    return found.groupby(list(ARM)).min()


def _in_focus(table: pd.DataFrame, styles: dict[Arm, Style]) -> pd.DataFrame:
    arms = table[list(ARM)].itertuples(index=False, name=None)
    return table[[arm in styles for arm in arms]]
