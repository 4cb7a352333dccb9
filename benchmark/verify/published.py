"""Level 1 of `verify`: checks that published files are unaltered and follow from their rows."""

import csv
import io
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import pandas as pd

from benchmark.additions import of_today, stage_keys
from benchmark.cores import available_cores
from benchmark.plugins import load_method, registered_methods
from benchmark.protocol import EPISODES
from benchmark.publish import COVER, REPORT, SCORES, render, summary
from benchmark.suites import SUITES
from envs import load_family
from envs.api import family_version
from reports import ReportError
from reports.processes import processes
from results.files import DamageError, StoreError, read
from results.publication import Publication, files_below
from results.publishing import tables, to_files
from results.schema import PROTOCOL_VERSION

Outcome = Literal["passed", "failed", "skipped"]
ROUNDING = 1e-9  # relative and absolute; another machine may add in another order
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Check:
    """One check and its outcome."""

    level: int
    name: str
    outcome: Outcome
    detail: str = ""

    def as_dict(self) -> dict[str, str | int]:
        """Return the check as plain data."""
        return asdict(self)


_STATE = re.compile(r"states/[^/]+\.safetensors")
# What reading an altered file may raise.
_BROKEN = (
    *(KeyError, ValueError, TypeError, AttributeError, OSError),
    *(csv.Error, ReportError, DamageError),
)


def rows_and_report(publication: Publication, suites: Sequence[str]) -> Iterator[Check]:
    """Level 1: check that published files are unaltered and that reports follow from the rows."""
    for name in publication.strays():
        yield Check(
            1,
            f"{name}: is a published suite",
            "failed",
            "its folder has no manifest: restore it, or move the folder away",
        )
    jobs = min(len(suites), available_cores())
    with processes(jobs, [__name__]) as pool:
        if pool is None:
            for suite in suites:
                yield from _checks_of(publication, suite)
            return
        # the suites that take longest start first
        longest = sorted(suites, key=lambda suite: -_size(publication.root / suite))
        found = {suite: pool.submit(_list_of_checks, publication.root, suite) for suite in longest}
        for suite in suites:
            try:
                yield from found[suite].result()
            except BrokenProcessPool:  # a process was killed, perhaps for lack of memory
                yield from _checks_of(publication, suite)


def _list_of_checks(root: Path, suite: str) -> list[Check]:
    """Return the checks of one suite; runs in a process of its own."""
    return list(_checks_of(Publication(root), suite))


def _checks_of(publication: Publication, suite: str) -> Iterator[Check]:
    for name, look in _LOOKS.items():
        yield _looked(name, look, publication, suite)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.glob("*.csv"))


def _looked(name: str, look: "Look", publication: Publication, suite: str) -> Check:
    """Run one check; an error that an altered file causes fails this check but not the others."""
    try:
        outcome, detail = look(publication, suite)
    except StoreError as error:
        outcome = "failed"
        detail = str(error)
    except _BROKEN as error:
        outcome = "failed"
        detail = f"it cannot be read ({type(error).__name__}: {error}); publish the suite again"
    return Check(1, f"{suite}: {name}", outcome, " ".join(detail.split()))


def _intact(publication: Publication, suite: str) -> "Found":
    altered = publication.altered(suite)
    return ("failed", f"changed: {_some(altered)}") if altered else ("passed", "")


def _current(publication: Publication, suite: str) -> "Found":
    """Check that the published versions are those of the current code."""
    manifest = publication.manifest(suite)
    moved = []
    methods = registered_methods()
    now = SUITES[suite].version if suite in SUITES else None
    if manifest["suite_version"] != now:
        moved.append(f"suite {manifest['suite_version']} → {now}")
    if manifest["protocol_version"] != PROTOCOL_VERSION:
        moved.append(f"protocol {manifest['protocol_version']} → {PROTOCOL_VERSION}")
    for method, known in manifest["methods"].items():
        version = load_method(methods[method]).version if method in methods else None
        if version != known["version"]:
            moved.append(f"{method} {known['version']} → {version}")
    families = {
        family: (known, family_version(load_family(family)))
        for family, known in manifest["families"].items()
    }
    moved += [
        f"{family} {known} → {version}"
        for family, (known, version) in families.items()
        if known != version
    ]
    return (
        ("failed", f"{_some(moved)}: run and publish the suite again") if moved else ("passed", "")
    )


