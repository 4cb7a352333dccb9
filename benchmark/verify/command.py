"""Runs the levels of `verify` in turn and says whether the published numbers still hold."""

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from benchmark.arguments import InputError
from benchmark.console import PlainConsole
from benchmark.executors import TimeLimitError
from benchmark.progress import Display, duration
from benchmark.publish import refuse_installed
from benchmark.verify.published import Check, rows_and_report
from results.publication import Publication
from results.store import Store, StoreError

if TYPE_CHECKING:
    from benchmark.cells import Cell

# exit codes
PASSED = 0
FAILED = 1
TIME_LIMIT = 3
BUDGETS = {2: "quick", 3: "desk"}  # level → budget whose published cells are run again


class Asked(NamedTuple):
    """What to verify, and how."""

    level: int
    suites: Sequence[str] | None  # None for all published suites
    # suite/family/method to run again; None for `fresh_seeds.CELLS`, at level 3 for all
    cells: Sequence[str] | None
    budget: str | None  # budget of those cells; None for the level's own
    seeds: int
    first_seed: int
    record: bool  # store this machine's fingerprints
    # where runs are kept, so that a later call can resume them; None for a temporary folder
    store: Path | None
    deadline: float | None  # value of `time.monotonic()` at which to stop running


def verify(asked: Asked, folder: Path, as_json: bool) -> int:
    """Check the results published in `folder`, print the checks, and return the exit code.

    Raises:
      InputError: if what is asked for is not published, or cannot be run or recorded here.
      StoreError: if nothing is published, or the store of the runs cannot be used.
    """
    began = time.monotonic()
    publication = Publication(folder)
    suites = list(asked.suites or publication.suites)
    for suite in suites:
        if suite not in publication.suites:
            raise InputError(
                f"suite {suite!r} is not published; these are: {', '.join(publication.suites)}"
            )
    found: list[Check] = []
    console = PlainConsole(stderr=as_json)
    try:
        for check in _levels(asked, publication, suites, console):
            found.append(check)
            if not as_json:
                console.print(_line(check), soft_wrap=True)
    except TimeLimitError:
        again = (
            "run the same command again to continue"
            if asked.store
            else "run it again with --store to be able to continue"
        )
        console.print(f"time limit reached after {len(found)} checks; {again}", soft_wrap=True)
        return TIME_LIMIT
    failed = [check for check in found if check.outcome == "failed"]
    if as_json:
        print(
            json.dumps(
                {"passed": not failed, "checks": [check.as_dict() for check in found]}, indent=2
            )
        )
    else:
        skipped = sum(check.outcome == "skipped" for check in found)
        said = (
            f"{len(found) - len(failed) - skipped} passed, {len(failed)} failed, {skipped} skipped"
        )
        console.print(f"{said} in {duration(time.monotonic() - began)}", soft_wrap=True)
    return FAILED if failed else PASSED


def _levels(
    asked: Asked, publication: Publication, suites: Sequence[str], console: Console
) -> Iterator[Check]:
    if asked.level == 1:
        yield from rows_and_report(publication, suites)
        return
    if asked.record:
        refuse_installed(publication.root)
    with _store(asked.store) as store:  # before the checks, since this can find bad input
        try:
            cells = _cells(asked, publication, suites)
        except (StoreError, KeyError, ValueError):
            cells = []  # a file was altered; level 1 gives the details
        intact = True
        for check in rows_and_report(publication, suites):
            intact &= check.outcome != "failed"
            yield check
        if intact:
            yield from _code(
                asked, publication, suites, cells=cells, store=store, display=Display(console)
            )
        else:
            detail = "the published files fail level 1; fix that first"
            yield Check(asked.level, "the code as it is now", "skipped", detail)


def _code(
    asked: Asked,
    publication: Publication,
    suites: Sequence[str],
    cells: "list[Cell]",
    store: Store,
    display: Display,
) -> Iterator[Check]:
    """Run the checks of levels 2 and 3, which run code."""
    from benchmark.verify import fresh_seeds as fresh

    if not cells:
        yield Check(
            asked.level,
            "fresh seeds",
            "skipped",
            f"none of {', '.join(fresh.CELLS)} belongs to these suites; give --cells",
        )
    with display.shown():
        prints = list(
            fresh.known_fingerprints(
                store, publication.root, asked.record, display.show, asked.deadline
            )
        )
    yield from prints
    yield from fresh.trained_states(publication, suites)
    if cells:
        with display.shown():
            moved = list(
                fresh.fresh_seeds(
                    publication,
                    cells,
                    store,
                    level=asked.level,
                    show=display.show,
                    deadline=asked.deadline,
                )
            )
        yield from moved


def _cells(asked: Asked, publication: Publication, suites: Sequence[str]) -> "list[Cell]":
    """Return the cells to run again; anything wrong with them is found before anything runs."""
    from benchmark.verify import fresh_seeds as fresh

    budget = asked.budget or BUDGETS[asked.level]
    names = asked.cells
    if names is None:
        there = publication.read(suites)[1]
        at = there[there["budget"] == budget]
        if at.empty:
            raise InputError(
                f"nothing is published at budget {budget}, which level {asked.level} runs again"
            )
        every = dict.fromkeys(
            "/".join(one)
            for one in at[["suite", "family", "method"]].itertuples(index=False, name=None)
        )
        names = list(every) if asked.level == 3 else [name for name in fresh.CELLS if name in every]
    return fresh.chosen_cells(publication, names, budget, asked.seeds, asked.first_seed)


@contextmanager
def _store(place: Path | None) -> Iterator[Store]:
    if place is not None:
        yield Store(place, create=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Store(Path(folder), create=True)


def _line(check: Check) -> str:
    return f"{check.outcome:7}  {check.name}{': ' if check.detail else ''}{check.detail}"
