"""Stopped runs say what is kept, and later runs resume from it; plug-ins like built-in methods."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark import run
from benchmark.cells import expand
from benchmark.stage import Stage, perform
from benchmark.suites import BUDGETS, SUITES
from benchmark.worker import TERMINATED, Stop
from methods import METHODS
from results import snapshot
from results.schema import NOT_COMPARED, to_frame
from results.store import Store

# A plug-in whose push is a random walk, a little slow: each action depends on all earlier ones.
WANDERER = """
PAUSE_S = float(os.environ.get("PAUSE_S", 0))

class Moves(Policy):
    def act(self, obs): return super().act(obs) + self.push

class Wandering(Walker):
    def __init__(self, env, generator, start=0.0):
        super().__init__(env)
        self.generator, self.push = generator, torch.full((env.n_tasks, 1, env.action_size), start)
    def once(self):
        Path(f"at-{os.getpid()}").touch()
        time.sleep(PAUSE_S)
        noise = torch.randn(self.push.shape, generator=self.generator)
        self.push = (self.push + 0.1 * noise).clamp(-1, 1)
        self.action[:], self.updates = self.push.numpy(), self.updates + 1
        super().once()
    def step(self, limit): self.once()
    def policy(self, generator):
        policy = Moves(self.env.action_size)
        policy.push = self.push.numpy().copy()
        return policy
    def state_dict(self):
        state = {"push": self.push, "updates": self.updates}
        return state | {"generator": self.generator.get_state()}
    def load_state_dict(self, state):
        self.push, self.updates = state["push"], state["updates"]
        self.generator.set_state(state["generator"])

class Learns(Trainer):
    def __init__(self, walker, keep): self.walker, self.keep = walker, keep
    @property
    def updates(self): return self.walker.updates
    def step(self, limit):
        event = super().step(limit)
        if event is Event.END:
            self.keep(self.walker.push)
        return event
    def state_dict(self): return self.walker.state_dict()
    def load_state_dict(self, state): self.walker.load_state_dict(state)

class Wanderer(Still):
    meta_trains = True
    def trainer(self, make_env, n_tasks, budget, streams):
        return Learns(Wandering(make_env(), streams.torch("push")), self.keep)
    def keep(self, push): self.push = push.mean()
    def adapter(self, make_env, n_tasks, streams):
        return Wandering(make_env(), streams.torch("push"), float(self.push))
    def state_dict(self): return {"push": self.push}
    def load_state_dict(self, state): self.push = state["push"]
"""
WORDS = (
    "run",
    "--suite",
    "ood",
    "--budget",
    "smoke",
    "--families",
    "point-goal",
    "--store",
    "store",
    "--methods",
    "none",
)
KEPT = re.compile(
    r"^(\S+) point-goal(?:/ood)? seed 0 (train|adapt): saved at (\d+) % \(([\d,]+) of ([\d,]+)"
    r" steps, ([\d,]+) updates\)",
    re.MULTILINE,
)


SLOW_TO_SAVE = WANDERER.replace("        state = {", "        time.sleep(2)\n        state = {", 1)


@pytest.fixture
def expected(monkeypatch, here):
    """The rows of an uninterrupted run, computed here."""

    def expected(path):
        monkeypatch.syspath_prepend(here)
        (cell,) = expand(
            SUITES["ood"],
            BUDGETS["smoke"],
            {"wanderer": path},
            families=["point-goal"],
            seeds=1,
            settings={},
        )
        method = cell.build()
        # this process may have imported it while `PAUSE_S` made runs slow
        monkeypatch.setattr(sys.modules[path.partition(":")[0]], "PAUSE_S", 0)
        trained = list(run.rows_of(run.Training(cell, method)))
        rows = [*trained, *run.rows_of(run.Adaptation(cell, method, trained[-1].env_steps))]
        return in_order(to_frame(rows).drop(columns=list(NOT_COMPARED)))

    return expected


def in_order(rows):
    return rows.sort_values(
        ["method", "seed", "stage", "env_steps", "task_index"], kind="stable"
    ).reset_index(drop=True)


@pytest.fixture
def under_way(start, here, monkeypatch):
    """Start a run and wait until its worker steps; return the process and the worker's id."""
    monkeypatch.setenv("PAUSE_S", "0.01")

    def under_way(*words):
        for path in here.glob("at-*"):
            path.unlink()
        process, deadline = start(*WORDS, "--jobs", "1", *words), time.monotonic() + 60
        while not (found := list(here.glob("at-*"))):
            assert time.monotonic() < deadline and process.poll() is None, "it did not begin"
            time.sleep(0.02)
        time.sleep(0.5)
        return process, int(found[0].name.split("-")[1])

    return under_way