def _whole(publication: Publication, suite: str) -> "Found":
    """Check that the manifest agrees with the tables and every cell is what the code would run."""
    manifest = publication.manifest(suite)
    stages = publication.table(suite, "stages")
    wrong = [name for name, value in summary(stages).items() if manifest.get(name) != value]
    rows, cells = publication.read([suite])
    for one in cells[~of_today(cells)].to_dict("records"):
        wrong.append(f"{one['method']} on {one['family']}/{one['split']} seed {one['seed']}")
    if unmeasured := set(cells["adapt_id"]) - set(rows["cell_id"]):
        wrong.append(f"{len(unmeasured)} cells without a row")
    wrong += _impossible(rows[rows["stage"] == "adapt"])
    return (
        ("failed", f"{_some(wrong)}: not what the code would run, or not what the manifest says")
        if wrong
        else ("passed", "")
    )


def _impossible(rows: pd.DataFrame) -> list[str]:
    """Describe values that no evaluation can have given, in columns that no table shows."""
    horizon = rows["family"].map(
        {family: load_family(family).horizon for family in rows["family"].unique()}
    )
    fair = {
        "status": rows["status"].notna(),
        "n_episodes": rows["n_episodes"] == EPISODES,
        "return_std": rows["return_std"].isna() | (rows["return_std"] >= 0),
        "episode_length_mean": rows["episode_length_mean"].isna()
        | rows["episode_length_mean"].between(1, horizon),
        "terminated_frac": rows["terminated_frac"].isna() | rows["terminated_frac"].between(0, 1),
    }
    return [
        f"{int((~good.fillna(False)).sum())} rows with an impossible {name}"
        for name, good in fair.items()
        if not good.all()
    ]


def _canonical(publication: Publication, suite: str) -> "Found":
    """Check that writing the tables again changes nothing: same columns, lines and digits."""
    rows, cells = publication.read([suite])
    records = {key.id: publication.record(key) for key in stage_keys(cells)}
    again = to_files(tables(rows, cells, publication.measures([suite]), records))
    wrong = [name for name, data in again.items() if data != read(publication.root / suite / name)]
    ours = {*again, REPORT, SCORES, COVER}
    there = {name for name in files_below(publication.root / suite) if not _STATE.fullmatch(name)}
    wrong += [f"{name} (missing)" for name in ours - there]
    wrong += [f"{name} (not a published file)" for name in there - ours]
    return (
        ("failed", f"{_some(wrong)}: not what `publish` would write")
        if wrong
        else ("passed", f"{len(again)} tables")
    )


def _recomputed(publication: Publication, suite: str) -> "Found":
    """Check that every number of the report can be recomputed from the rows."""
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        render(publication.root / suite, suite, Path(folder), cover=False)
        for name in (REPORT, SCORES):
            places = (publication.root / suite / name, Path(folder) / name)
            if difference := first_difference(
                *(read(path).decode(errors="replace") for path in places)
            ):
                wrong.append(f"{name}: {difference}")
    return ("failed", _some(wrong)) if wrong else ("passed", "")


Found: TypeAlias = tuple[Outcome, str]  # outcome, detail
Look: TypeAlias = Callable[[Publication, str], Found]
_LOOKS: dict[str, Look] = {
    "files are as published": _intact,
    "versions are current": _current,
    "cells match the manifest": _whole,
    "tables are as `publish` writes them": _canonical,
    "the report follows from the rows": _recomputed,
}


def first_difference(published: str, again: str) -> str | None:
    """Describe the first difference of two texts beyond the rounding of numbers; None if none."""
    lines, others = (list(csv.reader(io.StringIO(text))) for text in (published, again))
    for number, (line, other) in enumerate(zip(lines, others, strict=False), 1):
        if len(line) != len(other):
            return f"line {number} has {len(line)} fields, but the rows give {len(other)}"
        for field, fresh in zip(line, other, strict=True):
            if field != fresh and not _equal(field, fresh):
                return f"line {number} says {field[:80]!r}, but the rows give {fresh[:80]!r}"
    if len(lines) == len(others):
        return None
    return f"{len(lines)} lines, but the rows give {len(others)}"


def _equal(text: str, other: str) -> bool:
    if not (_NUMBER.fullmatch(text) and _NUMBER.fullmatch(other)):
        return False
    return math.isclose(float(text), float(other), rel_tol=ROUNDING, abs_tol=ROUNDING)


def _some(entries: Sequence[str], most: int = 3) -> str:
    rest = f" and {len(entries) - most} more" if len(entries) > most else ""
    return "; ".join(entries[:most]) + rest
