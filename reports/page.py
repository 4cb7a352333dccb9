"""A store → a report: one page, as HTML and as Markdown, its figures, and the numbers behind both as CSV."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reports import ReportError
from reports.answers import answer
from reports.axes import axis_text, exact_axes
from reports.cost import cost_figure, cost_points, costs_of
from reports.drawing import Arm, Style
from reports.figures import adaptation_figure, meta_training_figure, save_figure
from reports.files import write_text
from reports.html import Section, write_html
from reports.latex import to_latex
from reports.provenance import CELLS, finished, origins, provenance, unfinished_list
from reports.scores import (
    ARM,
    CURVE,
    TABLE,
    adaptation_scores,
    add_hold,
    coverage,
    level_scores,
    meta_training_scores,
    select,
    summarise,
    unfinished,
)
from reports.shift import shift_figure, shift_points, shift_table
from reports.styles import method_styles
from reports.tables import score_table, to_csv, to_markdown
from reports.text import escape_markdown, slug
from reports.variants import variant_points, variant_scores, variants_figure, variants_of, variants_table

_HOW_TO_READ = """\
Returns are undiscounted sums over an evaluation episode, in the units of the family; more is better. b is the number of
environment steps that a method has used on the test task: b = 0 is zero-shot, one or two episodes are few-shot, more are
many-shot. A score is the mean over the tasks of a level of shift, then over the levels of one shift axis; axes are never
averaged together. Seeds are the replications: ± is half the width of the 95 % percentile bootstrap interval over seeds, or
half the range where there are only two; one seed has none. "frozen" means that the method stops learning before, "–" that a
number is missing; only finished cells enter a score. A curve is flat while a method gathers experience before its first update
(by default five episodes for the TD3-type methods, none at smoke; 20 for MAML and CAVIA, 10 at quick, 2 at smoke); an untrained
policy may do worse than no action, and a gain counts from there.
Where the tasks of a shift axis are exact linear images of training tasks, a linear layer before the policy and one after it
can undo the shift; read those axes apart from the others, since methods with such layers are at home there.
A normalised score is per task (J − J₀) / (J_oracle − J₀), unclipped: 0 is the better of zero and random action, 1 where TD3
ends that learns the task alone, in 20 000 steps on the point families, a million elsewhere. These references are fixed data;
"–" where a task has none yet, "?" where the two are hardly apart.
"""


@dataclass(frozen=True)
class Numbers:
    """Everything that the page of one or more suites is drawn from."""

    plans: list[dict[str, Any]]  # in the order of the page
    rows: pd.DataFrame
    cells: pd.DataFrame
    scores: pd.DataFrame  # of adaptation, per seed
    points: pd.DataFrame  # their summary, with held_to
    shifts: pd.DataFrame  # points against shift, at b = 0 and last
    costs: pd.DataFrame  # last scores and what they cost
    training: pd.DataFrame  # scores of meta-training, per seed
    expected: pd.DataFrame  # coverage, in the order of the plans
    styles: dict[Arm, Style]
    exact: dict[str, frozenset[str]]  # by family, the shift axes along which test tasks are images of training tasks


FORMATS = {"html": "report.html", "latex": "report.tex", "md": "report.md"}
TITLE = "APB benchmark: results"


def write_report(
    store: Path, out: Path, suites: Sequence[str] | None = None, formats: Collection[str] = tuple(FORMATS)
) -> list[Path]:
    """Write the pages of `out`, with figures/ and data/ beside them, and return their paths.

    Every file is whole or not there, and the pages come last, so that they never show what is not there. The same rows give
    the same bytes. Files of an earlier report that this one does not write are left alone.

    Args:
      store: folder of a results store.
      out: folder to write to; made if it is not there.
      suites: ids of the suites to report, in the order of the page; all that the store has where None.
      formats: of `FORMATS`.
    Raises:
      ReportError: if the store has no such suite or `out` cannot be written to.
      results.store.StoreError: if there is no store, or it cannot be read.
    """
    from results.references import load_references
    from results.store import Store  # the rest of the package works on tables and needs no store

    opened = Store(store, create=False)
    plans = _chosen(opened.plans(), suites, store)
    rows, cells = opened.read([plan["suite"] for plan in plans])
    if cells.empty:
        raise ReportError(f"the suites in {store} expect no cells, so there is nothing to report; run one first")
    numbers = compute(rows, cells, plans, load_references())
    write_text(out / CELLS, to_csv(origins(cells, opened)))
    sections = [
        Section("How to read this", _HOW_TO_READ, folded=True),
        *(Section(plan["suite"], "\n".join(_suite(numbers, plan, out))) for plan in plans),
        Section("Provenance", provenance(rows, cells, plans)),
    ]
    tex = (plans, numbers.scores, numbers.expected, numbers.exact)
    write = {
        "html": lambda path: write_html(path, TITLE, sections),
        "latex": lambda path: write_text(path, to_latex(*tex)),
        "md": lambda path: write_text(path, to_page(sections)),
    }
    return [write[name](out / file) for name, file in FORMATS.items() if name in formats]


def to_page(sections: Sequence[Section]) -> str:
    """The sections one after another, in Markdown."""
    parts = (f"## {escape_markdown(section.title)}\n\n{section.markdown}" for section in sections)
    return "\n".join(["# Results\n", *parts])


def compute(
    rows: pd.DataFrame, cells: pd.DataFrame, plans: list[dict[str, Any]], references: pd.DataFrame | None = None
) -> Numbers:
    """Turn the rows and expected cells of a store into the numbers of its report, normalised by `references`.

    Raises:
      ReportError: if rows contradict each other.
    """
    scores = adaptation_scores(rows, cells, references)
    order = {method: i for i, method in reversed(list(enumerate(method for plan in plans for method in plan["arms"])))}
    expected = coverage(cells)
    expected = expected.sort_values("method", key=lambda names: names.map(order).fillna(len(order)), kind="stable")
    styles = method_styles(list(expected[list(ARM)].itertuples(index=False, name=None)))
    points = add_hold(summarise(scores))
    shifts = shift_points(level_scores(rows, cells))
    costs, training = cost_points(rows, cells, scores), meta_training_scores(rows, cells)
    return Numbers(plans, rows, cells, scores, points, shifts, costs, training, expected, styles, exact_axes(plans))


def _chosen(plans: list[dict[str, Any]], suites: Sequence[str] | None, store: Path) -> list[dict[str, Any]]:
    known = {plan["suite"]: plan for plan in plans}
    if not known:
        raise ReportError(f"{store} holds no suite yet; run one first")
    if unknown := [suite for suite in suites or () if suite not in known]:
        raise ReportError(f"{store} has no suite {unknown[0]!r}; it has {', '.join(known)}")
    return [known[suite] for suite in suites or known]


def _suite(numbers: Numbers, plan: dict[str, Any], out: Path) -> Iterator[str]:
    """The page's parts about one suite, in order; writes its figures and CSV files on the way."""
    expected = numbers.expected[numbers.expected["suite"] == plan["suite"]]
    yield f"**{escape_markdown(plan['question'])}**\n"
    yield f"{finished(expected)}\n"
    yield answer(numbers.scores, expected, numbers.exact)
    for (budget, family), of_family in expected.groupby(["budget", "family"], sort=False):
        yield f"### {escape_markdown(family)}, budget {escape_markdown(budget)}\n"
        for _, of_split in of_family.groupby("split", sort=False):
            yield from _split(numbers, of_split, out)
        yield from _training(numbers, plan["suite"], of_family, out)
    missing = unfinished(numbers.rows, numbers.cells)
    yield unfinished_list(missing[missing["suite"] == plan["suite"]])


