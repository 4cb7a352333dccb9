"""The report of a store: HTML, LaTeX and Markdown pages, figures, and their numbers as CSV."""

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from reports import ReportError
from reports.files import write_text
from reports.page.answer import answer_section
from reports.page.compare import Beside, beside, comparison
from reports.page.guide import CLAIM_TESTS, CLAIMS, GAPS, HOW_TO_READ, SEALED
from reports.page.html import Method, Section, write_html
from reports.page.latex import to_latex
from reports.page.output import Output, fast_texts, opened
from reports.page.report_data import ReportData, compute
from reports.page.sections import overall_section, suite_section
from reports.parts.claims_table import all_claim_tests, claims_details, verdicts_table
from reports.parts.fidelity import fidelity_section
from reports.parts.films import Clip
from reports.parts.generalisation_gap import gaps_of, gaps_table
from reports.parts.provenance import CELLS, origins, provenance, shortfalls
from reports.parts.sealed import overfits, overfits_table
from reports.parts.tuning import tuning_section
from reports.stats.scores import with_missing_seeds
from reports.text import escape_markdown, method_name, slug
from results.trials import load_trials

if TYPE_CHECKING:
    from results.publication import Publication
    from results.store import CellKey, Store

    Results: TypeAlias = Store | Publication

FORMATS = {"html": "report.html", "latex": "report.tex", "md": "report.md"}
TITLE = "APB benchmark: results"
FIRST = ("ood", "id", "gap", "sanity", "placement")  # suites that a page begins with


@fast_texts()
def write_report(
    store: Path,
    out: Path,
    suites: Sequence[str] | None = None,
    formats: Collection[str] = tuple(FORMATS),
    jobs: int = 1,
    pdf: bool = False,
    compare: Path | None = None,
    clips: Sequence[Clip] = (),
    tell: Callable[[str], object] = lambda line: None,
) -> list[Path]:
    """Write the pages to `out`, with figures/ and data/ beside them, and return their paths.

    Every file is whole or absent, and the pages are written last, so that they never refer to a
    missing file. The same rows give the same bytes. Files of an earlier report that this one does
    not write are left alone.

    Args:
      store: folder of a results store or of published results; `published` means those shipped
        with this program.
      out: folder to write to; created if it does not exist.
      suites: ids of the suites to report, in the order of the page; None: all that the store has,
        those in `FIRST` before the others.
      formats: any of `FORMATS`.
      jobs: processes that draw figures, 0 to draw none.
      pdf: write every figure as a PDF too.
      clips: films stored below `out`.
      compare: other results, given in the same way as `store`: methods that only they have join the
        report, methods that both have are compared.
      tell: callback for messages that matter to those who open no page: missing cells, and files
        that do not belong to this report.
    Raises:
      ReportError: if the store has no such suite or `out` cannot be written to.
      results.store.StoreError: if there is no store, or it cannot be read.
    """
    from results.publication import Publication, results_at

    # imported here because the rest of the package works on tables and needs no store
    from results.references import load_references

    results = results_at(store)
    plans = _chosen(results.plans(), suites, store)
    with opened(out, jobs, pdf) as output:
        rows, cells = results.read([plan["suite"] for plan in plans])
        cells = with_missing_seeds(cells, plans)
        if cells.empty:
            raise ReportError(
                f"the suites in {store} expect no cells, so there is nothing to report; run one"
                " first"
            )
        others = None if compare is None else to_compare(compare, results)
        published = _unpublished_options(results) if isinstance(results, Publication) else None
        for line in shortfalls(cells, published):
            tell(line)
        found = rows, cells, results.measures([plan["suite"] for plan in plans])
        other = None if others is None else _beside(rows, cells, others, compare, plans)
        if others is not None and other is not None:
            found = _joined(found, other.only_there, others)
        rows, cells, measures = found
        numbers = compute(
            rows,
            cells,
            plans,
            measures=measures,
            references=load_references(),
            clips=clips,
            remembering=_remembering(plans, [] if others is None else others.plans()),
        )
        output.table(origins(cells, _record_of(results, others)), CELLS)
        sections = list(_sections(numbers, other, output))
        output.wait()
    if left := output.left_over():
        kept = f"{left} figures and tables of an earlier report"
        tell(f"{out} also holds {kept}, which these pages do not show")
    return [
        _WRITERS[name](out / file, numbers, sections)
        for name, file in FORMATS.items()
        if name in formats
    ]


def _unpublished_options(results: "Publication") -> str:
    from results.publication import PUBLISHED

    own = results.root.resolve() != PUBLISHED.resolve()
    return f"--unpublished{f' --published {shlex.quote(str(results.root))}' if own else ''}"


def _sections(numbers: ReportData, other: Beside | None, output: Output) -> Iterator[Section]:
    """Yield the sections of a page in order, and write their figures and tables."""
    yield Section("At a glance", "\n".join(answer_section(numbers, output)))
    yield Section("How to read this", HOW_TO_READ, folded=True)
    yield from _compared(numbers, other, output)
    for plan in numbers.plans:
        told = "\n".join(suite_section(numbers, plan, output))
        yield Section(f"Families of {plan['suite']}", told)
    tests = all_claim_tests(numbers.scores)
    yield Section("Claims of the paper", CLAIMS + verdicts_table(tests))
    yield from _gaps(numbers, output)
    yield from _sealed(numbers, output)
    yield from _together(numbers, output)
    details = claims_details(tests, numbers.scores, numbers.exact)
    yield Section("Claims, test by test", CLAIM_TESTS + details, folded=True)
    yield Section("Provenance", provenance(numbers.rows, numbers.cells, numbers.plans))


