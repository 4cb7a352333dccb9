"""kill -9, Ctrl-C, time limit, simultaneous runs: the next run finishes, with the same rows."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pandas as pd
import pytest

from benchmark import run
from benchmark.cells import expand
from benchmark.cores import available_cores
from benchmark.suites import BUDGETS, SUITES
from methods import METHODS
from results.schema import NOT_COMPARED, to_frame
from results.store import Store

# A method whose scores depend on its trained state. It leaves a file whenever one of its stages
# begins, and can wait until other processes have done so.
STEADY = """
PAUSE_S, MEET = float(os.environ.get("PAUSE_S", 0)), int(os.environ.get("MEET", 1))

def leave(what):
    Path(f"{what}-{os.getpid()}-{time.time_ns()}").touch()
    while len({path.name.split("-")[1] for path in Path().glob("*-*-*")}) < MEET:
        time.sleep(0.01)

class Moves(Policy):
    def act(self, obs): return super().act(obs) + self.push

class Paused(Walker):
    def once(self):
        time.sleep(PAUSE_S)
        super().once()
    def policy(self, generator):
        policy = Moves(self.env.action_size)
        policy.push = self.push
        return policy

class Steps(Trainer):
    def step(self, limit):
        event, i = super().step(limit), self.updates
        self.updates += event is Event.ITERATION
        return event if event is Event.END or i % 50 == 0 else Event.NOTHING
    def state_dict(self): return {"updates": self.updates}
    def load_state_dict(self, state): self.updates = state["updates"]

class Steady(Still):
    meta_trains = True
    def trainer(self, make_env, n_tasks, budget, streams):
        leave("train")
        self.weight = torch.rand(2, generator=streams.torch("weight"))
        walker = Paused(make_env())
        walker.action[:] = self.weight.numpy()
        return Steps(walker)
    def adapter(self, make_env, n_tasks, streams):
        leave("adapt")
        walker = Paused(make_env())
        walker.push = self.weight.numpy()
        return walker
    def state_dict(self): return {"weight": self.weight}
    def load_state_dict(self, state): self.weight = state["weight"]
"""
SEEDS = 6

# Kills a run ten times. Runs and their workers are forked, so that torch is imported only once;
# only the run itself is killed.
KILL = """
    import multiprocessing, os, random, signal, sys, time
    from pathlib import Path
    import benchmark.commands, benchmark.local
    from benchmark.cli import main
    from results import fork_server

    forks = multiprocessing.get_context("fork")
    benchmark.local.fork_context = fork_server.fork_context = lambda modules: forks
    moments = random.Random(0)
    for attempt in range(10):
        begun = len(list(Path().glob("*-*-*")))
        run = os.fork()
        if not run:
            main(sys.argv[1:])
        deadline = time.monotonic() + 30
        if attempt % 3:  # while stages run; otherwise at any moment
            while len(list(Path().glob("*-*-*"))) == begun and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(moments.uniform(0.0, 0.6))
        else:
            time.sleep(moments.uniform(0.0, 1.5))
        os.kill(run, signal.SIGKILL)
        os.waitpid(run, 0)
        print(attempt, len(list(Path("store").rglob("cell.json"))), flush=True)
