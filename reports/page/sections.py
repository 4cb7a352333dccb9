"""The parts of a page about one suite, in Markdown, with its figures and tables."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from reports.page.guide import BREAK_EVEN, LOSSES, RADIUS
from reports.page.output import Output
from reports.page.report_data import ReportData
from reports.parts.cost import cost_figure, costs_of
from reports.parts.curves import adaptation_figure, meta_training_figure
from reports.parts.films import clips_section
from reports.parts.generalisation import (
    generalisation_figure,
    generalisation_points,
    generalisation_table,
)
from reports.parts.headline import findings
from reports.parts.loss_parts import loss_parts_table
from reports.parts.overall import aggregate_table, group_name, improvement_figure, profile_figure
from reports.parts.provenance import unfinished_list
from reports.parts.reach import break_even_table, radius_table
from reports.parts.score_table import score_table, to_markdown
from reports.parts.shift import LAST, shift_figure, shift_table
from reports.parts.styles import focused
from reports.parts.theory import bound_figure, correlations_table, terms_table
from reports.parts.untrained import untrained, untrained_lines
from reports.parts.variants import (
    variant_points,
    variant_scores,
    variants_figure,
    variants_of,
    variants_table,
)
from reports.stats.aggregates import aggregate, performance_profiles
from reports.stats.break_even import break_even
from reports.stats.improvement import probability_of_improvement
from reports.stats.loss_parts import loss_parts
from reports.stats.scores import ARM, CURVE, TABLE, Arm, last_scores, select, summarise, unfinished
from reports.stats.shift_axes import axis_text
from reports.stats.theory import rank_correlations
from reports.text import escape_markdown, method_name, slug
from results.measures import BOUND


def suite_section(numbers: ReportData, plan: dict[str, Any], out: Output) -> Iterator[str]:
    """Yield the page's parts about one suite in order, and write its figures and CSV files."""
    numbers, expected = of_suite(numbers, plan)
    for (budget, family), of_family in expected.groupby(["budget", "family"], sort=False):
        yield f"### {escape_markdown(family)}, budget {escape_markdown(budget)}\n"
        for _, of_split in of_family.groupby("split", sort=False):
            yield from _split(numbers, of_split, out)
        yield from _theory(numbers, (plan["suite"], str(budget), str(family)), out)
        yield from _training(numbers, plan["suite"], of_family, out)
    missing = unfinished(numbers.rows, numbers.cells)
    yield unfinished_list(missing[missing["suite"] == plan["suite"]])


def overall_section(numbers: ReportData, plan: dict[str, Any], out: Output) -> Iterator[str]:
    """Yield the parts on all families of a suite together in order; write figures and CSV files."""
    numbers, expected = of_suite(numbers, plan)
    for (budget, split), of_split in expected.groupby(["budget", "split"], sort=False):
        yield from _overall(
            numbers, plan["suite"], str(budget), split=str(split), expected=of_split, out=out
        )


def of_suite(numbers: ReportData, plan: dict[str, Any]) -> tuple[ReportData, pd.DataFrame]:
    """Return the numbers with styles for drawing one suite's arms together, and its `coverage`."""
    expected = numbers.expected[numbers.expected["suite"] == plan["suite"]]
    arms = set(expected[list(ARM)].itertuples(index=False, name=None))
    return replace(numbers, styles=focused(numbers.styles, arms)), expected


