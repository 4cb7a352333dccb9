"""Live curves: every row once, in JSON lines and in TensorBoard's files."""

import builtins
import json

import numpy as np
import pytest

from benchmark.live import Live
from results.store import Store


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_row_of_a_run_is_there_once(smoke, here):
    done = smoke("--methods", "apb,zero", "--jobs", "1", "--live", "curves")
    assert done.code == 0
    told = lines(here / "curves" / "rows.jsonl")
    rows = Store("store", create=False).read()[0]
    assert len(told) == len(rows)
    assert {line["name"] for line in told} == {
        "apb point-goal seed 0 train",
        "apb point-goal/ood seed 0 adapt",
        "zero point-goal/ood seed 0 adapt",
    }
    adapted = rows[(rows["method"] == "zero")]
    of_zero = [line for line in told if line["name"].startswith("zero")]
    assert [line["return_mean"] for line in of_zero] == adapted["return_mean"].tolist()


def test_a_second_run_appends(smoke, here):
    smoke("--methods", "zero", "--jobs", "1", "--live", "curves")
    before = len(lines(here / "curves" / "rows.jsonl"))
    smoke("--methods", "zero", "--jobs", "1", "--live", "curves", "--force")
    assert len(lines(here / "curves" / "rows.jsonl")) == 2 * before


def test_without_tensorboard_lines_are_all_there_is(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("torch.utils.tensorboard"):
            raise ModuleNotFoundError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    said = []
    live = Live(tmp_path / "curves", said.append)
    row = {"env_steps": np.int64(5), "return_mean": np.float32(-1.5), "error": None}
    live("a stage", {**row, "return_std": float("nan")})
    live.close()
    assert lines(tmp_path / "curves" / "rows.jsonl") == [
        {"name": "a stage", "env_steps": 5, "return_mean": -1.5}
    ]
    assert len(said) == 1 and "pip install 'apb-benchmark[live]'" in said[0]


def test_tensorboard_gets_the_curves(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    live = Live(tmp_path, lambda text: None)
    for steps in (0, 50):
        live(
            "a/b c",
            {"env_steps": steps, "return_mean": -float(steps), "task_index": 1, "budget": "desk"},
        )
    live.close()
    events = EventAccumulator(str(tmp_path / "desk_a-b_c"))
    events.Reload()
    curve = [(event.step, event.value) for event in events.Scalars("return_mean/task 1")]
    assert curve == [(0, 0.0), (50, -50.0)]


def test_a_folder_that_cannot_be_written_to_is_refused(smoke, here):
    (here / "file").touch()
    assert "a file is where a folder is needed" in smoke("--live", "file/curves").complaint
