"""What is missing from the published results, and which meta-trainings need not be repeated."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from benchmark.arguments import InputError
from benchmark.cells import Cell
from benchmark.provenance import provenance
from results.measures import COLUMNS as MEASURED
from results.measures import Measure
from results.publication import Publication
from results.schema import COLUMNS, Row
from results.store import CellKey, Store

VERSIONS = ("benchmark", "python", "packages")  # the same for all cells of a published suite


def missing(cells: Sequence[Cell], publication: Publication) -> list[Cell]:
    """Return the cells that are not published as the code would run them today, in their order.

    Raises:
      InputError: if what runs here could not be added to a published suite, as versions differ.
    """
    known = set()
    for suite in sorted({cell.suite for cell in cells} & {*publication.suites}):
        _, published = publication.read([suite])
        _same_software(publication, published)
        versions = published["suite_version"].astype(int)
        known |= {*zip(published["suite"], versions, published["adapt_id"], strict=True)}
    return [
        cell for cell in cells if (cell.suite, cell.suite_version, cell.adapt_key.id) not in known
    ]


def _same_software(publication: Publication, cells: pd.DataFrame) -> None:
    one = cells.iloc[0]
    key = CellKey("adapt", one["suite"], int(one["suite_version"]), one["adapt_id"])
    theirs, ours = publication.record(key), provenance()
    for name in VERSIONS:
        if theirs.get(name) != ours[name]:
            raise InputError(
                f"suite {one['suite']} was published with {name} {_text(theirs.get(name))}, but"
                f" this is {_text(ours[name])}, so results from here could not be added to it: use"
                " the same versions, or leave out --unpublished"
            )


def _text(version: Any) -> str:
    if isinstance(version, dict):
        return ", ".join(f"{name} {number}" for name, number in sorted(version.items()))
    return str(version)


def take_over(cells: Sequence[Cell], publication: Publication, store: Store) -> int:
    """Copy the published trained states that cells build on into a store; return how many.

    Only states that the store lacks are taken, with their rows, measures and record.

    Raises:
      StoreError: if a published file was altered, or the store cannot be written.
    """
    keys = {cell.train_key for cell in cells if cell.train_key is not None}
    taken = 0
    for key in sorted(keys, key=lambda key: key.id):
        suite = publication.suite_with_state(key)
        if suite is None or store.status(key) == "done":
            continue
        rows = publication.read([suite])[0]
        lines = rows[(rows["cell_id"] == key.id) & (rows["stage"] == "train")]
        measures = publication.measures([suite])
        measured = measures[measures["cell_id"] == key.id]
        last = lines.iloc[-1]
        record = {
            **publication.record(key, suite),
            "status": last["status"],
            "env_steps": int(last["env_steps"]),
            "n_train_tasks": int(last["n_train_tasks"]),
        }
        store.write(
            key,
            [Row(**_fields(line, COLUMNS)) for line in lines.to_dict("records")],
            state=publication.state(key),
            log=f"taken over from {publication.root}\n",
            record=record,
            measured=[Measure(**_fields(line, MEASURED)) for line in measured.to_dict("records")],
        )
        taken += 1
    return taken


def _fields(line: dict[Any, Any], columns: dict[str, str]) -> dict[str, Any]:
    """Return a line's values in some columns as Python types, without missing ones."""
    return {
        name: int(line[name]) if dtype == "Int64" else line[name]
        for name, dtype in columns.items()
        if not pd.isna(line[name])
    }