"""


@pytest.fixture
def expected(monkeypatch, here):
    """The rows of an uninterrupted run of every seed, computed here."""

    def expected(path):
        monkeypatch.syspath_prepend(here)
        methods = {"zero": METHODS["zero"], "steady": path}
        rows = []
        for cell in expand(
            SUITES["ood"],
            BUDGETS["smoke"],
            methods,
            families=["point-goal"],
            seeds=SEEDS,
            settings={},
        ):
            method = cell.build()
            trained = list(run.rows_of(run.Training(cell, method))) if cell.meta_trains else []
            spent = trained[-1].env_steps if trained else None
            rows += [*trained, *run.rows_of(run.Adaptation(cell, method, spent))]
        order = ["method", "seed", "stage", "env_steps", "task_index"]
        return (
            to_frame(rows)
            .drop(columns=list(NOT_COMPARED))
            .sort_values(order, kind="stable")
            .reset_index(drop=True)
        )

    return expected


def test_ten_deaths_at_random_moments(smoke, plugin, here, rows_of, expected):
    path = f"{plugin(STEADY)}:Steady"
    words = ("--methods", "zero", "--method", path, "--seeds", str(SEEDS), "--jobs", "1")
    command = [
        "run",
        "--suite",
        "ood",
        "--budget",
        "smoke",
        "--families",
        "point-goal",
        "--store",
        "store",
        *words,
    ]
    driver = [sys.executable, "-c", textwrap.dedent(KILL), *command]
    environment = {**os.environ, "PAUSE_S": "0.002"}
    killed = subprocess.run(
        driver, cwd=here, env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    finished = [
        int(line.split()[1])
        for line in killed.stdout.splitlines()
        if line[0].isdigit() and line.count(" ") == 1
    ]
    assert len(finished) == 10
    assert 0 < finished[-1] < 3 * SEEDS, "the run should have been killed while work was left"
    last = smoke(*words)
    assert (last.code, last.err) == (0, "")
    _, cells = Store(here / "store", create=False).read()
    assert cells["status"].tolist() == ["done"] * 2 * SEEDS
    pd.testing.assert_frame_equal(rows_of(here / "store"), expected(path))


SLOW = """
class Slow(Still):
    def adapter(self, make_env, n_tasks, streams):
        Path(f"working-{os.getpid()}").touch()
        while not Path("go").exists():
            time.sleep(0.01)
        return Walker(make_env())
"""


def wait_until(condition, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def alive(pid):
    """Whether a process is running; a zombie is not."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return bool(state) and not state.startswith("Z")


@pytest.fixture
def working(start, here):
    """Start a run and wait until every worker is mid-stage; return the process and worker ids."""

    def working(*words):
        for path in here.glob("working-*"):
            path.unlink()
        process = start(
            "run",
            "--suite",
            "ood",
            "--budget",
            "smoke",
            "--families",
            "point-goal",
            "--store",
            "store",
            *words,
        )
        wait_until(lambda: len(list(here.glob("working-*"))) == min(available_cores(), 3), 60.0)
        return process, [int(path.name.split("-")[1]) for path in here.glob("working-*")]

    return working


def test_death_interrupt_time_limit_and_the_run_after(working, smoke, plugin, here, finish):
    words = ("--methods", "zero", "--method", f"{plugin(SLOW)}:Slow", "--seeds", "3")

    process, workers = working(*words)
    process.kill()
    wait_until(lambda: not any(map(alive, workers)), timeout_s=5)

    process, workers = working(*words)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    result = finish(process, timeout_s=10)
    assert time.monotonic() - began < 5
    assert result.code == 130
    assert result.err.strip() == "interrupted; run the same command again to continue"
    assert not any(map(alive, workers))

    began = time.monotonic()
    result = smoke(*words, "--time-limit", "1s")
    assert (result.code, result.err) == (3, "")
    assert "time limit reached; run the same command again to continue" in result.out
    assert 1 <= time.monotonic() - began < 8

    _, cells = Store(here / "store", create=False).read()
    assert set(cells["status"][cells["method"] == "slow"]) == {"missing"}
    (here / "go").touch()
    assert smoke(*words).code == 0
    _, cells = Store(here / "store", create=False).read()
    assert set(cells["status"]) == {"done"}


INTERRUPTED = """
class Named:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

class Interrupted:
    attribute = Named()  # whatever is raised here, Python up to 3.11 turns it into a RuntimeError
"""


def test_an_interrupt_in_the_middle_of_an_import(cli, plugin):
    result = cli(
        "run",
        "--suite",
        "ood",
        "--method",
        f"{plugin(INTERRUPTED)}:Interrupted",
        "--store",
        "store",
    )
    assert (result.code, result.out) == (130, "")
    assert result.err == "\ninterrupted; run the same command again to continue\n"


