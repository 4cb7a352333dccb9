"""Level 1 of `verify`: whether what is published is what was published, and follows from its own rows."""

import csv
import io
import math
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from benchmark.plugins import load_method, registered_methods
from benchmark.publish import REPORT, render
from benchmark.suites import SUITES
from envs import load_family
from envs.api import family_version
from results.files import StoreError
from results.publication import Publication
from results.schema import PROTOCOL_VERSION

Outcome = Literal["passed", "failed", "skipped"]
ROUNDING = 1e-9  # relative: sums may be made in another order on another machine
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    level: int
    name: str
    outcome: Outcome
    detail: str = ""

    def as_dict(self) -> dict[str, str | int]:
        """As plain data."""
        return asdict(self)


def rows_and_report(publication: Publication, suites: Sequence[str]) -> Iterator[Check]:
    """Level 1: every published file is what was published, and every number of the reports follows from the rows."""
    for suite in suites:
        yield _intact(publication, suite)
        yield _current(publication, suite)
        yield _recomputed(publication, suite)


def _intact(publication: Publication, suite: str) -> Check:
    name = f"{suite}: files are as published"
    try:
        altered = publication.altered(suite)
    except StoreError as error:
        return Check(1, name, "failed", str(error))
    return Check(1, name, "failed" if altered else "passed", f"changed: {_some(altered)}" if altered else "")


def _current(publication: Publication, suite: str) -> Check:
    """Whether what was published is of the versions that the code has now."""
    name = f"{suite}: of the current versions"
    try:
        manifest = publication.manifest(suite)
    except StoreError as error:
        return Check(1, name, "failed", str(error))
    methods, moved = registered_methods(), []
    now = SUITES[suite].version if suite in SUITES else None
    if manifest["suite_version"] != now:
        moved.append(f"suite {manifest['suite_version']} → {now}")
    if manifest["protocol_version"] != PROTOCOL_VERSION:
        moved.append(f"protocol {manifest['protocol_version']} → {PROTOCOL_VERSION}")
    for method, known in manifest["methods"].items():
        version = load_method(methods[method]).version if method in methods else None
        if version != known["version"]:
            moved.append(f"{method} {known['version']} → {version}")
    families = {family: (known, family_version(load_family(family))) for family, known in manifest["families"].items()}
    moved += [f"{family} {known} → {version}" for family, (known, version) in families.items() if known != version]
    detail = f"{_some(moved)}: run and publish the suite again" if moved else ""
    return Check(1, name, "failed" if moved else "passed", detail)


def _recomputed(publication: Publication, suite: str) -> Check:
    """Whether the tables, and the numbers behind the figures, come out of the rows again."""
    name = f"{suite}: tables and figures follow from the rows"
    published = publication.root / suite / REPORT
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder)
        try:
            render(publication.root / suite, suite, again, jobs=0)
        except StoreError as error:
            return Check(1, name, "failed", str(error))
        ours, theirs = (_texts(place) for place in (again, published))
    wrong = [f"{file} is {'missing' if file in ours else 'not a part of it'}" for file in sorted(ours.keys() ^ theirs.keys())]
    for file in sorted(ours.keys() & theirs.keys()):
        if (difference := first_difference(theirs[file], ours[file])) is not None:
            wrong.append(f"{file}: {difference}")
    return Check(1, name, "failed" if wrong else "passed", _some(wrong) or f"{len(ours)} files")


def first_difference(published: str, again: str) -> str | None:
    """Where two texts differ by more than the rounding of a number, in words; None if nowhere."""
    lines, others = (list(csv.reader(io.StringIO(text))) for text in (published, again))
    for number, (line, other) in enumerate(zip(lines, others, strict=False), 1):
        if len(line) != len(other):
            return f"line {number} has {len(line)} fields, from the rows {len(other)}"
        for field, fresh in zip(line, other, strict=True):
            if field != fresh and not _equal(field, fresh):
                return f"line {number} says {field[:80]!r}, the rows {fresh[:80]!r}"
    return None if len(lines) == len(others) else f"{len(lines)} lines, from the rows {len(others)}"


def _equal(text: str, other: str) -> bool:
    if not (_NUMBER.fullmatch(text) and _NUMBER.fullmatch(other)):
        return False
    return math.isclose(float(text), float(other), rel_tol=ROUNDING, abs_tol=ROUNDING)


def _texts(folder: Path) -> dict[str, str]:
    """The pages and tables of a report."""
    paths = sorted(path for kind in ("*.md", "data/*.csv") for path in folder.glob(kind))
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def _some(entries: Sequence[str], most: int = 3) -> str:
    rest = f" and {len(entries) - most} more" if len(entries) > most else ""
    return "; ".join(entries[:most]) + rest
