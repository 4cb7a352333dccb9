"""Published rows: text keeps them exactly, in the same bytes each time; edits are detected."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from results.files import StoreError, to_json
from results.measures import Measure
from results.publication import BUILT_ON, MANIFEST, PUBLISHED, Publication, results_at
from results.publishing import tables, to_files, write_manifest
from results.schema import COLUMNS, NOT_COMPARED, Row
from results.store import CellKey, Store

RECORD = {
    "status": "ok",
    "commit": "c0ffee",
    "benchmark": "1.0",
    "packages": {"torch": "2"},
    "machine": {"system": "Linux", "architecture": "x"},
}
ORDER = ["stage", "cell_id", "env_steps", "task_index"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two methods with two seeds, one meta-trained, with numbers that text must not round."""
    opened, cells = Store(tmp_path / "store", create=True), []
    generator = np.random.default_rng(0)
    for method in ("m", "zero"):
        for seed in (0, 1):
            base = {"budget": "quick", "family": "f", "method": method, "variant": "", "seed": seed}
            known = {**base, "family_version": "1+a", "method_version": 2, "config_hash": "00123"}
            train = CellKey("train", None, None, f"t{seed}") if method == "m" else None
            if train:
                curve = [
                    Row(
                        **known, stage="train", env_steps=10 * i, online_return=-0.1 * i, wall_s=1.5
                    )
                    for i in (1, 2)
                ]
                opened.write(
                    train, curve, measured=measured(seed), state=b"weights", log="", record=RECORD
                )
            key = CellKey("adapt", "s", 3, f"{method}{seed}")
            rows = [
                Row(
                    **known,
                    **task,
                    stage="adapt",
                    split="ood",
                    env_steps=b,
                    return_mean=float(generator.normal()),
                    updates=b,
                    n_episodes=10,
                    wall_s=0.25,
                    peak_mem_mb=300.0,
                    meta_env_steps=20 if train else None,
                )
                for b in (0, 50)
                for task in (
                    {
                        "task_index": 0,
                        "task_params": '{"a": 0.1}',
                        "shift": 0.1,
                        "shift_axis": "angle",
                    },
                    {"task_index": 1, "task_params": '{"a": 0.2}'},
                )
            ]
            opened.write(key, rows, state=None, log="", record=RECORD)
            slot = {"slot": {**base, "split": "ood"}, "isomorphic_axes": ["angle"]}
            cells.append(
                {**slot, "key": asdict(key), "train_key": asdict(train) if train else None}
            )
    opened.write_plan(
        {"suite": "s", "suite_version": 3, "question": "?", "arms": ["m", "zero"], "cells": cells}
    )
    return opened


def measured(seed: int) -> list[Measure]:
    """Measures of a seed; seed 0 has one more than seed 1."""
    return [
        Measure(name="zero", env_steps=0, task_index=i, at=0.5 * i or None, value=-1 / 3 - seed)
        for i in range(2 - seed)
    ]


def publish(
    store: Store, root: Path, others: Mapping[str, Mapping[str, Any]] | None = None
) -> Publication:
    rows, cells = store.read(["s"])
    records = {**dict.fromkeys(rows["cell_id"].unique(), RECORD), **(others or {})}
    (root / "s").mkdir(parents=True)
    for name, data in to_files(tables(rows, cells, store.measures(["s"]), records)).items():
        (root / "s" / name).write_bytes(data)
    said: dict[str, Any] = {
        "suite": "s",
        "suite_version": 3,
        "question": "?",
        "arms": ["m", "zero"],
        "isomorphic_axes": {"f": ["angle"]},
    }
    write_manifest(root / "s", said)
    return Publication(root)