def _overall(
    numbers: ReportData, suite: str, budget: str, split: str, expected: pd.DataFrame, out: Output
) -> Iterator[str]:
    """All families of one split: aggregated normalised scores, profiles, and who beats whom."""
    last = select(last_scores(numbers.scores), ("suite", "budget", "split"), (suite, budget, split))
    if last["return_mean"].isna().all():
        return
    arms = list(expected[list(ARM)].drop_duplicates().itertuples(index=False, name=None))
    title = f"{suite}, split {split}, all families (budget {budget})"
    name = "_".join(map(slug, (suite, budget, "all-families", split)))
    yield f"### {escape_markdown(f'{suite}, split {split}, budget {budget}')}\n"
    pairs = probability_of_improvement(last, numbers.exact, value="return_mean")
    if not pairs.empty:
        out.figure(
            f"{name}-improvement", improvement_figure, pairs, arms, f"{title}: who beats whom"
        )
        out.table(pairs, f"{name}-improvement")
        yield figure_links(f"{title}: who beats whom", f"{name}-improvement", f"{name}-improvement")
    found = aggregate(last, numbers.exact, expected, value="normalised")
    if found["n_scores"].sum() == 0:
        yield (
            "No family has reference returns yet, so there are no normalised scores to aggregate.\n"
        )
        return
    profiles = performance_profiles(last, numbers.exact, value="normalised")
    out.figure(
        f"{name}-profiles",
        profile_figure,
        profiles,
        arms,
        styles=numbers.styles,
        title=f"{title}: profiles",
    )
    out.table(profiles, f"{name}-profiles")
    out.table(found, f"{name}-aggregates")
    yield figure_links(f"{title}: profiles", f"{name}-profiles", f"{name}-profiles")
    for group, of_group in found[found["n_families"] > 0].groupby("group"):
        heading = escape_markdown(f"Normalised scores, {group_name(str(group))}")
        yield f"{heading} ([CSV](data/{name}-aggregates.csv))\n\n{aggregate_table(of_group, arms)}"


def _split(numbers: ReportData, expected: pd.DataFrame, out: Output) -> Iterator[str]:
    """One split of a family: figure, table per shift axis, score against shift, and variants."""
    key = tuple(expected[list(TABLE)].iloc[0])
    suite, budget, family, split = key
    below = untrained(numbers.floors, suite, budget, family)
    scores, points = (select(table, TABLE, key) for table in (numbers.scores, numbers.points))
    yield f"#### Split {escape_markdown(split)}\n"
    if points.empty:
        yield to_markdown(score_table(scores, expected), below)
        return
    name = "_".join(map(slug, key))
    title = f"{family}, split {split} (budget {budget})"
    exact = numbers.exact.get(family, frozenset())
    out.figure(
        name, adaptation_figure, points, expected, styles=numbers.styles, title=title, exact=exact
    )
    out.table(points, f"{name}-curves")
    yield figure_links(title, name, f"{name}-curves")
    yield from findings(scores, exact)
    for axis, of_axis in scores.groupby("axis"):
        table = score_table(of_axis, expected)
        data = f"{name}_{slug(str(axis))}"
        out.table(table, data)
        yield (
            f"{_heading(str(axis), exact)} ([CSV](data/{data}.csv))\n\n{to_markdown(table, below)}"
        )
    yield from _shift(numbers, expected, out)
    for found, data, heading, table in (
        (break_even(scores), "break-even", BREAK_EVEN, break_even_table),
        (loss_parts(scores), "losses", LOSSES, loss_parts_table),
    ):
        yield from _tables(
            found, data, heading, table=table, expected=expected, exact=exact, out=out
        )
    yield from _generalisation(numbers, expected, out)
    yield from _cost(numbers, expected, out)
    yield from clips_section(numbers.clips, key)
    for _, of_axis in scores.groupby("axis"):
        yield from _variants(numbers, of_axis, expected, out)


