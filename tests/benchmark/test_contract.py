"""What every registered method owes the harness."""

from copy import deepcopy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from benchmark import run, states
from benchmark.cells import expand
from benchmark.pool import TaskPool
from benchmark.seeding import Streams
from benchmark.suites import BUDGETS, SUITES
from envs.point import PointGoal
from envs.told import told
from methods import METHODS
from methods.api import Method

STREAMS = Streams(0, "adapt")
TASKS = PointGoal().split("ood")[:3]
pytestmark = pytest.mark.parametrize("name", METHODS)


def cell_of(name):
    cell = expand(
        SUITES["ood"],
        BUDGETS["smoke"],
        {name: METHODS[name]},
        families=["point-goal"],
        seeds=1,
        settings={},
    )[0]
    # enough for one outer step of an on-policy method
    return replace(cell, train_steps=min(cell.train_steps, 800))


@cache
def trained_once(name):
    """Return the method after its training, or after that of the method it is trained by.

    Only for `trained`, which copies it: nothing may change it.
    """
    cell = cell_of(name)
    method = cell.build()
    if method.meta_trains and cell.trained_by == name:
        list(run.rows_of(run.Training(cell, method)))
    elif method.meta_trains:
        method.load_state_dict(reread(trained_once(cell.trained_by).state_dict()))
    return method


@pytest.fixture
def trained(name):
    """A copy of the trained method for each test."""
    return deepcopy(trained_once(name))


def reread(state):
    """Return a state as read back from a file."""
    return states.from_bytes(states.to_bytes(state))


class Bench:
    """An adapter with the environments it made; benches with the same `tasks` start out equal."""

    def __init__(self, method, tasks=TASKS, allowed=10_000):
        family = told(PointGoal()) if method.told else PointGoal()
        self.pool, self.envs = TaskPool(family, tasks, STREAMS, allowed=allowed), []
        self.adapter = method.adapter(self.make_env, len(tasks), STREAMS.child("method"))

    def make_env(self, copies=1, task_ids=None):
        self.envs.append(self.pool.make_env(copies, task_ids))
        return self.envs[-1]

    def go(self, steps):
        """Adapt for `steps` environment steps of each task, or until the method takes no more."""
        end, before = self.pool.used.max() + steps, -1
        while before < (used := int(self.pool.used.max())) < end:
            self.adapter.step(end - used)
            before = used

    def actions(self):
        policy = self.adapter.policy(np.random.default_rng(0))
        size = (self.pool.used.size, 7, self.pool.family.observation_size)
        obs = np.random.default_rng(1).normal(size=size).astype(np.float32)
        policy.reset(np.ones(obs.shape[:2], bool))
        return policy.act(obs)


def test_it_declares_itself(name):
    method = cell_of(name).build()
    assert isinstance(method, Method)
    assert method.version >= 1
    assert method.eval_mode in ("deterministic", "stochastic")
    assert type(method).__doc__.strip().splitlines()[0]


def test_a_loaded_method_adapts_identically(name, trained):
    loaded = cell_of(name).build()
    loaded.load_state_dict(reread(trained.state_dict()))
    benches = [Bench(trained), Bench(loaded)]
    for bench in benches:
        bench.go(70)
    np.testing.assert_array_equal(benches[0].actions(), benches[1].actions())
    assert benches[0].adapter.updates == benches[1].adapter.updates
    np.testing.assert_array_equal(benches[0].pool.used, benches[1].pool.used)


def test_a_restored_adapter_goes_on_identically(name, trained):
    benches = [Bench(trained), Bench(trained)]
    benches[0].go(70)
    state = reread(benches[0].adapter.state_dict())
    benches[1].adapter.load_state_dict(state)
    for env, twin in zip(benches[0].envs, benches[1].envs, strict=True):
        twin._env.load_state_dict(env._env.state_dict())
    for steps in (0, 60):
        for bench in benches:
            if steps:
                bench.go(steps)
        np.testing.assert_array_equal(benches[0].actions(), benches[1].actions())
        assert benches[0].adapter.updates == benches[1].adapter.updates


def test_actions_are_finite_and_of_the_right_shape(name, trained):
    bench = Bench(trained)
    for _ in range(3):
        actions = bench.actions()
        assert actions.shape == (3, 7, 2)
        assert np.isfinite(actions).all()
        assert np.abs(actions).max() <= 1
        bench.go(40)


@pytest.mark.parametrize("limit", [1, 7, 50, 120])
def test_it_keeps_to_its_limit(name, trained, limit):
    bench = Bench(trained, allowed=limit)
    bench.go(limit)
    assert (bench.pool.used <= limit).all()


def test_a_policy_is_frozen(name, trained):
    bench = Bench(trained)
    bench.go(60)
    obs = np.ones((3, 2, bench.pool.family.observation_size), np.float32)
    policies = [bench.adapter.policy(np.random.default_rng(0)) for _ in range(2)]
    for policy in policies:
        policy.reset(np.ones((3, 2), bool))
    before = policies[0].act(obs)
    bench.go(60)
    np.testing.assert_array_equal(policies[1].act(obs), before)


def test_tasks_do_not_meet(name, trained):
    """One test task cannot affect another: beside other tasks, the first one adapts the same."""
    others = [TASKS[0], *PointGoal().split("ood")[5:7]]
    benches = [Bench(trained), Bench(trained, others)]
    for bench in benches:
        bench.go(90)
    np.testing.assert_allclose(
        benches[0].actions()[0], benches[1].actions()[0], rtol=1e-4, atol=1e-5
    )
