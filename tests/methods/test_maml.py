"""MAML: the rates of its steps on test tasks, and what follows them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmark.seeding import Streams
from methods.core.gradient_steps import inner_step, leaves, task_step
from methods.core.policy_gradient import gaussian_policy
from methods.maml import LEARNER, Maml, MamlConfig, MamlFinetuned

BATCH, OWN, ALPHA = 100, 2, 0.3
CONFIG = MamlConfig(hidden=8, episodes=2, own_steps=OWN, inner_rate=ALPHA)


def learning(method: Any, pool: Any, steps: int) -> list[tuple[Any, Any, Any]]:
    """For each step: parameters before it, its batch, and parameters after it."""
    adapter, seen = method.adapter(pool.make_env, 2, Streams(0, "adapt")), []
    learn = adapter._learn

    def watched(params: Any, batch: Any, done: int) -> Any:
        seen.append((params, batch, learn(params, batch, done)))
        return seen[-1][-1]

    adapter._learn = watched
    for _ in range(steps):
        adapter.step(BATCH)
    return seen


def assert_same(one: Any, other: Any) -> None:
    assert all(torch.equal(one[name], other[name]) for name in one | other)


@pytest.mark.parametrize("kind", [Maml, MamlFinetuned])
def test_the_first_step_on_a_test_task_uses_alpha_and_later_ones_half_of_it(
    kind: Any, meta_trained: Callable[..., Any], point_pool: Callable[..., Any]
) -> None:
    method = meta_trained(kind, CONFIG, 4 * BATCH)
    steps = learning(method, point_pool(10**6), OWN)
    assert_same(steps[0][0], LEARNER.start(method.theta, 2))
    for (params, batch, after), rate in zip(steps, (ALPHA, ALPHA / 2), strict=True):
        assert_same(after, inner_step(LEARNER, {}, leaves(params), batch, rate))


def test_defaults_are_the_official_ones_but_for_the_steps_on_a_test_task() -> None:
    official = {
        "gamma": 0.99,
        "lam": 1.0,
        "inner_rate": 0.1,
        "later_rate": 0.5,
        "inner_steps": 1,
        "episodes": 20,
    }
    region = {
        "max_kl": 0.01,
        "damping": 1e-5,
        "cg_iterations": 10,
        "fisher_stride": 1,
        "backtracks": 15,
        "backtrack_ratio": 0.8,
    }
    assert vars(MamlConfig()) == {
        **official,
        **region,
        "hidden": 100,
        "first_order": False,
        "stochastic": False,
        "own_steps": 1,
    }


def test_fine_tuning_is_trpo_on_each_task(
    meta_trained: Callable[..., Any], point_pool: Callable[..., Any]
) -> None:
    method = meta_trained(MamlFinetuned, CONFIG, 4 * BATCH)
    *_, (params, batch, after) = learning(method, point_pool(10**6), OWN + 1)
    expected, outcome = task_step(gaussian_policy, params, batch, CONFIG)
    assert outcome.accepted.all()
    assert_same(after, expected)
