"""Workers that drain one store side by side: nothing is lost, done twice or tried for ever."""

import json
import os
import shutil
import signal
import time

import pandas as pd
import pytest

from benchmark.arguments import choose_means
from benchmark.commands import _left
from benchmark.executors import Means
from benchmark.planning import Request, plan_of, planned_in
from benchmark.plugins import registered_methods
from benchmark.status import status_of
from benchmark.suites import BUDGETS, SUITES
from envs.sealed import sealed_name
from results.store import Store

METHODS = "td3,apb,apb-random,random,zero"  # those of `reference`
WORKER = ("worker", "--store", "store")
TROUBLE = """
class Trouble(Still):
    def adapter(self, make_env, n_tasks, streams):
        with open("attempts", "a") as file:
            file.write("x")
        walker = Walker(make_env())
        walker.step = self.trouble
        return walker

class Raises(Trouble):
    def trouble(self, limit):
        raise ArithmeticError("no")

class Hangs(Trouble):
    def trouble(self, limit):
        time.sleep(600)

class Hungry(Trouble):
    def trouble(self, limit):
        self.food = np.ones(2**31 // 8)  # 2 GiB
        time.sleep(600)
"""


@pytest.fixture
def planned(smoke):
    """`planned(*words)`: plan the built-in methods of `reference`; return the `Result`."""
    return lambda *words: smoke("--methods", METHODS, "--seeds", "2", "--plan", *words)


@pytest.fixture
def expected(reference, rows_of):
    """The rows of a run of the same cells."""
    rows = rows_of(reference[0])
    return rows[rows["method"].isin(METHODS.split(","))].reset_index(drop=True)


def statuses(root="store"):
    return set(Store(root, create=False).read()[1]["status"])


