"""A suite's figure for where space is short: adaptation curves of the methods in focus."""

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
from reports.stats.scores import ARM, Arm

if TYPE_CHECKING:
    from results.publication import Publication
    from results.store import Store

SEEDS = 3


@fast_texts()
@themed
def write_cover(
    results: "Store | Publication", suite: str, budgets: Sequence[str], path: Path
) -> None:
    """Write a suite's adaptation curves as SVG: the first split of a budget, the last of `budgets`
    at which every method of the first has `SEEDS` seeds; if there is none, the first.

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
    seeds = {name: _seeds(rows, name) for name in there}
    whole = (
        name
        for name in reversed(there)
        if all(seeds[name].get(arm, 0) >= SEEDS for arm in seeds[there[0]].index)
    )
    budget = next(whole, there[0])
    of_budget = expected[expected["budget"] == budget]
    split = of_budget["split"].iloc[0]
    focused = {arm: style for arm, style in numbers.styles.items() if style.focus}
    styles = focused or numbers.styles
    points, shown = (
        _in_focus(table[(table["budget"] == budget) & (table["split"] == split)], styles)
        for table in (numbers.points, of_budget)
    )
    title = f"{suite}, split {split} (budget {budget})"
    write_text(path, to_svg(overview_figure(points, shown, styles, title, numbers.exact), suite))


def _seeds(rows: pd.DataFrame, budget: str) -> pd.Series:
    """How many each arm has at a budget, on the family where it has the fewest."""
    adapted = rows[(rows["budget"] == budget) & (rows["stage"] == "adapt")]
    found = adapted[adapted["status"] == "ok"].groupby(["family", *ARM])["seed"].nunique()
    return found.groupby(list(ARM)).min()


def _in_focus(table: pd.DataFrame, styles: dict[Arm, Style]) -> pd.DataFrame:
    arms = table[list(ARM)].itertuples(index=False, name=None)
    return table[[arm in styles for arm in arms]]
