"""A suite's plan: every expected cell, written before any cell runs, so that gaps show."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from results.cell import CellKey
from results.files import DamageError, StoreError, explained, read, to_json, unseal
from results.schema import COLUMNS

_SLOT = ("suite", "suite_version", "budget", "family", "split", "method", "variant", "seed")
_FOUND = ("status", "train_status", "adapt_id", "train_id")
EXPECTED: dict[str, str] = {
    **{name: COLUMNS[name] for name in _SLOT},
    **dict.fromkeys(_FOUND, "string"),
}


def load(path: Path) -> dict[str, Any]:
    """Read a plan.

    Raises:
      StoreError: if it cannot be read or is damaged.
    """
    try:
        with explained(path):
            return unseal(read(path))
    except DamageError as damage:
        raise StoreError(
            f"{path}: {damage}: delete it and run the suite again; finished cells are kept"
        ) from damage


def keys(cell: Mapping[str, Any]) -> tuple[CellKey, CellKey | None]:
    """Return the keys of a planned cell and of the train stage it builds on, if any.

    Raises:
      ValueError, TypeError: if they are not valid keys.
    """
    train_key = cell.get("train_key")
    return CellKey(**cell["key"]), CellKey(**train_key) if train_key else None


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `new` plus the cells of `old` in slots it lacks, if the suite version is the same."""
    if old["suite_version"] != new["suite_version"]:
        return new
    cells = {tuple(sorted(cell["slot"].items())): cell for cell in (*old["cells"], *new["cells"])}
    arms = new["arms"]
    # a plan with only some of the arms does not know the order of all
    if any(arm not in arms for arm in old["arms"]):
        arms = old["arms"] + [arm for arm in arms if arm not in old["arms"]]
    remembering = {
        *new.get("remembering", ()),
        *(arm for arm in old.get("remembering", ()) if arm not in new["arms"]),
    }
    told = {"remembering": [arm for arm in arms if arm in remembering]} if remembering else {}
    requests = {to_json(asked): asked for plan in (old, new) for asked in plan.get("requests", ())}
    asked = {"requests": list(requests.values())} if requests else {}
    return {**new, "arms": arms, "cells": list(cells.values()), **told, **asked}


def expected(plans: Iterable[Mapping[str, Any]], statuses: Mapping[CellKey, str]) -> pd.DataFrame:
    """Return a row per planned cell, with the columns `EXPECTED`."""
    records = []
    for plan in plans:
        for cell in plan["cells"]:
            key, train = keys(cell)
            found = {"status": statuses[key], "adapt_id": key.id}
            if train:
                found |= {"train_status": statuses[train], "train_id": train.id}
            records.append(
                {
                    **cell["slot"],
                    "suite": plan["suite"],
                    "suite_version": plan["suite_version"],
                    **found,
                }
            )
    columns = {
        name: pd.array([record.get(name) for record in records], dtype=dtype)
        for name, dtype in EXPECTED.items()
    }
    return pd.DataFrame(columns)
