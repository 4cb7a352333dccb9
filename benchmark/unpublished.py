"""What is missing in the published results, and the meta-trainings there that need no repeating."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from benchmark.cells import Cell
from results.publication import Publication
from results.schema import COLUMNS, Row
from results.store import CellKey, Store, StoreError


def missing(cells: Sequence[Cell], publication: Publication) -> list[Cell]:
    """The cells that are not published as the code would run them today, in their order."""
    suites = {cell.suite for cell in cells} & {*publication.suites}
    _, published = publication.read(sorted(suites)) if suites else (None, pd.DataFrame())
    known = set(published["adapt_id"]) if len(published) else set()
    return [cell for cell in cells if cell.adapt_key.id not in known]


def take_over(cells: Sequence[Cell], publication: Publication, store: Store) -> int:
    """Put the published trained states that cells build on into a store; how many there were.

    Only states that the store lacks are taken, with their rows and their record.

    Raises:
      StoreError: if a published file was altered, or the store cannot be written.
    """
    keys = {cell.train_key for cell in cells if cell.train_key is not None}
    taken = 0
    for key in sorted(keys, key=lambda key: key.id):
        if store.status(key) == "done" or not publication.has_state(key):
            continue
        state = publication.state(key)
        try:
            rows = _rows(publication, key)
            record = publication.record(key)
        except StoreError:  # its state is published for another suite than its rows
            continue
        ended = {
            "status": rows[-1].status,
            "env_steps": rows[-1].env_steps,
            "n_train_tasks": rows[-1].n_train_tasks,
        }
        log = f"taken over from {publication.root}\n"
        store.write(key, rows, state=state, log=log, record={**record, **ended})
        taken += 1
    return taken


def _rows(publication: Publication, key: CellKey) -> list[Row]:
    table = publication.read()[0]
    lines = table[(table["cell_id"] == key.id) & (table["stage"] == "train")]
    if lines.empty:
        raise StoreError(f"{publication.root}: no rows of stage {key.id} are published there")
    return [_row(line) for line in lines[list(COLUMNS)].to_dict("records")]


def _row(line: dict[Any, Any]) -> Row:
    whole = {name for name, dtype in COLUMNS.items() if dtype == "Int64"}
    fields: dict[str, Any] = {
        name: int(value) if name in whole else value
        for name, value in line.items()
        if not pd.isna(value)
    }
    return Row(**fields)