class TestOne:
    def test_it_runs_what_was_planned_as_a_run_does(self, planned, cli, rows_of, expected):
        told = planned()
        assert told.code == 0 and "planned in store\n" in told.out
        assert told.out.endswith("next: python -m benchmark worker --store store\n")
        assert statuses() == {"missing"}
        done = cli(*WORKER, "--jobs", "1")
        assert (done.code, done.err) == (0, "") and "12 of 12 stages done" in done.out
        pd.testing.assert_frame_equal(rows_of("store"), expected)
        again = cli(*WORKER)
        assert (again.code, again.out) == (0, "nothing is left to run in store\n")

    def test_it_takes_settings_sealed_tasks_and_plug_ins_from_the_plan(self, smoke, cli, plugin):
        module = plugin("")
        words = ("--methods", "td3", "--method", f"{module}:Still", "--set", "td3.hidden=8")
        assert smoke(*words, "--sealed", "7", "--plan").code == 0
        assert cli(*WORKER, "--jobs", "1").code == 0
        rows, cells = Store("store", create=False).read()
        assert set(cells["status"]) == {"done"} and set(cells["method"]) == {"td3", "still"}
        assert set(cells["split"]) == {sealed_name("ood", 7)}
        assert "hidden=8" in set(rows["variant"][rows["method"] == "td3"])

    def test_what_has_failed_is_tried_again_once_it_is_planned_again(
        self, smoke, cli, plugin, here
    ):
        module = plugin(TROUBLE)
        words = ("--methods", "zero", "--method", f"{module}:Raises", "--plan")
        smoke(*words)
        first = cli(*WORKER, "--jobs", "1")
        assert first.code == 1 and "failed: raises" in first.out
        assert cli(*WORKER).out == "nothing is left to run in store\n"
        assert (here / "attempts").read_text() == "x"
        smoke(*words)
        assert cli(*WORKER, "--jobs", "1").code == 1
        assert (here / "attempts").read_text() == "xx"

    def test_a_run_tries_again_what_has_failed(self, smoke, cli, plugin, here):
        module = plugin(TROUBLE)
        words = ("--methods", "none", "--method", f"{module}:Raises")
        assert smoke(*words).code == smoke(*words).code == 1
        assert (here / "attempts").read_text() == "xx"

    def test_what_another_version_would_run_is_left_out(self, smoke, cli, plugin, here):
        module = plugin("")
        smoke("--methods", "zero", "--method", f"{module}:Still", "--plan")
        path = here / "store" / "suite-ood.json"
        plan = Store("store", create=False).plans()[0]
        foreign = next(cell for cell in plan["cells"] if cell["slot"]["method"] == "still")
        foreign["key"]["id"] = "0" * 16  # as if the plug-in had been edited since
        path.unlink()
        Store("store", create=True).write_plan(plan)
        done = cli(*WORKER, "--jobs", "1")
        assert done.code == 0 and "suite ood: 1 planned cell left out" in done.out
        assert "1 of 1 stages done" in done.out

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ((), "no results there"),
            (("--suite", "gap"), "no results there"),
        ],
    )
    def test_a_folder_without_a_plan_is_refused_and_stays_as_it_is(self, cli, here, words, message):
        assert message in cli(*WORKER, *words).complaint
        assert not (here / "store").exists()

    def test_a_suite_that_is_not_planned_is_refused(self, planned, cli):
        planned()
        complaint = cli(*WORKER, "--suite", "gap").complaint
        assert "no plan of suite gap; planned suites: ood" in complaint

    def test_a_plan_that_says_too_little_is_refused(self, planned, cli, here):
        planned()
        plan = Store("store", create=False).plans()[0]
        del plan["requests"]
        (here / "store" / "suite-ood.json").unlink()
        Store("store", create=True).write_plan(plan)
        assert "plan its cells again with `run --plan`" in cli(*WORKER).complaint

    def test_the_time_limit_saves_and_the_next_goes_on(self, planned, cli, rows_of, expected):
        planned()
        cut = cli(*WORKER, "--jobs", "1", "--time-limit", "1s")
        assert cut.code == 3 and "run the same command again" in cut.out
        assert "missing" in statuses()
        assert cli(*WORKER, "--jobs", "2").code == 0
        pd.testing.assert_frame_equal(rows_of("store"), expected)

    def test_it_adapts_what_was_meta_trained_before(self, smoke, cli):
        assert smoke("--methods", "finetune", "--jobs", "1").code == 0
        smoke("--methods", "finetune", "--sealed", "7", "--plan")
        done = cli(*WORKER, "--jobs", "1", "--time-limit", "60s")
        assert done.code == 0 and "1 of 1 stages done" in done.out

    def test_a_damaged_meta_training_is_done_again(self, smoke, cli, here):
        assert smoke("--methods", "finetune", "--jobs", "1").code == 0
        (state,) = here.glob("store/train/*/state.safetensors")
        state.write_bytes(b"")
        smoke("--methods", "finetune", "--sealed", "7", "--plan")
        done = cli(*WORKER, "--jobs", "1", "--time-limit", "60s")
        assert done.code == 0 and "2 of 2 stages done" in done.out

    def test_what_two_suites_share_is_tried_once_in_the_newest_attempt(self, cli, plugin, here):
        module = plugin(
            TROUBLE
            + """
class Untrained(Still):
    meta_trains = True
    def trainer(self, *arguments):
        with open("attempts", "a") as file:
            file.write("x")
        raise ArithmeticError("no")
"""
        )
        words = ("--methods", "none", "--method", f"{module}:Untrained", "--store", "store")
        smoke = ("--budget", "smoke", "--families", "point-goal", "--plan")
        for suite in ("id", "ood"):
            cli("run", "--suite", suite, *smoke, *words)
        for suite in ("id", "ood", "id"):
            cli(*WORKER, "--jobs", "1", "--suite", suite, "--time-limit", "60s")
        assert (here / "attempts").read_text() == "x"
        cli("run", "--suite", "ood", *smoke, *words)
        for suite in ("id", "ood"):
            cli(*WORKER, "--jobs", "1", "--suite", suite, "--time-limit", "60s")
        assert (here / "attempts").read_text() == "xx"

    def test_a_request_that_is_out_of_date_hinders_nobody(self, smoke, cli, plugin, here):
        module = plugin("")
        smoke("--methods", "none", "--method", f"{module}:Still", "--plan")
        smoke("--methods", "zero", "--plan")
        plan = Store("store", create=False).plans()[0]
        (here / "store" / "suite-ood.json").unlink()
        plan["requests"][0]["settings"] = {"still": {"gone": 1}}
        plan["requests"].append({**plan["requests"][1], "budget": "gone"})
        plan["requests"].append({**plan["requests"][1], "methods": {"x": "nowhere:X"}})
        Store("store", create=True).write_plan(plan)
        done = cli(*WORKER, "--jobs", "1")
        assert (done.code, done.err) == (0, "") and "1 of 1 stages done" in done.out
        assert "1 planned cell left out" in done.out

    def test_what_is_planned_meanwhile_is_left_too(self, planned, smoke, here):
        planned()
        store = Store("store", create=False)
        tried = {(stage.key, stage.attempt) for stage in _left(store, None, set(), None)}
        assert len(tried) == 12 and not _left(store, None, tried, None)
        smoke("--methods", "finetune", "--plan")
        assert {str(stage).split()[0] for stage in _left(store, None, tried, None)} >= {"finetune"}


