"""Publishes a finished store: rows as text, manifest, report, and trained states."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.additions import Parts, added, parts_of
from benchmark.arguments import InputError
from benchmark.publishable import problems_of
from benchmark.suites import BUDGETS, Suite
from reports.page.cover import write_cover
from reports.page.page import write_report
from reports.parts.provenance import CELLS
from results.files import StoreError, explained, sync
from results.publication import FACTS, MANIFEST, PUBLISHED, STATES, Publication, results_at
from results.publishing import tables, to_files, write_manifest
from results.schema import PROTOCOL_VERSION
from results.store import CellKey

STATE_SEED = 0  # its trained states are published, to be evaluated again
# budgets at which those of every seed are published, since training them takes long
STATES_OF_ALL = ("desk", "paper")
REPORT = "report.md"
SCORES = "scores.csv"
COVER = "overview.svg"
# References of a report to files outside it, which are not published with it.
_LINKS = re.compile(
    r"!\[[^\n]*\]\(figures/[^)]*\)\n\n|\[points as CSV\]\([^)]*\)\n\n?|"
    r" ?\(?\[CSV\]\(data/[^)]*\)\)?"
)
# A heading with nothing below it once these are removed.
_EMPTY = re.compile(r"^#{4,5} [^\n]*\n\s*(?=^#|\Z)", re.MULTILINE)


def publish(
    store: Path,
    suite: Suite,
    out: Path | None = None,
    dirty: bool = False,
    add: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write `out`/<suite>/, whole or not at all; what was published there before is replaced.

    Args:
      out: folder of published results; None for those of this checkout.
      dirty: publish although the code was not committed when it ran.
      add: add the finished cells to those that were published there; of both, only cells that the
        code would still run that way are kept.
      tell: called with a line that says how many were added.
    Raises:
      InputError: if what the store holds cannot be published; the message says what is missing.
      StoreError: if there is no such store, or it or `out` cannot be read or written.
    """
    target = _target(out)
    _restore(target / suite.id)
    if isinstance(opened := results_at(store), Publication):
        raise InputError(
            f"{store} holds published results; name the store that they were made from"
        )
    parts = parts_of(opened, suite.id)
    if add:
        parts = _with_published(parts, target, suite.id, tell)
    if problems := problems_of(suite, parts, partly=add, dirty=dirty):
        raise InputError(f"suite {suite.id} in {store} cannot be published: {'; '.join(problems)}")
    with _replacing(target / suite.id) as folder:
        found = tables(parts.rows, parts.cells, parts.measures, parts.records)
        for name, data in to_files(found).items():
            (folder / name).write_bytes(data)
        _save_states(parts, folder / STATES)
        manifest = _manifest(parts.plan, found["stages"])
        write_manifest(folder, manifest)  # without a manifest the tables cannot be read
        render(folder, suite.id, folder)
        write_manifest(folder, manifest)
    return target / suite.id


def rerender(suites: Sequence[str], out: Path | None = None) -> list[Path]:
    """Write the report and the figure of published suites anew, from their published rows.

    Raises:
      InputError: if `out` belongs to an installed package.
      StoreError: if a suite is not published there, one of its files was altered, or it cannot be
        written.
    """
    target = _target(out)
    for left in target.glob(".*.old"):
        _restore(target / left.name[1:].removesuffix(".old"))
    publication = Publication(target)
    for suite in suites or publication.suites:
        manifest = publication.manifest(suite)
        if manifest["protocol_version"] != PROTOCOL_VERSION:
            raise StoreError(
                f"{target / suite}: published at protocol version {manifest['protocol_version']},"
                f" but the protocol is at version {PROTOCOL_VERSION} now; run and publish it again"
            )
        kept = {
            name for name in manifest["files"] if "/" not in name or name.startswith(f"{STATES}/")
        }
        rendered = {REPORT, SCORES, COVER}
        kept -= rendered
        altered = [
            name
            for name in publication.altered(suite)
            if name not in rendered and not name.startswith("report/")  # of an older layout
        ]
        if altered:
            raise StoreError(
                f"{target / suite}: altered after it was published: {', '.join(altered)}; restore"
                " it, or move away what you added"
            )
        with _replacing(target / suite) as folder:
            (folder / STATES).mkdir()
            for name in kept:
                (folder / name).write_bytes((target / suite / name).read_bytes())
            write_manifest(folder, manifest)
            render(folder, suite, folder)
            write_manifest(folder, manifest)
    return [target / suite for suite in suites or publication.suites]


