"""MAML and CAVIA alike: budget use, and what an adapter isolates, hands out and resumes from."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.pool import TaskPool
from benchmark.seeding import Streams
from methods.cavia import Cavia, CaviaConfig, CaviaFinetuned
from methods.core import gradient_loop
from methods.core.gradient_loop import GradientAdapter
from methods.core.nets import Params
from methods.maml import Maml, MamlConfig, MamlFinetuned

KINDS = [
    (Maml, MamlConfig),
    (MamlFinetuned, MamlConfig),
    (Cavia, CaviaConfig),
    (CaviaFinetuned, CaviaConfig),
]
HORIZON, EPISODES, OWN = 50, 2, 3
BATCH = EPISODES * HORIZON  # environment steps of one batch, per task
OUTER = 2 * 2 * BATCH  # environment steps of an outer step: two tasks, two batches

Train = Callable[..., Any]
Pool = Callable[..., TaskPool]


@pytest.fixture(params=KINDS, ids=["maml", "maml+ft", "cavia", "cavia+ft"])
def method(request: pytest.FixtureRequest, meta_trained: Train) -> Any:
    kind, config = request.param
    return meta_trained(kind, config(hidden=8, episodes=EPISODES, own_steps=OWN), OUTER)


def begun(method: Any, pool: TaskPool) -> GradientAdapter:
    adapter: GradientAdapter = method.adapter(pool.make_env, len(pool.tasks), Streams(0, "adapt"))
    return adapter


def use(adapter: GradientAdapter, pool: TaskPool, steps: int) -> None:
    """Adapt until each task has used `steps` environment steps, in pieces that cut up batches."""
    while pool.used.max() < steps:
        before = pool.used.max()
        adapter.step(min(70, steps - int(before)))
        assert pool.used.max() > before


def params_of(adapter: GradientAdapter) -> Params:
    params: Params = adapter.state_dict()["params"]
    return params


def same(one: Params, other: Params) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one | other)


def observations(n_tasks: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n_tasks, 3, 4)).astype(np.float32)


# Budgets


@pytest.mark.parametrize(("kind", "config"), KINDS)
def test_a_budget_too_small_for_an_outer_step_is_refused_with_its_numbers(
    meta_trained: Train, kind: Any, config: Any
) -> None:
    numbers = (
        r"400 environment steps \(2 tasks × 2 episodes × 50 steps × 2 batches\) and the budget"
        r" is 399"
    )
    with pytest.raises(ValueError, match=numbers):
        meta_trained(kind, config(hidden=8, episodes=EPISODES), OUTER - 1)


@pytest.mark.parametrize("inner_steps", [0, 1, 2])
@pytest.mark.parametrize(("kind", "config"), [KINDS[0], KINDS[2]])
def test_every_outer_step_that_the_budget_holds_is_made(
    meta_trained: Train, kind: Any, config: Any, inner_steps: int
) -> None:
    settings = config(hidden=8, episodes=EPISODES, inner_steps=inner_steps)
    one = 2 * (inner_steps + 1) * BATCH
    first, also, second = (
        meta_trained(kind, settings, budget).theta for budget in (one, 2 * one - 1, 2 * one)
    )
    assert same(first, also)
    assert not same(first, second)


def test_own_steps_come_after_their_batches_and_then_a_method_is_frozen_or_goes_on(
    method: Any, point_pool: Pool
) -> None:
    pool = point_pool(10**6)
    adapter = begun(method, pool)
    for step in range(1, OWN + 1):
        before = params_of(adapter)
        use(adapter, pool, step * BATCH - 2)
        assert adapter.updates == step - 1
        assert same(params_of(adapter), before)
        use(adapter, pool, step * BATCH)
        assert adapter.updates == step
        assert not same(params_of(adapter), before)
    end = params_of(adapter)
    if method.trained_by:
        use(adapter, pool, (OWN + 4) * BATCH)
        assert adapter.updates == OWN + 4
        assert not same(params_of(adapter), end)
    else:
        adapter.step(1000)
        assert pool.used.tolist() == [OWN * BATCH] * 2
        assert same(params_of(adapter), end)


def test_discounts_reach_the_advantages_in_training_and_at_test(
    meta_trained: Train, point_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, samples = [], gradient_loop.samples
    monkeypatch.setattr(
        gradient_loop,
        "samples",
        lambda batch, *discounts: seen.append(discounts) or samples(batch, *discounts),
    )
    method = meta_trained(Maml, MamlConfig(hidden=8, episodes=EPISODES, gamma=0.9, lam=0.7), OUTER)
    begun(method, point_pool(BATCH)).step(BATCH)
    assert seen == [(0.9, 0.7)] * 3  # before and after adaptation, and on the test tasks


# Isolation


def test_adaptation_leaves_the_trained_weights_alone(method: Any, point_pool: Pool) -> None:
    theta = {name: tensor.clone() for name, tensor in method.theta.items()}
    pool = point_pool(10**6)
    use(begun(method, pool), pool, OWN * BATCH)
    assert same(method.theta, theta)


def test_a_task_learns_the_same_whatever_is_adapted_beside_it(
    method: Any, point_pool: Pool
) -> None:
    ends = []
    for ids in ((0, 1), (0, 7)):
        pool = point_pool(10**6, ids)
        adapter = begun(method, pool)
        use(adapter, pool, OWN * BATCH)
        ends.append(params_of(adapter))
    for name, tensor in ends[0].items():
        assert torch.equal(tensor[0], ends[1][name][0])
    assert any(not torch.equal(tensor[1], ends[1][name][1]) for name, tensor in ends[0].items())


# Policies


def test_a_policy_stays_when_its_adapter_goes_on(method: Any, point_pool: Pool) -> None:
    pool = point_pool(10**6)
    adapter = begun(method, pool)
    policy = adapter.policy(np.random.default_rng(0))
    before = policy.act(observations())
    use(adapter, pool, BATCH)
    np.testing.assert_array_equal(policy.act(observations()), before)
    assert not np.array_equal(adapter.policy(np.random.default_rng(0)).act(observations()), before)


@pytest.mark.parametrize("stochastic", [True, False])
def test_actions_are_means_unless_they_are_to_be_drawn(
    method: Any, point_pool: Pool, stochastic: bool
) -> None:
    trained = type(method)(method.spec, replace(method.config, stochastic=stochastic))
    trained.load_state_dict(method.state_dict())
    assert trained.eval_mode == ("stochastic" if stochastic else "deterministic")
    adapter = begun(trained, point_pool(0))
    one, again, other = (
        adapter.policy(np.random.default_rng(seed)).act(observations()) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert np.array_equal(one, other) is not stochastic


def test_drawn_actions_spread_as_their_sigma_says_around_the_mean(
    method: Any, point_pool: Pool
) -> None:
    sigma = 0.05
    theta = method.state_dict()["theta"] | {"log_std": torch.full((1, 2), sigma).log()}
    mean, policy = (
        policy_with(method, theta, point_pool, stochastic) for stochastic in (False, True)
    )
    center = mean.act(observations())
    inside = np.abs(center) < 1 - 5 * sigma  # elsewhere the bounds clip draws
    draws = np.stack([policy.act(observations()) for _ in range(2000)])
    assert inside.sum() > inside.size / 2
    np.testing.assert_allclose(draws.mean(0)[inside], center[inside], atol=0.1 * sigma)
    np.testing.assert_allclose(draws.std(0)[inside], sigma, rtol=0.1)


def policy_with(method: Any, theta: Any, point_pool: Pool, stochastic: bool) -> Any:
    trained = type(method)(method.spec, replace(method.config, stochastic=stochastic))
    trained.load_state_dict({"theta": theta})
    return begun(trained, point_pool(0)).policy(np.random.default_rng(0))


# Resuming


@pytest.mark.parametrize("steps", [BATCH // 2, OWN * BATCH - 30])
def test_going_on_in_the_middle_of_a_batch_equals_never_stopping(
    method: Any, point_pool: Pool, steps: int
) -> None:
    pools = point_pool(10**6), point_pool(10**6)
    one, other = (begun(method, pool) for pool in pools)
    use(one, pools[0], steps)
    state, world = one.state_dict(), one._sampler.env._env.state_dict()  # type: ignore[attr-defined]
    use(one, pools[0], OWN * BATCH)
    other.load_state_dict(state)
    other._sampler.env._env.load_state_dict(world)  # type: ignore[attr-defined]
    use(other, pools[1], OWN * BATCH - steps)
    assert one.updates == other.updates == OWN
    assert same(params_of(one), params_of(other))
    assert torch.equal(one.state_dict()["generator"], other.state_dict()["generator"])


def test_a_method_goes_on_from_its_state(method: Any, point_pool: Pool) -> None:
    restored = type(method)(method.spec, method.config)
    with pytest.raises(
        RuntimeError, match="finish a trainer or call load_state_dict before adapter"
    ):
        begun(restored, point_pool(0))
    restored.load_state_dict(method.state_dict())
    assert same(restored.theta, method.theta)
