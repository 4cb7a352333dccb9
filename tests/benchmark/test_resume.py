"""A stage stopped at any step and resumed in another process gives the rows of an unbroken run."""

import base64
import json
import pickle
import random
import shutil
import subprocess
import sys
import textwrap
from contextlib import suppress
from dataclasses import replace
from itertools import count, pairwise

import numpy as np
import pytest
import torch

from benchmark import resume
from benchmark import stage as work
from benchmark.cells import expand
from benchmark.kept import Kept
from benchmark.seeding import Streams
from benchmark.stage import Stage, perform
from benchmark.suites import BUDGETS, SUITES
from envs.point import PointGoal
from methods import METHODS
from results import snapshot
from results.files import unseal
from results.schema import NOT_COMPARED
from results.store import Store

ELSEWHERE = """
    import base64, pickle, sys
    from pathlib import Path
    import numpy as np
    import torch
    from benchmark.stage import perform
    from envs.point import PointGoal
    from results.store import Store

    torch.set_num_threads(1)
    for line in sys.stdin:
        root, stage, threads, steps, falls = pickle.loads(base64.b64decode(line))
        PointGoal.terminated = FALLS if falls else STANDS
        left = iter(range(steps))
        stop = lambda: next(left, None) is None
        outcome = perform(Store(root, create=True), stage, threads, stop=stop)
        print(outcome[0], flush=True)
"""
# some episodes end early, some late, some never
FALLS = "(lambda self, qpos, qvel: np.hypot(qpos[:, 0], qpos[:, 1]) > 0.3)"
STANDS = "(lambda self, qpos, qvel: np.zeros(len(qpos), bool))"


