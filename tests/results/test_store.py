import json
import pickle
import shutil
import time
from dataclasses import asdict
from threading import Thread

import pandas as pd
import pytest

from results import cell
from results.files import locked
from results.schema import COLUMNS, SCHEMA_VERSION, Row, to_frame
from results.store import EXPECTED, CellKey, Store, StoreError

TRAIN = CellKey("train", None, None, "7a01")
ADAPT = CellKey("adapt", "ood", 1, "5b02")
FILES = ["rows.parquet", "state.safetensors", "log.txt", "cell.json"]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", create=True)


@pytest.fixture
def row():
    def make(**columns):
        named = {
            "budget": "smoke",
            "family": "point-goal",
            "family_version": "1",
            "method": "td3",
            "method_version": 1,
        }
        return Row(
            **{
                **named,
                "variant": "",
                "config_hash": "0a",
                "seed": 0,
                "stage": "adapt",
                "env_steps": 0,
                **columns,
            }
        )

    return make


@pytest.fixture
def write(store, row):
    def write(key, status="ok", state=b"weights", seed=0, n_rows=2, log="done\n"):
        rows = [
            row(stage=key.stage, status=status, env_steps=steps, seed=seed)
            for steps in range(n_rows)
        ]
        store.write(key, rows, state=state, log=log, record={"status": status, "seed": seed})

    return write


@pytest.fixture
def plan():
    def make(*cells, suite="ood", version=1, arms=("td3",), question="who adapts?"):
        slots = [
            {
                "slot": {
                    "budget": "smoke",
                    "family": "point-goal",
                    "split": "ood",
                    "method": "td3",
                    "variant": "",
                    "seed": seed,
                },
                "key": asdict(key),
                "train_key": asdict(train_key) if train_key else None,
            }
            for seed, key, train_key in cells
        ]
        return {
            "suite": suite,
            "suite_version": version,
            "question": question,
            "arms": list(arms),
            "cells": slots,
        }

    return make


class TestKey:
    def test_the_folder_tells_stage_suite_and_version(self):
        assert TRAIN.folder.as_posix() == "train/7a01"
        assert ADAPT.folder.as_posix() == "adapt/ood@1/5b02"

    @pytest.mark.parametrize(
        "fields",
        [
            ("train", "ood", 1, "a"),
            ("adapt", None, None, "a"),
            ("adapt", "ood", None, "a"),
            ("eval", None, None, "a"),
        ]
        + [("train", None, None, bad) for bad in ("", ".", "..", "a/b", "../a", ".hidden", "a b")]
        + [("adapt", bad, 1, "a") for bad in ("", "..", "a/b", "a@1")],
    )
    def test_what_cannot_be_a_folder_is_refused(self, fields):
        with pytest.raises(ValueError):
            CellKey(*fields)


class TestOpening:
    def test_creates_the_folder_and_opens_again(self, tmp_path):
        root = tmp_path / "a" / "store"
        Store(root, create=True)
        assert json.loads((root / "store.json").read_text()) == {"schema_version": SCHEMA_VERSION}
        Store(root, create=True)
        Store(root, create=False)

    def test_an_empty_folder_or_one_left_by_a_killed_opening_becomes_a_store(self, tmp_path):
        for name in (".gitignore", ".lock", ".store.json.00ff.tmp"):
            (tmp_path / name).touch()
        Store(tmp_path, create=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            ".gitignore",
            ".lock",
            "store.json",
        ]

    def test_a_folder_of_something_else_is_left_alone(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("x")
        for create, cure in (
            (True, "choose an empty or new folder"),
            (False, "name the folder of a run"),
        ):
            with pytest.raises(StoreError, match=rf"thesis\.tex: {cure}"):
                Store(tmp_path, create=create)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

    def test_another_schema_version_is_refused(self, store):
        (store.root / "store.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1}))
        for create in (True, False):
            with pytest.raises(
                StoreError,
                match=f"version {SCHEMA_VERSION + 1}.*has {SCHEMA_VERSION}:.*another folder",
            ):
                Store(store.root, create=create)

    @pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"{}", b"\xff", b"3"])
    def test_a_damaged_store_json_is_refused(self, store, damaged):
        (store.root / "store.json").write_bytes(damaged)
        with pytest.raises(StoreError, match=r"store\.json.*restore it"):
            Store(store.root, create=True)

    def test_a_file_in_the_way_is_named(self, tmp_path):
        (tmp_path / "file").touch()
        for path in (tmp_path / "file", tmp_path / "file" / "store"):
            with pytest.raises(StoreError, match=r"file.*another folder"):
                Store(path, create=True)
            with pytest.raises(StoreError, match=r"no results.*another folder"):
                Store(path, create=False)

    def test_reading_needs_results_and_makes_no_folder(self, tmp_path):
        for path in (tmp_path, tmp_path / "none"):
            with pytest.raises(StoreError, match="no results there: run a suite first"):
                Store(path, create=False)
        assert list(tmp_path.iterdir()) == []

    def test_a_store_pickles(self, store, write):
        write(TRAIN)
        assert pickle.loads(pickle.dumps(store)).status(TRAIN) == "done"


