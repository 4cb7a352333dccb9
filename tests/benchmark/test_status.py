"""The status of a store: every state of a stage, exact times on hand-made stores."""

import json
import time

import pytest

from benchmark import run, status
from benchmark.announce import Announcer
from benchmark.kept import Kept
from benchmark.local import stages_of
from benchmark.planning import Request, plan_of
from benchmark.plugins import registered_methods
from benchmark.stage import record_failure
from benchmark.suites import BUDGETS, SUITES
from results.store import Store

NOW = 1_000_000.0


@pytest.fixture
def made(here):
    """A store with the plan of three seeds of `td3`: (store, stages)."""
    methods = {"td3": registered_methods()["td3"]}
    request = Request(SUITES["ood"], BUDGETS["smoke"], methods, ["point-goal"], 3, {})
    store = Store(here / "store", create=True)
    store.write_plan(plan_of(request.suite, methods, request.cells(), request))
    return store, stages_of(request.cells())


def end(store, stage, how="ok", seconds=30.0):
    error = None if how == "ok" else "ArithmeticError: no"
    rows = [run.failed_row(stage.cell, stage.name, error)]
    record = {"status": how, "error": error, "stage": str(stage), "seconds": seconds}
    store.write(stage.key, rows, state=None, log="", record=record)


def announce(store, stage, used=50, began_at=0, since=NOW - 60):
    said = {"stage": str(stage), "host": "node7", "pid": 12, "since": since, "at": NOW}
    store.announce(
        stage.key, {**said, "used": used, "steps": 200, "began_at": began_at, "saved": 40}
    )


@pytest.fixture
def at_now(monkeypatch):
    monkeypatch.setattr(status.time, "time", lambda: NOW)


class TestStates:
    def test_each_is_told(self, made, here, at_now):
        store, stages = made
        assert status.status_of(store)["stages"] == dict.fromkeys(status.STATES, 0) | {"waiting": 3}
        end(store, stages[0])
        end(store, stages[1], "failed")
        with store.claim(stages[2].key):
            announce(store, stages[2])
            told = status.status_of(store)
        assert told["stages"] == {"done": 1, "running": 1, "failed": 1, "lost": 0, "waiting": 0}
        (running,), (failed,) = told["running"], told["failed"]
        assert running["stage"] == "td3 point-goal/ood seed 2 adapt"
        assert {name: running[name] for name in ("host", "pid", "used", "steps", "saved")} == {
            "host": "node7", "pid": 12, "used": 50, "steps": 200, "saved": 40
        }  # fmt: skip
        assert running["seconds"] == 60.0
        assert failed["error"] == "ArithmeticError: no" and failed["log"].endswith("log.txt")
        told = status.status_of(store)  # nobody holds the claim any more
        assert told["stages"]["lost"] == 1 and told["lost"][0]["host"] == "node7"

    def test_what_is_claimed_is_running_whatever_it_says(self, made):
        store, stages = made
        with store.claim(stages[0].key):
            told = status.status_of(store)
            assert told["stages"]["running"] == 1
            assert "just claimed" in status.as_text(told)
            announce(store, stages[0], used=10**400)
            huge = (store.root / stages[0].key.folder / "claim.json").read_text()
            odd = huge.replace(str(NOW - 60), "NaN").replace(str(10**400), "50")
            assert "NaN" in odd
            for text in ("{", "{}", "[]", '{"stage": 3}', "[" * 100_000, odd, huge):
                (store.root / stages[0].key.folder / "claim.json").write_text(text)
                told = status.status_of(store)
                assert told["stages"]["running"] == 1 and "just claimed" in status.as_text(told)

    def test_a_damaged_record_waits(self, made):
        store, stages = made
        end(store, stages[0])
        record = store.root / stages[0].key.folder / "cell.json"
        another = record.read_bytes()
        for text in ("{}", "[" * 100_000):
            record.write_text(text)
            assert status.status_of(store)["stages"]["waiting"] == 3
        end(store, stages[0])
        moved = store.root / stages[1].key.folder
        moved.mkdir(parents=True)
        (moved / "cell.json").write_bytes(another)
        found = status.status_of(store)["stages"]
        assert (found["done"], found["waiting"]) == (1, 2)

    @pytest.mark.parametrize("seconds", ["abc", float("nan"), float("inf"), -1, 10**400, None])
    def test_a_record_of_no_time_is_left_out(self, made, seconds):
        store, stages = made
        end(store, stages[0], seconds=1.0)
        record = store.root / stages[0].key.folder / "cell.json"
        content = json.loads(record.read_text())
        content["record"]["seconds"] = seconds
        record.write_text(json.dumps(content))
        told = status.status_of(store)
        assert told["stages"]["done"] == 1 and told["seconds_left"] is None


