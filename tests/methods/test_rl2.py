"""RL²: what memory carries between episodes, what evaluation begins with, and what learns."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark.pool import TaskPool
from benchmark.protocol import Evaluator
from benchmark.seeding import Streams
from envs.api import Step
from envs.point import PointGoal
from methods.core.nets import spread
from methods.core.trial_adapter import ByMean, RememberingPolicy
from methods.core.trials import Moment, TrialBatch, TrialRunner, Trials, trial_advantages
from methods.rl2 import Rl2, Rl2Agent, Rl2Config, Rl2Finetuned, networks, outputs

CPU = torch.device("cpu")

H, K, N = 50, 2, 2
CONFIG = Rl2Config(
    hidden=8,
    memory=6,
    latent=5,
    action_embedding=3,
    state_embedding=4,
    reward_embedding=2,
    minibatches=2,
    copies=2,
)
BUDGET = N * CONFIG.copies * K * H


@pytest.fixture
def method(meta_trained: Callable[..., Any]) -> Rl2:
    return meta_trained(Rl2, CONFIG, 2 * BUDGET)


def agent_of(method: Rl2, lead: tuple[int, ...] = ()) -> Rl2Agent:
    theta = spread(method.theta, *lead) if lead else method.theta
    return Rl2Agent(theta, method.rewards, CONFIG, Streams(0, "agent"), lead)


def trials_of(agent: Rl2Agent, pool: TaskPool, copies: int = 2) -> Any:
    runner = TrialRunner(pool.make_env(copies), K, CPU)
    return TrialBatch(runner, CONFIG.memory, K * H).collect(agent)


@pytest.mark.parametrize("lead", [(), (N,)])
def test_what_is_recalled_in_learning_is_what_was_remembered_in_acting(
    method: Rl2, point_pool: Callable[..., TaskPool], lead: tuple[int, ...]
) -> None:
    agent = agent_of(method, lead)
    trials = trials_of(agent, point_pool(10**6))
    torch.testing.assert_close(agent.recall(trials.moments), trials.memory, rtol=1e-5, atol=1e-6)
    index = torch.tensor([1])
    part = trials.memory[:, :, index] if lead else trials.memory.flatten(1, 2)[:, index]
    torch.testing.assert_close(agent.recall(trials.moments, index), part, rtol=1e-5, atol=1e-6)
    assert trials.memory[H + 1].abs().sum() > 0  # memory outlives the first episode


def test_the_loss_at_the_old_policy_has_ratio_one_and_its_gradient_goes_through_the_memory(
    method: Rl2, point_pool: Callable[..., TaskPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = agent_of(method)
    trials, seen = trials_of(agent, point_pool(10**6)), []

    def watched(loss_of: Callable[[Any, Tensor], Tensor], size: int) -> None:
        leaves = {
            name: tensor.clone().requires_grad_() for name, tensor in agent.ppo.params.items()
        }
        loss = loss_of(leaves, torch.arange(size))
        seen.append(
            (
                size,
                loss,
                dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True)),
            )
        )

    monkeypatch.setattr(agent.ppo, "update", watched)
    agent.learn(trials)
    [(size, loss, gradient)] = seen
    assert size == N * 2
    assert torch.isfinite(loss)
    assert all(g.abs().sum() > 0 for g in gradient.values()), [
        name for name, g in gradient.items() if not g.abs().sum()
    ]


def test_a_policy_knows_no_more_of_a_state_than_it_remembers(method: Rl2) -> None:
    agent = agent_of(method)
    memory = torch.randn(N, 2, CONFIG.memory, generator=torch.Generator().manual_seed(0))
    here, there = torch.zeros(N, 2, 4), torch.ones(N, 2, 4)
    assert torch.equal(agent.mean(here, memory), agent.mean(there, memory))
    assert not torch.allclose(agent.mean(here, memory), agent.mean(here, -memory))


def test_policy_and_value_are_a_hidden_layer_each_on_relus_of_the_memory(method: Rl2) -> None:
    theta = method.theta
    memory = torch.randn(3, CONFIG.memory, generator=torch.Generator().manual_seed(0))
    latent = torch.relu(memory @ theta["latent.w"] + theta["latent.b"])
    for net, ours in (
        ("actor", outputs(theta, memory).mean),
        ("critic", outputs(theta, memory).value[..., None]),
    ):
        h = torch.tanh(latent @ theta[f"{net}0.w"] + theta[f"{net}0.b"])
        torch.testing.assert_close(ours, h @ theta[f"{net}1.w"] + theta[f"{net}1.b"])


def test_gradients_of_the_memory_and_of_the_heads_are_clipped_apart(
    method: Rl2, point_pool: Callable[..., TaskPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = agent_of(method)
    trials, params = trials_of(agent, point_pool(10**6)), agent.ppo.params
    assert sorted(name for network in networks(params) for name in network) == sorted(params)
    agent.ppo.update(
        lambda leaves, index: 100.0 * sum(tensor.sum() for tensor in leaves.values()), 4
    )
    for network in networks(params):
        norm = torch.cat([params[name].grad.flatten() for name in network]).norm()
        assert float(norm) == pytest.approx(CONFIG.max_grad_norm, rel=1e-4)
    agent.learn(trials)


def test_statistics_move_once_the_policy_has_learned(
    method: Rl2, point_pool: Callable[..., TaskPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, counts = agent_of(method), []
    trials, count = trials_of(agent, point_pool(10**6)), float(method.rewards.moments.count)
    update = agent.ppo.update

    def watched(loss_of: Callable[[Any, Tensor], Tensor], size: int) -> None:
        counts.append(float(method.rewards.moments.count))
        update(loss_of, size)

    monkeypatch.setattr(agent.ppo, "update", watched)
    agent.meta_learn(trials)
    assert counts == [count] and agent.updates == CONFIG.epochs * CONFIG.minibatches
    assert float(method.rewards.moments.count) == count + N * 2 * K * H


def test_tasks_that_learn_together_learn_as_each_would_alone(
    method: Rl2, point_pool: Callable[..., TaskPool]
) -> None:
    together, batches = agent_of(method, (N,)), []
    for _ in range(2):
        batches.append(trials_of(together, point_pool(10**6)))
        together.learn(batches[-1])
    for n in range(N):
        alone = agent_of(method, (1,))
        for trials in batches:
            alone.learn(of_task(trials, n))
        for name, tensor in together.ppo.params.items():
            torch.testing.assert_close(
                tensor[n : n + 1], alone.ppo.params[name], rtol=1e-3, atol=1e-5, msg=name
            )


def of_task(trials: Trials, n: int) -> Trials:
    moments, choices = (
        type(part)(*(tensor[:, n : n + 1] for tensor in part)) for part in trials[:2]
    )
    return Trials(moments, choices, trials.memory[:, n : n + 1], trials.next_value[:, n : n + 1])


def test_the_policy_learns_from_rewards_over_the_deviation_of_their_return(
    method: Rl2, point_pool: Callable[..., TaskPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, seen = agent_of(method), []
    trials = trials_of(agent, point_pool(10**6))

    def watched(trials: Trials, reward: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
        seen.append(reward)
        return trial_advantages(trials, reward, gamma, lam)

    monkeypatch.setattr("methods.rl2.trial_advantages", watched)
    agent.learn(trials)
    deviation = float(method.rewards.moments.var) ** 0.5
    assert deviation > 1.5  # so that scaling makes a difference
    expected = (trials.moments.reward / deviation).clamp(-10.0, 10.0)
    torch.testing.assert_close(seen, [expected], rtol=1e-5, atol=1e-6)


def test_no_statistic_moves_on_a_test_task_and_no_weight_without_fine_tuning(
    method: Rl2, point_pool: Callable[..., TaskPool]
) -> None:
    theta = {name: tensor.clone() for name, tensor in method.theta.items()}
    scale = method.rewards.moments.var.clone()
    for kind, moves in ((Rl2, False), (Rl2Finetuned, True)):
        tuned = kind(method.spec, CONFIG)
        tuned.load_state_dict(method.state_dict())
        adapter = tuned.adapter(point_pool(10**6).make_env, N, Streams(0, "adapt"))
        before = {name: tensor.clone() for name, tensor in adapter._agent.ppo.params.items()}
        for _ in range(6):
            adapter.step(K * H)
        after = adapter._agent.ppo.params
        assert all(torch.equal(after[name], tensor) is not moves for name, tensor in before.items())
        assert (adapter.updates > 0) is moves
    assert all(torch.equal(method.theta[name], tensor) for name, tensor in theta.items())
    assert torch.equal(method.rewards.moments.var, scale)


def test_an_evaluated_episode_begins_with_the_memory_after_the_first_episode_of_the_trial(
    method: Rl2, point_pool: Callable[..., TaskPool]
) -> None:
    pool = point_pool(10**6)
    adapter = method.adapter(pool.make_env, N, Streams(0, "adapt"))
    batch = TrialBatch(TrialRunner(point_pool(10**6).make_env(), K, CPU), CONFIG.memory, K * H)
    # acting by the mean, the agent draws nothing
    trials = batch.collect(
        ByMean(Rl2Agent(method.theta, method.rewards, CONFIG, Streams(0, "other")))
    )
    for used, expected in ((0, 0), (20, 20), (H, H), (H + 20, H), (K * H, H), (K * H, H)):
        if used > pool.used.max():
            adapter.step(used - int(pool.used.max()))
        start = adapter.policy(np.random.default_rng(0))._start
        torch.testing.assert_close(start, trials.memory[expected, :, 0], rtol=1e-5, atol=1e-6)
    adapter.step(100)
    assert pool.used.tolist() == [K * H] * N  # it stops after one trial


def test_the_policy_goes_on_remembering_within_an_evaluated_episode_and_forgets_it_after(
    method: Rl2,
) -> None:
    tasks = PointGoal().split("ood")[:N]
    adapter = method.adapter(
        TaskPool(PointGoal(), tasks, Streams(0), allowed=10**6).make_env, N, Streams(0, "adapt")
    )
    adapter.step(H)
    policy, agent = adapter.policy(np.random.default_rng(0)), agent_of(method)
    seen: list[tuple[np.ndarray, Any]] = []

    class Watched:
        def reset(self, mask: Any) -> None:
            policy.reset(mask)

        def act(self, obs: Any) -> Any:
            seen.append((policy._memory.clone(), obs.copy()))
            return policy.act(obs)

        def observe(self, step: Any) -> None:
            policy.observe(step)

    evaluate = Evaluator(PointGoal(), tasks, Streams(0))
    first = evaluate(Watched())
    memory = torch.zeros(N, 10, CONFIG.memory) + policy._start[:, None]
    for t, (remembered, obs) in enumerate(seen[:-1]):
        torch.testing.assert_close(remembered, memory, rtol=1e-5, atol=1e-6)
        obs, next_obs = torch.from_numpy(obs), torch.from_numpy(seen[t + 1][1])
        action = agent.mean(obs, memory)
        goal = torch.tensor(
            [
                [task.params["radius"] * f(task.params["angle"]) for f in (np.cos, np.sin)]
                for task in tasks
            ]
        )
        reward = -(next_obs[..., :2] - goal[:, None]).norm(dim=-1).float()
        none = torch.zeros(N, 10, dtype=torch.bool)
        memory = agent.remember(
            memory,
            Moment(
                obs,
                action,
                reward,
                next_obs=next_obs,
                terminated=none,
                truncated=none,
                trial_ended=none,
            ),
        ).detach()
    np.testing.assert_array_equal(evaluate(policy).returns, first.returns)


def test_an_evaluated_action_is_clipped_for_the_task_and_remembered_as_in_training() -> None:
    """In training, the memory is given actions as drawn, not clipped."""
    remembered: list[Tensor] = []

    class Bold:
        def mean(self, obs: Tensor, memory: Tensor) -> Tensor:
            return torch.tensor([3.0, -0.5]).expand(*obs.shape[:2], 2)

        def remember(self, memory: Tensor, moment: Moment) -> Tensor:
            remembered.append(moment.action)
            return memory

    agent: Any = Bold()
    policy = RememberingPolicy(agent, torch.zeros(N, 4))
    obs, no = np.zeros((N, 1, 4), np.float32), np.zeros((N, 1), bool)
    policy.reset(~no)
    assert (policy.act(obs) == np.array([1.0, -0.5], np.float32)).all()
    policy.observe(Step(obs, np.zeros((N, 1), np.float32), terminated=no, truncated=no))
    assert torch.equal(remembered[0], agent.mean(torch.zeros(N, 1, 4), torch.zeros(N, 1, 4)))


def test_a_method_goes_on_from_its_state_and_refuses_without_one(
    method: Rl2, point_pool: Callable[..., TaskPool]
) -> None:
    fresh = Rl2(method.spec, CONFIG)
    with pytest.raises(
        RuntimeError, match="finish a trainer or call load_state_dict before adapter"
    ):
        fresh.adapter(point_pool(0).make_env, N, Streams(0))
    fresh.load_state_dict(method.state_dict())
    assert all(torch.equal(fresh.theta[name], tensor) for name, tensor in method.theta.items())
    assert torch.equal(fresh.rewards.moments.var, method.rewards.moments.var)


def test_a_budget_too_small_is_refused_with_its_numbers(meta_trained: Callable[..., Any]) -> None:
    with pytest.raises(
        ValueError,
        match=r"400 environment steps \(2 tasks × 2 trials × 2 episodes × 50 steps\).*is 399",
    ):
        meta_trained(Rl2, CONFIG, BUDGET - 1)


@pytest.mark.parametrize(
    "setting", [{"memory": 0}, {"latent": 10_000}, {"tuned_copies": 0}, {"lam": 2.0}]
)
def test_absurd_settings_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be from"):
        replace(CONFIG, **setting)
