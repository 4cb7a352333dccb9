"""What a run will cost: exact sums on hand-made rates, schedules against a naive simulation."""

import json
from dataclasses import replace
from io import StringIO

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark import estimate
from benchmark.executors import Means
from benchmark.local import stages_of
from benchmark.planning import Request, plan_of
from benchmark.plugins import registered_methods
from benchmark.run import failed_row
from benchmark.suites import BUDGETS, SUITES
from results.rates import CALIBRATION, FIELDS, KEY, Rates
from results.store import CellKey, Store, StoreError

LINES = [
    (CALIBRATION, "", "", "", 100.0, "", ""),
    ("td3", "point-goal", "smoke", "adapt", 0.001, 300.0, 2.0),
    ("apb", "point-goal", "smoke", "adapt", 0.002, 400.0, 1.0),
    ("apb", "point-rand", "smoke", "adapt", 0.004, 200.0, 3.0),
    ("apb", "point-goal", "smoke", "train", 0.05, 500.0, 4.0),
]


@pytest.fixture
def rates(tmp_path):
    path = tmp_path / "rates.csv"
    pd.DataFrame(LINES, columns=[*KEY, *FIELDS]).to_csv(path, index=False)
    return Rates(path)


@pytest.fixture(autouse=True)
def _speed(monkeypatch):
    """Make this machine half as fast as that of the rates."""
    monkeypatch.setattr(estimate, "machine_speed", lambda: 50.0)


def stages(methods, families=("point-goal",), seeds=1):
    paths = {name: registered_methods()[name] for name in methods}
    request = Request(SUITES["ood"], BUDGETS["smoke"], paths, families, seeds, {})
    return stages_of(request.cells())


class TestSums:
    def test_each_stage_costs_its_rate_on_a_slower_machine(self, rates, tmp_path):
        todo = stages(("apb", "td3"), seeds=3)
        found = estimate.estimate(tmp_path / "store", todo, Means(1, 1), rates)
        work = {(stage.cell.method, stage.name): stage.work for stage in todo}
        one = (
            2 * 0.05 * work["apb", "train"]
            + 2 * 0.002 * work["apb", "adapt"]
            + 2 * 0.001 * work["td3", "adapt"]
        )
        assert found["core_hours"] == pytest.approx(3 * one / 3600)
        assert found["wall_seconds"][1] == pytest.approx(3 * one)
        assert found["memory_mb"] == 500.0 and found["disk_mb"] == 3 * (4 + 1 + 2)
        assert (found["stages"], found["finished"], found["speed"]) == (9, 0, 0.5)
        assert found["guessed"] == found["unknown"] == []

    def test_those_at_work_at_once_share_memory_and_time(self, rates, tmp_path):
        todo = stages(("td3",), seeds=4)
        found = estimate.estimate(tmp_path / "store", todo, Means(2, 3), rates)
        one = 2 * 0.001 * todo[0].work
        assert found["wall_seconds"] == pytest.approx({2: 2 * one, 10: one, 100: one})
        assert found["memory_mb"] == 600.0
        assert found["core_hours"] == pytest.approx(3 * 4 * one / 3600)

    def test_what_was_not_measured_is_guessed_from_its_likes_and_told(self, rates, tmp_path):
        todo = stages(("apb",), ("cheetah-vel",))
        found = estimate.estimate(tmp_path / "store", todo, Means(1, 1), rates)
        assert found["guessed"] == ["apb on cheetah-vel"]
        work = {stage.name: stage.work for stage in todo}
        expected = 2 * (0.05 * work["train"] + 0.003 * work["adapt"])  # the median of two families
        assert found["core_hours"] == pytest.approx(expected / 3600)

    def test_what_nothing_is_like_is_told(self, rates, tmp_path):
        paths = {"td3": registered_methods()["td3"]}
        request = Request(SUITES["ood"], BUDGETS["desk"], paths, ["cheetah-vel"], 1, {})
        todo = stages_of(request.cells())
        found = estimate.estimate(tmp_path / "store", todo, Means(1, 1), rates)
        assert found["unknown"] == ["td3 at desk"] and found["core_hours"] == 0.0
        assert "not counted" in estimate.as_text(found)

    def test_what_is_done_costs_nothing(self, rates, reference):
        todo = stages(("td3", "zero"), seeds=2)
        found = estimate.estimate(reference[0], todo, Means(1, 1), rates)
        assert found["finished"] == 4 and found["core_hours"] == 0.0
        assert estimate.as_text(found) == "0 stages to run, 4 done before"


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_a_schedule_is_that_of_a_naive_simulation(workers):
    """Step through whole seconds: a free worker takes the next stage whose training is over."""
    todo = stages(("apb", "td3", "apb-random", "finetune"), seeds=3)
    costs = {stage.key: float(3 + 7 * i % 11) for i, stage in enumerate(todo)}
    left, running, over, now = list(todo), {}, set(), 0
    while left or running:
        over |= {key for key, until in running.items() if until <= now}
        running = {key: until for key, until in running.items() if until > now}
        for stage in list(left):
            key = stage.cell.train_key
            ready = stage.name == "train" or key is None or key in over
            if len(running) < workers and ready:
                running[stage.key] = now + costs[stage.key]
                left.remove(stage)
        now += 1
    naive = now - 1
    assert estimate._makespan(todo, costs, workers) == naive


