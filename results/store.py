"""The store of finished cells: a folder per cell, safe against crashes and against other processes.

Each cell has one lock for the process that works on it and another for the process that writes into
it, so that a process without a claim can write a record too.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from results.cell import (
    ROWS,
    STATE,
    WRITE_LOCK,
    CellFolder,
    CellKey,
    Status,
    check_name,
    from_tables,
)
from results.files import (
    DamageError,
    StoreError,
    check_locks,
    commit,
    explained,
    is_locked,
    locked,
    read,
    seal_plain,
    sweep,
    to_json,
)
from results.measures import Measure, joined
from results.plans import EXPECTED, expected, keys, load, merge
from results.schema import SCHEMA_VERSION, Row

__all__ = ["EXPECTED", "CellKey", "Store", "StoreError"]

_STORE = "store.json"
_LOCK = ".lock"
_CLAIM = ".claim.lock"
_IN_EMPTY = {_LOCK, ".gitignore", ".gitkeep", ".DS_Store"}
_CLAIM_WAIT_S = 0.02  # outlasts a reader that tests whether the lock is held
_LOCK_WAIT_S = 60.0


class Glance(NamedTuple):
    """What a quick look at a cell shows."""

    status: Status
    record: Mapping[str, Any]  # empty if there is none
    state: str | None  # SHA-256 of its trained state
    said: Mapping[str, Any] | None  # last progress report; None without one, or if done
    claimed: bool  # whether a process holds the claim; False for a stage that is done


class Store:
    """Finished cells and the plans that name them, in the folder `root`.

    Every method raises StoreError if the disk is full, access is denied or a file is in the way. A
    store can be pickled, and opened any number of times.

    Args:
      root: the folder.
      create: make `root` a store if it is not one, and make sure that it is writable; False only
        reads.
    Raises:
      StoreError: if `root` has another schema version, holds something else, cannot be written to
        (with `create`), or is not a store (without).
    """

    def __init__(self, root: Path, create: bool) -> None:
        self.root = Path(root)
        with explained(self.root):
            if create:
                self.root.mkdir(parents=True, exist_ok=True)
            names = {path.name for path in self.root.iterdir()} if self.root.is_dir() else set()
        if _STORE in names or self._version_of_cells() is not None:
            self._check_version()
        elif foreign := sorted(name for name in names - _IN_EMPTY if not name.endswith(".tmp")):
            cure = (
                "choose an empty or new folder"
                if create
                else "name the folder of a run, or of published results"
            )
            raise StoreError(f"{self.root}: not a store, because it holds {foreign[0]}: {cure}")
        elif not create:
            raise StoreError(
                f"{self.root}: no results there: run a suite first, or name another folder"
            )
        if create:
            self._mark()

    def status(self, key: CellKey) -> Status:
        """Return a cell's status, after checking every byte of it.

        "done": it ended ok or diverged; "failed": it ended otherwise; "corrupt": its files are not
        what was written; "missing": there is no complete record. All but "done" are to be run
        again.
        """
        return self._cell(key).status()

    @contextmanager
    def claim(self, key: CellKey) -> Iterator[bool]:
        """Hold a cell for the worker that works on it; yield False at once if another one holds it.

        The kernel frees a claim when its process dies. Check the status inside the block: the cell
        may have been finished meanwhile.
        """
        folder = self._cell(key).folder
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / _CLAIM, _CLAIM_WAIT_S) as mine:
            if mine:
                _tidy(folder)
            yield mine

    def write(
        self,
        key: CellKey,
        rows: Sequence[Row],
        *,
        state: bytes | None,
        log: str,
        record: Mapping[str, Any],
        measured: Sequence[Measure] = (),
        replace: bool = False,
    ) -> None:
        """Write a cell whole or not at all.

        A cell that is done stays as it is: the first complete record wins.

        Args:
          key: the cell; its suite is filled into the rows.
          rows: the cell's rows, at least those that say how it ended; kept in order.
          state: trained state, None for a stage without one.
          log: the text of log.txt.
          record: plain JSON data without NaN; its `status` (ok, diverged, failed, timeout) decides
            the status of the cell.
          measured: measures beside the rows.
          replace: overwrite a cell that is done.
        Raises:
          StoreError: if it cannot be written; what was there before is then kept, or the cell is
            missing.
          ValueError, TypeError: if rows are of another stage, or the record is not as above.
        """
        self._cell(key).write(rows, state, log, record, measured, replace)

    def contents(self, key: CellKey) -> dict[str, bytes]:
        """Return the files of a cell, for `adopt` in another store.

        Raises:
          StoreError: if the cell is missing or damaged.
        """
        return self._cell(key).contents()

    def adopt(self, key: CellKey, contents: Mapping[str, bytes], replace: bool = False) -> None:
        """Write a cell as it is in another store; one that is done here is kept, unless `replace`.

        Raises:
          StoreError: if it cannot be written, or `contents` is not intact.
        """
        self._cell(key).adopt(contents, replace)

    def record(self, key: CellKey) -> dict[str, Any]:
        """Return the record written with a cell.

        Raises:
          StoreError: if the cell is missing or its cell.json damaged; running the suite again does
            the cell again.
        """
        return self._cell(key).record()

    def state(self, key: CellKey) -> bytes:
        """Return the trained state written with a cell, after comparing its checksum.

        Raises:
          StoreError: if the cell is missing or damaged (running the suite again does it again), or
            has no trained state.
        """
        return self._cell(key).file(STATE)

    def save(self, key: CellKey, header: Mapping[str, Any], state: bytes) -> None:
        """Replace the snapshot of an unfinished stage; only for the process that claimed its cell.

        Args:
          header: what the state belongs to and how far it is, plain JSON data.
          state: the state that the stage can resume from.
        Raises:
          StoreError: if it cannot be written; the previous one is then kept.
        """
        self._cell(key).save(header, state)

    def saved(self, key: CellKey) -> dict[str, Any] | None:
        """Return the header of a stage's snapshot, None if it has none.

        Raises:
          DamageError: if it was altered, or belongs to another stage.
          StoreError: if it cannot be read.
        """
        return self._cell(key).saved()

    def saved_state(self, key: CellKey, header: Mapping[str, Any]) -> bytes:
        """Return the state of the snapshot with this header.

        Raises:
          DamageError: if it is gone, was cut short or altered.
          StoreError: if it cannot be read.
        """
        return self._cell(key).saved_state(header)

    def announce(self, key: CellKey, content: Mapping[str, Any] | None) -> None:
        """Report the progress of a stage to readers; only for the process that claimed its cell.

        Args:
          content: plain JSON data, which replaces the last report; None removes it.
        Raises:
          StoreError: if it cannot be written.
        """
        self._cell(key).announce(content)

    def glance(self, key: CellKey) -> Glance:
        """Return a quick look at a cell, from its record alone, without reading its rows.

        Raises:
          StoreError: if it cannot be read.
        """
        if _is_absent(f"{self.root}/{key.place}"):  # fast path: at first this is most of a plan
            return Glance("missing", {}, None, None, False)
        cell = self._cell(key)
        status, record, state = cell.glance()
        if status == "done":
            return Glance(status, record, state, None, False)
        return Glance(status, record, state, cell.announced(), is_locked(cell.folder / _CLAIM))

    def forget(self, key: CellKey) -> None:
        """Remove a stage's snapshot, if it has one.

        Raises:
          StoreError: if it cannot be removed.
        """
        self._cell(key).forget()

    def rows(self, key: CellKey) -> pd.DataFrame:
        """Return the rows of a cell, failed or done, as `to_frame` made them.

        Raises:
          StoreError: if the cell is missing or damaged; running the suite again does it again.
        """
        return from_tables([self._cell(key).table()])

    def measures(self, suites: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the measures of the cells that `read` covers, if they are done.

        The columns are the fields of `results.measures.Measure`, and `cell_id`.

        Raises:
          StoreError: if a suite has no plan.
        """
        stages = (
            key
            for plan in self._chosen(suites)
            for cell in plan["cells"]
            for key in reversed(keys(cell))
            if key
        )
        found = ((key.id, self._cell(key).measured()) for key in dict.fromkeys(stages))
        return joined([(name, table) for name, table in found if len(table)])

    def write_plan(self, plan: Mapping[str, Any]) -> int:
        """Merge a suite's plan into the store's: its slots are replaced, other slots stay.

        A plan of another suite version replaces the old one entirely, since scores of two versions
        do not belong in one table; the cells themselves stay.

        Args:
          plan: `suite`, `suite_version`, `question`, `arms` in order, `remembering`, the arms that
            infer the task within an episode (none if left out), and `cells`. Each cell has a `slot`
            (budget, family, split, method, variant, seed), the `key` of the cell and the
            `train_key` it builds on or None, as `asdict` returns keys, and `isomorphic_axes`, the
            family's shift axes whose tasks are exact linear images of training tasks (none if left
            out). `requests`, if given, say how its cells are made; those of merged plans add up.
        Returns:
          The number of this attempt, larger than that of any earlier plan in the store. The plan
          stores it: a stage that failed in this or a later attempt is not retried for this plan.
        Raises:
          StoreError: if it cannot be written, or a plan that is there is damaged.
          ValueError, TypeError: if a key is not valid.
        """
        new = json.loads(json.dumps(plan))  # as it will be read
        for cell in new["cells"]:
            keys(cell)
        path = self.root / f"suite-{check_name(new['suite'])}.json"
        with self._alone(), explained(path):
            new["attempt"] = 1 + max((plan.get("attempt", 0) for plan in self.plans()), default=0)
            merged = merge(load(path), new) if path.exists() else new
            commit(self.root, {path.name: seal_plain(merged, indent=None)})
        return int(new["attempt"])

    def plans(self) -> list[dict[str, Any]]:
        """Return the plans of all suites, sorted by suite name.

        Raises:
          StoreError: if one is damaged; delete it and run its suite again, which finds the finished
            cells again.
        """
        with explained(self.root):
            return [load(path) for path in sorted(self.root.glob("suite-*.json"))]

    def read(self, suites: Sequence[str] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return what was measured and what was planned.

        Trained states and logs are checked by size only, so that this stays quick.

        Args:
          suites: names of suites; None for all that have a plan.
        Returns:
          The rows of every planned cell that is done or failed and of the train stages they build
          on (shared ones once, without a suite), in the order of the plans, with the id of their
          cell as `cell_id`; and a row per planned cell with the columns `EXPECTED`, whose statuses
          are those of `status` or "running".
        Raises:
          StoreError: if a suite has no plan.
        """
        plans = self._chosen(suites)
        in_order = (
            key for plan in plans for cell in plan["cells"] for key in reversed(keys(cell)) if key
        )
        surveyed = {key: self._survey(key) for key in dict.fromkeys(in_order)}
        tables = {key: table for key, (_, table) in surveyed.items() if table is not None}
        ids = [key.id for key, table in tables.items() for _ in range(len(table))]
        rows = from_tables(list(tables.values())).assign(cell_id=pd.array(ids, dtype="string"))
        return rows, expected(plans, {key: status for key, (status, _) in surveyed.items()})

    def _cell(self, key: CellKey) -> CellFolder:
        return CellFolder(self.root, key)

    def _survey(self, key: CellKey) -> tuple[str, pa.Table | None]:
        cell = self._cell(key)
        status, table = cell.survey()
        return (
            "running" if status != "done" and is_locked(cell.folder / _CLAIM) else status
        ), table

    def _check_version(self) -> None:
        """Check the schema version; that of the rows counts if store.json is damaged."""
        version = self._version()
        if version is None:
            version = self._version_of_cells()
        if version is None:
            raise StoreError(
                f"{self.root / _STORE}: cut short or altered, and no cells are there: restore it,"
                " delete it, or choose another folder"
            )
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{self.root}: it has schema version {version}, but this program has"
                f" {SCHEMA_VERSION}: choose another folder, or use the version that wrote it"
            )

    def _version(self) -> Any:
        """Return the schema version in store.json, None if that cannot be read."""
        path = self.root / _STORE
        try:
            with explained(path):
                return json.loads(read(path))["schema_version"]
        except (DamageError, ValueError, TypeError, KeyError):
            return None
        except StoreError:
            if path.is_file():
                raise
            return None

    def _version_of_cells(self) -> int | None:
        """Return the schema version of the first cell that has rows, None without any."""
        for path in chain(self.root.glob(f"train/*/{ROWS}"), self.root.glob(f"adapt/*/*/{ROWS}")):
            with suppress(OSError, DamageError, pa.ArrowException, LookupError):
                table = pq.read_table(pa.BufferReader(read(path)), columns=["schema_version"])
                return int(table[0][0].as_py())
        return None

    def _mark(self) -> None:
        """Mark the folder as a store; always written anew, as only writing shows it is writable."""
        check_locks(self.root / _LOCK)
        with self._alone(), explained(self.root):
            commit(self.root, {_STORE: to_json({"schema_version": SCHEMA_VERSION})})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with locked(self.root / _LOCK, _LOCK_WAIT_S) as mine:
            if not mine:
                raise StoreError(
                    f"{self.root}: another process has been writing for {_LOCK_WAIT_S:.0f} s: wait"
                    " for it or end it"
                )
            yield

    def _chosen(self, suites: Sequence[str] | None) -> list[dict[str, Any]]:
        plans = {plan["suite"]: plan for plan in self.plans()}
        if unknown := [name for name in suites or () if name not in plans]:
            raise StoreError(
                f"{self.root}: no results of suite {unknown[0]}; available:"
                f" {', '.join(plans) or 'none'}"
            )
        return [plan for name, plan in plans.items() if suites is None or name in suites]


def _is_absent(path: str) -> bool:
    try:
        os.lstat(path)
    except OSError as error:
        return isinstance(error, FileNotFoundError)  # reading the cell will report others
    return False


def _tidy(folder: Path) -> None:
    """Remove what a writer that died has left behind."""
    with locked(folder / WRITE_LOCK, 0.0) as mine, explained(folder):
        if mine:
            sweep(folder)