class TestLimits:
    def test_a_stage_that_hangs_has_failed_and_the_rest_goes_on(self, smoke, plugin):
        module = plugin(TROUBLE)
        words = ("--methods", "zero", "--method", f"{module}:Hangs", "--jobs", "1")
        done = smoke(*words, "--stage-time-limit", "8s")
        assert done.code == 1
        assert "failed: hangs point-goal/ood seed 0 adapt: it took longer than 8 s" in done.out
        rows, cells = Store("store", create=False).read()
        assert cells.set_index("method")["status"].to_dict() == {"zero": "done", "hangs": "failed"}
        assert set(rows["status"][rows["method"] == "hangs"]) == {"timeout"}
        told = status_of(Store("store", create=False))
        assert told["stages"] == {"done": 1, "running": 0, "failed": 1, "lost": 0, "waiting": 0}

    def test_a_stage_that_eats_memory_has_failed_and_the_rest_goes_on(self, smoke, plugin):
        module = plugin(TROUBLE)
        words = ("--methods", "zero", "--method", f"{module}:Hungry", "--jobs", "1")
        done = smoke(*words, "--memory-limit", "1.5G")
        assert done.code == 1 and "MiB of memory; the limit is 1,536 MiB" in done.out
        rows = Store("store", create=False).read()[0]
        assert set(rows["status"][rows["method"] == "hungry"]) == {"failed"}
        assert set(rows["status"][rows["method"] == "zero"]) == {"ok"}

    @pytest.mark.parametrize("amount", ["", "0G", "8", "-1G", "G", "8X", "٥G", "8 G"])
    def test_an_amount_that_is_none_is_refused(self, smoke, amount):
        assert "is not an amount of memory" in smoke("--memory-limit", amount).complaint


