"""Learners on a device: they make nothing elsewhere, and the device is recorded.

There is no GPU here. Instead, torch's default device is "meta", on which nothing can be computed:
a tensor that is made without naming a device leads to an error or to different rows.
"""

import ast
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

import methods
from benchmark import states
from benchmark.cells import expand
from benchmark.run import Adaptation, Training, rows_of
from benchmark.seeding import Streams
from benchmark.stage import Stage, perform
from benchmark.suites import BUDGETS, SUITES
from methods import METHODS
from methods.core.border import array_of, tensor_of
from results.schema import NOT_COMPARED
from results.store import Store

# together they run every learner, trainer and adapter
LEARNERS = (
    *("apb-evolve", "apb-none", "apb-unfrozen", "context-td3"),
    *("maml+ft", "cavia+td3", "pearl+ft", "varibad+ft", "rl2+td3"),
)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


def cell_of(name, family="point-rand"):
    (cell,) = expand(
        SUITES["ood"], BUDGETS["smoke"], {name: METHODS[name]}, [family], seeds=1, settings={}
    )
    return cell


def rows(name, family="point-rand"):
    """Rows of meta-training, whose state is then read back from bytes, and of adaptation."""
    cell = cell_of(name, family)
    method = cell.build()
    found = []
    if method.meta_trains:
        trainer = cell.trainer.build()
        found += rows_of(Training(cell.trainer, trainer, device="cpu"))
        method.load_state_dict(states.from_bytes(states.to_bytes(trainer.state_dict()), "cpu"))
    found += rows_of(Adaptation(cell, method, None, device="cpu"))
    return [{**asdict(row), **dict.fromkeys(NOT_COMPARED)} for row in found]


@pytest.mark.parametrize("name", LEARNERS)
def test_no_tensor_of_a_learner_is_made_on_the_default_device(name):
    alone = rows(name)
    with default_device("meta"):
        assert rows(name) == alone


def test_arrays_pass_the_border_in_one_place_and_no_generator_is_made_without_a_device():
    for path in Path(methods.__path__[0]).rglob("*.py"):
        nodes = [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
        names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        crossing = {"from_numpy", "as_tensor", "cuda"} & names
        assert not crossing or path.name == "border.py", (path, crossing)
        calls = [ast.unparse(node) for node in nodes if isinstance(node, ast.Call)]
        assert "torch.Generator()" not in calls, path


def test_the_border_hands_arrays_to_the_device_and_takes_them_back():
    ended = tensor_of(np.array([True, False]), torch.device("meta"))
    assert ended.is_meta and ended.dtype == torch.bool

    class OnDevice:
        def cpu(self):
            return torch.tensor([2.5])

    assert array_of(OnDevice()).tolist() == [2.5]


def test_states_come_back_to_the_device_but_for_those_of_generators():
    generator = torch.Generator().manual_seed(0)
    tree = {
        "w": torch.ones(2),
        "known": [torch.zeros(1, dtype=torch.bool)],
        "at": generator.get_state(),
    }
    back = states.from_bytes(states.to_bytes(tree), "meta")
    assert back["w"].is_meta and back["known"][0].is_meta and back["at"].device.type == "cpu"


def test_named_generators_are_on_the_device_and_hand_it_on(monkeypatch):
    made, generator_of = [], torch.Generator

    def on_the_cpu(device):
        made.append(str(device))
        return generator_of()

    monkeypatch.setattr("torch.Generator", on_the_cpu)
    streams = Streams(0, "train", device="cuda")
    streams.torch("one")
    streams.child("method").torch("two")
    assert made == ["cuda", "cuda"] and str(streams.child("method").device) == "cuda"


def test_a_cell_says_where_its_learner_was(tmp_path):
    store = Store(tmp_path, create=True)
    stage = Stage(cell_of("td3"), "adapt")
    assert perform(store, stage, 1)[0] == "done"
    assert store.record(stage.key)["device"] == "cpu"


@pytest.mark.parametrize("command", ["run --suite ood --budget smoke", "worker --store there"])
def test_without_one_a_line_says_so(cli, command):
    for device, complaint in (
        ("cuda", "--device cuda: there is no CUDA device here"),
        ("gpu", "--device 'gpu': give one of cpu, cuda"),
    ):
        assert complaint in cli(*command.split(), "--device", device).complaint


def test_a_plan_and_a_forecast_have_no_device(cli):
    for option in ("--plan", "--dry-run"):
        asked = cli("run", "--suite", "ood", "--budget", "smoke", option, "--device", "cpu")
        assert "--device is for" in asked.complaint
