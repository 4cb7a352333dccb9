"""What makes a suite's cells publishable: finished, up to date, and run on code others have."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmark.additions import Parts
from benchmark.plugins import load_method, registered_methods
from benchmark.progress import counted
from benchmark.provenance import provenance, why_unknown
from benchmark.suites import BUDGETS, SUITES, Suite
from benchmark.unpublished import VERSIONS
from envs import load_family
from envs.api import family_version
from envs.levels import has_split
from results.files import to_json
from results.schema import PROTOCOL_VERSION


def problems_of(suite: Suite, parts: Parts, partly: bool, dirty: bool) -> list[str]:
    """Return the reasons why a suite's cells cannot be published, one text each; none if they can.

    Args:
      partly: accept a suite that lacks some of its cells.
      dirty: accept code that was not committed when it ran.
    """
    incomplete = _empty(parts.cells) if partly else _unfinished(suite, parts.cells)
    return [
        *incomplete,
        *_mixed(suite, parts.rows, parts.plan),
        *_other_versions(parts.records.values(), dirty),
    ]


def _empty(cells: pd.DataFrame) -> list[str]:
    """Return why part of a suite cannot be published: no cells, or a budget not for publishing."""
    if cells.empty:
        return ["no cell is finished"]
    return [
        f"budget {budget} is not for publishing"
        for budget in cells["budget"].unique()
        if not _wanted(str(budget))
    ]


def _wanted(budget: str) -> int:
    """Number of seeds that a published table needs; 0 for a budget that is not for publishing."""
    return BUDGETS[budget].published_seeds if budget in BUDGETS else 0


def _unfinished(suite: Suite, cells: pd.DataFrame) -> list[str]:
    """Return what the suite lacks: finished cells, a budget for publishing, seeds, or methods."""
    problems = []
    open_cells = cells[cells["status"] != "done"]
    if len(open_cells):
        one = open_cells.iloc[0]
        which = f"{one['method']} on {one['family']} seed {one['seed']} ({one['status']})"
        problems.append(
            f"{len(open_cells)} of {len(cells)} cells are not done, such as {which}; run the suite"
            " again to continue"
        )
    for budget, of_budget in cells.groupby("budget"):
        if not (wanted := _wanted(str(budget))):
            problems.append(f"budget {budget} is not for publishing")
        seeds = of_budget.groupby(["family", "split", "method", "variant"])["seed"].nunique()
        if len(seeds) and seeds.min() < wanted:
            problems.append(
                f"{seeds.idxmin()[2]} has {counted(int(seeds.min()), 'seed')} and budget {budget}"
                f" asks for {wanted}: run with --seeds {wanted}"
            )
        there = set(of_budget[["family", "split", "method"]].itertuples(index=False, name=None))
        if missing := [place for place in _asked(suite, str(budget)) if place not in there]:
            some = "; ".join(" ".join(place) for place in missing[:3])
            problems.append(
                f"budget {budget} lacks {len(missing)} of the suite's combinations of family, split"
                f" and method, such as {some}"
            )
    return problems


def _asked(suite: Suite, budget: str) -> list[tuple[str, str, str]]:
    """Family, split and method of everything that a suite runs by default at a budget."""
    families = suite.families.get(budget, ())
    places = [
        (family, split)
        for family in families
        for split in suite.splits
        if has_split(load_family(family), split)
    ]
    return [(family, split, method) for family, split in places for method in suite.methods]


def _mixed(suite: Suite, rows: pd.DataFrame, plan: Mapping[str, Any]) -> list[str]:
    """Return differences from today's versions, which would make a table mix incompatible results.

    Methods that are not registered are reported too, since others could not run them.
    """
    problems = []
    if plan["suite_version"] != SUITES[suite.id].version:
        problems.append(
            f"it was planned for version {plan['suite_version']} of the suite, which is now at"
            f" version {suite.version}"
        )
    known = registered_methods()
    for method, found in rows.groupby("method")["method_version"]:
        version = load_method(known[str(method)]).version if method in known else None
        if version is None:
            problems.append(f"{method} is not a registered method, so others could not run it")
        elif set(found) != {version}:
            problems.append(
                f"{method} was measured at version {', '.join(map(str, sorted(set(found))))} and is"
                f" now at version {version}"
            )
    for family, found in rows.groupby("family")["family_version"]:
        if set(found) != {now := family_version(load_family(str(family)))}:
            problems.append(
                f"{family} was measured at version {', '.join(sorted(set(found)))} and is now at"
                f" version {now}"
            )
    if set(rows["protocol_version"]) != {PROTOCOL_VERSION}:
        problems.append(f"the protocol is at version {PROTOCOL_VERSION} now")
    return problems


def _other_versions(records: Any, dirty: bool) -> list[str]:
    """Return problems of stages run with differing versions, or on code that nobody else has."""
    problems = []
    # a resumed stage ran in several processes; each of them counts
    records = [part for record in records for part in (record, *record.get("resumed", ()))]
    for name in VERSIONS:
        if len(found := {to_json(record.get(name)).decode() for record in records}) > 1:
            problems.append(
                f"its cells ran with several versions ({name}: {' and '.join(sorted(found))})"
            )
    # and the commit of this program, which renders the report
    commits = {str(record.get("commit")) for record in records} | {str(provenance()["commit"])}
    if not dirty and (
        bad := [commit for commit in commits if commit == "None" or commit.endswith("+dirty")]
    ):
        reason = why_unknown()
        unknown = (
            f"where git cannot determine the commit ({reason})" if reason else "outside a checkout"
        )
        where = unknown if bad[0] == "None" else f"on changes that were not committed ({bad[0]})"
        problems.append(
            f"some cells ran, or this program is running, {where}, so nobody could repeat them:"
            " commit and run again, or give --dirty"
        )
    return problems
