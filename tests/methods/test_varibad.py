"""VariBAD: what a belief depends on, what evaluation begins with, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark.pool import TaskPool
from benchmark.seeding import Streams
from envs.api import Step
from methods.api import Spec
from methods.core.nets import spread
from methods.core.trial_adapter import ByMean
from methods.core.trials import TrialBatch, TrialRunner
from methods.varibad import (
    Varibad,
    VaribadAgent,
    VaribadConfig,
    VaribadFinetuned,
    belief,
    init,
    networks,
)

CPU = torch.device("cpu")

H, K, N = 50, 2, 2
CONFIG = VaribadConfig(
    hidden=8,
    embedding=4,
    memory=6,
    latent_size=2,
    action_embedding=3,
    state_embedding=4,
    reward_embedding=2,
    reward_decoder=6,
    state_decoder=8,
    minibatches=2,
    posteriors=4,
    transitions=5,
    vae_batch=3,
    copies=2,
    precollect=0,
)
BUDGET = N * CONFIG.copies * K * H


@pytest.fixture
def method(meta_trained: Callable[..., Any]) -> Varibad:
    return meta_trained(Varibad, CONFIG, 2 * BUDGET)


def agent_of(method: Varibad, lead: tuple[int, ...] = ()) -> VaribadAgent:
    params = method._trained()
    theta, phi = (spread(part, *lead) for part in params) if lead else params
    return method._agent((theta, phi), 50, Streams(0, "agent"), lead)


def trials_of(agent: VaribadAgent, pool: TaskPool, copies: int = 2) -> Any:
    runner = TrialRunner(pool.make_env(copies), K, CPU)
    return TrialBatch(runner, CONFIG.memory, K * H).collect(agent)


def copied(params: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in params.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("lead", [(), (N,)])
def test_what_is_recalled_in_learning_is_what_was_remembered_in_acting(
    method: Varibad, point_pool: Callable[..., TaskPool], lead: tuple[int, ...]
) -> None:
    agent = agent_of(method, lead)
    trials = trials_of(agent, point_pool(10**6))
    torch.testing.assert_close(agent.recall(trials.moments), trials.memory, rtol=1e-5, atol=1e-6)
    assert trials.memory[H + 1].abs().sum() > 0  # memory outlives the first episode


@pytest.mark.parametrize("t", [0, 1, H, K * H - 1])
def test_a_belief_rests_on_nothing_from_its_step_on(
    method: Varibad, point_pool: Callable[..., TaskPool], t: int
) -> None:
    agent = agent_of(method)
    moments = trials_of(agent, point_pool(10**6)).moments
    unknown = {name: getattr(moments, name).clone() for name in ("action", "reward", "next_obs")}
    for part in unknown.values():
        part[t:] = torch.nan
    unknown["truncated"] = moments.truncated.clone()
    unknown["truncated"][t:] ^= True
    beliefs = belief(agent.phi, agent.recall(moments._replace(**unknown)))
    assert beliefs[: t + 1].isfinite().all()
    assert beliefs[t + 1 :].isnan().all()


def test_the_policy_is_told_both_the_mean_and_the_spread_of_its_belief_and_no_more_of_the_past(
    method: Varibad,
) -> None:
    agent, obs = agent_of(method), torch.zeros(N, 2, 4)
    memory = torch.randn(N, 2, CONFIG.memory, generator=torch.Generator().manual_seed(0))
    map_to_belief = agent.phi["belief.w"].T  # [2Z, R]
    for unseen in torch.linalg.svd(map_to_belief, full_matrices=True).Vh[2 * CONFIG.latent_size :]:
        torch.testing.assert_close(
            agent.mean(obs, memory + unseen), agent.mean(obs, memory), rtol=1e-4, atol=1e-5
        )
    for entry in torch.eye(2 * CONFIG.latent_size):
        moved = torch.linalg.lstsq(map_to_belief, entry[:, None]).solution[:, 0]
        assert not torch.allclose(agent.mean(obs, memory + moved), agent.mean(obs, memory))
        assert not torch.allclose(agent.value(obs, memory + moved), agent.value(obs, memory))


def test_no_statistic_moves_on_a_test_task_and_no_weight_without_fine_tuning(
    method: Varibad, point_pool: Callable[..., TaskPool]
) -> None:
    theta, phi = copied(method.theta), copied(method.phi)
    mean, scale, told = (
        method.states.mean.clone(),
        method.rewards.moments.var.clone(),
        method.beliefs.mean.clone(),
    )
    for kind, moves in ((Varibad, False), (VaribadFinetuned, True)):
        tuned = kind(method.spec, CONFIG)
        tuned.load_state_dict(method.state_dict())
        adapter = tuned.adapter(point_pool(10**6).make_env, N, Streams(0, "adapt"))
        agent = adapter._agent
        before = copied(agent.ppo.params), copied(agent.phi)
        policy = adapter.policy(np.random.default_rng(0))
        for _ in range(6):
            adapter.step(K * H)
        for old, new in zip(before, (agent.ppo.params, agent.phi), strict=True):
            assert all(torch.equal(new[name], tensor) is not moves for name, tensor in old.items())
        # the policy kept its weights
        assert same(before[0], policy._agent.ppo.params) and same(before[1], policy._agent.phi)
        assert (adapter.updates > 0) is moves
        assert torch.equal(tuned.states.mean, mean) and torch.equal(
            tuned.rewards.moments.var, scale
        )
        assert torch.equal(tuned.beliefs.mean, told)
    assert same(method.theta, theta) and same(method.phi, phi)


def test_an_evaluated_episode_begins_with_the_belief_after_the_first_episode_of_the_trial(
    method: Varibad, point_pool: Callable[..., TaskPool]
) -> None:
    pool = point_pool(10**6)
    adapter = method.adapter(pool.make_env, N, Streams(0, "adapt"))
    batch = TrialBatch(TrialRunner(point_pool(10**6).make_env(), K, CPU), CONFIG.memory, K * H)
    # acting by the mean, the agent draws nothing
    trials = batch.collect(ByMean(method._agent(method._trained(), 1, Streams(0, "other"))))
    for used, expected in ((0, 0), (20, 20), (H, H), (H + 20, H), (K * H, H), (K * H, H)):
        if used > pool.used.max():
            adapter.step(used - int(pool.used.max()))
        policy = adapter.policy(np.random.default_rng(0))
        torch.testing.assert_close(
            policy._start, trials.memory[expected, :, 0], rtol=1e-5, atol=1e-6
        )
    adapter.step(100)
    assert pool.used.tolist() == [K * H] * N  # it stops after one trial


def test_the_end_of_an_episode_is_seen_and_is_told_apart_from_a_step_within_it(
    method: Varibad, point_pool: Callable[..., TaskPool]
) -> None:
    agent = agent_of(method)
    moments = trials_of(agent, point_pool(10**6)).moments
    assert moments.ended[H - 1].all() and not moments.ended[: H - 1].any()
    none = torch.zeros_like(moments.truncated)
    blind, told = (
        agent.recall(moments._replace(truncated=truncated))
        for truncated in (none, moments.truncated)
    )
    assert torch.equal(blind[:H], told[:H]) and not torch.allclose(blind[H], told[H])


def test_a_policy_tells_tasks_apart_by_what_it_sees_alone(
    method: Varibad, point_pool: Callable[..., TaskPool]
) -> None:
    adapter = method.adapter(point_pool(10**6).make_env, N, Streams(0, "adapt"))
    policy = adapter.policy(np.random.default_rng(0))
    generator, none = np.random.default_rng(0), np.zeros((N, 1), bool)
    policy.reset(~none)
    obs = np.zeros((N, 1, 4), np.float32)
    for step in range(5):
        action = policy.act(obs)
        np.testing.assert_array_equal(action[0], action[1])
        obs = np.repeat(generator.normal(size=(1, 1, 4)).astype(np.float32), N, 0)
        reward = np.float32([[1.0], [1.0 - 9.0 * (step == 4)]])
        policy.observe(Step(obs, reward, none, none))
    action = policy.act(obs)
    assert not np.array_equal(action[0], action[1])  # what they saw differs in one reward


def test_a_method_goes_on_from_its_state_and_refuses_without_one(
    method: Varibad, point_pool: Callable[..., TaskPool]
) -> None:
    fresh = Varibad(method.spec, CONFIG)
    with pytest.raises(
        RuntimeError, match="finish a trainer or call load_state_dict before adapter"
    ):
        fresh.adapter(point_pool(0).make_env, N, Streams(0))
    fresh.load_state_dict(method.state_dict())
    assert same(fresh.theta, method.theta) and same(fresh.phi, method.phi)
    assert torch.equal(fresh.states.mean, method.states.mean) and torch.equal(
        fresh.beliefs.var, method.beliefs.var
    )
    assert torch.equal(fresh.rewards.moments.var, method.rewards.moments.var)


@pytest.mark.parametrize("kind", ["reward", "transition"])
def test_states_are_decoded_where_dynamics_vary(kind: str) -> None:
    method = Varibad(Spec(4, 2, H, kind), CONFIG)
    theta, phi = init(method.spec, CONFIG, torch.Generator().manual_seed(0))
    assert any(name.startswith("state") for name in phi) is (kind == "transition")
    assert not any(name.startswith(("state", "reward")) for name in theta)
    named = [name for network in networks(phi) for name in network]
    assert sorted(named) == sorted(phi) and len(networks(phi)) == (3 if kind == "transition" else 2)


def test_a_budget_too_small_is_refused_with_its_numbers(meta_trained: Callable[..., Any]) -> None:
    with pytest.raises(
        ValueError,
        match=r"400 environment steps \(2 tasks × 2 trials × 2 episodes × 50 steps\).*is 399",
    ):
        meta_trained(Varibad, CONFIG, BUDGET - 1)
    late = replace(CONFIG, precollect=1001)
    with pytest.raises(
        ValueError, match=r"1200 environment steps \(2 tasks .* × 50 steps, 3 times\).*is 1199"
    ):
        meta_trained(Varibad, late, 3 * BUDGET - 1)
    assert Varibad(Spec(4, 2, H), late).least_budget(2) == 3 * BUDGET


@pytest.mark.parametrize(
    "setting",
    [
        {"memory": 0},
        {"latent_size": 10_000},
        {"vae_batch": 0},
        {"kl_weight": -1.0},
        {"tuned_copies": 0},
        {"lam": 2.0},
    ],
)
def test_absurd_settings_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be from"):
        replace(CONFIG, **setting)
