"""What a plug-in does to its process: runs repeat exactly, and no other method is affected."""

import logging
import os
import random
import signal
import sys
import warnings
from functools import partial

import numpy as np
import pytest
import torch

from benchmark.cells import expand
from benchmark.isolation import undisturbed
from benchmark.plugins import load_method, source_digest
from benchmark.stage import Stage, perform
from benchmark.suites import BUDGETS, SUITES
from results.schema import NOT_COMPARED
from results.store import Store

# draws from the global generators of Python, NumPy and torch
CARELESS = """
import random

class Careless(Still):
    def adapter(self, make_env, n_tasks, streams): return Drawing(make_env())

class Drawing(Walker):
    def __init__(self, env):
        super().__init__(env)
        self.push = torch.nn.Linear(1, env.action_size).bias.detach().clamp(-1, 1)
    def step(self, limit):
        self.push = (self.push + random.gauss(0, 0.1) + torch.randn(1)).clamp(-1, 1)
        self.action[:] = self.push.numpy() * np.random.uniform()
        self.updates += 1
        self.once()
    def policy(self, generator):
        policy = Moves(self.env.action_size)
        policy.push = self.push.numpy()
        return policy
    def state_dict(self): return {"push": self.push, "updates": self.updates}
    def load_state_dict(self, state): self.push, self.updates = state["push"], state["updates"]

class Moves(Policy):
    def act(self, obs): return super().act(obs) + self.push * np.float32(np.random.uniform())
"""

VANDAL = """
import logging, warnings

def vandalise():
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_num_threads(2)
    torch.set_default_device("meta")
    np.seterr(all="raise")
    os.environ["OMP_NUM_THREADS"] = "2"
    os.environ.pop("HOME", None)
    os.makedirs("elsewhere", exist_ok=True)
    os.chdir("elsewhere")
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    warnings.simplefilter("error")
    logging.disable(logging.CRITICAL)
    logging.getLogger().handlers.clear()

vandalise()

class Vandal(Still):
    def __init__(self, spec, config):
        super().__init__(spec, config)
        vandalise()
"""


@pytest.fixture(autouse=True)
def _modules_here_are_found(here, monkeypatch):
    monkeypatch.syspath_prepend(here)


def stage_of(name):
    (cell,) = expand(
        SUITES["ood"], BUDGETS["smoke"], {"careless": name}, ["point-goal"], seeds=1, settings={}
    )
    return Stage(cell, "adapt")


def stops_at(asked, last):
    """Advance `asked`, which counts a stage's calls of `stop`; return whether it was at `last`."""
    return next(asked) == last


def stir(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def test_what_draws_from_global_generators_repeats_itself_also_when_it_was_stopped(
    plugin, tmp_path
):
    stage = stage_of(f"{plugin(CARELESS)}:Careless")
    found = []
    for number, stops in enumerate(([], [], [30, 60])):
        store = Store(tmp_path / f"store-{number}", create=True)
        asked = iter(range(1000))
        for last in stops:
            stir(number + last)
            stop = partial(stops_at, asked, last)
            assert perform(store, stage, 1, stop=stop)[0] == "stopped"
        stir(number)
        assert perform(store, stage, 1) == ("done", None)
        found.append(store.rows(stage.key).drop(columns=[*NOT_COMPARED]))
    assert found[0]["return_mean"].nunique() > 10
    assert found[0].equals(found[1])
    assert found[0].equals(found[2])


def test_no_other_method_feels_what_a_plug_in_does_to_its_process(plugin, smoke, cli, rows_of):
    words = ("--methods", "maml,td3", "--seeds", "2", "--jobs", "1")
    assert smoke(*words).code == 0
    alone = rows_of("store")
    done = smoke(*words, "--method", f"{plugin(VANDAL)}:Vandal", "--store", "beside")
    assert (done.code, done.err) == (0, ""), done
    beside = rows_of("beside")
    assert alone.equals(beside[beside["method"] != "vandal"].reset_index(drop=True))
    assert {"vandal"} == {*beside["method"]} - {*alone["method"]}


def test_importing_a_plug_in_leaves_the_process_as_it_was(plugin):
    def look():
        handlers = [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGINT)]
        shared = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
        logs = [*logging.getLogger().handlers], logging.root.manager.disable
        return (
            [dict(os.environ), os.getcwd(), handlers, shared, np.geterr(), logs],
            [torch.get_num_threads(), [*warnings.filters], sys.stdout],
        )

    before = look()
    method = load_method(f"{plugin(VANDAL)}:Vandal")
    assert look() == before
    with undisturbed():
        method(None, None)
        assert look() != before
    assert look() == before


def test_an_edited_helper_makes_another_method(plugin, here):
    (here / "helper_of_it.py").write_text("SIZE = 1\n")
    (here / "deeper.py").write_text("")
    (here / "unrelated.py").write_text("")
    bare = plugin("class Method(Still): ...")
    name = plugin("import helper_of_it\nclass Method(Still):\n    import deeper")
    path = f"{name}:Method"
    known = [source_digest(path)]
    for name in ("helper_of_it", "deeper"):
        (here / f"{name}.py").write_text("SIZE = 2\n")
        known.append(source_digest(path))
    assert len({*known}) == 3
    (here / "unrelated.py").write_text("SIZE = 2\n")
    assert source_digest(path) == known[-1]
    assert source_digest(f"{bare}:Method") == source_digest(f"{bare}:Method") not in known
    assert source_digest("methods.apb:Apb") == ""


@pytest.mark.parametrize(
    "line", ["from . import near", "import __main__", "import broken", "from gone import name"]
)
def test_what_a_plug_in_does_not_get_to_import_is_no_trouble(plugin, here, line):
    (here / "broken.py").write_text("def :")
    path = f"{plugin(f'class Method(Still):{chr(10)}    def later(self): {line}')}:Method"
    assert len(source_digest(path)) == 64


def test_a_plug_in_may_start_processes(plugin, smoke):
    name = plugin(
        """
        import multiprocessing
        class Parent(Still):
            def adapter(self, make_env, n_tasks, streams):
                child = multiprocessing.get_context("spawn").Process(target=os.getpid)
                child.start()
                child.join()
                assert child.exitcode == 0
                return super().adapter(make_env, n_tasks, streams)
        """
    )
    done = smoke("--methods", "none", "--method", f"{name}:Parent")
    assert (done.code, done.err) == (0, ""), done


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "./my_method.py:Hill",
            "give my_method:Hill, and run the command in the folder that contains the file",
        )
    ],
)
def test_a_file_in_place_of_a_module_is_told(smoke, path, said):
    assert said in smoke("--method", path).complaint