def _shift(numbers: ReportData, expected: pd.DataFrame, out: Output) -> Iterator[str]:
    """Score against shift on one split: a figure, and tables for each axis with several levels."""
    key = tuple(expected[list(TABLE)].iloc[0])
    points, normal = (
        select(table, TABLE, key) for table in (numbers.shifts, numbers.normal_shifts)
    )
    if points.empty:
        return
    _, budget, family, split = key
    exact = numbers.exact.get(family, frozenset())
    name = "_".join([*map(slug, key), "against_shift"])
    title = f"{family}, split {split}: score against shift (budget {budget})"
    out.figure(
        name,
        shift_figure,
        points,
        expected,
        styles=numbers.styles,
        title=title,
        exact=exact,
        normal=normal,
    )
    both = {"return": points, "normalised": normal}
    out.table(pd.concat([table.assign(score=score) for score, table in both.items()]), name)
    yield f"##### Score against shift\n\n{figure_links(title, name, name)}"
    for axis in sorted(points["axis"].unique()):
        yield f"{_heading(axis, exact)}: return\n\n{shift_table(points, expected, axis)}"
        if axis in set(normal["axis"]):
            ends = normal[normal["moment"] == LAST]
            yield (
                f"{_heading(axis, exact)}: normalised score\n\n{shift_table(ends, expected, axis)}"
            )
        if not (radii := select(numbers.radii, (*TABLE, "axis"), (*key, axis))).empty:
            scaled_by = radii["scaled_by"].iloc[0]
            yield f"{RADIUS.format(scaled_by)}\n\n{radius_table(radii, expected)}"


def _tables(
    found: pd.DataFrame,
    name: str,
    heading: str,
    table: Callable[[pd.DataFrame, pd.DataFrame], str],
    expected: pd.DataFrame,
    exact: frozenset[str],
    out: Output,
) -> Iterator[str]:
    """A heading and a table per shift axis, and the numbers as CSV; nothing if `found` is empty."""
    if found.empty:
        return
    out.table(found, "_".join([*map(slug, expected[list(TABLE)].iloc[0]), name]))
    yield heading
    for axis, of_axis in found.groupby("axis"):
        yield f"{_heading(str(axis), exact)}\n\n{table(of_axis, expected)}"


def _generalisation(numbers: ReportData, expected: pd.DataFrame, out: Output) -> Iterator[str]:
    """Returns on neighbouring tasks and under noise, if they were measured."""
    key = tuple(expected[list(TABLE)].iloc[0])
    tried = select(numbers.elsewhere, TABLE, key)
    _, budget, family, split = key
    for axis in sorted(tried["axis"].unique()):
        place = (*TABLE, "axis"), (*key, axis)
        scores, there = (select(table, *place) for table in (numbers.scores, tried))
        points = generalisation_points(scores, there)
        name = "_".join([*map(slug, key), slug(axis), "generalisation"])
        title = f"{family}, split {split}: adapted policies elsewhere (budget {budget})"
        out.figure(
            name,
            generalisation_figure,
            points,
            expected,
            styles=numbers.styles,
            title=title,
            end=int(scores["env_steps"].max()),
        )
        out.table(points, name)
        yield f"##### On neighbouring tasks and under noise\n\n{figure_links(title, name, name)}"
        yield generalisation_table(scores, expected)


def _theory(numbers: ReportData, place: tuple[str, str, str], out: Output) -> Iterator[str]:
    """The bound on the adaptation error in one family, if its terms were measured."""
    points = select(numbers.bounds, ("suite", "budget", "family"), place)
    if points.empty:
        return
    suite, budget, family = place
    name = "_".join(map(slug, (suite, budget, family, "bound")))
    out.table(points, name)
    yield f"#### The bound on the error ([CSV](data/{name}.csv))\n\n{terms_table(points)}"
    bounded = points.dropna(subset=[BOUND])
    for arm, of_arm in bounded.groupby(list(ARM), sort=False):
        title = f"{family}: {method_name(*arm)}, the bound and the shortfall (budget {budget})"
        figure = f"{name}_{slug(method_name(*arm))}"
        out.figure(figure, bound_figure, of_arm, title=title)
        yield figure_links(title, figure, name)
    if not bounded.empty:
        yield correlations_table(rank_correlations(bounded))