def _split(numbers: Numbers, expected: pd.DataFrame, out: Path) -> Iterator[str]:
    """One split of a family: its figure, a table per shift axis, the score against shift, and variants side by side."""
    key = tuple(expected[list(TABLE)].iloc[0])
    _, budget, family, split = key
    scores, points = (select(table, TABLE, key) for table in (numbers.scores, numbers.points))
    yield f"#### Split {escape_markdown(split)}\n"
    if points.empty:
        yield to_markdown(score_table(scores, expected))
        return
    name = "_".join(map(slug, key))
    title = f"{family}, split {split} (budget {budget})"
    exact = numbers.exact.get(family, frozenset())
    save_figure(adaptation_figure(points, expected, numbers.styles, title, exact), out / "figures" / name)
    write_text(out / "data" / f"{name}-curves.csv", to_csv(points))
    yield _figure_links(title, name, f"{name}-curves")
    for axis, of_axis in scores.groupby("axis"):
        table = score_table(of_axis, expected)
        path = f"data/{name}_{slug(str(axis))}.csv"
        write_text(out / path, to_csv(table))
        yield f"{_heading(str(axis), exact)} ([CSV]({path}))\n\n{to_markdown(table)}"
    yield from _shift(numbers, expected, out)
    yield from _cost(numbers, expected, out)
    for _, of_axis in scores.groupby("axis"):
        yield from _variants(numbers, of_axis, expected, out)