@pytest.fixture(scope="module")
def elsewhere():
    """`(root, stage, threads, steps, falls)`: continue a stage for `steps` in another process."""
    script = textwrap.dedent(ELSEWHERE).replace("FALLS", FALLS).replace("STANDS", STANDS)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", script], text=True, **pipes)

    def go_on(*what):
        process.stdin.write(base64.b64encode(pickle.dumps(what)).decode() + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    yield go_on
    process.stdin.close()
    process.wait()


def cell_of(name, **changes):
    cell = expand(
        SUITES["ood"],
        BUDGETS["smoke"],
        {name: METHODS[name]},
        families=["point-goal"],
        seeds=1,
        settings={},
    )[0]
    # two iterations of an on-policy method, and a reset between checkpoints for methods with resets
    return replace(cell, train_steps=min(cell.train_steps, 1_700), adapt_steps=170, **changes)


def shorter(cell):
    """Return the cell with as few steps as two iterations take, or two resets of TD3 learners."""
    if cell.method.startswith("rl2"):
        return replace(cell, train_steps=900)
    if cell.method.startswith(("apb", "td3", "finetune")):
        return replace(cell, train_steps=min(cell.train_steps, 400), adapt_steps=110)
    return cell


def whole(store, stage, stop=lambda: False):
    """Run a stage to its end; return the number of its steps."""
    steps = count()
    assert perform(store, stage, 1, stop=lambda: next(steps) < 0 or stop()) == ("done", None)
    return next(steps)


def content(store, stage):
    """What two equal stages have in common."""
    rows = store.rows(stage.key).drop(columns=list(NOT_COMPARED))
    return rows, store.state(stage.key) if stage.name == "train" else None


def stages_of(cell):
    return (
        [Stage(cell.trainer, "train"), Stage(cell, "adapt")]
        if cell.meta_trains
        else [Stage(cell, "adapt")]
    )


@pytest.fixture(scope="module")
def trained():
    """`(folder, stage, falls)`: put an unbroken meta-training into a store; return the number of
    its steps. Methods that build on the same meta-training share it here, too.
    """
    known = {}

    def trained(root, stage, falls):
        place = root / stage.key.folder
        if (stage.key, falls) not in known:
            steps = whole(Store(root, create=True), stage)
            known[stage.key, falls] = steps, {path: path.read_bytes() for path in place.iterdir()}
        steps, files = known[stage.key, falls]
        place.mkdir(parents=True, exist_ok=True)
        for path, data in files.items():
            (place / path.name).write_bytes(data)
        return steps

    return trained


@pytest.mark.parametrize("falls", [True, False], ids=["falls", "stands"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_goes_on_as_if_it_had_never_stopped(
    name, falls, tmp_path, elsewhere, trained, monkeypatch
):
    if falls:
        monkeypatch.setattr(PointGoal, "terminated", eval(FALLS, {"np": np}))
    settings = {"reset_period": 40} if name == "apb-reset" else {}
    cell = shorter(cell_of(name))
    cell = replace(cell, config={**cell.config, **settings})
    once, often = (Store(tmp_path / name, create=True) for name in ("once", "often"))
    moments = random.Random(f"{name} {falls}")
    for stage in stages_of(cell):
        steps = whole(once, stage) if stage.name == "adapt" else trained(once.root, stage, falls)
        if stage.name == "train" and cell.trainer.method != name:
            trained(often.root, stage, falls)  # it is stopped in the test of its own method
            continue
        first, second = sorted(moments.sample(range(1, steps), 2)) if steps > 2 else (1, 1)
        left = iter(range(first))
        assert perform(often, stage, 1, stop=lambda left=left: next(left, None) is None) == (
            "stopped",
            None,
        )
        assert elsewhere(often.root, stage, 2, second - first, falls) == "stopped"
        assert perform(often, stage, 1) == ("done", None)
        (rows, state), (expected, trained) = content(often, stage), content(once, stage)
        assert rows.equals(expected), rows.compare(expected)
        assert state == trained
        assert [part["mujoco_threads"] for part in often.record(stage.key)["resumed"]] == [1, 2]
        assert not list((often.root / stage.key.folder).glob("snapshot*"))


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory):
    """A store's folder with a stopped stage, the stage, the rows of an uninterrupted run of it."""
    folder, stage = tmp_path_factory.mktemp("stopped"), Stage(cell_of("td3"), "adapt")
    store, once = (Store(folder / name, create=True) for name in ("store", "once"))
    whole(once, stage)
    left = iter(range(100))
    assert perform(store, stage, 1, stop=lambda: next(left, None) is None) == ("stopped", None)
    return store.root, stage, content(once, stage)[0]


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """A copy of a stopped stage: (store, stage, expected rows, function that resumes it)."""
    root, stage, expected = stopped_once
    store = Store(shutil.copytree(root, tmp_path / "store"), create=True)
    told = []

    def go_on():
        told.clear()
        outcome = perform(store, stage, 1, tell=lambda kind, value: told.append((kind, value)))
        return outcome, {kind: value for kind, value in told if kind not in ("used", "row")}

    return store, stage, expected, go_on


def files_of(store, stage):
    """The header and the state of a snapshot."""
    folder = store.root / stage.key.folder
    (state,) = folder.glob("snapshot-*.safetensors")
    return folder / "snapshot.json", state


class TestSnapshots:
    def test_it_says_how_far_it_is_and_is_used(self, stopped):
        store, stage, expected, go_on = stopped
        header = store.saved(stage.key)
        # two of the stage's steps were evaluations
        assert (header["env_steps"], header["updates"], header["steps"]) == (98, 98, 170)
        outcome, told = go_on()
        assert outcome == ("done", None) and told == {"resumed": Kept(98, 98)}
        assert content(store, stage)[0].equals(expected)
        record = store.record(stage.key)
        assert [part["env_steps"] for part in record["resumed"]] == [98]
        log = (store.root / stage.key.folder / "log.txt").read_text()
        assert (
            "resumed at 98 environment steps" in log
            and log.count("td3 point-goal/ood seed 0 adapt: 170") == 2
        )

    @pytest.mark.parametrize(
        "damage", ["cut state", "flipped state", "lost state", "flipped header", "empty header"]
    )
    def test_a_damaged_one_is_found_and_said_and_the_stage_starts_anew(self, stopped, damage):
        store, stage, expected, go_on = stopped
        header, state = files_of(store, stage)
        what, kind = damage.split()
        path = {"state": state, "header": header}[kind]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        if what == "lost":
            path.unlink()
        else:
            path.write_bytes({"cut": data[:-1], "flipped": data, "empty": b""}[what])
        self.starts_anew(store, stage, expected, go_on, "altered|gone|cut short")

    @pytest.mark.parametrize(
        "name",
        [
            "format",
            "byte order",
            "method version",
            "built on",
            "torch",
            "mujoco",
            "numpy",
            "gymnasium",
        ],
    )
    def test_one_of_another_version_or_machine_is_not_used(self, stopped, name):
        store, stage, expected, go_on = stopped
        header, state = store.saved(stage.key), files_of(store, stage)[1].read_bytes()
        belongs = {**header["belongs"], name: "other"}
        store.save(stage.key, {**header, "belongs": belongs}, state)
        self.starts_anew(store, stage, expected, go_on, f"{name}: other, here ")

    def test_one_of_another_stage_is_not_used(self, stopped):
        store, stage, *_ = stopped
        other = Stage(replace(stage.cell, seed=1), "adapt")
        header, state = files_of(store, stage)
        folder = store.root / other.key.folder
        with store.claim(other.key):
            for path in (header, state):
                (folder / path.name).write_bytes(path.read_bytes())
        told = []
        assert perform(store, other, 1, tell=lambda *what: told.append(what)) == ("done", None)
        assert any(
            "belongs to another stage" in str(value) for kind, value in told if kind == "note"
        )
        assert not any(kind == "resumed" for kind, value in told)

    def test_one_that_the_method_cannot_read_is_not_used(self, stopped):
        store, stage, expected, go_on = stopped
        header = store.saved(stage.key)
        tree = resume.states.from_bytes(store.saved_state(stage.key, header))
        del tree["stage"]["learner"]["loop"]["collector"]
        store.save(stage.key, header, resume.states.to_bytes(tree))
        self.starts_anew(store, stage, expected, go_on, "KeyError: 'collector'")

    def starts_anew(self, store, stage, expected, go_on, reason):
        outcome, told = go_on()
        assert outcome == ("done", None) and set(told) == {"note"}
        assert told["note"].startswith(f"{stage}: its saved state cannot be used (")
        assert any(part in told["note"] for part in reason.split("|")) and told["note"].endswith(
            "it starts from the beginning"
        )
        assert content(store, stage)[0].equals(expected)
        assert "cannot be used" in (store.root / stage.key.folder / "log.txt").read_text()

    def test_one_that_leaves_the_learner_as_it_was_is_not_used(self, stopped, monkeypatch):
        store, stage, expected, go_on = stopped
        monkeypatch.setattr(
            "methods.core.adapt.TD3Adapter.load_state_dict", lambda self, state: None
        )
        self.starts_anew(
            store,
            stage,
            expected,
            go_on,
            "after restoring it is at 98 steps and 0 updates instead of 98 and 98",
        )

    def test_one_that_was_refused_may_be_of_use_another_day(self, stopped, monkeypatch):
        store, stage, expected, go_on = stopped

        def fails(self):
            raise KeyboardInterrupt

        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(
                work, "belongings", lambda *facts: {**resume.belongings(*facts), "torch": "another"}
            )
            elsewhere.setattr("benchmark.run.Adaptation.step", fails)
            with pytest.raises(KeyboardInterrupt):
                perform(store, stage, 1)
        assert go_on()[1] == {"resumed": Kept(98, 98)}
        assert content(store, stage)[0].equals(expected)

    def test_a_memory_that_is_short_for_a_moment_takes_nothing(self, stopped, monkeypatch):
        store, stage, *_ = stopped
        with monkeypatch.context() as short:
            short.setattr(
                resume.states, "from_bytes", lambda data: (_ for _ in ()).throw(MemoryError)
            )
            asked = iter([False, False])
            with suppress(RuntimeError):
                perform(store, stage, 1, stop=lambda: next(asked))
        assert store.saved(stage.key)["env_steps"] == 98

    def test_it_says_where_else_it_goes_on(self, stopped, monkeypatch):
        store, stage, _, go_on = stopped
        header, state = store.saved(stage.key), files_of(store, stage)[1].read_bytes()
        facts = {**header["facts"], "torch_threads": 7, "machine": {"processor": "another"}}
        store.save(stage.key, {**header, "facts": facts}, state)
        _, told = go_on()
        assert (
            "on another processor and with other threads" in told["note"]
            and "last digits" in told["note"]
        )

    def test_the_second_run_of_a_finished_stage_is_not_saved(self, stopped):
        store, stage, expected, go_on = stopped
        go_on()
        left = iter(range(50))
        assert perform(store, stage, 1, force=True, stop=lambda: next(left, None) is None) == (
            "stopped",
            None,
        )
        assert store.status(stage.key) == "done" and store.saved(stage.key) is None
        assert content(store, stage)[0].equals(expected)

    def test_one_that_adapted_a_state_since_replaced_is_saved(self, tmp_path, monkeypatch):
        store = Store(tmp_path / "store", create=True)
        train, adapt = stages_of(shorter(cell_of("apb")))
        whole(store, train)
        whole(store, adapt)
        monkeypatch.setattr(PointGoal, "terminated", lambda self, qpos, qvel: qpos[:, 0] > 0)
        assert perform(store, train, 1, force=True)[0] == "done"
        left = iter(range(50))
        assert perform(store, adapt, 1, stop=lambda: next(left, None) is None)[0] == "stopped"
        assert store.status(adapt.key) == "done"  # its earlier rows stay until the new ones are in
        saved = store.saved(adapt.key)["env_steps"]
        told = []
        assert perform(store, adapt, 1, tell=lambda *what: told.append(what))[0] == "done"
        assert saved > 40 and ("resumed", Kept(saved, saved)) in told
        assert store.saved(adapt.key) is None

    def test_generators_that_a_learner_forgets_are_kept(self):
        streams, again = Streams(0, "adapt"), Streams(0, "adapt")
        drawn = [streams.torch("a"), streams.numpy("b")]
        other = [again.torch("a"), again.numpy("b")]
        drawn[1].random(5)
        torch.rand(3, generator=drawn[0])
        streams.torch("later")
        again.load_state_dict(
            resume.states.from_bytes(resume.states.to_bytes(streams.state_dict()))
        )
        assert drawn[1].random() == other[1].random()
        assert torch.rand(1, generator=drawn[0]) == torch.rand(1, generator=other[0])

    def test_force_begins_anew(self, stopped):
        store, stage, expected, _ = stopped
        told = []
        assert perform(store, stage, 1, tell=lambda *what: told.append(what), force=True) == (
            "done",
            None,
        )
        assert not any(kind == "resumed" for kind, _ in told)
        assert content(store, stage)[0].equals(expected)

    def test_only_the_newest_is_kept_and_saving_takes_a_fiftieth_of_the_time_at_most(
        self, tmp_path, monkeypatch
    ):
        store, stage = Store(tmp_path / "store", create=True), Stage(cell_of("td3"), "adapt")
        clock, kept = [0.0], []
        monkeypatch.setattr(resume.time, "monotonic", lambda: clock[0])

        def tick():
            clock[0] += 1.0
            return False

        def save(*arguments):
            clock[0] += 0.4  # the time that saving takes
            kept.append(clock[0])
            save_as_ever(*arguments)
            assert len(list((store.root / stage.key.folder).glob("snapshot*"))) == 2

        save_as_ever = snapshot.write
        monkeypatch.setattr(snapshot, "write", save)
        assert perform(store, stage, 1, stop=tick, save_every_s=2.0) == ("done", None)
        assert {round(late - early) for early, late in pairwise(kept)} <= {20, 21}
        assert len(kept) > 4

    def test_a_failed_stage_keeps_what_was_saved(self, stopped):
        store, stage, expected, go_on = stopped
        work.record_failure(store, stage, "its worker process was killed")
        assert store.status(stage.key) == "failed"
        outcome, told = go_on()
        assert outcome == ("done", None) and told == {"resumed": Kept(98, 98)}
        assert content(store, stage)[0].equals(expected)

    def test_what_a_writer_that_died_left_beside_a_finished_cell_goes(self, stopped):
        store, stage, _, go_on = stopped
        header, state = (path.read_bytes() for path in files_of(store, stage))
        go_on()
        folder = store.root / stage.key.folder
        (folder / "snapshot.json").write_bytes(header)
        (folder / unseal(header)["file"]).write_bytes(state)
        assert json.loads(header)["env_steps"] == 98
        store.forget(stage.key)
        assert not list(folder.glob("snapshot*")) and store.status(stage.key) == "done"