class TestCommands:
    def test_a_dry_run_writes_nothing(self, smoke, here):
        told = smoke("--methods", "td3,apb", "--dry-run")
        assert told.code == 0 and "core-hours" in told.out and not (here / "store").exists()
        found = json.loads(smoke("--methods", "td3,apb", "--dry-run", "--json").out)
        assert found["stages"] == 3 and found["core_hours"] > 0

    def test_rates_are_those_of_a_store(self, cli, reference, here):
        store = here / "store"
        store.symlink_to(reference[0])
        (here / "example_method.py").write_bytes(
            (reference[0].parent / "example_method.py").read_bytes()
        )
        assert cli("rates", "--store", "store", "--out", "mine.csv").code == 0
        table = pd.read_csv(here / "mine.csv")
        opened = Store(store, create=False)
        cells = opened.read()[1]
        ids = cells.loc[cells["method"] == "td3", "adapt_id"]
        records = [
            opened.record(CellKey("adapt", "ood", SUITES["ood"].version, id_)) for id_ in ids
        ]
        assert all(record["cpu_seconds"] > 0 for record in records)
        took = np.median([min(record["seconds"], record["cpu_seconds"]) for record in records])
        (line,) = table[(table["method"] == "td3")].to_dict("records")
        (stage,) = [stage for stage in stages(("td3",)) if stage.name == "adapt"]
        assert line["seconds_per_step"] == pytest.approx(took / stage.work, rel=1e-4)
        assert table.loc[table["method"] == CALIBRATION, "seconds_per_step"].item() == 50.0

    def test_settings_of_ones_own_are_no_rate_of_the_budget(self, tmp_path):
        store = Store(tmp_path / "store", create=True)
        paths = {"td3": registered_methods()["td3"]}
        for settings, seconds in (({}, 60.0), ({"td3": {"hidden": 8}}, 3.0)):
            request = Request(SUITES["ood"], BUDGETS["smoke"], paths, ["point-goal"], 1, settings)
            cells = request.cells()
            store.write_plan(plan_of(request.suite, paths, cells, request))
            (stage,) = stages_of(cells)
            row = replace(failed_row(stage.cell, "adapt", ""), status="ok", peak_mem_mb=100.0)
            # other processes had the processor for half the time
            record = {"status": "ok", "seconds": seconds, "cpu_seconds": seconds / 2}
            store.write(stage.key, [row], state=None, log="", record=record)
        assert estimate.write_rates(store.root, tmp_path / "rates.csv").endswith("1 stage")
        rate = Rates(tmp_path / "rates.csv").of("td3", "point-goal", "smoke", "adapt")
        assert rate.seconds_per_step == pytest.approx(30.0 / stage.work)

    @pytest.mark.parametrize("cpu", [None, "abc", float("nan"), -1, 0, 10**400, 200.0])
    def test_a_record_of_no_processor_time_counts_by_the_clock(self, cpu):
        (stage,) = (stage for stage in stages(("td3",)) if stage.name == "adapt")
        rows = pd.DataFrame({"wall_s": [60.0]})
        assert estimate._seconds(stage, {"seconds": 100.0, "cpu_seconds": cpu}, rows) == 100.0
        assert estimate._seconds(stage, {"seconds": "abc"}, rows) == 60.0

    @pytest.mark.parametrize(
        ("source", "device", "seconds"),
        [("", "cpu", 2.0), ("9f", "cpu", 100.0), ("", "cuda", 100.0)],
    )
    def test_what_waits_for_others_counts_by_the_clock(self, source, device, seconds):
        (stage,) = (stage for stage in stages(("td3",)) if stage.name == "adapt")
        stage = replace(stage, cell=replace(stage.cell, method_source=source))
        record = {"seconds": 100.0, "cpu_seconds": 2.0, "device": device}
        assert estimate._seconds(stage, record, pd.DataFrame({"wall_s": [60.0]})) == seconds

    def test_the_rates_that_ship_are_whole(self):
        assert Rates().speed > 0
        for name in SUITES["ood"].methods:
            rate = Rates().of(name, "point-goal", "quick", "adapt")
            assert rate is not None and not rate.guessed, name


