"""Workers as jobs of submitit's local executor, one of them preempted."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmark.arguments import InputError
from benchmark.on_slurm import parameters_of, prepared, submit

pytest.importorskip("submitit")
PLAN = (
    *("run", "--suite", "ood", "--budget", "smoke", "--families", "point-goal", "--seeds", "2"),
    *("--methods", "td3,zero", "--method", "patient_method:Patient", "--plan"),
)


@pytest.fixture
def jobs(folder: Path, command: Any, monkeypatch: Any) -> Callable[..., list[Any]]:
    """`(store, n)`: plan a run in a store and submit n workers for it."""

    def start(store: str, n: int) -> list[Any]:
        command(*PLAN, "--store", store)
        monkeypatch.chdir(folder)
        words = ["worker", "--store", str(folder / store), "--jobs", "1", "--save-every", "1s"]
        return submit(folder / store, words, n, {"timeout_min": 5}, cluster="local")

    return start


def result_of(job: Any, seconds: float = 240.0) -> Any:
    """Wait for the result of a job; submitit itself would wait for ever."""
    deadline = time.monotonic() + seconds
    while not job.paths.result_pickle.exists():
        assert time.monotonic() < deadline, (job.stdout(), job.stderr())
        time.sleep(0.2)
    return job.result()


def task_of(job: Any) -> int:
    """The process that does a job's work; its parent only looks after it."""
    looks_after = job._process.pid
    return int(Path(f"/proc/{looks_after}/task/{looks_after}/children").read_text().split()[0])


def test_an_array_of_workers_drains_the_store(
    folder: Path, jobs: Any, rows_of: Any, expected: pd.DataFrame
) -> None:
    started = jobs("array", 2)
    assert [result_of(job) for job in started] == [0, 0]
    pd.testing.assert_frame_equal(rows_of(folder / "array"), expected)
    told = [job.stdout() for job in started]
    assert all("8 of 8 stages done" in text or "nothing is left" in text for text in told), told


@pytest.mark.skipif(sys.platform != "linux", reason="finds a job's process in /proc")
def test_a_preempted_worker_saves_and_is_queued_again(
    folder: Path, jobs: Any, rows_of: Any, expected: pd.DataFrame
) -> None:
    (job,) = jobs("preempted", 1)
    deadline = time.monotonic() + 120
    while "running patient" not in _status(folder / "preempted"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1.0)
    os.kill(task_of(job), signal.SIGUSR2)  # as Slurm does to warn a job
    assert result_of(job) == 0
    pd.testing.assert_frame_equal(rows_of(folder / "preempted"), expected)
    told = job.stdout()
    assert "saving 1 unfinished stage" in told and "resumed patient" in told
    assert "Requeued job" in told + job.stderr()


def _status(store: Path) -> str:
    from benchmark.status import status_of
    from results.store import Store

    running = status_of(Store(store, create=False))["running"]
    return " ".join(f"running {line['stage']}" for line in running if line.get("used"))


def test_a_worker_that_cannot_work_is_no_success(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(folder)
    (job,) = submit(
        folder / "nothing", ["worker", "--store", "nowhere"], 1, {"timeout_min": 1}, "local"
    )
    with pytest.raises(Exception, match="ended with exit code 2"):
        result_of(job)


class TestParameters:
    def test_they_are_named_as_submitit_names_them(self) -> None:
        given = ["partition=long", "timeout_min=720", "mem-gb=1.5", "account=a=b", "name=5"]
        assert parameters_of(given) == {
            "slurm_partition": "long",
            "timeout_min": 720,
            "mem_gb": 1.5,
            "slurm_account": "a=b",
            "name": "5",
        }

    @pytest.mark.parametrize("text", ["partition", "=long", "a b=c", ""])
    def test_others_are_refused(self, text: str) -> None:
        with pytest.raises(InputError, match="is not of the form key=value"):
            parameters_of([text])

    def test_slurms_own_way_to_say_the_time_is_refused(self) -> None:
        with pytest.raises(InputError, match="in minutes, as timeout_min=720"):
            parameters_of(["time=12:00:00"])

    @pytest.mark.parametrize(
        "parameters", [{"cpus_per_task": "four"}, {"slurm_partitoin": "x"}, {"timeout_min": "x"}]
    )
    def test_those_that_submitit_does_not_take_are_refused(
        self, tmp_path: Path, parameters: Any
    ) -> None:
        with pytest.raises(InputError, match="Slurm: "):
            prepared(tmp_path, parameters, "local")

    def test_where_slurm_is_not_it_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="Slurm"):
            submit(tmp_path, ["worker"], 1, {}, "slurm")