def _shift(numbers: Numbers, expected: pd.DataFrame, out: Path) -> Iterator[str]:
    """The score against shift on one split: a figure, and a table per shift axis that has levels to compare."""
    key = tuple(expected[list(TABLE)].iloc[0])
    points = select(numbers.shifts, TABLE, key)
    if points.empty:
        return
    _, budget, family, split = key
    exact = numbers.exact.get(family, frozenset())
    name = "_".join([*map(slug, key), "against_shift"])
    title = f"{family}, split {split}: return against shift (budget {budget})"
    save_figure(shift_figure(points, expected, numbers.styles, title, exact), out / "figures" / name)
    write_text(out / "data" / f"{name}.csv", to_csv(points))
    yield f"##### Score against shift\n\n{_figure_links(title, name, name)}"
    for axis in sorted(points["axis"].unique()):
        yield f"{_heading(axis, exact)}\n\n{shift_table(points, expected, axis)}"


def _cost(numbers: Numbers, expected: pd.DataFrame, out: Path) -> Iterator[str]:
    """What the scores of one split cost: a figure."""
    key = tuple(expected[list(TABLE)].iloc[0])
    points = costs_of(numbers.costs, key)
    if points.empty:
        return
    _, budget, family, split = key
    name = "_".join([*map(slug, key), "cost"])
    title = f"{family}, split {split}: return against what it cost (budget {budget})"
    exact = numbers.exact.get(family, frozenset())
    save_figure(cost_figure(points, expected, numbers.styles, title, exact), out / "figures" / name)
    write_text(out / "data" / f"{name}.csv", to_csv(points))
    yield f"##### Cost\n\n{_figure_links(title, name, name)}"


def _variants(numbers: Numbers, scores: pd.DataFrame, expected: pd.DataFrame, out: Path) -> Iterator[str]:
    """The variants of each method side by side, on one axis of one split."""
    key = (*expected[list(TABLE)].iloc[0], str(scores["axis"].iloc[0]))
    _, budget, family, split, axis = key
    exact = numbers.exact.get(family, frozenset())
    at_axis = select(numbers.points, (*TABLE, "axis"), key)
    finished_arms = set(at_axis[list(ARM)].itertuples(index=False, name=None))
    for base, arms in variants_of(expected[list(ARM)].itertuples(index=False, name=None)).items():
        if len(finished_arms & set(arms)) < 2:
            continue  # nothing to compare
        rows, of_arms = variant_scores(scores, arms), _in_order(expected, arms)
        points, name = variant_points(rows), "_".join([*map(slug, key), "variants", slug(base)])
        title = f"{family}, split {split}, {axis_text(axis, exact)}: variants of {base} (budget {budget})"
        save_figure(variants_figure(rows, at_axis, of_arms, numbers.styles, title), out / "figures" / name)
        write_text(out / "data" / f"{name}.csv", to_csv(points))
        write_text(out / "data" / f"{name}-seeds.csv", to_csv(rows))
        heading = f"##### Variants of {escape_markdown(base)}: {escape_markdown(axis_text(axis, exact))}"
        yield f"{heading}\n\n{_figure_links(title, name, name)}\n{variants_table(points, of_arms)}"


def _in_order(expected: pd.DataFrame, arms: Sequence[Arm]) -> pd.DataFrame:
    return pd.concat([select(expected, ARM, arm) for arm in arms], ignore_index=True)


def _heading(axis: str, exact: frozenset[str]) -> str:
    text = escape_markdown(axis_text(axis, exact))
    return f"{text[:1].upper()}{text[1:]}"


def _training(numbers: Numbers, suite: str, expected: pd.DataFrame, out: Path) -> Iterator[str]:
    """The meta-training of the arms of one suite on one family."""
    scores = numbers.training.merge(expected[list(CURVE)].drop_duplicates(), on=list(CURVE))
    if scores.empty:
        return
    budget, family = expected[["budget", "family"]].iloc[0]
    name = "_".join(map(slug, (suite, budget, family, "meta-training")))
    title = f"{family}, meta-training (budget {budget})"
    points = summarise(scores, by=(*CURVE, "env_steps"))
    save_figure(meta_training_figure(scores, points, numbers.styles, title), out / "figures" / name)
    write_text(out / "data" / f"{name}.csv", to_csv(points))
    write_text(out / "data" / f"{name}-seeds.csv", to_csv(scores))
    yield f"#### Meta-training\n\n{_figure_links(title, name, name)}"


def _figure_links(title: str, name: str, data: str) -> str:
    shown = escape_markdown(title)
    return f"![{shown}](figures/{name}.png)\n\n[PDF](figures/{name}.pdf) · [points as CSV](data/{data}.csv)\n"