def _cost(numbers: ReportData, expected: pd.DataFrame, out: Output) -> Iterator[str]:
    """A figure of what the scores of one split cost."""
    key = tuple(expected[list(TABLE)].iloc[0])
    points = costs_of(numbers.costs, key)
    if points.empty:
        return
    _, budget, family, split = key
    name = "_".join([*map(slug, key), "cost"])
    title = f"{family}, split {split}: return against what it cost (budget {budget})"
    exact = numbers.exact.get(family, frozenset())
    out.figure(name, cost_figure, points, expected, styles=numbers.styles, title=title, exact=exact)
    out.table(points, name)
    yield f"##### Cost\n\n{figure_links(title, name, name)}"


def _variants(
    numbers: ReportData, scores: pd.DataFrame, expected: pd.DataFrame, out: Output
) -> Iterator[str]:
    """The variants of each method side by side, on one axis of one split."""
    key = (*expected[list(TABLE)].iloc[0], str(scores["axis"].iloc[0]))
    _, budget, family, split, axis = key
    exact = numbers.exact.get(family, frozenset())
    at_axis = select(numbers.points, (*TABLE, "axis"), key)
    finished_arms = set(at_axis[list(ARM)].itertuples(index=False, name=None))
    for base, arms in variants_of(expected[list(ARM)].itertuples(index=False, name=None)).items():
        if len(finished_arms & set(arms)) < 2:
            continue  # nothing to compare
        rows = variant_scores(scores, arms)
        of_arms = _in_order(expected, arms)
        points = variant_points(rows)
        name = "_".join([*map(slug, key), "variants", slug(base)])
        title = (
            f"{family}, split {split}, {axis_text(axis, exact)}: variants of {base} (budget"
            f" {budget})"
        )
        styles = {arm: style._replace(focus=True) for arm, style in numbers.styles.items()}
        out.figure(
            name, variants_figure, rows, at_axis, expected=of_arms, styles=styles, title=title
        )
        out.table(points, name)
        out.table(rows, f"{name}-seeds")
        heading = (
            f"##### Variants of {escape_markdown(base)}: {escape_markdown(axis_text(axis, exact))}"
        )
        yield f"{heading}\n\n{figure_links(title, name, name)}\n{variants_table(points, of_arms)}"


def _in_order(expected: pd.DataFrame, arms: Sequence[Arm]) -> pd.DataFrame:
    return pd.concat([select(expected, ARM, arm) for arm in arms], ignore_index=True)


def _heading(axis: str, exact: frozenset[str]) -> str:
    text = escape_markdown(axis_text(axis, exact))
    return f"{text[:1].upper()}{text[1:]}"


def _training(
    numbers: ReportData, suite: str, expected: pd.DataFrame, out: Output
) -> Iterator[str]:
    """The meta-training of the arms of one suite on one family."""
    scores = numbers.training.merge(expected[list(CURVE)].drop_duplicates(), on=list(CURVE))
    if scores.empty:
        return
    budget, family = expected[["budget", "family"]].iloc[0]
    name = "_".join(map(slug, (suite, budget, family, "meta-training")))
    title = f"{family}, meta-training (budget {budget})"
    points = summarise(scores, by=(*CURVE, "env_steps"))
    floors = select(numbers.floors, ("suite", "budget", "family"), (suite, budget, family))
    out.figure(
        name,
        meta_training_figure,
        scores,
        points,
        styles=numbers.styles,
        title=title,
        floors=floors,
    )
    out.table(points, name)
    out.table(scores, f"{name}-seeds")
    yield f"#### Meta-training\n\n{figure_links(title, name, name)}"
    yield from untrained_lines(numbers.floors, suite, str(budget), str(family))


def figure_links(title: str, name: str, data: str) -> str:
    """A figure of the output and the link to the table behind it."""
    shown = escape_markdown(title)
    return f"![{shown}](figures/{name}.svg)\n\n[points as CSV](data/{data}.csv)\n"
