"""Chooses what to publish of a suite: a store's finished cells, alone or added to earlier ones."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd

from benchmark.cells import Cell, expand
from benchmark.plugins import registered_methods
from benchmark.suites import BUDGETS, SUITES
from results.plans import merge
from results.publication import BUILT_ON, CELL, Publication
from results.store import CellKey, Store, StoreError


class Parts(NamedTuple):
    """Everything that a store or a publication holds of a suite."""

    rows: pd.DataFrame  # as `results.store.Store.read` gives them
    cells: pd.DataFrame
    measures: pd.DataFrame
    plan: Mapping[str, Any]
    records: Mapping[str, Mapping[str, Any]]  # by stage id: commit, versions, machine
    state: Callable[[CellKey], bytes]  # reads a trained state


def parts_of(source: Store | Publication, suite: str) -> Parts:
    """Return everything that `source` holds of a suite, finished or not.

    Raises:
      StoreError: if `source` holds nothing of the suite, or cannot be read.
    """
    rows, cells = source.read([suite])
    (plan,) = (plan for plan in source.plans() if plan["suite"] == suite)
    records = {key.id: source.record(key) for key in stage_keys(cells)}
    return Parts(
        rows, cells, source.measures([suite]), plan=plan, records=records, state=source.state
    )


def stage_keys(cells: pd.DataFrame) -> list[CellKey]:
    """Return the keys of the stages of every cell that is done, each once."""
    keys = dict[CellKey, None]()
    for cell in cells[cells["status"] == "done"].to_dict("records"):
        keys[CellKey("adapt", cell["suite"], int(cell["suite_version"]), cell["adapt_id"])] = None
        if pd.notna(cell["train_id"]):
            keys[CellKey("train", None, None, cell["train_id"])] = None
    return list(keys)


def added(old: Parts | None, new: Parts) -> tuple[Parts, str]:
    """Add the finished cells of `new` to the published ones; keep only what today's code would run.

    A cell that is in both stays as it was published.

    Returns:
      The combined parts, and a line that says how many cells come from where.
    """
    done = _only(new, new.cells["status"] == "done")
    of_now = _only(done, of_today(done.cells))
    before = old or _only(of_now, pd.Series(False, index=of_now.cells.index))  # no cells
    current = of_today(before.cells)
    kept = _only(before, current)
    outdated = before.cells[~current]
    fresh = _only(of_now, ~of_now.cells["adapt_id"].isin(kept.cells["adapt_id"]))
    strange = _built_on_another(fresh, kept)
    fresh = _only(fresh, ~strange)
    told = f"{len(fresh.cells)} cells added, {len(kept.cells)} kept"
    if strange.any():
        told += (
            f"; {int(strange.sum())} of the store left out, because they adapt other trained states"
            " than the published ones: `run --unpublished` adapts the published ones"
        )
    if gone := len(done.cells) - len(of_now.cells):
        told += f"; {gone} of the store left out, because today's code would run them differently"
    if gone := len(_other_slots(outdated, fresh.cells)):
        told += f"; {gone} published ones left out, because today's code runs them differently"
    return _joined(kept, fresh, before.plan, new.plan), told


def _built_on_another(fresh: Parts, kept: Parts) -> "pd.Series[bool]":
    """Mark cells that adapt another trained state than published cells of the same train stage."""
    published = dict[str, str]()
    for cell in kept.cells.dropna(subset=["train_id"]).to_dict("records"):
        begun = kept.records[cell["adapt_id"]].get(BUILT_ON)
        published[cell["train_id"]] = begun or published.get(cell["train_id"], "")
    for stage, begun in published.items():
        if not begun:  # published before this was recorded
            with suppress(StoreError):
                state = kept.state(CellKey("train", None, None, stage))
                published[stage] = hashlib.sha256(state).hexdigest()

    def other(cell: Mapping[Any, Any]) -> bool:
        ours = fresh.records[cell["adapt_id"]].get(BUILT_ON)
        theirs = published.get(str(cell["train_id"]))
        return bool(ours and theirs and ours != theirs)

    lines = fresh.cells.to_dict("records")
    return pd.Series([other(cell) for cell in lines], index=fresh.cells.index, dtype=bool)


def _other_slots(cells: pd.DataFrame, taken: pd.DataFrame) -> pd.DataFrame:
    slots = set(taken[list(CELL)].itertuples(index=False, name=None))
    return cells[
        [slot not in slots for slot in cells[list(CELL)].itertuples(index=False, name=None)]
    ]


def _joined(
    kept: Parts, fresh: Parts, old_plan: Mapping[str, Any], plan: Mapping[str, Any]
) -> Parts:
    there = set(kept.cells["train_id"].dropna())
    cells = pd.concat([kept.cells, fresh.cells], ignore_index=True)
    planned = {cell["key"]["id"]: cell for cell in (*plan["cells"], *old_plan["cells"])}

    def state(key: CellKey) -> bytes:
        return (kept if key.id in there else fresh).state(key)

    rows, measures = (
        pd.concat([before, found[~found["cell_id"].isin(there)]], ignore_index=True)
        for before, found in ((kept.rows, fresh.rows), (kept.measures, fresh.measures))
    )
    both = {**merge(old_plan, plan), "cells": [planned[str(key)] for key in cells["adapt_id"]]}
    return Parts(
        rows, cells, measures, plan=both, records={**fresh.records, **kept.records}, state=state
    )


def _only(parts: Parts, chosen: "pd.Series[bool]") -> Parts:
    cells = parts.cells[chosen].reset_index(drop=True)
    ids = {*cells["adapt_id"], *cells["train_id"].dropna()}
    plan = {
        **parts.plan,
        "cells": [
            cell for cell in parts.plan["cells"] if cell["key"]["id"] in set(cells["adapt_id"])
        ],
    }
    records = {stage: record for stage, record in parts.records.items() if stage in ids}
    rows, measures = (
        table[table["cell_id"].isin(ids)].reset_index(drop=True)
        for table in (parts.rows, parts.measures)
    )
    return Parts(rows, cells, measures, plan=plan, records=records, state=parts.state)


def of_today(cells: pd.DataFrame) -> "pd.Series[bool]":
    """Mark the cells that today's code would run in the same way.

    A variant's settings cannot be checked: it passes if its budget, family, split and method are
    known.
    """
    known = dict[tuple[str, ...], Cell]()
    for suite, of_suite in cells.groupby("suite"):
        for cell in _would_run(str(suite), of_suite):
            known[cell.suite, cell.budget, cell.family, cell.split, cell.method] = cell

    def current(one: Mapping[str, Any]) -> bool:
        """Return whether today's code would run a cell as it was run."""
        cell = known.get(
            tuple(one[name] for name in ("suite", "budget", "family", "split", "method"))
        )
        if cell is None or one["variant"] != "":
            return cell is not None
        if cell.suite_version != int(one["suite_version"]):
            return False
        return replace(cell, seed=int(one["seed"])).adapt_key.id == str(one["adapt_id"])

    return pd.Series(
        [current(one) for one in cells.to_dict("records")], index=cells.index, dtype=bool
    )


def _would_run(suite: str, cells: pd.DataFrame) -> list[Cell]:
    """Return the suite's cells with seed 0 for the budgets, families and methods among `cells`."""
    known = registered_methods()
    methods = {str(name): known[str(name)] for name in cells["method"].unique() if name in known}
    budgets = [BUDGETS[str(name)] for name in cells["budget"].unique() if name in BUDGETS]
    families = [str(name) for name in cells["family"].unique()]
    return [
        cell
        for budget in budgets
        for cell in expand(SUITES[suite], budget, methods, families=families, seeds=1, settings={})
    ]