def test_two_runs_at_once_do_every_stage_once(start, finish, plugin, here, monkeypatch):
    monkeypatch.setenv("MEET", "2")
    words = (
        "--methods",
        "zero",
        "--method",
        f"{plugin(STEADY)}:Steady",
        "--seeds",
        "5",
        "--jobs",
        "1",
        "--store",
        "store",
    )
    command = ("run", "--suite", "ood", "--budget", "smoke", "--families", "point-goal", *words)
    results = [finish(process) for process in [start(*command), start(*command)]]
    assert [(result.code, result.err) for result in results] == [(0, "")] * 2
    assert all("15 of 15 stages done" in result.out for result in results)
    assert len(list(here.glob("train-*"))) == len(list(here.glob("adapt-*"))) == 5
    # each stage of a plug-in has a process of its own
    assert len({path.name.split("-")[1] for path in here.glob("*-*-*")}) == 10
    _, cells = Store(here / "store", create=False).read()
    assert set(cells["status"]) == {"done"}


@pytest.fixture
def figures_wait(monkeypatch, here):
    """Make every process that draws figures leave a file and wait."""
    first = here / "first"  # the fork server does not look in the current folder itself
    first.mkdir()
    (first / "sitecustomize.py").write_text(WAITING)
    monkeypatch.setenv("PYTHONPATH", f"{first}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


WAITING = """
import os, sys, time
from pathlib import Path

def wait():
    Path(f"drawing-{os.getpid()}").touch()
    time.sleep(3)

if "--multiprocessing-fork" in sys.orig_argv:
    wait()
elif "multiprocessing.forkserver" in " ".join(sys.orig_argv):
    os.register_at_fork(after_in_child=wait)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_report_that_is_stopped_ends_without_a_word_of_its_workers(
    figures_wait, start, finish, sanity, here, number, code
):
    process = start("report", "--store", sanity, "--out", "out")
    wait_until(lambda: any(here.glob("drawing-*")))
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    result = finish(process, timeout_s=30)
    assert result.code == code and "Traceback" not in result.err, result.err
    word = "interrupted" if number == signal.SIGINT else "terminated"
    assert result.err.strip() == f"{word}; run the same command again"
    assert not list((here / "out").glob("*.html"))


def test_a_verification_that_is_terminated_leaves_no_folder_behind(
    start, finish, here, monkeypatch
):
    (here / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(here / "tmp"))
    process = start("verify", "--level", "2")
    wait_until(lambda: any((here / "tmp").glob("*/store.json")))
    process.terminate()
    assert finish(process, timeout_s=30).code == 143
    assert not list((here / "tmp").iterdir())


def test_a_report_that_is_killed_takes_its_workers_with_it(figures_wait, start, sanity, here):
    process = start("report", "--store", sanity, "--out", "out")
    wait_until(lambda: any(here.glob("drawing-*")))
    process.kill()
    workers = [int(path.name.split("-")[1]) for path in here.glob("drawing-*")]
    wait_until(lambda: not any(map(alive, workers)), timeout_s=30)


SLOW_IMPORT = """
import os, signal, time
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(5)
class Never: ...
"""


def test_a_termination_is_no_fault_of_the_plug_in_that_it_meets(cli, plugin):
    result = cli(
        "run",
        "--suite",
        "ood",
        "--methods",
        "none",
        "--method",
        f"{plugin(SLOW_IMPORT)}:Never",
        "--store",
        "store",
    )
    assert (result.code, result.err) == (
        143,
        "terminated; run the same command again to continue\n",
    )


LOST = """
import os, signal, sys, time
from benchmark import exits

class Destroyed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)

def command():
    one = Destroyed()
    del one  # what is raised in a destructor goes nowhere
    time.sleep(60)

exits._AGAIN_S = 1
sys.exit(exits.exit_code(command, False, False))
"""


def test_a_termination_that_is_lost_in_a_destructor_comes_again(here):
    done = subprocess.run(
        [sys.executable, "-c", LOST], capture_output=True, text=True, timeout=30, check=False
    )
    assert (
        done.returncode == 143
        and done.stderr.splitlines()[-1] == "terminated; run the same command again"
    )