@contextmanager
def _replacing(place: Path) -> Iterator[Path]:
    """An empty folder that replaces `place` on success and leaves nothing behind on failure."""
    with explained(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        try:
            yield temporary
            temporary.chmod(0o755)
            _exchange(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _target(out: Path | None) -> Path:
    if out is not None and out.resolve() != PUBLISHED.resolve():
        there = next(place for place in (out.resolve(), *out.resolve().parents) if place.exists())
        if not (there.is_dir() and os.access(there, os.W_OK)):
            raise InputError(f"--out {out}: nothing can be written to {there}; give another folder")
        return out
    refuse_installed(PUBLISHED)
    return PUBLISHED


def refuse_installed(folder: Path) -> None:
    """Make sure that `folder` does not hold the published results of an installed package.

    Raises:
      InputError: if it does; the published results of a checkout may be changed.
    """
    if folder.resolve() != PUBLISHED.resolve():
        return
    tracked = ["git", "-C", str(PUBLISHED.parent), "ls-files", "--error-unmatch", "__init__.py"]
    try:
        inside = subprocess.run(tracked, capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.SubprocessError):
        inside = False
    if not inside:
        raise InputError(
            f"{PUBLISHED} belongs to an installed package, which must not be changed; give a"
            " folder with --out"
        )


def _restore(place: Path) -> None:
    """Clean up after a publication that was killed, and check that no foreign files are in the way.

    Raises:
      InputError: if something other than published results is there.
    """
    away = _away(place)
    with explained(place):
        if away.is_dir() and not place.exists():
            away.rename(place)  # killed in the middle of the exchange
        if place.is_symlink() or (place.exists() and not (place / MANIFEST).is_file()):
            raise InputError(
                f"{place} exists and is not a published suite; move it, or give another folder with"
                " --out"
            )
        for left in place.parent.glob(f".{place.name}.*"):
            shutil.rmtree(left, ignore_errors=True)


def _away(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")


def _with_published(parts: Parts, target: Path, suite: str, tell: Callable[[str], None]) -> Parts:
    published = (target / suite / MANIFEST).is_file()
    parts, line = added(parts_of(Publication(target), suite) if published else None, parts)
    tell(line)
    return parts


def _manifest(plan: Mapping[str, Any], stages: pd.DataFrame) -> dict[str, Any]:
    axes = {cell["slot"]["family"]: cell["isomorphic_axes"] for cell in plan["cells"]}
    said = {name: plan[name] for name in ("suite", "suite_version", "question", "arms")}
    return {
        **said,
        "remembering": plan.get("remembering", []),
        "isomorphic_axes": axes,
        "seeds": {name: BUDGETS[name].published_seeds for name in sorted(set(stages["budget"]))},
        **summary(stages),
    }


def summary(stages: pd.DataFrame) -> dict[str, Any]:
    """What a manifest says about stages: budgets, family and method versions, platform, date."""
    methods = {
        str(method): {
            "version": int(lines["method_version"].iloc[0]),
            "config_hash": sorted(set(lines["config_hash"])),
        }
        for method, lines in stages.groupby("method")
    }
    told = {name: stages[name].dropna().astype(str) for name in stages.columns if name in _RAN_ON}
    return {
        "budgets": sorted(set(stages["budget"])),
        "families": {
            str(name): str(version)
            for name, version in stages.groupby("family")["family_version"].first().items()
        },
        "methods": methods,
        "ran_on": {name: sorted(set(values) - {""}) for name, values in told.items()},
        "date": max(map(str, stages["finished"].dropna())),
    }


_RAN_ON = {
    *FACTS,
    "system",
    "architecture",
    "processor",
    "torch",
    "mujoco",
    "gymnasium",
    "numpy",
    "pandas",
} - {"finished"}


def _save_states(parts: Parts, folder: Path) -> None:
    cells = parts.cells
    chosen = cells.loc[
        ((cells["seed"] == STATE_SEED) | cells["budget"].isin(STATES_OF_ALL))
        & cells["train_id"].notna(),
        "train_id",
    ].unique()
    folder.mkdir()
    for train_id in chosen:
        (folder / f"{train_id}.safetensors").write_bytes(
            parts.state(CellKey("train", None, None, str(train_id)))
        )


def render(folder: Path, suite: str, out: Path, cover: bool = True) -> None:
    """Write the report of the published suite in `folder`, and of nothing else, to `out`.

    It writes REPORT, with the tables; SCORES, the points of every adaptation curve with all digits;
    and COVER, one figure. The command `report` draws the other figures from the rows.
    """
    with tempfile.TemporaryDirectory() as alone:
        (Path(alone) / suite).symlink_to(folder.resolve(), target_is_directory=True)
        try:
            (page,) = write_report(Path(alone), Path(alone) / "out", formats=["md"], jobs=0)
            if cover:
                write_cover(Publication(Path(alone)), suite, list(BUDGETS), out / COVER)
        except StoreError as error:  # its message names the temporary link
            raise StoreError(str(error).replace(str(Path(alone) / suite), str(folder))) from error
        text = page.read_text(encoding="utf-8").replace(f"[CSV](data/{CELLS}.csv)", "`stages.csv`")
        text = _EMPTY.sub("", _LINKS.sub("", text))
        curves = sorted((page.parent / "data").glob("*_overview.csv"))
        points = [line for path in curves for line in path.read_text(encoding="utf-8").splitlines()]
    title, _, rest = text.partition("\n")
    # each file repeats the header: keep it once
    (out / SCORES).write_text(
        "".join(f"{line}\n" for line in dict.fromkeys(points)), encoding="utf-8"
    )
    (out / REPORT).write_text(f"{title}\n\n![{suite}]({COVER})\n{rest}", encoding="utf-8")


def _exchange(new: Path, old: Path) -> None:
    """Replace the folder `old`, if it exists, by `new`."""
    for path in sorted(new.rglob("*"), reverse=True):
        sync(path)  # files must be on the disk before their names are
    away = _away(old)
    if old.exists():
        old.rename(away)
    try:
        new.rename(old)
    except OSError:
        if away.exists():
            away.rename(old)
        raise
    sync(old.parent)
    shutil.rmtree(away, ignore_errors=True)