class TestCells:
    def test_what_is_written_is_read(self, store, row):
        rows = [
            row(stage="train", seed=seed, return_mean=mean)
            for seed, mean in enumerate([None, 0.0, -3.5])
        ]
        record = {"status": "diverged", "packages": {"torch": "2"}, "cores": [1, None]}
        store.write(TRAIN, rows, state=b"\x00weights", log="häh?\n", record=record)
        assert store.status(TRAIN) == "done"
        assert store.state(TRAIN) == b"\x00weights"
        assert store.record(TRAIN) == record
        assert (store.root / TRAIN.folder / "log.txt").read_text(encoding="utf-8") == "häh?\n"
        pd.testing.assert_frame_equal(store.rows(TRAIN), to_frame(rows))

    def test_the_same_rows_give_equal_frames(self, tmp_path, row):
        rows = [
            row(env_steps=steps, task_params='{"v": 1}', shift=0.1 * steps) for steps in range(50)
        ]
        frames = []
        for name in "ab":
            store = Store(tmp_path / name, create=True)
            store.write(ADAPT, rows, state=None, log="", record={"status": "ok"})
            frames.append(store.rows(ADAPT))
        pd.testing.assert_frame_equal(*frames)
        assert frames[0]["env_steps"].tolist() == list(range(50))

    def test_no_rows_are_a_frame_too(self, store, write):
        write(ADAPT, n_rows=0)
        assert dict(store.rows(ADAPT).dtypes.astype(str)) == COLUMNS

    def test_the_key_fills_the_suite_of_adapt_rows_only(self, store, write):
        write(TRAIN)
        write(ADAPT)
        assert store.rows(ADAPT)[["suite", "suite_version"]].drop_duplicates().values.tolist() == [
            ["ood", 1]
        ]
        assert store.rows(TRAIN)[["suite", "suite_version"]].isna().all(axis=None)

    def test_rows_of_another_stage_and_unusable_records_are_refused_before_anything_is_written(
        self, store, row
    ):
        for rows, record, error in [
            ([row(stage="train")], {"status": "ok"}, ValueError),
            ([], {"status": "fine"}, ValueError),
            ([], {}, ValueError),
            ([], {"status": "ok", "loss": float("nan")}, ValueError),
            ([], {"status": "ok", "when": object()}, TypeError),
        ]:
            with pytest.raises(error):
                store.write(ADAPT, rows, state=None, log="", record=record)
        assert store.status(ADAPT) == "missing"

    @pytest.mark.parametrize(
        ("record", "counts_as"),
        [("ok", "done"), ("diverged", "done"), ("failed", "failed"), ("timeout", "failed")],
    )
    def test_the_record_decides_the_status(self, store, write, record, counts_as):
        assert store.status(ADAPT) == "missing"
        write(ADAPT, status=record)
        assert store.status(ADAPT) == counts_as
        assert store.rows(ADAPT)["status"].unique().tolist() == [record]

    def test_the_first_complete_record_wins(self, store, write):
        write(TRAIN, seed=1)
        write(TRAIN, seed=2, state=b"other")
        write(TRAIN, seed=3, status="failed")
        assert (store.record(TRAIN)["seed"], store.state(TRAIN), store.status(TRAIN)) == (
            1,
            b"weights",
            "done",
        )

    def test_a_failed_cell_is_replaced_and_nothing_of_it_stays(self, store, write):
        write(TRAIN, seed=1, status="failed")
        write(TRAIN, seed=2, status="timeout", state=None)
        assert (store.record(TRAIN)["seed"], store.status(TRAIN)) == (2, "failed")
        with pytest.raises(StoreError, match=r"it has no state\.safetensors"):
            store.state(TRAIN)
        write(TRAIN, seed=3, state=None)
        kept = sorted(
            path.name
            for path in (store.root / TRAIN.folder).iterdir()
            if not path.name.startswith(".")
        )
        assert (store.status(TRAIN), kept) == ("done", ["cell.json", "log.txt", "rows.parquet"])

    def test_nothing_stays_of_a_failed_cell_that_one_from_elsewhere_replaces(
        self, store, write, tmp_path, row
    ):
        elsewhere = Store(tmp_path / "elsewhere", create=True)
        record = {"status": "ok"}
        elsewhere.write(TRAIN, [row(stage="train")], state=None, log="", record=record)
        write(TRAIN, status="failed")
        store.adopt(TRAIN, elsewhere.contents(TRAIN))
        kept = sorted(
            path.name
            for path in (store.root / TRAIN.folder).iterdir()
            if not path.name.startswith(".")
        )
        assert (store.status(TRAIN), kept) == ("done", ["cell.json", "log.txt", "rows.parquet"])

    def test_a_missing_cell_has_nothing_to_read(self, store):
        for read in (store.rows, store.record, store.state):
            with pytest.raises(StoreError, match="no such cell yet"):
                read(TRAIN)
        assert not (store.root / "train").exists()


