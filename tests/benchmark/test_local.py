"""The local executor: finished stages stay, failures stay isolated, dead workers are replaced."""

import io
import shutil
import sys
import time
from types import SimpleNamespace

import pandas as pd
import pytest

from benchmark.cli import main
from benchmark.commands import _left_of
from benchmark.executors import Means
from benchmark.local import LocalExecutor, Progress, _cause, _Worker
from results.store import Store

ILL = """
REPAIRED = Path("repaired").exists()

class Ill(Still):
    def adapter(self, make_env, n_tasks, streams):
        adapter = Walker(make_env())
        if not REPAIRED:
            adapter.step = self.step
        self.walker = adapter
        return adapter

class Greedy(Ill):
    def step(self, limit):
        Walker.step(self.walker, limit + 1)

class Raises(Ill):
    def step(self, limit):
        raise ArithmeticError("one\\n  two [/bold]")

class Leaves(Ill):
    def step(self, limit):
        sys.exit(0)

class Own(BaseException):
    def __str__(self): raise ArithmeticError

class Unshown(Ill):
    def step(self, limit):
        raise Own

class Loud(Ill):
    def step(self, limit):
        raise RuntimeError("\x1b[31m" * 10_000)

class Tensor(Ill):
    def step(self, limit):
        self.walker.env.step(torch.zeros(self.walker.action.shape))

class Killed(Ill):
    def step(self, limit):
        Walker.step(self.walker, 20)
        os.kill(os.getpid(), signal.SIGKILL)

class Untrained(Still):
    meta_trains = True
    def trainer(self, make_env, n_tasks, budget, streams):
        trainer = super().trainer(make_env, n_tasks, budget, streams)
        step = trainer.step
        trainer.step = lambda limit: step(limit if REPAIRED else limit + budget)
        return trainer

class Unsaved(Still):
    meta_trains = True
    def state_dict(self):
        return {} if REPAIRED else {"path": Path()}
"""
REASONS = {
    "greedy": "BudgetError: the method asked for environment step 51 of a task and may use 50",
    "raises": "ArithmeticError: one two [/bold]",
    "leaves": "SystemExit: 0",
    "unshown": "Own: its message cannot be shown",
    "loud": ("RuntimeError: " + r"\x1b[31m" * 200)[:999] + "…",
    "tensor": "TypeError: actions must be a NumPy array of floats [N, E, A], not Tensor",
    "killed": "its worker process was killed by SIGKILL (out of memory?)",
    "untrained": "RuntimeError: its meta-training did not finish",
    "unsaved": "RuntimeError: its meta-training did not finish",
}


def records(root):
    """When the record of each finished cell was written, in nanoseconds."""
    return {path: path.stat().st_mtime_ns for path in root.rglob("cell.json")}


class TestFailures:
    @pytest.fixture
    def run(self, smoke, plugin):
        """Run the ill methods beside a healthy one."""
        module = plugin(ILL)
        words = [word for name in REASONS for word in ("--method", f"{module}:{name.capitalize()}")]
        return lambda: smoke("--methods", "zero", *words, "--jobs", "1")

    def test_they_stay_alone_and_are_done_again(self, run, here):
        first = run()
        assert (first.code, first.err) == (1, "")
        rows, cells = Store(here / "store", create=False).read()
        self.check_told(first.out)
        self.check_stored(rows, cells)
        healthy = cells["adapt_id"][cells["method"] == "zero"].item()
        before = records(here)
        (here / "repaired").touch()
        second = run()
        assert (second.code, second.err) == (0, "")
        assert set(Store(here / "store", create=False).read()[1]["status"]) == {"done"}
        kept = [
            path.parent.name for path, time in records(here).items() if before.get(path) == time
        ]
        assert kept == [healthy]

    def check_told(self, out):
        for name, reason in REASONS.items():
            assert f"failed: {name} point-goal/ood seed 0 adapt: {reason}\n" in out
        assert (
            "failed: untrained point-goal seed 0 train: BudgetError: the method asked for"
            " environment step 804 in all" in out
        )
        unsavable = (
            "StateError: path is a PosixPath: a state holds tensors, arrays and plain Python only"
        )
        assert f"failed: unsaved point-goal seed 0 train: {unsavable}" in out
        assert "1 of 12 stages done (0 of them earlier)" in out
        assert out.count("  log: store/") == 11

    def check_stored(self, rows, cells):
        assert cells.set_index("method")["status"].to_dict() == {
            "zero": "done",
            **dict.fromkeys(REASONS, "failed"),
        }
        failed = rows[(rows["status"] == "failed") & (rows["stage"] == "adapt")].set_index("method")
        assert failed["error"].to_dict() == REASONS
        assert failed["return_mean"].isna().all()
        # what was measured before the failure is kept
        assert set(rows["env_steps"][(rows["method"] == "greedy") & (rows["status"] == "ok")]) == {
            0
        }