def to_page(sections: Sequence[Section]) -> str:
    """The sections one after another, in Markdown."""
    parts = (f"## {escape_markdown(section.title)}\n\n{section.markdown}" for section in sections)
    return "\n".join(["# Results\n", *parts])


_WRITERS: dict[str, Callable[[Path, ReportData, Sequence[Section]], Path]] = {
    "html": lambda path, numbers, sections: write_html(
        path, TITLE, [*sections[:-1], *_beside_rows(), sections[-1]], [*_methods(numbers)]
    ),
    "latex": lambda path, numbers, sections: write_text(
        path, to_latex(numbers.plans, numbers.scores, numbers.expected, numbers.exact)
    ),
    "md": lambda path, numbers, sections: write_text(path, to_page(sections)),
}


def _methods(numbers: ReportData) -> Iterator[Method]:
    for arm, style in numbers.styles.items():
        yield Method(method_name(*arm), slug(method_name(*arm)), style.colour)


def _beside_rows() -> Iterator[Section]:
    """Yield the sections of the HTML page that do not come from a store's rows."""
    if tried := tuning_section(load_trials()):
        yield Section("Tuning", tried, folded=True)
    yield Section("Fidelity to published numbers", fidelity_section(), folded=True)


def to_compare(place: Path, results: "Results") -> "Results":
    """Open the results at `place`, with which `results` are compared.

    Raises:
      ReportError: if there are none, or they are the report's own.
    """
    from results.files import StoreError
    from results.publication import results_at

    try:
        others = results_at(place)
    except StoreError as error:
        raise ReportError(f"--compare: {error}") from error
    if others.root.resolve() == results.root.resolve():
        raise ReportError(f"--compare {place}: these are the report's own results; name others")
    return others


def _beside(
    rows: pd.DataFrame,
    cells: pd.DataFrame,
    others: "Results",
    place: Path | None,
    plans: list[dict[str, Any]],
) -> Beside:
    known = {plan["suite"] for plan in others.plans()}
    if not (shared := [plan["suite"] for plan in plans if plan["suite"] in known]):
        raise ReportError(
            f"{place} has none of the suites of this report, only {', '.join(sorted(known))}"
        )
    return beside((rows, cells), others.read(shared), str(place))


def _compared(numbers: ReportData, other: Beside | None, output: Output) -> list[Section]:
    """The section that compares with other results, if there are any."""
    if other is None:
        return []
    parts = comparison(numbers.scores, other, numbers.styles, numbers.exact, output)
    return [Section(f"Compared with {other.name}", "\n".join(parts))]


def _remembering(*plans: Sequence[Mapping[str, Any]]) -> set[str]:
    """The methods of all plans that infer the task within an episode."""
    return {name for some in plans for plan in some for name in plan.get("remembering", ())}


def _joined(
    found: tuple[pd.DataFrame, ...], guests: tuple[pd.DataFrame, ...], others: "Results"
) -> tuple[pd.DataFrame, ...]:
    """Add the methods that only the other results have to rows, cells and measures."""
    theirs = others.measures(list(guests[1]["suite"].unique()))
    ours = {*found[1]["adapt_id"].dropna(), *found[1]["train_id"].dropna()}
    joining = {*guests[1]["adapt_id"].dropna(), *guests[1]["train_id"].dropna()} - ours
    theirs = theirs[theirs["cell_id"].isin(joining)]
    pairs = zip(found, (*guests, theirs), strict=True)
    rows, cells, measures = (pd.concat(pair, ignore_index=True) for pair in pairs)
    return rows, cells, measures


def _record_of(
    results: "Results", others: "Results | None"
) -> "Callable[[CellKey], dict[str, Any]]":
    """Return a function that looks up a stage's record in the results, then in the others."""

    def record(key: "CellKey") -> dict[str, Any]:
        """Return the record from the results, or from the others if the results have none."""
        from results.files import StoreError

        try:
            return results.record(key)
        except StoreError:
            if others is None:
                raise
            return others.record(key)

    return record


def _gaps(numbers: ReportData, output: Output) -> list[Section]:
    """The section on generalisation gaps, if tasks in and out of distribution were measured."""
    gaps = gaps_of(numbers.scores)
    if gaps.empty:
        return []
    output.table(gaps, "generalisation-gaps")
    return [Section("Generalisation gap", GAPS + gaps_table(gaps, numbers.exact))]


def _sealed(numbers: ReportData, output: Output) -> list[Section]:
    """The section on frozen against sealed tasks, if both were run."""
    found = overfits(numbers.scores)
    if found.empty:
        return []
    output.table(found, "sealed-tasks")
    return [Section("Frozen and sealed tasks", SEALED + overfits_table(found, numbers.exact))]


def _together(numbers: ReportData, output: Output) -> list[Section]:
    """The section on all families together, if anything is finished."""
    parts = [part for plan in numbers.plans for part in overall_section(numbers, plan, output)]
    return [Section("All families together", "\n".join(parts))] if parts else []


def _chosen(
    plans: list[dict[str, Any]], suites: Sequence[str] | None, store: Path
) -> list[dict[str, Any]]:
    known = {plan["suite"]: plan for plan in plans}
    if not known:
        raise ReportError(f"{store} holds no suite yet; run one first")
    if unknown := [suite for suite in suites or () if suite not in known]:
        raise ReportError(f"{store} has no suite {unknown[0]!r}; it has {', '.join(known)}")
    begun = [suite for suite in FIRST if suite in known]
    return [known[suite] for suite in suites or dict.fromkeys([*begun, *known])]