class TestDamage:
    @pytest.mark.parametrize("harm", ["cut", "emptied", "flipped", "removed", "longer"])
    @pytest.mark.parametrize("name", FILES)
    def test_is_noticed_and_repaired_by_the_next_write(self, store, write, name, harm):
        write(TRAIN, seed=1)
        path = store.root / TRAIN.folder / name
        data = path.read_bytes()
        flipped = (
            data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 4]) + data[len(data) // 2 + 1 :]
        )
        path.write_bytes(
            {"cut": data[:-1], "emptied": b"", "flipped": flipped, "longer": data + b" "}.get(
                harm, b""
            )
        )
        if harm == "removed":
            path.unlink()
        assert store.status(TRAIN) == (
            "missing" if (name, harm) == ("cell.json", "removed") else "corrupt"
        )
        readers = {"rows.parquet": [store.rows], "state.safetensors": [store.state], "log.txt": []}
        for read in readers.get(name, [store.rows, store.record, store.state]):
            with pytest.raises(StoreError, match="run the suite"):
                read(TRAIN)
        write(TRAIN, seed=2)
        assert (store.status(TRAIN), store.record(TRAIN)["seed"]) == ("done", 2)

    def test_a_record_under_another_cells_name_does_not_count(self, store, write):
        write(TRAIN)
        other = CellKey("train", None, None, "ffff")
        shutil.copytree(store.root / TRAIN.folder, store.root / other.folder)
        assert store.status(other) == "corrupt"

    def test_rows_with_other_columns_are_refused_with_the_way_out(self, store, write, monkeypatch):
        write(TRAIN)
        # as a later version would write it
        monkeypatch.setattr(cell, "_SCHEMA", cell._SCHEMA.remove(0))
        with pytest.raises(StoreError, match=r"different columns.*another folder"):
            store.rows(TRAIN)


class TestClaims:
    def test_one_at_a_time_and_free_afterwards(self, store, write):
        with store.claim(TRAIN) as first, store.claim(TRAIN) as second, store.claim(ADAPT) as other:
            assert (first, second, other) == (True, False, True)
            write(TRAIN)
        with store.claim(TRAIN) as again:
            assert again and store.status(TRAIN) == "done"

    def test_a_refused_claim_is_answered_at_once(self, store):
        with store.claim(TRAIN):
            start = time.monotonic()
            with store.claim(TRAIN) as mine:
                assert not mine and time.monotonic() - start < 1.0

    def test_a_failing_worker_frees_its_cell(self, store):
        with pytest.raises(OSError, match="mine"), store.claim(TRAIN):
            raise OSError("mine")
        with store.claim(TRAIN) as mine:
            assert mine

    def test_claim_and_write_remove_what_a_dead_writer_left(self, store, write):
        left = store.root / TRAIN.folder / ".rows.parquet.00ff.tmp"
        write(TRAIN, status="failed")
        left.touch()
        with store.claim(TRAIN):
            assert not left.exists()
        left.touch()
        write(TRAIN)
        assert not left.exists()

    def test_a_claim_leaves_alone_what_a_writer_is_writing(self, store, write):
        write(TRAIN, status="failed")
        folder = store.root / TRAIN.folder
        staged = folder / ".rows.parquet.00ff.tmp"
        with locked(folder / cell.WRITE_LOCK, 0.0):
            staged.touch()
            with store.claim(TRAIN) as mine:
                assert mine and staged.exists()
        with store.claim(TRAIN):
            assert not staged.exists()

    def test_a_writer_that_had_to_wait_sees_what_was_written_meanwhile(
        self, store, write, tmp_path
    ):
        write(TRAIN, seed=1)
        folder = store.root / TRAIN.folder
        shutil.copytree(folder, tmp_path / "finished")
        for name in FILES:
            (folder / name).unlink()
        writer = Thread(target=write, args=(TRAIN,), kwargs={"seed": 2})
        with locked(folder / cell.WRITE_LOCK, 0.0):
            writer.start()
            time.sleep(0.3)  # the writer waits for the lock
            assert writer.is_alive()
            shutil.copytree(tmp_path / "finished", folder, dirs_exist_ok=True)
        writer.join()
        assert store.record(TRAIN)["seed"] == 1


