"""What a store holds, for a person or a program: its cells, and the references made from them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.arguments import InputError
from benchmark.kept import saved
from benchmark.suites import SUITES
from results.files import DamageError, read
from results.references import write_references
from results.store import CellKey, Store


def show(store: Path, prefix: str | None, as_json: bool = False) -> str:
    """Return a table of a store's cells, or all about the one whose id begins with `prefix`.

    The result is text, or JSON if `as_json`.

    Raises:
      InputError: if no id, or more than one, begins with `prefix`.
      StoreError: if there is no store.
    """
    opened = Store(store, create=False)
    _, cells = opened.read()
    if prefix is None:
        columns = [
            "adapt_id",
            "suite",
            "budget",
            "family",
            "split",
            "method",
            "variant",
            "seed",
            "status",
        ]
        table = cells[columns].rename(columns={"adapt_id": "cell"})
        told = {
            cell["key"]["id"]: _saved_stage(opened, cell)
            for plan in opened.plans()
            for cell in plan["cells"]
        }
        if any(told.values()):
            table["saved"] = table["cell"].map(told)
        if as_json:
            return str(table.to_json(orient="records", indent=2))
        return str(table.to_string(index=False)) if len(table) else "no cells"
    found = {
        key.id: key for plan in opened.plans() for key in _keys(plan) if key.id.startswith(prefix)
    }
    if len(found) != 1:
        many = (
            f"{len(found)} cell ids begin with {prefix!r}: {', '.join(sorted(found)[:5])}; give a"
            " longer prefix"
        )
        raise InputError(
            many if found else f"no cell's id begins with {prefix!r}; `show` without it lists them"
        )
    key = next(iter(found.values()))
    folder = store / key.folder
    if opened.status(key) == "missing" and (at := saved(opened, key)):
        if as_json:
            return json.dumps({"folder": str(folder), "saved": at}, indent=2)
        return f"{folder}\n\nnot finished; saved at {at}"
    record, rows, log = opened.record(key), opened.rows(key), _log_in(folder)
    if as_json:
        lines = json.loads(rows.to_json(orient="records"))
        shown = {"folder": str(folder), "record": record, "rows": lines, "log": log}
        return json.dumps(shown, indent=2)
    table = rows.dropna(axis=1, how="all").to_string(index=False)
    return f"{folder}\n\nrecord\n{json.dumps(record, indent=2)}\n\nrows\n{table}\n\nlog\n{log}"


def _log_in(folder: Path) -> str:
    try:
        return read(folder / "log.txt").decode(errors="replace")
    except (OSError, DamageError) as error:
        reason = getattr(error, "strerror", error)
        return f"it cannot be read ({reason}); run the suite again to redo this cell"


def _saved_stage(store: Store, cell: Mapping[str, Any]) -> str:
    """Which unfinished stage of a planned cell was saved, and how far; "" if none was."""
    stages = {"train": cell["train_key"], "adapt": cell["key"]}
    found = ((name, saved(store, CellKey(**key))) for name, key in stages.items() if key)
    return next((f"{name} {at}" for name, at in found if at), "")


def references(store: Path, out: Path) -> str:
    """Write the references of every family in the finished suite `oracle`; return their paths.

    Raises:
      InputError: if the suite was not run, has unfinished cells, or ran at a budget that gives no
        references.
      StoreError: if there is no store, or the files cannot be written.
    """
    opened = Store(store, create=False)
    if "oracle" not in {plan["suite"] for plan in opened.plans()}:
        raise InputError(
            f"{store} holds no results of the suite oracle; measure it first: "
            "python -m benchmark run --suite oracle --budget oracle-fast"
        )
    rows, cells = opened.read(["oracle"])
    if others := sorted(set(cells["budget"]) - set(SUITES["oracle"].families)):
        raise InputError(
            f"{store} holds the suite oracle at {', '.join(others)}, which gives no references; use"
            " a separate store"
        )
    if unfinished := int((cells["status"] != "done").sum()):
        raise InputError(
            f"{unfinished} cells of the suite oracle in {store} are not finished; run the suite"
            " again to continue"
        )
    return "\n".join(map(str, write_references(rows, out)))


def _keys(plan: Mapping[str, Any]) -> list[CellKey]:
    return [
        CellKey(**cell[kind])
        for cell in plan["cells"]
        for kind in ("key", "train_key")
        if cell[kind]
    ]