def test_whatever_stops_a_run_the_next_goes_on(
    under_way, finish, cli, plugin, here, rows_of, expected
):
    path = f"{plugin(WANDERER)}:Wanderer"
    kept = [0]

    def stopped(result, code, word):
        assert (result.code, word in result.out + result.err) == (code, True), result
        stage, percent, used, of, updates = KEPT.search(result.out).groups()[1:]
        if stage == "train":
            assert (int(percent), int(used.replace(",", "")) // 4) == (
                int(used.replace(",", "")) * 100 // 800,
                int(updates),
            )
        assert int(used.replace(",", "")) > 0 and int(of.replace(",", "")) in (800, 200)
        kept.append((stage, int(updates.replace(",", ""))))

    process, _ = under_way("--method", path)
    process.terminate()
    stopped(finish(process), 143, "terminated; run the same command again to continue")

    process, _ = under_way("--method", path)
    os.killpg(process.pid, signal.SIGINT)
    result = finish(process)
    stopped(result, 130, "interrupted; run the same command again to continue")
    assert f"resumed wanderer point-goal seed 0 {kept[1][0]} at " in result.out
    assert kept[2] > kept[1] or kept[2][0] != kept[1][0]

    process, worker = under_way("--method", path, "--save-every", "1s")
    time.sleep(1.2)
    os.kill(worker, signal.SIGKILL)
    assert finish(process).code == 1
    assert list((here / "store").rglob("snapshot.json"))

    process, worker = under_way("--method", path)
    os.kill(worker, signal.SIGTERM)  # as if by somebody else: its stage goes on in another process
    last = finish(process)
    assert (last.code, last.err) == (0, "")
    assert "resumed wanderer" in last.out
    assert in_order(rows_of(here / "store")).equals(expected(path))
    assert not list((here / "store").rglob("snapshot*"))


@pytest.mark.skipif(
    b"--ctty"
    not in subprocess.run(["sh", "-c", "setsid --help"], capture_output=True, check=False).stdout,
    reason="needs the setsid of util-linux",
)
def test_a_terminal_that_closes_loses_nothing(plugin, here, cli, monkeypatch):
    monkeypatch.setenv("PAUSE_S", "0.05")  # so that meta-training lasts ten seconds
    words = [*WORDS, "--jobs", "1", "--method", f"{plugin(WANDERER)}:Wanderer"]
    try:
        ours, theirs = os.openpty()
    except OSError:
        pytest.skip("needs a pseudo-terminal")
    process = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, "-m", "benchmark", *words],
        **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
    )
    os.close(theirs)
    try:
        deadline = time.monotonic() + 60
        while not list(here.glob("at-*")):
            assert time.monotonic() < deadline and process.poll() is None, "it did not begin"
            time.sleep(0.02)
        time.sleep(0.5)
        os.close(ours)
        assert process.wait(timeout=60) == 129
    finally:
        process.kill()
    assert list((here / "store").rglob("snapshot.json"))
    monkeypatch.setenv("PAUSE_S", "0")
    assert "resumed wanderer" in cli(*words).out


def test_a_second_termination_does_not_cut_saving_short(under_way, finish, plugin, here):
    process, _ = under_way("--method", f"{plugin(SLOW_TO_SAVE)}:Wanderer")
    process.terminate()
    time.sleep(0.5)
    process.terminate()
    result = finish(process)
    assert result.code == 143 and KEPT.search(result.out)[1] == "wanderer", result
    assert "nothing" not in result.out
    assert list((here / "store").rglob("snapshot.json"))