class TestPlans:
    def test_a_plan_is_kept_as_it_is(self, store, plan):
        written = plan((0, ADAPT, TRAIN), (1, CellKey("adapt", "ood", 1, "aa"), None))
        assert store.write_plan(written) == 1
        assert store.plans() == [{**written, "attempt": 1}]
        assert list((store.root).glob(".*.tmp")) == []

    def test_a_slot_is_replaced_in_its_place_and_others_stay(self, store, plan):
        a, b, c, d = (CellKey("adapt", "ood", 1, name) for name in "abcd")
        store.write_plan(plan((0, a, None), (1, b, None), question="old?"))
        store.write_plan(plan((2, d, None), (0, c, None), question="new?"))
        (merged,) = store.plans()
        assert [cell["key"]["id"] for cell in merged["cells"]] == ["c", "b", "d"]
        assert merged["question"] == "new?"

    @pytest.mark.parametrize(
        ("old", "new", "merged"),
        [
            ("abc", "b", "abc"),
            ("b", "abc", "abc"),
            ("ab", "ba", "ba"),
            ("ab", "c", "abc"),
            ("abc", "ad", "abcd"),
        ],
    )
    def test_arms_keep_the_order_of_whoever_knows_more(self, store, plan, old, new, merged):
        store.write_plan(plan(arms=old))
        store.write_plan(plan(arms=new))
        assert store.plans()[0]["arms"] == list(merged)

    def test_who_remembers_is_as_the_newest_plan_of_each_arm_says(self, store, plan):
        store.write_plan({**plan(arms="ab"), "remembering": ["a", "b"]})
        store.write_plan({**plan(arms="bc"), "remembering": ["c"]})
        assert store.plans()[0]["remembering"] == ["a", "c"]

    def test_another_suite_version_starts_afresh(self, store, plan):
        store.write_plan(plan((0, ADAPT, None), (1, CellKey("adapt", "ood", 1, "aa"), None)))
        new = plan((0, CellKey("adapt", "ood", 2, "bb"), None), version=2)
        store.write_plan(new)
        assert store.plans() == [{**new, "attempt": 2}]

    def test_suites_are_apart_and_in_the_order_of_their_names(self, store, plan):
        for suite in ("ood", "gap"):
            store.write_plan(plan(suite=suite))
        assert [each["suite"] for each in store.plans()] == ["gap", "ood"]

    @pytest.mark.parametrize("damaged", [b"", b"{}", b'{"suite": "ood"}'])
    def test_a_damaged_plan_is_named_with_the_way_out(self, store, plan, damaged):
        (store.root / "suite-ood.json").write_bytes(damaged)
        for use in (store.plans, store.read, lambda: store.write_plan(plan())):
            with pytest.raises(StoreError, match=r"suite-ood\.json.*delete it"):
                use()

    def test_a_plan_without_usable_keys_or_name_is_refused(self, store, plan):
        no_key = plan((0, ADAPT, None))
        no_key["cells"][0]["key"]["stage"] = "eval"
        for unusable in (no_key, plan(suite="../ood")):
            with pytest.raises(ValueError):
                store.write_plan(unusable)
        assert store.plans() == []


