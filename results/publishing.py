"""Turns a finished suite into the text files that `results.publication` reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from results.files import digest, explained, seal
from results.measures import COLUMNS as MEASURED
from results.publication import (
    BUILT_ON,
    CELL,
    FACTS,
    FORMAT,
    MACHINE,
    MANIFEST,
    MEASURES,
    WHO,
    files_below,
)
from results.schema import PROTOCOL_VERSION, SCHEMA_VERSION

_TASK = ("family", "split", "task_index", "task_params", "shift", "shift_axis")
_COST = {"wall_s": 3, "peak_mem_mb": 0}  # column → decimals that are kept
_SCORE = (
    *(
        "updates",
        "return_mean",
        "return_std",
        "n_episodes",
        "episode_length_mean",
        "terminated_frac",
    ),
    *("online_return", "status"),
)
_TRAINED = (
    "env_steps",
    "updates",
    "meta_env_steps",
    "n_train_tasks",
    "return_mean",
    "online_return",
    "status",
)


def tables(
    rows: pd.DataFrame,
    cells: pd.DataFrame,
    measures: pd.DataFrame,
    records: Mapping[str, Mapping[str, Any]],
) -> dict[str, pd.DataFrame]:
    """Return the sorted tables of a finished suite; the same rows always give the same bytes.

    Args:
      rows, cells, measures: of one suite, as `results.store.Store.read` and `measures` return them.
      records: stage id → its record, with commit, versions and machine.
    Raises:
      ValueError: if the rows of a cell or a task contradict each other.
    """
    adapted, trained = (rows[rows["stage"] == stage] for stage in ("adapt", "train"))
    named = cells[["adapt_id", "train_id", *CELL]].sort_values(list(CELL), ignore_index=True)
    place = {
        name: i
        for i, name in enumerate(
            pd.concat([named["train_id"].dropna(), named["adapt_id"]]).unique()
        )
    }
    told = (
        adapted.groupby("cell_id")[["eval_mode", "meta_env_steps", "n_train_tasks"]]
        .agg(_only)
        .reset_index()
    )
    found = {
        "cells": (
            named.merge(told, left_on="adapt_id", right_on="cell_id", how="left").drop(
                columns="cell_id"
            )
        ),
        "tasks": adapted[list(_TASK)].drop_duplicates(),
        "rows": adapted[["cell_id", "task_index", "env_steps", *_SCORE]],
        "training": trained[["cell_id", *_TRAINED]],
        "timings": (
            rows.groupby(["cell_id", "env_steps"])[list(_COST)].max().round(_COST).reset_index()
        ),
        "stages": _stages(rows, records),
    }
    if not measures.empty:
        found[MEASURES] = measures[["cell_id", *MEASURED]]
    if found["tasks"].duplicated(["family", "split", "task_index"]).any():
        raise ValueError(
            "one test task has several parameters, so the rows are of several versions of its"
            " family"
        )
    order = {"tasks": ["family", "split", "task_index"], "stages": ["cell_id"]}
    for name in found.keys() - {"cells", "tasks"}:
        found[name] = found[name].assign(order=found[name]["cell_id"].map(place))
        by = [
            "order",
            *(key for key in ("name", "env_steps", "task_index", "at") if key in found[name]),
        ]
        found[name] = found[name].sort_values(by, kind="stable").drop(columns="order")
    found["tasks"] = found["tasks"].sort_values(order["tasks"])
    return {
        name: table.rename(columns={"cell_id": "id"}).reset_index(drop=True)
        for name, table in found.items()
    }


def to_files(found: Mapping[str, pd.DataFrame]) -> dict[str, bytes]:
    """Return tables as CSV: missing is empty, floats read back exactly, line ends never vary."""
    return {
        f"{name}.csv": table.to_csv(index=False, lineterminator="\n").encode()
        for name, table in found.items()
    }


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Seal the files in `folder`: write its manifest with the checksum of every other file.

    Raises:
      StoreError: if it cannot be written.
    """
    with explained(folder):
        files = {name: digest((folder / name).read_bytes()) for name in files_below(folder)}
        stated = {
            "format": FORMAT,
            "protocol_version": PROTOCOL_VERSION,
            "schema_version": SCHEMA_VERSION,
        }
        (folder / MANIFEST).write_bytes(seal({**manifest, **stated, "files": files}))


def _stages(rows: pd.DataFrame, records: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    who = rows.groupby("cell_id")[["stage", *WHO]].agg(_only).reset_index()
    facts = [_facts(records.get(str(stage), {})) for stage in who["cell_id"]]
    return pd.concat([who, pd.DataFrame(facts, index=who.index)], axis=1)


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: record.get(name) for name in FACTS}
    machine = record.get("machine") or {}
    built_on = {BUILT_ON: record[BUILT_ON]} if record.get(BUILT_ON) else {}
    return {
        **found,
        **built_on,
        **(record.get("packages") or {}),
        **{name: machine.get(name) for name in MACHINE},
    }


def _only(column: "pd.Series[Any]") -> Any:
    """Return the only value of a column."""
    values = column.unique()
    if len(values) != 1:
        raise ValueError(
            f"one cell has several values of {column.name}: {', '.join(map(str, values))}"
        )
    return values[0]