class TestSpeed:
    def test_it_is_a_number_of_this_machine(self, monkeypatch):
        monkeypatch.undo()
        before = torch.get_num_threads()
        assert estimate.machine_speed(turn_s=0.05) > 1.0
        assert torch.get_num_threads() == before


class TestFiles:
    def test_lines_of_another_machine_are_brought_to_the_speed_of_the_newest(self, tmp_path):
        from results.rates import merged, to_csv

        old = tmp_path / "old.csv"
        frame = pd.DataFrame([LINES[1]], columns=[*KEY, *FIELDS])
        old.write_bytes(to_csv(frame, 100.0))
        new = to_csv(pd.DataFrame([LINES[2]], columns=[*KEY, *FIELDS]), 50.0)
        table = pd.read_csv(StringIO(merged(old, new).decode())).set_index("method")
        # what took a millisecond on a machine twice as fast takes two on the new one
        assert table.loc["td3", "seconds_per_step"] == pytest.approx(0.002)
        assert table.loc["apb", "seconds_per_step"] == pytest.approx(0.002)
        assert table.loc[CALIBRATION, "seconds_per_step"] == 50.0
        again = tmp_path / "again.csv"
        again.write_bytes(merged(old, new))
        assert merged(again, new) == merged(old, new)

    def test_nothing_finished_has_no_rates(self, smoke, cli, here):
        smoke("--methods", "zero", "--plan")
        told = cli("rates", "--store", "store", "--out", "mine.csv")
        assert "nothing is finished there" in told.complaint and not (here / "mine.csv").exists()

    @pytest.mark.parametrize("there", ["a folder", "text"])
    def test_what_is_no_table_of_rates_stays(self, cli, reference, here, there):
        (here / "example_method.py").write_bytes(
            (reference[0].parent / "example_method.py").read_bytes()
        )
        out = here / "mine.csv"
        out.mkdir() if there == "a folder" else out.write_text("my notes\n")
        (here / ".mine.tmp").touch()
        assert "mine.csv: " in cli("rates", "--store", reference[0], "--out", "mine.csv").complaint
        assert out.is_dir() or out.read_text() == "my notes\n"
        assert (here / ".mine.tmp").exists()

    @pytest.mark.parametrize("text", ["", "method,family\n", "a,b\n1,2\n"])
    def test_a_damaged_file_is_refused(self, tmp_path, text):
        path = tmp_path / "rates.csv"
        path.write_text(text)
        with pytest.raises(StoreError, match="restore it from the distribution"):
            Rates(path)