def test_what_is_published_reads_as_the_store_did(store: Store, tmp_path: Path) -> None:
    published = publish(store, tmp_path / "published")
    (rows, cells), (known, expected) = published.read(), store.read()
    assert list(rows) == [*COLUMNS, "cell_id"] and dict(rows.dtypes) == dict(known.dtypes)
    rows, known = (table.sort_values(ORDER, ignore_index=True) for table in (rows, known))
    pd.testing.assert_frame_equal(rows, known, check_exact=True)
    order = ["method", "seed"]
    pd.testing.assert_frame_equal(
        cells.sort_values(order, ignore_index=True), expected.sort_values(order, ignore_index=True)
    )
    by = ["cell_id", "task_index"]
    ours, theirs = (
        source.measures().sort_values(by, ignore_index=True) for source in (published, store)
    )
    assert len(theirs) == 3
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    assert published.plans()[0]["arms"] == ["m", "zero"]
    ours, theirs = (
        sorted(map(to_json, plan["cells"])) for plan in (published.plans()[0], store.plans()[0])
    )
    assert ours == theirs
    key = CellKey("adapt", "s", 3, "m0")
    assert published.record(key) == {
        name: value for name, value in RECORD.items() if name != "status"
    }
    with pytest.raises(StoreError, match="no stage"):
        published.record(CellKey("adapt", "s", 3, "other"))


def test_what_an_adaptation_began_from_is_published_with_it(store: Store, tmp_path: Path) -> None:
    """`publish --add` uses it to tell apart cells that began from other weights."""
    published = publish(store, tmp_path / "published", {"m1": {**RECORD, BUILT_ON: "5eed"}})
    told = {
        name: published.record(CellKey("adapt", "s", 3, name)).get(BUILT_ON)
        for name in ("m0", "m1", "zero0")
    }
    assert told == {"m0": None, "m1": "5eed", "zero0": None}


def test_the_order_of_rows_and_cells_moves_no_byte(store: Store) -> None:
    rows, cells = store.read(["s"])
    measures = store.measures(["s"])
    files = to_files(tables(rows, cells, measures, {}))
    again = to_files(
        tables(
            rows.sample(frac=1, random_state=0),
            cells.sample(frac=1, random_state=1),
            measures.sample(frac=1),
            {},
        )
    )
    assert files == again and not any(b"\r" in data for data in files.values())


def test_two_equal_runs_differ_in_their_timings_only(store: Store) -> None:
    rows, cells = store.read(["s"])
    slower = rows.assign(wall_s=rows["wall_s"] * 3, peak_mem_mb=7.0)
    files, others = (
        to_files(tables(table, cells, store.measures(["s"]), {})) for table in (rows, slower)
    )
    assert [name for name in files if files[name] != others[name]] == ["timings.csv"]
    assert set(NOT_COMPARED) < set(files["timings.csv"].decode().splitlines()[0].split(","))


def test_a_checkpoint_took_until_the_last_of_its_tasks_and_as_much_memory_as_the_most(
    store: Store,
) -> None:
    rows, cells = store.read(["s"])
    later = rows["task_index"].fillna(0).astype(float)
    rows = rows.assign(wall_s=0.25 + later, peak_mem_mb=300.0 - 50 * later)
    timings = tables(rows, cells, store.measures(["s"]), {})["timings"].set_index("id")
    assert timings.loc["m0", "wall_s"].tolist() == [1.25] * 2
    assert timings.loc["m0", "peak_mem_mb"].tolist() == [300.0] * 2


def test_rows_that_contradict_each_other_are_refused(store: Store) -> None:
    rows, cells = store.read(["s"])
    two_tasks = rows.copy()
    two_tasks.loc[two_tasks["task_index"].eq(0) & two_tasks["seed"].eq(1), "task_params"] = (
        '{"a": 9}'
    )
    with pytest.raises(ValueError, match="several versions of its family"):
        tables(two_tasks, cells, store.measures(), {})
    two_versions = rows.copy()
    two_versions.loc[two_versions.index[-1], "method_version"] = 1
    with pytest.raises(ValueError, match="several values of method_version"):
        tables(two_versions, cells, store.measures(), {})


