"""From a finished store to published results: rows as text, manifest, report, and the trained states of one seed."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.additions import Parts, added, parts_of
from benchmark.arguments import InputError, available_cores
from benchmark.plugins import load_method, registered_methods
from benchmark.provenance import provenance
from benchmark.suites import BUDGETS, SUITES, Suite
from envs import load_family
from envs.api import family_version
from reports.page.page import write_report
from results.files import StoreError, explained, sync, to_json
from results.publication import FACTS, MANIFEST, PUBLISHED, STATES, Publication, results_at
from results.publishing import tables, to_files, write_manifest
from results.schema import PROTOCOL_VERSION
from results.store import CellKey

STATE_SEED = 0  # whose trained states are published, to be evaluated again
REPORT = "report"
_PDF = re.compile(r"\[PDF\]\([^)]*\) · ")
_VERSIONS = ("benchmark", "python", "packages")  # of a stage's record: one for all, or the rows do not belong together


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
      add: add the cells that are finished to those that were published there, if they are still what the code would run.
      tell: called with a line that says how many were added.
    Raises:
      InputError: if what the store holds is not fit to be published; it says what is missing.
      StoreError: if there is no such store, or it or `out` cannot be read or written.
    """
    target = _target(out)
    _restore(target / suite.id)
    if isinstance(opened := results_at(store), Publication):
        raise InputError(f"{store} is published already; name the store that it was made of")
    parts = parts_of(opened, suite.id)
    if add:
        parts = _with_published(parts, target, suite.id, tell)
    incomplete = _empty(parts.cells) if add else _unfinished(suite, parts.cells)
    problems = [*incomplete, *_mixed(suite, parts.rows, parts.plan), *_other_versions(parts.records.values(), dirty)]
    if problems:
        raise InputError(f"suite {suite.id} in {store} cannot be published: {'; '.join(problems)}")
    with explained(target):
        target.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{suite.id}.", dir=target))
        try:
            found = tables(parts.rows, parts.cells, parts.measures, parts.records)
            for name, data in to_files(found).items():
                (temporary / name).write_bytes(data)
            _save_states(parts, temporary / STATES)
            write_manifest(temporary, _manifest(parts.plan, found["stages"]))
            render(temporary, suite.id, temporary / REPORT, available_cores())
            write_manifest(temporary, _manifest(parts.plan, found["stages"]))
            temporary.chmod(0o755)
            _exchange(temporary, target / suite.id)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target / suite.id


def _target(out: Path | None) -> Path:
    if out is not None and out.resolve() != PUBLISHED.resolve():
        there = next(place for place in (out.resolve(), *out.resolve().parents) if place.exists())
        if not (there.is_dir() and os.access(there, os.W_OK)):
            raise InputError(f"--out {out}: nothing can be written to {there}; give another folder")
        return out
    refuse_installed(PUBLISHED)
    return PUBLISHED


def refuse_installed(folder: Path) -> None:
    """Make sure that the results which came with this program may be changed.

    Raises:
      InputError: if `folder` is theirs, and they are not those of a checkout.
    """
    if folder.resolve() != PUBLISHED.resolve():
        return
    tracked = ["git", "-C", str(PUBLISHED.parent), "ls-files", "--error-unmatch", "__init__.py"]
    try:
        inside = subprocess.run(tracked, capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.SubprocessError):
        inside = False
    if not inside:
        raise InputError(f"{PUBLISHED} belongs to an installed package, which is not to be changed; give a folder with --out")


def _restore(place: Path) -> None:
    """Undo what a publication that was killed has left, and make sure that nobody else's files are in the way.

    Raises:
      InputError: if something else than published results is there.
    """
    away = _away(place)
    with explained(place):
        if away.is_dir() and not place.exists():
            away.rename(place)  # it was killed in the middle of the exchange
        if place.is_symlink() or (place.exists() and not (place / MANIFEST).is_file()):
            raise InputError(f"{place} is there and is no published suite; move it, or give another folder with --out")
        for left in place.parent.glob(f".{place.name}.*"):
            shutil.rmtree(left, ignore_errors=True)