class TestResume:
    @pytest.fixture
    def again(self, reference, here, smoke):
        """Run on a copy of the finished store."""
        shutil.copytree(reference[0].parent, here, dirs_exist_ok=True)
        return smoke

    def test_what_is_finished_is_not_run_again(self, again, reference, here, monkeypatch):
        monkeypatch.setattr("benchmark.local._Worker", None)  # nothing may start a worker
        before = records(here)
        words = (
            "--method",
            "example_method:HillClimbing",
            "--methods",
            "td3,apb,apb-random,random,zero",
            "--seeds",
            "2",
        )
        result = again(*words)
        assert (result.code, result.err) == (0, "")
        assert "14 of 14 stages done (14 of them earlier)" in result.out
        assert again(*words, "--time-limit", "1s").code == 0
        assert records(here) == before

    def test_any_terminal_takes_any_name(self, again, here, monkeypatch):
        """The store's name looks like markup, and the terminal cannot encode what a run writes."""
        (here / "[").mkdir()
        (here / "store").rename(here / "[/bold] :smile: é")
        screen = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(screen, encoding="ascii"))
        words = (
            "run",
            "--suite",
            "ood",
            "--budget",
            "smoke",
            "--families",
            "point-goal",
            "--methods",
            "zero",
        )
        with pytest.raises(SystemExit, match="0"):
            main([*words, "--store", "[/bold] :smile: é"])
        sys.stdout.flush()
        shown = screen.getvalue().decode("ascii")
        assert shown.endswith("next: python -m benchmark report --store '[/bold] :smile: \\xe9'\n")
        assert "1 of 1 stages done (1 of them earlier)" in shown

    def test_force_runs_again(self, again, here, rows_of):
        before, rows = records(here), rows_of(here / "store")
        result = again("--methods", "zero", "--force")
        assert "1 of 1 stages done (0 of them earlier)" in result.out
        after = records(here)
        assert sum(after[path] != time for path, time in before.items()) == 1
        pd.testing.assert_frame_equal(rows_of(here / "store"), rows)


class Pipe:
    """A connection to a process that is gone."""

    def send(self, message):
        raise BrokenPipeError


class TestWorkers:
    def test_a_stage_does_not_suffer_from_a_worker_that_died_idle(self):
        worker = object.__new__(_Worker)
        worker.process = SimpleNamespace(pid=1)
        worker.connection = Pipe()
        entry = Progress(stage=None)
        worker.begin(entry, force=False)
        assert (worker.entry, entry.state) == (None, "waiting")

    def test_a_stage_held_elsewhere_waits(self):
        worker = object.__new__(_Worker)
        worker.entry = entry = Progress(stage=None, state="running")
        worker.hear(("busy", None))
        assert (worker.entry, entry.state, entry.ended) == (None, "waiting", None)
        executor = LocalExecutor(store=None, means=Means(0, 1))
        assert executor._idle() is None
        assert entry.not_before > 0

    @pytest.mark.parametrize(
        ("code", "cause"),
        [
            (-9, "was killed by SIGKILL (out of memory?)"),
            (-35, "was killed by signal 35"),
            (3, "ended with exit code 3"),
        ],
    )
    def test_how_a_process_ended(self, code, cause):
        assert _cause(code) == cause


def test_a_time_limit_is_of_all_rounds_together():
    """`worker` and `tune` make an executor for every round, each with the time that is left."""
    left = _left_of(Means(1, 1, time_limit_s=10.0), time.monotonic() - 7.0).time_limit_s
    assert left == pytest.approx(3.0, abs=0.5)
    assert _left_of(Means(1, 1), time.monotonic()).time_limit_s is None
