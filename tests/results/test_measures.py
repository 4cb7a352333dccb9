"""Measures beside the rows: what was written reads back exactly, and damage is detected."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest

from results.cell import CELL, MEASURES
from results.measures import COLUMNS, Measure, from_csv, to_csv, to_frame
from results.schema import Row
from results.store import CellKey, Store

TRAIN, ADAPT = CellKey("train", None, None, "7a01"), CellKey("adapt", "ood", 1, "5b02")
SLOT = {"budget": "quick", "family": "f", "method": "m", "variant": "", "seed": 0}
MEASURED = [
    Measure(name="error", env_steps=0, task_index=1, at=0.1, value=1 / 3),
    Measure(name="error", env_steps=0, task_index=1, at=0.2),
    Measure(name="bound", env_steps=50, value=-1e300),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store(tmp_path / "store", create=True)
    known = {**SLOT, "family_version": "1", "method_version": 1, "config_hash": "0"}
    for key, measured in ((TRAIN, MEASURED), (ADAPT, [])):
        rows = [Row(**known, stage=key.stage, env_steps=0)]
        opened.write(key, rows, measured=measured, state=b"", log="", record={"status": "ok"})
    cell = {"slot": {**SLOT, "split": "ood"}, "key": asdict(ADAPT), "train_key": asdict(TRAIN)}
    opened.write_plan(
        {"suite": "ood", "suite_version": 1, "question": "?", "arms": ["m"], "cells": [cell]}
    )
    return opened


def test_measures_read_back_exactly(store: Store) -> None:
    found = store.measures()
    assert set(found["cell_id"]) == {TRAIN.id}
    pd.testing.assert_frame_equal(
        found.drop(columns="cell_id"), to_frame(MEASURED), check_exact=True
    )
    assert found["at"].isna().tolist() == [False, False, True]
    assert dict(found.drop(columns="cell_id").dtypes.astype(str)) == COLUMNS


def test_a_stage_without_measures_writes_no_file_and_is_whole(store: Store) -> None:
    assert not (store.root / ADAPT.folder / MEASURES).exists()
    assert [store.status(key) for key in (TRAIN, ADAPT)] == ["done", "done"]


@pytest.mark.parametrize("damage", ["edited", "gone"])
def test_altered_measures_are_found_out(store: Store, damage: str) -> None:
    path = store.root / TRAIN.folder / MEASURES
    path.write_bytes(
        path.read_bytes().replace(b"50", b"60")
    ) if damage == "edited" else path.unlink()
    assert store.status(TRAIN) == "corrupt"
    assert store.read()[1]["train_status"].tolist() == ["corrupt"]
    assert store.measures().empty


def test_a_failed_or_missing_stage_has_none(store: Store) -> None:
    known = {**SLOT, "family_version": "1", "method_version": 1, "config_hash": "0"}
    rows = [Row(**known, stage="train", env_steps=0, status="failed")]
    store.write(
        TRAIN,
        rows,
        measured=MEASURED,
        state=None,
        log="",
        record={"status": "failed"},
        replace=True,
    )
    assert store.measures().empty
    (store.root / TRAIN.folder / CELL).unlink()
    assert store.measures().empty


def test_another_table_is_refused() -> None:
    with pytest.raises(ValueError, match="measures have the columns"):
        from_csv(b"name,value\nx,1\n")
    assert from_csv(to_csv(to_frame([]))).empty