class TestMany:
    def test_two_runners_and_three_workers_do_each_stage_once(
        self, planned, start, finish, here, rows_of, expected
    ):
        planned()
        run = ("run", "--suite", "ood", "--budget", "smoke", "--families", "point-goal")
        run += ("--methods", METHODS, "--seeds", "2", "--store", "store", "--jobs", "1")
        processes = [start(*WORKER, "--jobs", "1") for _ in range(3)]
        processes += [start(*run) for _ in range(2)]
        ended = [finish(process, 300) for process in processes]
        assert [end.code for end in ended] == [0] * 5, ended
        pd.testing.assert_frame_equal(rows_of("store"), expected)
        assert not list(here.glob("store/**/claim.json")) and not list(here.glob("store/**/*.tmp"))

    def test_a_killed_worker_is_told_as_lost_and_another_goes_on(
        self, planned, start, finish, cli, here, rows_of, expected
    ):
        planned()
        victim = start(*WORKER, "--jobs", "1")
        deadline = time.monotonic() + 60
        while not list(here.glob("store/**/claim.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()
        store = Store("store", create=False)
        while status_of(store)["stages"]["running"] and time.monotonic() < deadline:
            time.sleep(0.05)  # until the system has freed its claim
        told = json.loads(cli("status", "--store", "store", "--json").out)
        assert told["stages"]["lost"] == 1 and told["lost"][0]["host"]
        assert "a worker will resume it" in cli("status", "--store", "store").out
        assert cli(*WORKER, "--jobs", "1").code == 0
        pd.testing.assert_frame_equal(rows_of("store"), expected)
        assert json.loads(cli("status", "--store", "store", "--json").out)["stages"]["lost"] == 0


class TestPlans:
    def test_each_attempt_has_a_larger_number_whatever_the_suite(self, smoke, cli):
        for suite in ("ood", "id", "ood"):
            words = ("--suite", suite, "--budget", "smoke", "--families", "point-goal")
            cli("run", *words, "--methods", "zero", "--plan", "--store", "store")
        attempts = {p["suite"]: p["attempt"] for p in Store("store", create=False).plans()}
        assert attempts == {"id": 2, "ood": 3}

    @pytest.mark.parametrize(
        "words",
        [
            ("--plan", "--force"),
            ("--plan", "--live", "x"),
            ("--plan", "--jobs", "1"),
            ("--plan", "--dry-run"),
            ("--dry-run", "--time-limit", "1h"),
            ("--executor", "slurm", "--force"),
            ("--executor", "ray", "--memory-limit", "1G"),
            ("--array", "3"),
            ("--slurm", "partition=x"),
            ("--address", "auto"),
        ],
    )
    def test_options_without_effect_are_refused(self, smoke, here, words):
        assert "would do nothing here" in smoke(*words).complaint
        assert not (here / "store").exists()

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("--executor", "slurmm"), "did you mean slurm?"),
            (("--executor", "ray", "--jobs", "-3"), "--jobs -3: give a number from 1"),
            (("--executor", "slurm", "--jobs", "0"), "--jobs 0: give a number from 1"),
            (("--executor", "slurm", "--slurm", "time=1:00"), "timeout_min=720"),
            (("--executor", "ray", "--plan"), "leave one of them out"),
        ],
    )
    def test_bad_executors_are_refused(self, smoke, here, words, message):
        assert message in smoke(*words).complaint
        assert not (here / "store").exists()

    @pytest.mark.parametrize("stage", [None, 1.0, 90.0, 1_080_000.0])
    @pytest.mark.parametrize("memory", [None, 2**20, 800 * 2**20, 2**40])
    def test_a_worker_takes_the_words_for_its_means(self, stage, memory):
        means = Means(3, 1, stage_limit_s=stage, memory_limit=memory, jobs_given=True)
        words = means.words()
        given = dict(zip(words[::2], words[1::2], strict=True))
        limits = (given.get("--stage-time-limit"), given.get("--memory-limit"))
        again = choose_means(
            int(given["--jobs"]), None, given["--save-every"], *limits, executor="slurm"
        )
        assert again == means

    @pytest.mark.parametrize("suite", ["ood", "coverage", "architecture", "theory", "diversity"])
    def test_the_cells_of_a_plan_are_those_of_its_request(self, suite):
        request = Request(
            SUITES[suite],
            BUDGETS["smoke"],
            {name: registered_methods()[name] for name in SUITES[suite].methods},
            families=SUITES[suite].families["smoke"],
            seeds=2,
            settings={"apb": {"gamma": 0.5}},
        )
        cells = request.cells()
        plan = json.loads(json.dumps(plan_of(request.suite, request.methods, cells, request)))
        planned = planned_in({**plan, "attempt": 7})
        assert (planned.cells, planned.foreign, planned.attempt) == (cells, 0, 7)

    def test_requests_add_up_and_each_is_kept_once(self, smoke):
        for methods in ("zero", "random", "zero"):
            smoke("--methods", methods, "--plan")
        (plan,) = Store("store", create=False).plans()
        assert [list(asked["methods"]) for asked in plan["requests"]] == [["zero"], ["random"]]
        assert {cell.method for cell in planned_in(plan).cells} == {"zero", "random"}

    def test_a_plan_of_another_version_of_the_suite_is_foreign(self, smoke):
        smoke("--methods", "zero", "--plan")
        (plan,) = Store("store", create=False).plans()
        found = planned_in({**plan, "suite_version": 99})
        assert (found.cells, found.foreign) == ([], 1)

    def test_cells_in_store_stay_when_planned_again(self, reference, here, smoke):
        shutil.copytree(reference[0], here / "store")
        smoke("--methods", METHODS, "--seeds", "2", "--plan")
        assert statuses() == {"done"}