def test_an_edited_file_is_named_and_not_read(store: Store, tmp_path: Path) -> None:
    published = publish(store, tmp_path / "published")
    assert published.altered("s") == []
    path = tmp_path / "published/s/rows.csv"
    text = path.read_text()
    path.write_text(text.replace(",10,", ",11,", 1))
    (tmp_path / "published/s/extra.txt").write_text("")
    (tmp_path / "published/s/stages.csv").unlink()
    again = Publication(tmp_path / "published")
    assert again.altered("s") == ["extra.txt", "rows.csv", "stages.csv"]
    with pytest.raises(StoreError):
        again.read()
    path.write_text(text)
    manifest = tmp_path / "published/s/manifest.json"
    manifest.write_text(manifest.read_text().replace('"question": "?"', '"question": "!"'))
    with pytest.raises(StoreError, match="altered: restore it, or publish"):
        Publication(tmp_path / "published").plans()


def test_a_folder_is_told_from_a_store(store: Store, tmp_path: Path) -> None:
    publish(store, tmp_path / "published")
    assert isinstance(results_at(tmp_path / "published"), Publication)
    assert isinstance(results_at(tmp_path / "store"), Store)
    with pytest.raises(
        StoreError, match="no results there: run a suite first, or name another folder"
    ):
        results_at(tmp_path / "none")
    with pytest.raises(StoreError, match="name the folder of a run, or of published results"):
        results_at(tmp_path)
    with pytest.raises(StoreError, match="suite t is not published; these are: s"):
        Publication(tmp_path / "published").manifest("t")
    with pytest.raises(StoreError, match="nothing is published"):
        Publication(tmp_path / "store")


def test_published_stands_for_what_came_with_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = results_at(Path("published"))
    assert isinstance(found, Publication) and found.root == PUBLISHED


def test_a_stage_that_two_suites_have_has_the_record_of_each(store: Store, tmp_path: Path) -> None:
    publish(store, tmp_path / "published")
    shutil.copytree(tmp_path / "published/s", tmp_path / "published/t")
    manifest = json.loads((tmp_path / "published/t" / MANIFEST).read_bytes())
    stages = pd.read_csv(tmp_path / "published/t/stages.csv", dtype=str, keep_default_na=False)
    stages.assign(commit="other").to_csv(
        tmp_path / "published/t/stages.csv", index=False, lineterminator="\n"
    )
    stated = {name: value for name, value in manifest.items() if name not in ("sha256", "files")}
    write_manifest(tmp_path / "published/t", stated | {"suite": "t"})
    both = Publication(tmp_path / "published")
    one = stages[stages["stage"] == "adapt"]["id"].iloc[0]
    commits = [both.record(CellKey("adapt", suite, 3, one)).get("commit") for suite in ("s", "t")]
    assert commits[1] == "other" and commits[0] != "other"


def test_measures_of_a_stage_that_two_suites_have_come_once(store: Store, tmp_path: Path) -> None:
    """A mean over the tasks of a meta-training must not count its tasks once per suite."""
    one = publish(store, tmp_path / "published").measures()
    shutil.copytree(tmp_path / "published/s", tmp_path / "published/t")
    both = Publication(tmp_path / "published")
    assert both.suites == ["s", "t"]
    pd.testing.assert_frame_equal(both.measures(), one, check_exact=True)


def test_runs_of_the_same_cells_for_different_suites_gave_the_same_rows() -> None:
    """They ran separately, alongside other work, so published results can be reproduced."""
    rows, _ = Publication().read()
    measured = [name for name in COLUMNS if name not in {*NOT_COMPARED, "suite", "suite_version"}]
    adapted = rows[rows["stage"] == "adapt"].sort_values(
        ["suite", "cell_id", "env_steps", "task_index"]
    )
    ood = adapted[adapted["suite"] == "ood"]
    for suite in ("placement", "sanity"):
        again = adapted[adapted["suite"] == suite]
        both = {*again["cell_id"]} & {*ood["cell_id"]}
        first, again = (
            table[table["cell_id"].isin(both)].reset_index(drop=True) for table in (ood, again)
        )
        assert len(again) > 600 and len(both) >= 16
        pd.testing.assert_frame_equal(again[measured], first[measured], check_exact=True)