def _away(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")


def _with_published(parts: Parts, target: Path, suite: str, tell: Callable[[str], None]) -> Parts:
    published = (target / suite / MANIFEST).is_file()
    parts, line = added(parts_of(Publication(target), suite) if published else None, parts)
    tell(line)
    return parts


def _empty(cells: pd.DataFrame) -> list[str]:
    """What keeps a part of a suite from being published: that there is none, or that its budget is not for that."""
    if cells.empty:
        return ["no cell is finished"]
    return [f"budget {budget} is not for publishing" for budget in cells["budget"].unique() if not _wanted(str(budget))]


def _wanted(budget: str) -> int:
    """Seeds that a published table needs, 0 for a budget that is not for publishing."""
    return BUDGETS[budget].published_seeds if budget in BUDGETS else 0


def _unfinished(suite: Suite, cells: pd.DataFrame) -> list[str]:
    """What is missing of the suite: cells that are not done, methods, and seeds."""
    problems = []
    open_cells = cells[cells["status"] != "done"]
    if len(open_cells):
        one = open_cells.iloc[0]
        which = f"{one['method']} on {one['family']} seed {one['seed']} ({one['status']})"
        problems.append(f"{len(open_cells)} of {len(cells)} cells are not done, such as {which}; run it again to go on")
    for budget, of_budget in cells.groupby("budget"):
        if not (wanted := _wanted(str(budget))):
            problems.append(f"budget {budget} is not for publishing")
        seeds = of_budget.groupby(["family", "split", "method", "variant"])["seed"].nunique()
        if len(seeds) and seeds.min() < wanted:
            problems.append(
                f"{seeds.idxmin()[2]} has {seeds.min()} seeds and budget {budget} asks for {wanted}: run with --seeds"
            )
        there = set(of_budget[["family", "split", "method"]].itertuples(index=False, name=None))
        if missing := [place for place in _asked(suite, str(budget)) if place not in there]:
            some = "; ".join(" ".join(place) for place in missing[:3])
            problems.append(f"at budget {budget} {len(missing)} of what the suite asks for was not run, such as {some}")
    return problems


def _asked(suite: Suite, budget: str) -> list[tuple[str, str, str]]:
    """Family, split and method of everything that a suite asks for by itself at a budget."""
    families = suite.families.get(budget, ())
    places = [(family, split) for family in families for split in suite.splits if split in load_family(family).splits()]
    return [(family, split, method) for family, split in places for method in suite.methods]


def _mixed(suite: Suite, rows: pd.DataFrame, plan: Mapping[str, Any]) -> list[str]:
    """Versions that are not those of today's code, so that a table would mix what does not belong together."""
    problems = []
    if plan["suite_version"] != SUITES[suite.id].version:
        problems.append(f"it was planned for version {plan['suite_version']} of the suite, which is at {suite.version} now")
    known = registered_methods()
    for method, found in rows.groupby("method")["method_version"]:
        version = load_method(known[str(method)]).version if method in known else None
        if version is None:
            problems.append(f"{method} is a method of somebody's own, which others could not run")
        elif set(found) != {version}:
            problems.append(
                f"{method} was measured at version {', '.join(map(str, sorted(set(found))))}, and is at {version} now"
            )
    for family, found in rows.groupby("family")["family_version"]:
        if set(found) != {now := family_version(load_family(str(family)))}:
            problems.append(f"{family} was measured at version {', '.join(sorted(set(found)))}, and is at {now} now")
    if set(rows["protocol_version"]) != {PROTOCOL_VERSION}:
        problems.append(f"the protocol is at version {PROTOCOL_VERSION} now")
    return problems


def _other_versions(records: Any, dirty: bool) -> list[str]:
    """Stages that ran on other versions than the rest, or on code that nobody else has."""
    problems = []
    records = [part for record in records for part in (record, *record.get("resumed", ()))]  # some ran in several places
    for name in _VERSIONS:
        if len(found := {to_json(record.get(name)).decode() for record in records}) > 1:
            problems.append(f"its cells ran with several versions ({name}: {' and '.join(sorted(found))})")
    commits = {str(record.get("commit")) for record in records} | {str(provenance()["commit"])}  # and of who renders
    if not dirty and (bad := [commit for commit in commits if commit == "None" or commit.endswith("+dirty")]):
        where = "outside a checkout" if bad[0] == "None" else f"on changes that were not committed ({bad[0]})"
        problems.append(
            f"some cells ran, or this program runs, {where}: nobody could repeat them; commit and run again, or give --dirty"
        )
    return problems


def _manifest(plan: Mapping[str, Any], stages: pd.DataFrame) -> dict[str, Any]:
    axes = {cell["slot"]["family"]: cell["isomorphic_axes"] for cell in plan["cells"]}
    said = {name: plan[name] for name in ("suite", "suite_version", "question", "arms")}
    return {**said, "remembering": plan.get("remembering", []), "isomorphic_axes": axes, **summary(stages)}


def summary(stages: pd.DataFrame) -> dict[str, Any]:
    """What a manifest says of its stages: budgets, versions of families and methods, what they ran on, and the date."""
    methods = {
        str(method): {"version": int(lines["method_version"].iloc[0]), "config_hash": sorted(set(lines["config_hash"]))}
        for method, lines in stages.groupby("method")
    }
    told = {name: stages[name].dropna().astype(str) for name in stages.columns if name in _RAN_ON}
    return {
        "budgets": sorted(set(stages["budget"])),
        "families": {str(name): str(version) for name, version in stages.groupby("family")["family_version"].first().items()},
        "methods": methods,
        "ran_on": {name: sorted(set(values) - {""}) for name, values in told.items()},
        "date": max(map(str, stages["finished"].dropna())),
    }


_RAN_ON = {*FACTS, "system", "architecture", "processor", "torch", "mujoco", "gymnasium", "numpy", "pandas"} - {"finished"}


def _save_states(parts: Parts, folder: Path) -> None:
    cells = parts.cells
    chosen = cells.loc[(cells["seed"] == STATE_SEED) & cells["train_id"].notna(), "train_id"].unique()
    folder.mkdir()
    for train_id in chosen:
        (folder / f"{train_id}.safetensors").write_bytes(parts.state(CellKey("train", None, None, str(train_id))))


def render(folder: Path, suite: str, out: Path, jobs: int) -> None:
    """Write the report of the published suite in `folder`, and of nothing else, to `out`.

    Args:
      jobs: processes that draw its figures, 0 for none.
    """
    with tempfile.TemporaryDirectory() as alone:
        (Path(alone) / suite).symlink_to(folder.resolve(), target_is_directory=True)
        try:
            (page,) = write_report(Path(alone), out, formats=["md"], jobs=jobs)
        except StoreError as error:  # it names what lies behind the link
            raise StoreError(str(error).replace(str(Path(alone) / suite), str(folder))) from error
    for figure in (out / "figures").glob("*.pdf"):
        figure.unlink()  # `report` draws them again, and all together are larger than the rows
    page.write_text(_PDF.sub("", page.read_text(encoding="utf-8")), encoding="utf-8")


def _exchange(new: Path, old: Path) -> None:
    """Put a folder in the place of another."""
    for path in sorted(new.rglob("*"), reverse=True):
        sync(path)  # the disk must have the files before their names
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
