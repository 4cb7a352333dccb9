"""One cell of the store: its key, its folder, and what makes it done.

`cell.json` is written last and holds the SHA-256 of the other files and of itself. A cell is done
if all of them match and it ended ok or diverged; otherwise a later run does the cell again.
"""

import json
import os
import re
import secrets
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from results import measures, snapshot
from results.files import (
    DamageError,
    StoreError,
    commit,
    digest,
    explained,
    locked,
    read,
    seal,
    to_json,
    unseal,
)
from results.schema import COLUMNS, Row, to_frame

ROWS = "rows.parquet"
STATE = "state.safetensors"
LOG = "log.txt"
CELL = "cell.json"
CLAIM = "claim.json"  # progress report of whoever has claimed the cell
_SAID: dict[str, Any] = {  # entries that it must have, with their types
    "stage": str,
    "host": str,
    "pid": int,
    "steps": int,
    "used": int,
    "began_at": int,
    "since": (int, float),
    "at": (int, float),
    "saved": (int, type(None)),
}
_HUGE = 2**63  # no number of steps or seconds is larger
MEASURES = "measures.csv"  # only in cells that have any
WRITE_LOCK = ".write.lock"
Status = Literal["missing", "done", "failed", "corrupt"]
# status of a cell, by the status in its record
STATUSES: dict[str, Status] = {
    "ok": "done",
    "diverged": "done",
    "failed": "failed",
    "timeout": "failed",
}

_WRITE_WAIT_S = 120.0  # a writer holds its lock for one write only
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_ARROW = {"Int64": pa.int64(), "Float64": pa.float64(), "string": pa.string()}
_PANDAS = {
    pa.int64(): pd.Int64Dtype(),
    pa.float64(): pd.Float64Dtype(),
    pa.string(): pd.StringDtype(),
}
_SCHEMA = pa.schema([(name, _ARROW[dtype]) for name, dtype in COLUMNS.items()])


@dataclass(frozen=True)
class CellKey:
    """Where a cell is stored.

    A train stage belongs to no suite: every suite that needs the same trained state shares it.

    Raises:
      ValueError: if stage "train" comes with a suite or stage "adapt" without one, or the id or
        suite cannot name a folder.
    """

    stage: str  # train | adapt
    suite: str | None
    suite_version: int | None
    id: str

    def __post_init__(self) -> None:
        given = (self.suite is not None, self.suite_version is not None)
        if given != {"train": (False, False), "adapt": (True, True)}.get(self.stage):
            raise ValueError(
                f'{self}: use stage "train" without a suite, or "adapt" with a suite and its'
                " version"
            )
        for name in (self.id, self.suite):
            if name is not None:
                check_name(name)

    @property
    def place(self) -> str:
        """The cell's folder, relative to the store."""
        above = "train" if self.suite is None else f"adapt/{self.suite}@{self.suite_version}"
        return f"{above}/{self.id}"

    @property
    def folder(self) -> Path:
        """`place` as a path."""
        return Path(self.place)


