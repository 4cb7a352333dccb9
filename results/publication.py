"""Published results: finished suites as text, in the repository and the wheel, sealed by checksums.

A folder per suite holds `manifest.json` and the files that it seals. Repeated values are kept once:

    cells.csv     a line per cell: what was adapted, on which split, with which seed, from which
                  trained state
    tasks.csv     a line per test task
    rows.csv      a line per cell, test task and checkpoint
    stages.csv    a line per stage: what was trained or adapted, and machine, commit and versions
    training.csv  a line per progress report of a meta-training
    measures.csv  measures beside the rows, if there are any
    timings.csv   seconds and memory of all rows, which differ even between equal runs
    scores.csv    a line per method, family, shift axis and checkpoint: the mean over seeds and its
                  interval, with all digits
    report.md     the tables that `report` makes of these rows; overview.svg is one of its figures
    states/       trained states: of one seed at quick, of every seed at desk and paper
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from results.cell import CellKey
from results.files import DamageError, StoreError, digest, explained, read, unseal
from results.measures import COLUMNS as MEASURED
from results.measures import joined
from results.plans import EXPECTED
from results.schema import COLUMNS, SCHEMA_VERSION
from results.store import Store

PUBLISHED = Path(__file__).parent / "published"
MANIFEST = "manifest.json"
STATES = "states"
MEASURES = "measures"
NAME = Path("published")  # stands for PUBLISHED where a store may be named
FORMAT = 2  # version of the file format

WHO = (
    "budget",
    "family",
    "family_version",
    "method",
    "method_version",
    "variant",
    "config_hash",
    "seed",
)
# columns from a stage's record
FACTS = ("commit", "benchmark", "python", "device", "torch_threads", "mujoco_threads", "finished")
BUILT_ON = "built_on"  # SHA-256 of the trained state that an adaptation began from
MACHINE = ("system", "architecture", "processor")
CELL = ("budget", "family", "split", "method", "variant", "seed")


def published_in(root: Path) -> "Publication | None":
    """Return the publication in a folder, None if nothing is published there."""
    with explained(root):
        return Publication(root) if any(True for _ in _manifests(root)) else None


class Publication:
    """Published suites, a folder each; reads like `results.store.Store`, without snapshots or logs.

    Raises:
      StoreError: if `root` holds no published suite.
    """

    def __init__(self, root: Path = PUBLISHED) -> None:
        self.root = root
        self._records = dict[tuple[str | None, str], dict[Any, Any]]()
        # what was read already, since reading takes a while
        self._parts = dict[str, tuple[pd.DataFrame, pd.DataFrame]]()
        with explained(root):
            self.suites = sorted(path.parent.name for path in _manifests(root))
        if not self.suites:
            raise StoreError(
                f"{root}: nothing is published there: run a suite, or name another folder"
            )

    def manifest(self, suite: str) -> dict[str, Any]:
        """Return a suite's plan, versions, packages, machines, commits, date and file checksums.

        Raises:
          StoreError: if there is none, it was altered, or it has another format.
        """
        if suite not in self.suites:
            raise StoreError(
                f"{self.root}: suite {suite} is not published; these are: {', '.join(self.suites)}"
            )
        path = self.root / suite / MANIFEST
        try:
            with explained(path):
                manifest = unseal(read(path))
        except DamageError as damage:
            raise StoreError(
                f"{path}: {damage}: restore it, or publish the suite again"
            ) from damage
        if manifest.get("format") != FORMAT or manifest.get("schema_version") != SCHEMA_VERSION:
            raise StoreError(
                f"{path}: written by another version of this program: publish the suite again, or"
                " use that version"
            )
        return manifest

    def altered(self, suite: str) -> list[str]:
        """Return the files of a suite that are not as published: changed, gone, or added."""
        folder = self.root / suite
        files = self.manifest(suite)["files"]
        with explained(folder):
            there = set(files_below(folder))
            wrong = [
                name
                for name in files
                if name in there and digest((folder / name).read_bytes()) != files[name]
            ]
        return sorted({*wrong, *there.symmetric_difference(files)})

    def strays(self) -> list[str]:
        """Return folders beside the suites without a manifest; a suite that lost its own is one."""
        with explained(self.root):
            folders = {
                path.name
                for path in self.root.iterdir()
                if path.is_dir() and path.name[0] not in "._"
            }
        return sorted(folders - {*self.suites})

    def plans(self) -> list[dict[str, Any]]:
        """See `results.store.Store.plans`."""
        return [self._plan(suite) for suite in self.suites]

    def read(self, suites: Sequence[str] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
        """See `results.store.Store.read`.

        Raises:
          StoreError: if a suite is not published, or a file was altered.
        """
        chosen = self.suites if suites is None else suites
        self._parts |= {suite: self._read(suite) for suite in chosen if suite not in self._parts}
        parts = [self._parts[suite] for suite in chosen]
        rows, cells = (pd.concat(found, ignore_index=True) for found in zip(*parts, strict=True))
        once = ~((rows["stage"] == "train") & rows.duplicated(["cell_id", "env_steps", "stage"]))
        return rows[once].reset_index(drop=True), cells

    def measures(self, suites: Sequence[str] | None = None) -> pd.DataFrame:
        """See `results.store.Store.measures`.

        Raises:
          StoreError: if a suite is not published, or its file was altered.
        """
        found = []
        for suite in self.suites if suites is None else suites:
            if f"{MEASURES}.csv" in self.manifest(suite)["files"]:
                table = typed(self.table(suite, MEASURES), {"id": "string", **MEASURED})
                found += [
                    (str(stage), of_stage.drop(columns="id"))
                    for stage, of_stage in table.groupby("id", sort=False)
                ]
        return joined(list(dict(found).items()))

    def record(self, key: CellKey, suite: str | None = None) -> dict[str, Any]:
        """Return what is known of the stage of a published cell: commit, versions, machine.

        Args:
          suite: the suite whose run to take of a train stage that several suites share; None for
            the first, as with its rows and trained state.
        Raises:
          StoreError: if it is not published.
        """
        for name in self.suites if not self._records else ():
            for stage in self.table(name, "stages").to_dict("records"):
                self._records[name, stage["id"]] = stage
        names = [name for name in (key.suite, suite) if name is not None] or self.suites
        found = [self._records[name, key.id] for name in names if (name, key.id) in self._records]
        if not found:
            raise StoreError(f"{self.root}: no stage {key.id} is published there")
        told = {str(name): value for name, value in found[0].items() if value}
        facts, machine = (
            {name: told[name] for name in names if name in told}
            for names in ((*FACTS, BUILT_ON), MACHINE)
        )
        packages = {
            name: value
            for name, value in told.items()
            if name not in {"id", "stage", BUILT_ON, *WHO, *FACTS, *MACHINE}
        }
        return {**facts, "packages": packages, "machine": machine}

    def suite_with_state(self, key: CellKey) -> str | None:
        """Return the first suite that has a stage's trained state published, None if none has."""
        name = f"{STATES}/{key.id}.safetensors"
        return next((s for s in self.suites if name in self.manifest(s)["files"]), None)

    def state(self, key: CellKey) -> bytes:
        """Return the trained state of a stage, after comparing its checksum.

        Raises:
          StoreError: if it is not published, or was altered.
        """
        if (suite := self.suite_with_state(key)) is not None:
            name = f"{STATES}/{key.id}.safetensors"
            return _intact(self.root / suite / name, self.manifest(suite)["files"][name])
        raise StoreError(
            f"{self.root}: the trained state of stage {key.id} is not published; at quick only"
            " those of one seed are"
        )

    def _plan(self, suite: str) -> dict[str, Any]:
        manifest = self.manifest(suite)
        axes = manifest["isomorphic_axes"]
        version = manifest["suite_version"]
        cells = [
            {
                "slot": {name: int(cell[name]) if name == "seed" else cell[name] for name in CELL},
                "key": {
                    "stage": "adapt",
                    "suite": suite,
                    "suite_version": version,
                    "id": cell["adapt_id"],
                },
                "train_key": (
                    {
                        "stage": "train",
                        "suite": None,
                        "suite_version": None,
                        "id": cell["train_id"],
                    }
                    if cell["train_id"]
                    else None
                ),
                "isomorphic_axes": axes.get(cell["family"], []),
            }
            for cell in self.table(suite, "cells").to_dict("records")
        ]
        said = {name: manifest[name] for name in ("suite", "suite_version", "question", "arms")}
        asked = {
            name: manifest.get(name, empty) for name, empty in (("remembering", []), ("seeds", {}))
        }
        return {**said, **asked, "cells": cells}

    def _read(self, suite: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        version = str(self.manifest(suite)["suite_version"])
        cells, stages, timings = (
            self.table(suite, name) for name in ("cells", "stages", "timings")
        )
        who = stages[["id", *WHO]]
        adapted = (
            self.table(suite, "rows")
            .merge(who, on="id")
            .merge(cells.drop(columns=list(CELL)).rename(columns={"adapt_id": "id"}), on="id")
            .merge(cells[["adapt_id", "split"]].rename(columns={"adapt_id": "id"}), on="id")
        )
        adapted = adapted.merge(self.table(suite, "tasks"), on=["family", "split", "task_index"])
        adapted = adapted.assign(stage="adapt", suite=suite, suite_version=version)
        trained = self.table(suite, "training").merge(who, on="id").assign(stage="train")
        rows = pd.concat([trained, adapted]).merge(timings, on=["id", "env_steps"], how="left")
        stated = {
            "schema_version": str(SCHEMA_VERSION),
            "protocol_version": str(self.manifest(suite)["protocol_version"]),
        }
        rows = typed(rows.assign(**stated), COLUMNS).assign(
            cell_id=pd.array(rows["id"], dtype="string")
        )
        expected = cells.assign(
            suite=suite, suite_version=version, status="done", train_status="done"
        )
        expected.loc[expected["train_id"] == "", "train_status"] = ""
        return rows, typed(expected, EXPECTED)

    def table(self, suite: str, name: str) -> pd.DataFrame:
        """Return a table of a suite as strings, after comparing its checksum.

        Raises:
          StoreError: if it is gone, was altered, or is not a table.
        """
        path = self.root / suite / f"{name}.csv"
        data = _intact(path, self.manifest(suite)["files"].get(path.name))
        try:
            return pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
        except (ValueError, UnicodeDecodeError) as error:
            raise StoreError(
                f"{path}: it is not a table ({error}): publish the suite again"
            ) from error


def _intact(path: Path, sha256: str | None) -> bytes:
    """Return the content of a published file, after comparing its checksum."""
    with suppress(DamageError), explained(path):
        data = read(path)
        if digest(data) == sha256:
            return data
    raise StoreError(
        f"{path}: it was altered after it was published: restore it, or publish the suite again"
    )


def typed(table: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Convert strings to types of `columns`; absent or empty is missing, except in `variant`."""
    found = {}
    for name, dtype in columns.items():
        texts = (
            table[name].fillna("").astype(object)
            if name in table
            else pd.Series("", index=table.index, dtype=object)
        )
        missing = np.zeros(len(texts), bool) if name == "variant" else (texts == "").to_numpy()
        try:
            values = [
                None if gone else _CONVERT[dtype](text)
                for text, gone in zip(texts, missing, strict=True)
            ]
        except ValueError as error:
            raise StoreError(
                f"the published column {name} has a value that is not a number ({error}): publish"
                " the suite again"
            ) from error
        found[name] = pd.array(values, dtype=dtype)
    return pd.DataFrame(found)


_CONVERT: dict[str, Any] = {"string": str, "Int64": int, "Float64": float}


def _manifests(root: Path) -> list[Path]:
    """Return the manifests of suites in a folder; a leading dot marks a publication under way."""
    return (
        [path for path in root.glob(f"*/{MANIFEST}") if not path.parent.name.startswith(".")]
        if root.is_dir()
        else []
    )


def files_below(folder: Path) -> list[str]:
    """Return a suite's files as sorted relative names, without its manifest and hidden files."""
    found = (
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name[0] != "."
    )
    return sorted(name for name in found if name != MANIFEST)


def results_at(place: Path) -> Store | Publication:
    """Return the store or publication in a folder; `published` stands for the shipped one.

    Raises:
      StoreError: if there are none.
    """
    if place == NAME:
        return Publication()
    with explained(place):
        published = bool(_manifests(place))
    return Publication(place) if published else Store(place, create=False)
