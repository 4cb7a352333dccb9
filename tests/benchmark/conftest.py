"""The command line inside this process and outside of it, and methods written for a test."""

import importlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import textwrap
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from select import select
from threading import Thread

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
FORKED = Path(__file__).with_name("forked_program.py")
METHODS = "td3,apb,apb-random,random,zero"
SMOKE = ("run", "--suite", "ood", "--budget", "smoke", "--families", "point-goal")

# Source of a plug-in; a test completes it by overriding the parts that it is about.
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
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def complaint(self):
        """The one line of error of a refused command; fails if there is anything else."""
        assert (self.code, self.out, self.err.count("\n")) == (2, "", 1), self
        assert self.err.startswith("error: "), self
        return self.err


@pytest.fixture(autouse=True)
def _signals_are_heard():
    """Restore the default handling of Ctrl-C and of a closing terminal.

    A process that a shell starts in the background ignores Ctrl-C, one started by `nohup` ignores a
    closing terminal, and so would every process that they start.
    """
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    closing = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGHUP, closing)


@pytest.fixture(autouse=True)
def _one_thread():
    """Use one torch thread, as workers do by default, so that numbers here and there agree."""
    torch.set_num_threads(1)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current directory, removed from Python's path afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def warm_server():
    """Start one fork server for the workers of all runs in this process and for report figures."""
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
def no_figures(monkeypatch):
    """Leave the figures out of Markdown and LaTeX reports, for tests that look at none: they take
    most of the time.
    """
    from reports.page import page

    opened = page.opened
    monkeypatch.setattr(page, "opened", lambda out, jobs, pdf: opened(out, 0, pdf))


@pytest.fixture
def smoke(cli):
    """Run `ood` at smoke on point-goal, the smallest run, in this process and the store `store`."""

    def smoke(*arguments):
        return cli(*SMOKE, "--store", "store", *arguments)

    return smoke


class Forked:
    """A command line in a forked process, with the part of a `Popen` that tests use.

    Args:
      server: the socket of `forked_program.py`.
    """

    NUMBER = struct.Struct("i")

    def __init__(self, server, words, folder):
        (out, its_out), (err, its_err), (self._told, its_told) = (os.pipe() for _ in range(3))
        asked = {"words": words, "folder": str(folder), "environment": dict(os.environ)}
        theirs = [its_out, its_err, its_told]
        socket.send_fds(server, [json.dumps(asked).encode()], theirs)
        for pipe in theirs:
            os.close(pipe)
        self.stdout, self.stderr = os.fdopen(out), os.fdopen(err)
        self.returncode = None
        self.pid = self._number()

    def _number(self):
        (number,) = self.NUMBER.unpack(os.read(self._told, self.NUMBER.size))
        return number

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("benchmark", timeout)
            self.returncode = self._number()
            os.close(self._told)
        return self.returncode

    def poll(self):
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def communicate(self, timeout=None):
        texts = {}

        def read(stream):
            texts[stream] = stream.read()

        streams = [stream for stream in (self.stdout, self.stderr) if not stream.closed]
        readers = [Thread(target=read, args=(stream,), daemon=True) for stream in streams]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired("benchmark", timeout)
        self.wait(timeout)
        for stream in streams:
            stream.close()
        return tuple(texts.get(stream) for stream in (self.stdout, self.stderr))

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


# variables that count when modules are imported, which a forked process does not do again
_EARLY = ("PYTHON", "OMP_", "GOMP_", "MKL_", "MUJOCO_", "MPL", "LC_", "LANG", "LD_", "PATH")


def _early():
    return {name: value for name, value in os.environ.items() if name.startswith(_EARLY)}


_AT_FIRST = _early()


@pytest.fixture(scope="session")
def forked():
    """`forked(words, folder)`: start the command line in a fork of a process that has imported it.

    It returns None on systems other than Linux, and if a variable of `_EARLY` has changed.
    """
    server, process = [], []

    def forked(words, folder):
        if sys.platform != "linux" or _early() != _AT_FIRST:
            return None
        if not server:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            command = [sys.executable, str(FORKED), str(theirs.fileno())]
            nowhere = dict.fromkeys(("stdin", "stdout"), subprocess.DEVNULL)
            process.append(
                subprocess.Popen(
                    command,
                    env={"GOMP_SPINCOUNT": "1000", **os.environ},
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                    **nowhere,
                )
            )
            theirs.close()
            server.append(ours)
        return Forked(server[0], words, folder)

    yield forked
    for one in server:
        one.close()
    for one in process:
        one.wait()


def begun(forked, words, folder, before=()):
    """Start the command line in a session of its own, as a `Forked` if possible."""
    if not before and (process := forked(words, folder)) is not None:
        return process
    command = [*before, sys.executable, "-m", "benchmark", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, text=True, start_new_session=True, **pipes)


@pytest.fixture
def start(tmp_path, forked):
    """Start the command line in a process group of its own, which is killed at the end.

    It is forked, unless a command `before` it is given or the environment has changed.
    """
    running = []

    def start(*arguments, before=()):
        running.append(begun(forked, [*map(str, arguments)], tmp_path, before))
        return running[-1]

    yield start
    for process in running:
        # workers that outlive it would keep the pipes open
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def finish():
    """Wait for a process of `start` and return its `Result`."""

    def finish(process, timeout_s=120.0):
        out, err = process.communicate(timeout=timeout_s)
        return Result(process.returncode, out, err)

    return finish


_names = count()


@pytest.fixture
def plugin(here):
    """Write a module of `BASE` and `source` to the current directory; return its unique name."""

    def plugin(source, base=BASE):
        name = f"plugin_{os.getpid()}_{next(_names)}"
        (here / f"{name}.py").write_text(base + textwrap.dedent(source))
        importlib.invalidate_caches()
        return name

    return plugin


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """`made_once(name, make)`: return a folder, filled by `make(folder)` once for all processes of
    a test run; read-only.
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
def reference(made_once, forked):
    """An uninterrupted two-seed smoke run of built-in methods and the example: (store, Result)."""

    def make(folder):
        shutil.copy(EXAMPLE, folder)
        own = ["--method", "example_method:HillClimbing"]
        words = [*SMOKE, "--methods", METHODS, *own, "--seeds", "2", "--store", "store"]
        done = begun(forked, words, folder)
        try:
            out, err = done.communicate(timeout=300)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(done.pid, signal.SIGKILL)
        (folder / "result.json").write_text(json.dumps([done.returncode, out, err]))

    folder = made_once("reference", make)
    return folder / "store", Result(*json.loads((folder / "result.json").read_text()))


@pytest.fixture(scope="session")
def sanity(made_once, warm_server):
    """A two-seed smoke store of the suite `sanity`; read-only, like `reference`."""

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
    """A folder with `sanity` published, for which two seeds suffice here; read-only too."""

    def make(folder):
        suite = replace(SUITES["sanity"], families={"smoke": ("point-goal",)})
        with pytest.MonkeyPatch.context() as patch:
            budget = replace(BUDGETS["smoke"], published_seeds=2)
            patch.setitem(publishing.BUDGETS, "smoke", budget)
            publishing.publish(sanity, suite, folder / "published", dirty=True)

    return made_once("publication", make) / "published"


@pytest.fixture(scope="session")
def rows_of():
    """Return the rows of a store, sorted, without the columns in which equal runs may differ."""

    def rows_of(store):
        rows = Store(store, create=False).read()[0].drop(columns=[*NOT_COMPARED, "cell_id"])
        return rows.sort_values(
            ["method", "seed", "stage", "env_steps", "task_index"], kind="stable"
        ).reset_index(drop=True)

    return rows_of
