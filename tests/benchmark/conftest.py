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
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from benchmark.cli import main
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
def _ctrl_c_is_heard():
    """Heed Ctrl-C: a shell's background jobs ignore it, and so would every process they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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


@pytest.fixture
def cli(here, capsys):
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
def reference(tmp_path_factory):
    """An uninterrupted two-seed smoke run of built-in methods and the example: (store, Result).

    The processes of one test run share it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "reference"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "result.json").exists():
            shutil.copy(EXAMPLE, folder)
            words = [
                *SMOKE,
                "--methods",
                METHODS,
                "--method",
                "example_method:HillClimbing",
                "--seeds",
                "2",
                "--store",
                "store",
            ]
            command = [sys.executable, "-m", "benchmark", *words]
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
            )
            (folder / "result.json").write_text(
                json.dumps([done.returncode, done.stdout, done.stderr])
            )
    return folder / "store", Result(*json.loads((folder / "result.json").read_text()))


@pytest.fixture(scope="session")
def sanity(tmp_path_factory):
    """A smoke store of `sanity`, two seeds, from the command line; read-only, like `reference`."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "sanity"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "done").exists():
            words = [
                "run",
                "--suite",
                "sanity",
                "--budget",
                "smoke",
                "--families",
                "point-goal",
                "--seeds",
                "2",
                "--store",
                "store",
            ]
            command = [sys.executable, "-m", "benchmark", *words]
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
            )
            assert done.returncode == 0, done.stderr
            (folder / "done").touch()
    return folder / "store"


@pytest.fixture(scope="session")
def rows_of():
    """The rows of a store, as two equal runs share them."""

    def rows_of(store):
        rows = Store(store, create=False).read()[0].drop(columns=[*NOT_COMPARED, "cell_id"])
        return rows.sort_values(
            ["method", "seed", "stage", "env_steps", "task_index"], kind="stable"
        ).reset_index(drop=True)

    return rows_of
