"""The command line inside this process and outside of it, and methods written for a test."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from benchmark import publish as publishing
from benchmark.cli import main
from benchmark.suites import BUDGETS, SUITES
from results import fork_server
from results.schema import NOT_COMPARED
from results.store import Store

EXAMPLE = Path(__file__).with_name("example_method.py")
METHODS = "td3,apb,apb-random,random,zero"
SMOKE = ("run", "--suite", "ood", "--budget", "smoke", "--families", "point-goal")

# A method that a test completes by overriding what it is about.
BASE = '''
import os, signal, sys, time
from dataclasses import dataclass, field
from pathlib import Path
import numpy as np
import torch
import methods.api
from methods.api import Event

class Policy:
    def __init__(self, action_size): self.action_size = action_size
    def reset(self, mask): ...
    def act(self, obs): return np.zeros((*obs.shape[:2], self.action_size), np.float32)
    def observe(self, step): ...

class Walker:
    """Holds still, one step at a time."""
    updates = 0
    def __init__(self, env):
        self.env = env
        self.action = np.zeros((env.n_tasks, env.copies, env.action_size), np.float32)
        self.env.reset()
    def once(self):
        step = self.env.step(self.action)
        ended = step.terminated | step.truncated
        if ended.any():
            self.env.reset(ended)
    def step(self, limit):
        for _ in range(limit):
            self.once()
    def policy(self, generator): return Policy(self.env.action_size)
    def state_dict(self): return {}
    def load_state_dict(self, state): ...

class Trainer:
    """Meta-training by a walker: every step of all tasks is an iteration."""
    updates = 0
    def __init__(self, walker): self.walker = walker
    def step(self, limit):
        if limit < self.walker.env.n_tasks:
            return Event.END
        self.walker.once()
        return Event.ITERATION
    def state_dict(self): return {}
    def load_state_dict(self, state): ...

class Still(methods.api.Method):
    """Holds still."""
    version, meta_trains, eval_mode = 1, False, "deterministic"
    @dataclass(frozen=True)
    class Config: ...
    def trainer(self, make_env, n_tasks, budget, streams): return Trainer(Walker(make_env()))
    def adapter(self, make_env, n_tasks, streams): return Walker(make_env())
    def state_dict(self): return {"weight": torch.ones(2)}
'''


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self):
        """The error of a command that was refused: one line, and nothing else."""
        assert (self.code, self.out, self.err.count("\n")) == (2, "", 1), self
        assert self.err.startswith("error: "), self
        return self.err


@pytest.fixture(autouse=True)
def _signals_are_heard():
    """Heed Ctrl-C and a closing terminal: what a shell starts in the background ignores the one,
    what `nohup` starts the other, and so would every process that they start.
    """
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    closing = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGHUP, closing)


@pytest.fixture(autouse=True)
def _one_thread():
    """What a worker has, so that numbers made here and there agree."""
    torch.set_num_threads(1)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current directory, forgotten by Python's path afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def warm_server():
    """One server for the workers of all runs in this process, and for the figures of reports."""
    fork_server.fork_context((*fork_server.READY, "reports.page.page"))


@pytest.fixture
def cli(here, capsys, warm_server):
    """Run the command line in this process."""

    def cli(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        out, err = capsys.readouterr()
        return Result(ended.value.code, out, err)

    return cli


@pytest.fixture
def smoke(cli):
    """Run the smallest suite there is in this process, into the folder `store`."""

    def smoke(*arguments):
        return cli(*SMOKE, "--store", "store", *arguments)

    return smoke


@pytest.fixture
def start(tmp_path):
    """Start the command line in a process group of its own, killed at the end."""
    running = []

    def start(*arguments, before=()):
        command = [*before, sys.executable, "-m", "benchmark", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        running.append(
            subprocess.Popen(command, cwd=tmp_path, text=True, start_new_session=True, **pipes)
        )
        return running[-1]

    yield start
    for process in running:
        # its workers, should they outlive it, would keep the pipes open
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def finish():
    """Wait for a process of `start`."""

    def finish(process, timeout_s=120.0):
        out, err = process.communicate(timeout=timeout_s)
        return Result(process.returncode, out, err)

    return finish


_names = count()


@pytest.fixture
def plugin(here):
    """Write a module of `BASE` and `source` to the current directory; returns its unique name."""

    def plugin(source, base=BASE):
        name = f"plugin_{os.getpid()}_{next(_names)}"
        (here / f"{name}.py").write_text(base + textwrap.dedent(source))
        importlib.invalidate_caches()
        return name

    return plugin


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """`made_once(name, make)`: the folder that `make(folder)` filled, once for all processes of
    one test run; read-only.
    """
    base = tmp_path_factory.getbasetemp()

    def made_once(name, make):
        folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
        folder.mkdir(exist_ok=True)
        with FileLock(folder / "lock"):
            if not (folder / "made").exists():
                make(folder)
                (folder / "made").touch()
        return folder

    return made_once


@pytest.fixture(scope="session")
def reference(made_once):
    """An uninterrupted two-seed smoke run of built-in methods and the example: (store, Result)."""

    def make(folder):
        shutil.copy(EXAMPLE, folder)
        own = ["--method", "example_method:HillClimbing"]
        words = [*SMOKE, "--methods", METHODS, *own, "--seeds", "2", "--store", "store"]
        command = [sys.executable, "-m", "benchmark", *words]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
        )
        told = json.dumps([done.returncode, done.stdout, done.stderr])
        (folder / "result.json").write_text(told)

    folder = made_once("reference", make)
    return folder / "store", Result(*json.loads((folder / "result.json").read_text()))


@pytest.fixture(scope="session")
def sanity(made_once, warm_server):
    """A smoke store of `sanity`, two seeds, from the command line; read-only, like `reference`."""

    def make(folder):
        words = ["run", "--suite", "sanity", "--budget", "smoke", "--families", "point-goal"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "path", list(sys.path))
            with pytest.raises(SystemExit) as ended:
                main([*words, "--seeds", "2", "--store", str(folder / "store")])
        assert ended.value.code == 0

    return made_once("sanity", make) / "store"


@pytest.fixture(scope="session")
def published_sanity(made_once, sanity):
    """A folder that `sanity` is published to, although two seeds are few; read-only too."""

    def make(folder):
        suite = replace(SUITES["sanity"], families={"smoke": ("point-goal",)})
        with pytest.MonkeyPatch.context() as patch:
            budget = replace(BUDGETS["smoke"], published_seeds=2)
            patch.setitem(publishing.BUDGETS, "smoke", budget)
            publishing.publish(sanity, suite, folder / "published", dirty=True)

    return made_once("publication", make) / "published"


@pytest.fixture(scope="session")
def rows_of():
    """The rows of a store, as two equal runs share them."""

    def rows_of(store):
        rows = Store(store, create=False).read()[0].drop(columns=[*NOT_COMPARED, "cell_id"])
        return rows.sort_values(
            ["method", "seed", "stage", "env_steps", "task_index"], kind="stable"
        ).reset_index(drop=True)

    return rows_of