def check_name(name: str) -> str:
    """Return `name` if it is a valid file name.

    Raises:
      ValueError: if it is not valid in file names on every system.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a valid file name: begin with a letter or digit, then use letters,"
            " digits and . _ + -"
        )
    return name


def to_parquet(rows: Sequence[Row]) -> bytes:
    """Return `rows` as a parquet file, in their order."""
    table = pa.Table.from_pandas(
        to_frame(rows), schema=_SCHEMA, preserve_index=False
    ).replace_schema_metadata(None)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def from_tables(tables: Sequence[pa.Table]) -> pd.DataFrame:
    """Join tables of rows, in order, into a frame with the nullable types of `COLUMNS`."""
    frame: pd.DataFrame = pa.concat_tables([_SCHEMA.empty_table(), *tables]).to_pandas(
        types_mapper=_PANDAS.get
    )
    return frame


class CellFolder:
    """The folder of one cell; `Store` is the interface to it and documents each method."""

    def __init__(self, root: Path, key: CellKey) -> None:
        self.key = key
        self.folder = root / key.folder

    def status(self) -> Status:
        """Return the cell's status, after checking every byte of it."""
        return self._judge({ROWS, STATE, LOG, MEASURES})[0]

    def survey(self) -> tuple[Status, pa.Table | None]:
        """Return status and rows quickly: trained state and log are checked by size only."""
        status, data = self._judge({ROWS, MEASURES})
        return status, self._table(data[ROWS]) if data else None

    def record(self) -> dict[str, Any]:
        """Return the record written with the cell."""
        with self._told():
            record: dict[str, Any] = self._found()["record"]
            return record

    def table(self) -> pa.Table:
        """Return the cell's rows."""
        return self._table(self.file(ROWS))

    def measured(self) -> pd.DataFrame:
        """Return the cell's measures; none if it is damaged, not done, or has no measures."""
        status, data = self._judge({MEASURES})
        if status != "done" or MEASURES not in data:
            return measures.no_measures()
        return measures.from_csv(data[MEASURES])

    def file(self, name: str) -> bytes:
        """Return the content of one of the cell's files."""
        with self._told():
            files = self._found()["files"]
            if name not in files:
                raise StoreError(
                    f"{self.folder}: it has no {name}: delete it and run the suite again"
                )
            return self._read(name, files[name]["sha256"])

    def write(
        self,
        rows: Sequence[Row],
        state: bytes | None,
        log: str,
        record: Mapping[str, Any],
        measured: Sequence[measures.Measure] = (),
        replace_done: bool = False,
    ) -> None:
        """Write the cell; one that is done already is replaced only if `replace_done`."""
        files = {
            ROWS: to_parquet(self._owned(rows)),
            STATE: state,
            LOG: log.encode(errors="backslashreplace"),
        }
        files[MEASURES] = measures.to_csv(measures.to_frame(measured)) if measured else None
        content = self._content(files, record)
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if replace_done or self.status() != "done":
                with explained(self.folder):
                    commit(self.folder, {**files, CELL: seal(content)})
                    if STATUSES[record["status"]] == "done":
                        snapshot.remove(self.folder)

    def save(self, header: Mapping[str, Any], state: bytes) -> None:
        """Write a snapshot of the cell's unfinished stage."""
        with explained(self.folder), self._alone():
            snapshot.write(self.folder, {**header, "key": asdict(self.key)}, state)

    def saved(self) -> dict[str, Any] | None:
        """Return the header of the snapshot, None if there is none."""
        with explained(self.folder):
            header = snapshot.read_header(self.folder)
        if header is not None and header.get("key") != asdict(self.key):
            raise DamageError("it belongs to another stage")
        return header

    def saved_state(self, header: Mapping[str, Any]) -> bytes:
        """Return the state that the header of a snapshot names."""
        with explained(self.folder):
            return snapshot.read_state(self.folder, header)

    def contents(self) -> dict[str, bytes]:
        """Return the files of the cell by name, `cell.json` last."""
        with self._told():
            files = self._found()["files"]
            data = {name: self._read(name, entry["sha256"]) for name, entry in files.items()}
            return {**data, CELL: read(self.folder / CELL)}

    def adopt(self, contents: Mapping[str, bytes], replace_done: bool = False) -> None:
        """Write a cell from `contents`; replace one that is done here only if `replace_done`."""
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if self.status() == "done" and not replace_done:
                return
            every = {ROWS, STATE, LOG, MEASURES}
            with explained(self.folder):
                commit(self.folder, {**dict.fromkeys(every - {*contents}), **contents})
            if (status := self.status()) == "corrupt":
                (self.folder / CELL).unlink(missing_ok=True)
                raise StoreError(f"{self.folder}: the cell was altered in transfer")
            if status == "done":
                with explained(self.folder):
                    snapshot.remove(self.folder)

    def announce(self, content: Mapping[str, Any] | None) -> None:
        """Write the progress that the claimant reports, atomically; None removes the report."""
        path = self.folder / CLAIM
        with explained(self.folder):
            if content is None:
                path.unlink(missing_ok=True)
                return
            # not flushed to disk, since it may be lost in a crash
            temporary = path.with_name(f".{CLAIM}.{secrets.token_hex(4)}.tmp")
            temporary.write_bytes(to_json(content))
            os.replace(temporary, path)

    def announced(self) -> dict[str, Any] | None:
        """Return the progress report, None if there is none that can be read."""
        try:
            said = json.loads(read(self.folder / CLAIM))
        except (OSError, DamageError, ValueError, RecursionError):
            return None
        whole = isinstance(said, dict) and all(
            isinstance(value := said.get(name), kinds)
            and (not isinstance(value, int | float) or 0 <= value < _HUGE)
            for name, kinds in _SAID.items()
        )
        return said if whole else None

    def glance(self) -> tuple[Status, dict[str, Any], str | None]:
        """Return the status by `cell.json` alone, the record, and the SHA-256 of the trained
        state.
        """
        with explained(self.folder):
            try:
                content = json.loads(read(self.folder / CELL))
                if content["key"] != asdict(self.key):
                    return "corrupt", {}, None
                record: dict[str, Any] = content["record"]
                state = content["files"].get(STATE, {}).get("sha256")
                return STATUSES[record["status"]], record, state
            except FileNotFoundError:
                return "missing", {}, None
            except (
                DamageError,
                ValueError,
                LookupError,
                TypeError,
                AttributeError,
                RecursionError,
            ):
                return "corrupt", {}, None

    def forget(self) -> None:
        """Remove the snapshot, if there is one."""
        if snapshot.is_there(self.folder):
            with explained(self.folder), self._alone():
                snapshot.remove(self.folder)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with locked(self.folder / WRITE_LOCK, _WRITE_WAIT_S) as mine:
            if not mine:
                raise StoreError(
                    f"{self.folder}: another process has been writing for {_WRITE_WAIT_S:.0f} s:"
                    " wait for it or end it"
                )
            yield

    def _owned(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows with this cell's suite filled in."""
        if others := {row.stage for row in rows} - {self.key.stage}:
            raise ValueError(
                f'{self.folder}: rows of stage {others} in a cell of stage "{self.key.stage}"'
            )
        return [
            replace(row, suite=self.key.suite, suite_version=self.key.suite_version) for row in rows
        ]

    def _content(
        self, files: Mapping[str, bytes | None], record: Mapping[str, Any]
    ) -> dict[str, Any]:
        if record.get("status") not in STATUSES:
            raise ValueError(
                f"{self.folder}: status {record.get('status')!r}: use one of {', '.join(STATUSES)}"
            )
        sums = {
            name: {"sha256": digest(data), "size": len(data)}
            for name, data in files.items()
            if data is not None
        }
        return {"key": asdict(self.key), "files": sums, "record": dict(record)}

    def _judge(self, names: Container[str]) -> tuple[Status, dict[str, bytes]]:
        """Return the status and the content of the files in `names`; of others only sizes count."""
        data: dict[str, bytes] = {}
        with explained(self.folder):
            try:
                content = self._load()
                for name, entry in content["files"].items() if content else ():
                    if name in names:
                        data[name] = self._read(name, entry["sha256"])
                    elif self._size(name) != entry["size"]:
                        raise DamageError(f"{name} was altered")
            except DamageError:
                return "corrupt", {}
        return (STATUSES[content["record"]["status"]] if content else "missing"), data

    def _load(self) -> dict[str, Any] | None:
        """Return the content of `cell.json`, None if there is none."""
        try:
            content = unseal(read(self.folder / CELL))
        except FileNotFoundError:
            return None
        if content.get("key") != asdict(self.key):
            raise DamageError(f"{CELL} belongs to another cell")
        if strange := set(content["files"]) - {ROWS, STATE, LOG, MEASURES}:
            raise DamageError(f"{CELL} names {min(strange)}, which this version does not read")
        return content

    def _found(self) -> dict[str, Any]:
        if (content := self._load()) is None:
            raise StoreError(f"{self.folder}: no such cell yet: run the suite that needs it")
        return content

    def _read(self, name: str, sha256: str) -> bytes:
        try:
            data = read(self.folder / name)
        except FileNotFoundError as error:
            raise DamageError(f"{name} is gone") from error
        if digest(data) != sha256:
            raise DamageError(f"{name} was altered")
        return data

    def _size(self, name: str) -> int:
        try:
            return (self.folder / name).stat().st_size
        except FileNotFoundError:
            return -1

    def _table(self, data: bytes) -> pa.Table:
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        if table.schema != _SCHEMA:
            raise StoreError(
                f"{self.folder}: its rows have different columns from this program's: choose"
                " another folder"
            )
        return table

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn damage into a StoreError."""
        try:
            with explained(self.folder):
                yield
        except DamageError as damage:
            raise StoreError(
                f"{self.folder}: {damage}: run the suite again to redo this cell"
            ) from damage