class TestReading:
    def test_an_empty_store_gives_empty_tables(self, store):
        rows, expected = store.read()
        assert dict(rows.dtypes.astype(str)) == {**COLUMNS, "cell_id": "string"} and rows.empty
        assert dict(expected.dtypes.astype(str)) == EXPECTED and expected.empty

    def test_every_planned_cell_has_a_status(self, store, plan, write):
        done, failed, corrupt, missing, running, lone = (
            CellKey("adapt", "ood", 1, f"{n}") for n in range(6)
        )
        trains = [CellKey("train", None, None, f"{n}") for n in range(2)]
        store.write_plan(
            plan(
                (0, done, trains[0]),
                (1, failed, trains[0]),
                (2, corrupt, trains[0]),
                (3, missing, trains[1]),
                (4, running, trains[0]),
                (5, lone, None),
            )
        )
        for seed, key in ((0, done), (2, corrupt), (0, trains[0]), (5, lone)):
            write(key, seed=seed)
        write(failed, status="failed", seed=1)
        write(trains[1], status="timeout", seed=9)
        (store.root / corrupt.folder / "rows.parquet").write_bytes(b"PAR1")
        with store.claim(running), store.claim(done):
            rows, expected = store.read()
        assert expected["status"].tolist() == [
            "done",
            "failed",
            "corrupt",
            "missing",
            "running",
            "done",
        ]
        assert expected["train_status"].fillna("none").tolist() == [
            "done",
            "done",
            "done",
            "failed",
            "done",
            "none",
        ]
        assert expected["adapt_id"].tolist() == list("012345")
        assert expected["train_id"].fillna("none").tolist() == ["0", "0", "0", "1", "0", "none"]
        assert (
            list(expected.columns) == list(EXPECTED)
            and expected["suite_version"].tolist() == [1] * 6
        )
        in_order = rows[["stage", "seed", "status"]].drop_duplicates().values.tolist()
        assert in_order == [
            ["train", 0, "ok"],
            ["adapt", 0, "ok"],
            ["adapt", 1, "failed"],
            ["train", 9, "timeout"],
            ["adapt", 5, "ok"],
        ]
        assert len(rows) == 10  # two per stage: a shared train stage comes once

    def test_a_train_stage_shared_by_suites_comes_once_without_a_suite(self, store, plan, write):
        for suite in ("ood", "gap"):
            key = CellKey("adapt", suite, 1, "x")
            store.write_plan(plan((0, key, TRAIN), suite=suite))
            write(key, n_rows=1)
        write(TRAIN, n_rows=1)
        assert store.read()[0]["suite"].fillna("none").tolist() == ["none", "gap", "ood"]
        rows, expected = store.read(["ood"])
        assert rows["suite"].fillna("none").tolist() == ["none", "ood"] and expected[
            "suite"
        ].tolist() == ["ood"]

    def test_a_cell_that_no_plan_names_any_more_is_not_read(self, store, plan, write):
        stale, fixed = (CellKey("adapt", "ood", 1, name) for name in ("stale", "fixed"))
        write(stale, seed=1)
        write(fixed, seed=2)
        store.write_plan(plan((0, stale, None)))
        store.write_plan(plan((0, fixed, None)))
        assert store.read()[0]["seed"].unique().tolist() == [2]

    def test_an_unknown_suite_is_named_beside_the_known(self, store, plan):
        store.write_plan(plan())
        with pytest.raises(StoreError, match=r"suite gap; available: ood"):
            store.read(["gap"])

    @pytest.mark.parametrize("state", [b"", b"weight", b"weights of another"])
    def test_a_state_of_another_size_is_noticed(self, store, plan, write, state):
        write(ADAPT)
        store.write_plan(plan((0, ADAPT, None)))
        (store.root / ADAPT.folder / "state.safetensors").write_bytes(state)
        rows, expected = store.read()
        assert rows.empty and expected["status"].tolist() == ["corrupt"]

    def test_many_cells_are_read_quickly(self, store, plan, row):
        keys = [CellKey("adapt", "ood", 1, f"{n:03x}") for n in range(200)]
        for key in keys:
            rows = [row(env_steps=steps) for steps in range(10)]
            store.write(key, rows, state=bytes(10_000), log="", record={"status": "ok"})
        store.write_plan(plan(*((seed, key, None) for seed, key in enumerate(keys))))
        start = time.monotonic()
        assert len(store.read()[0]) == 2000
        assert time.monotonic() - start < 3.0  # ten times what two slow cores need