class TestTimeLeft:
    def test_it_is_unknown_before_anything_is_known(self, made, at_now):
        told = status.status_of(made[0])
        assert told["seconds_left"] is None and "time left unknown" in status.as_text(told)

    def test_it_is_what_the_likes_took(self, made, at_now):
        store, stages = made
        end(store, stages[0], seconds=40.0)
        assert status.status_of(store)["seconds_left"] == 80.0  # two stages, one after the other

    def test_those_at_work_share_what_is_left(self, made, at_now):
        store, stages = made
        end(store, stages[0], seconds=40.0)
        with store.claim(stages[1].key), store.claim(stages[2].key):
            # a quarter in 60 s: another 180 s; the second has just begun
            announce(store, stages[1], used=50)
            announce(store, stages[2], used=0, since=NOW)
            told = status.status_of(store)
        assert told["seconds_left"] == max((180.0 + 40.0) / 2, 180.0)

    def test_a_stage_that_goes_on_counts_what_it_did_itself(self, made, at_now):
        store, stages = made
        with store.claim(stages[1].key):
            announce(store, stages[1], used=150, began_at=100)  # a quarter in 60 s, a quarter left
            end(store, stages[0], seconds=0.0)
            end(store, stages[2], seconds=0.0)
            assert status.status_of(store)["seconds_left"] == 60.0

    def test_what_was_lost_goes_on_from_its_last_save(self, made, at_now):
        store, stages = made
        end(store, stages[0], seconds=40.0)
        end(store, stages[1], seconds=40.0)
        with store.claim(stages[2].key):
            announce(store, stages[2], used=150)  # 40 of 200 steps are saved
        assert status.status_of(store)["seconds_left"] == pytest.approx(40.0 * 160 / 200)

    def test_what_was_lost_is_still_to_come(self, made, at_now):
        store, stages = made
        for stage in stages[:2]:
            end(store, stage, seconds=40.0)
        with store.claim(stages[2].key):
            announce(store, stages[2])
        told = status.as_text(status.status_of(store)).splitlines()[0]
        assert told == f"{store.root}: 2 of 3 stages done; 1 lost; about 32 s left"

    def test_nothing_is_left_in_the_end(self, made):
        store, stages = made
        for stage in stages:
            end(store, stage)
        told = status.status_of(store)
        assert told["seconds_left"] == 0.0
        assert status.as_text(told) == f"{store.root}: 3 of 3 stages done"


class TestCommand:
    def test_it_prints_json(self, made, cli):
        told = json.loads(cli("status", "--store", "store", "--json").out)
        assert told["stages"]["waiting"] == 3 and told["store"] == "store"

    def test_it_watches_until_all_is_done(self, made, cli, monkeypatch):
        store, stages = made

        def sleep(seconds):
            end(store, left.pop())

        left = list(stages)
        monkeypatch.setattr(status.time, "sleep", sleep)
        told = cli("status", "--store", "store", "--watch")
        assert told.code == 0 and "3 of 3 stages done" in told.out and not left

    def test_it_watches_on_while_a_stage_is_lost(self, made, cli, monkeypatch):
        """Another worker may go on with it."""
        store, stages = made
        for stage in stages[1:]:
            end(store, stage)
        with store.claim(stages[0].key):
            announce(store, stages[0])
        monkeypatch.setattr(status.time, "sleep", lambda seconds: end(store, stages[0]))
        told = cli("status", "--store", "store", "--watch", "--json")
        assert told.code == 0 and '"lost": 1' in told.out and '"done": 3' in told.out

    def test_a_folder_without_results_is_refused(self, cli):
        assert "no results there" in cli("status", "--store", "nowhere").complaint

    def test_a_store_without_a_plan_is_refused(self, cli, here):
        Store(here / "store", create=True)
        assert "nothing is planned there" in cli("status", "--store", "store").complaint


class TestAnnouncer:
    def test_it_says_how_far_a_stage_is_and_passes_on_what_it_hears(self, made):
        store, stages = made
        heard = []
        with store.claim(stages[0].key):
            announcer = Announcer(
                store, stages[0].key, "a stage", 200, lambda *told: heard.append(told)
            )
            began = time.time()
            announcer("resumed", Kept(100, 7))
            announcer("kept", Kept(150, 9))
            said = store.glance(stages[0].key).said
            assert (said["stage"], said["steps"]) == ("a stage", 200)
            assert (said["began_at"], said["used"], said["saved"]) == (100, 100, 150)
            assert abs(said["since"] - began) < 5
            announcer._next = 0.0
            announcer("used", 160)
            assert store.glance(stages[0].key).said["used"] == 160
            announcer("used", 170)  # too soon to be written
            assert store.glance(stages[0].key).said["used"] == 160
            announcer.withdraw()
            assert store.glance(stages[0].key).said is None
        assert [kind for kind, _ in heard] == ["resumed", "kept", "used", "used"]

    def test_where_it_cannot_write_the_stage_goes_on(self, made, monkeypatch):
        store, stages = made
        (store.root / stages[0].key.folder / "claim.json").mkdir(parents=True)
        announcer = Announcer(store, stages[0].key, "a stage", 200, lambda kind, value: None)
        announcer("kept", Kept(1, 1))
        announcer.withdraw()
        assert store.glance(stages[0].key).said is None
        assert (store.root / stages[0].key.folder / "claim.json").is_dir()  # nothing was removed

    def test_a_failure_that_a_stage_could_not_write_itself_ends_what_was_said(self, made):
        store, stages = made
        with store.claim(stages[0].key):
            announce(store, stages[0])
        record_failure(store, stages[0], "it took longer than 2 s", "timeout")
        told = status.status_of(store)
        assert (told["stages"]["failed"], told["stages"]["lost"]) == (1, 0)