def test_a_termination_after_the_last_look_of_a_stage_ends_its_worker(monkeypatch):
    """It must not begin another stage; before a stage first looks there is nothing to save."""
    ended = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(os, "_exit", ended.append)
    try:
        stop = Stop()
        assert stop() is False
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked and not ended
        stop.forget()
        assert ended == [TERMINATED]
        signal.raise_signal(signal.SIGTERM)
        assert ended == [TERMINATED] * 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("end", ["os._exit(143)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_plug_in_that_ends_its_process_fails(smoke, plugin, end):
    ending = plugin(
        f"class Ending(Still):\n    def adapter(self, make_env, n_tasks, streams): {end}"
    )
    done = smoke("--methods", "zero", "--method", f"{ending}:Ending")
    assert (done.code, done.err) == (1, "")
    assert "1 of 2 stages done" in done.out and "failed: ending point-goal" in done.out


def test_a_plug_in_that_leaves_a_thread_does_not_keep_the_program(start, finish, plugin):
    path = plugin(
        "import threading\nthreading.Thread(target=time.sleep, args=(600,)).start()\n"
        "class Threaded(Still): ..."
    )
    process = start(*WORDS, "--methods", "none", "--method", f"{path}:Threaded")
    done = finish(process, timeout_s=60)
    assert (done.code, done.err) == (0, "") and "next: " in done.out


def test_an_error_that_is_no_text_is_kept_escaped(smoke, cli, plugin):
    path = plugin(
        "class Odd(Still):\n    def adapter(self, make_env, n_tasks, streams):\n"
        "        raise ValueError('caf\\udce9')"
    )
    done = smoke("--methods", "none", "--method", f"{path}:Odd")
    assert (done.code, done.err) == (1, "")
    assert r"ValueError: caf\udce9" in done.out


def test_a_time_limit_loses_nothing(cli, plugin, here, rows_of, expected, monkeypatch):
    monkeypatch.setenv("PAUSE_S", "0.1")
    path, limit = f"{plugin(WANDERER)}:Wanderer", 2
    while not list(here.glob("at-*")):  # a busy machine needs a while to begin
        result = cli(*WORDS, "--method", path, "--time-limit", f"{limit}s", "--jobs", "1")
        assert (result.code, result.err) == (3, "") and limit < 100
        limit *= 2
    assert "time limit reached; run the same command again to continue" in result.out
    assert int(KEPT.search(result.out).group(6)) > 0
    monkeypatch.setenv("PAUSE_S", "0")
    assert "resumed wanderer point-goal seed 0 train at " in cli(*WORDS, "--method", path).out
    assert in_order(rows_of(here / "store")).equals(expected(path))


def test_show_says_how_far_a_stage_is(under_way, finish, cli, plugin):
    process, _ = under_way("--method", f"{plugin(WANDERER)}:Wanderer")
    process.terminate()
    used, of, updates = KEPT.search(finish(process).out).groups()[3:]
    assert (
        f"train {int(used) * 100 // int(of)} % ({used} of {of} steps, {updates} updates)"
        in cli("show", "--store", "store").out
    )


UNSAVABLE = """
from methods.api import Adapter

class Walks(Walker):
    def step(self, limit):
        self.once()
        time.sleep(0.02)

class Raises(Walks):
    def state_dict(self): raise NotImplementedError

class Lacks(Walks):
    def __getattribute__(self, name):
        if name == "state_dict":
            raise AttributeError(name)
        return super().__getattribute__(name)

class Holds(Walks):
    def state_dict(self): return {"path": Path()}

class Keeps(Walks):
    def __init__(self, make_env):
        super().__init__(make_env())
        self.make_env = make_env
    def step(self, limit):
        if not hasattr(self, "other"):
            self.other = self.make_env()
        super().step(limit)

class Stub(Adapter):
    updates = 0
    def __init__(self, env): self.walker = Walks(env)
    def step(self, limit): self.walker.step(limit)
    def policy(self, generator): return self.walker.policy(generator)

class StubMethod(Still):
    def adapter(self, make_env, n_tasks, streams): return Stub(make_env())
class RaisesMethod(Still):
    def adapter(self, make_env, n_tasks, streams): return Raises(make_env())
class LacksMethod(Still):
    def adapter(self, make_env, n_tasks, streams): return Lacks(make_env())
class HoldsMethod(Still):
    def adapter(self, make_env, n_tasks, streams): return Holds(make_env())
class KeepsMethod(Still):
    def adapter(self, make_env, n_tasks, streams): return Keeps(make_env)
"""
REASONS = {
    "Stub": "its state_dict returns a NoneType, not a dictionary",
    "Raises": "its state_dict raises NotImplementedError",
    "Lacks": "its state_dict raises AttributeError: state_dict",
    "Holds": (
        "stage.learner.path is a PosixPath: a state holds tensors, arrays and plain Python only"
    ),
    "Keeps": (
        "it made an environment within a step and kept it: make such environments when the learner"
        " is made"
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_a_plug_in_that_cannot_be_saved_runs_as_ever_and_is_told_so_once(cli, plugin, name):
    result = cli(
        *WORDS, "--method", f"{plugin(UNSAVABLE)}:{name}Method", "--save-every", "1s", "--jobs", "1"
    )
    assert (result.code, result.err) == (0, "")
    stage = f"{name.lower()}-method point-goal/ood seed 0 adapt"
    told = [line for line in result.out.splitlines() if "cannot be saved" in line]
    assert len(told) == 1
    assert told[0].startswith(
        f"{stage}: it cannot be saved, so it will start from the beginning if it is stopped: "
    )
    assert REASONS[name] in told[0]


def test_a_disk_that_is_full_for_a_while_costs_nothing_but_a_line(tmp_path, monkeypatch):
    (cell,) = expand(
        SUITES["ood"],
        BUDGETS["smoke"],
        {"td3": METHODS["td3"]},
        families=["point-goal"],
        seeds=1,
        settings={},
    )
    stage, notes, kept = Stage(cell, "adapt"), [], []
    once, full = (Store(tmp_path / name, create=True) for name in ("once", "full"))
    assert perform(once, stage, 1) == ("done", None)
    write, writes = snapshot.write, []

    def fails_in_the_middle(folder, header, state):
        writes.append(header["env_steps"])
        if 5 <= len(writes) < 50:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(folder, header, state)

    def tell(kind, value):
        if kind == "note":
            notes.append(value)
            kept.append(full.saved(stage.key)["env_steps"])

    monkeypatch.setattr(snapshot, "write", fails_in_the_middle)
    monkeypatch.setattr("benchmark.resume._MOST", 1e9)
    assert perform(full, stage, 1, tell=tell, save_every_s=0.0) == ("done", None)
    assert len(notes) == 1 and len(writes) > 100
    assert (
        notes[0].startswith(f"{stage}: it could not be saved and continues unsaved: ")
        and "quota is full" in notes[0]
    )
    assert kept == [writes[3]]  # the last good one
    mine, its = (store.rows(stage.key).drop(columns=list(NOT_COMPARED)) for store in (full, once))
    assert mine.equals(its)


def test_nothing_that_runs_code_is_read():
    """Neither the packages nor the published results use pickle."""
    packages = [
        Path(__import__(name).__file__).parent
        for name in ("benchmark", "methods", "results", "reports", "envs")
    ]
    sources = [path for package in packages for path in package.rglob("*.py")]
    assert len(sources) > 100
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert (
            "torch.load" not in text and "torch.save" not in text and "import pickle" not in text
        ), path
    published = next(package for package in packages if package.name == "results") / "published"
    states = list(published.rglob("states/*"))
    assert states and {path.suffix for path in states} == {".safetensors"}
    assert not [
        path
        for path in published.rglob("*")
        if path.suffix in (".pt", ".pth", ".pkl", ".npy", ".npz")
    ]


def test_the_worker_of_a_stage_that_cannot_be_reached_is_killed_after_a_while(
    start, finish, here, plugin, monkeypatch
):
    """Its step never ends: the second Ctrl-C ends the run at once."""
    stuck = "class Stuck(Still):\n    def adapter(self, *args): return Hangs(args[0]())\n"
    hangs = (
        "class Hangs(Walker):\n    def step(self, limit):\n        Path('at-0').touch()\n       "
        " time.sleep(600)\n"
    )
    process = start(*WORDS, "--jobs", "1", "--method", f"{plugin(hangs + stuck)}:Stuck")
    deadline = time.monotonic() + 60
    while not (here / "at-0").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(2)
    assert process.poll() is None, "it should wait for the step to end"
    os.killpg(process.pid, signal.SIGINT)
    began = time.monotonic()
    result = finish(process, timeout_s=20)
    assert (result.code, time.monotonic() - began < 10) == (130, True)
    assert "stuck point-goal/ood seed 0 adapt: nothing saved" in result.out
    while subprocess.run(
        ["pgrep", "-g", str(process.pid)], capture_output=True, check=False
    ).stdout:
        assert time.monotonic() - began < 15, "a process outlived the run"
        time.sleep(0.1)
