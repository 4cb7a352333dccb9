"""Learning in VariBAD: policy and autoencoder apart, their order, and each test task alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.pool import TaskPool
from benchmark.seeding import Streams
from methods.core.nets import spread
from methods.core.trial_replay import TrialReplay
from methods.core.trials import TrialBatch, TrialRunner, Trials, trial_advantages
from methods.varibad import (
    Varibad,
    VaribadAgent,
    VaribadConfig,
    VaribadFinetuned,
    belief,
    draw,
    elbo,
    init,
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


def test_policy_and_autoencoder_learn_apart(
    method: Varibad, point_pool: Callable[..., TaskPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = agent_of(method)
    trials, seen = trials_of(agent, point_pool(10**6)), []
    theta, phi = copied(agent.ppo.params), copied(agent.phi)
    for tensor in agent.phi.values():
        tensor.requires_grad_()

    def watched(loss_of: Callable[[Any, Tensor], Tensor], size: int) -> None:
        leaves = {
            name: tensor.clone().requires_grad_() for name, tensor in agent.ppo.params.items()
        }
        wanted = [*leaves.values(), *agent.phi.values()]
        seen.append(
            (
                size,
                torch.autograd.grad(loss_of(leaves, torch.arange(size)), wanted, allow_unused=True),
            )
        )

    with monkeypatch.context() as patch:
        patch.setattr(agent.ppo, "update", watched)
        agent._learn_policy(trials)
    [(size, gradients)] = seen
    assert size == K * H * N * 2
    assert all(g is not None and g.abs().sum() > 0 for g in gradients[: len(theta)])
    assert all(g is None for g in gradients[len(theta) :])
    for tensor in agent.phi.values():
        tensor.requires_grad_(False)
    agent._learn_policy(trials)
    assert same(phi, agent.phi)
    assert not same(theta, agent.ppo.params)
    theta = copied(agent.ppo.params)
    agent._learn_beliefs(trials.moments)
    assert same(theta, agent.ppo.params)
    assert not any(torch.equal(phi[name], tensor) for name, tensor in agent.phi.items())


def test_the_ratio_of_the_first_minibatch_is_one(
    method: Varibad, point_pool: Callable[..., TaskPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acting and learning share one policy, one belief and one set of statistics."""
    agent, ratios = agent_of(method), []
    agent.config = replace(CONFIG, value_weight=0.0, entropy_weight=0.0)
    trials = trials_of(agent, point_pool(10**6))

    def watched(loss_of: Callable[[Any, Tensor], Tensor], size: int) -> None:
        ratios.extend(
            float(loss_of(agent.ppo.params, torch.tensor([i]))) for i in range(0, size, 7)
        )

    monkeypatch.setattr(agent.ppo, "update", watched)
    monkeypatch.setattr(
        "methods.varibad.normalised_advantages", lambda advantage, alone: torch.ones_like(advantage)
    )
    agent._learn_policy(trials)
    assert ratios == pytest.approx([-1.0] * len(ratios), abs=1e-4)


def test_the_autoencoder_learns_from_rewards_as_they_were(
    method: Varibad, point_pool: Callable[..., TaskPool]
) -> None:
    agent = agent_of(method)
    trials = trials_of(agent, point_pool(10**6))
    agent.learn(trials)
    replayed = agent.replay.at(torch.arange(N * 2)[None])  # column by column
    torch.testing.assert_close(replayed.reward, trials.moments.reward.flatten(1))
    assert not torch.allclose(method.rewards(trials.moments.reward), trials.moments.reward)


@pytest.mark.parametrize("norm", [0.01, 1e6])
@pytest.mark.parametrize("kind", ["reward", "transition"])
def test_the_autoencoder_learns_as_adam_does_by_hand_with_each_network_clipped(
    meta_trained: Callable[..., Any], point_pool: Callable[..., TaskPool], kind: str, norm: float
) -> None:
    method = meta_trained(Varibad, CONFIG, 2 * BUDGET, kind=kind)
    agent = agent_of(method)
    agent.config = config = replace(CONFIG, vae_updates=3, truncation=7, vae_max_grad_norm=norm)
    trials = trials_of(agent, point_pool(10**6))
    expected = {name: tensor.clone().requires_grad_() for name, tensor in agent.phi.items()}
    adam = torch.optim.Adam(expected.values(), config.vae_learning_rate)
    generator = torch.Generator()
    generator.set_state(agent._draws.get_state())
    held, made = int(agent.replay.held), agent.updates
    agent._learn_beliefs(trials.moments)
    assert int(agent.replay.held) == held + N * 2 and agent.updates == made + 3
    for _ in range(3):
        batch = agent.replay.sample(3, generator)
        assert batch.length.tolist() == [K * H] * 3
        terms = elbo(expected, batch, draw(batch.length, config, generator), 7)
        weight = {"reward": 1.0, "transition": 10.0}[kind]
        losses = [terms.reward[b] + terms.state[b] + weight * terms.kl[b] for b in range(3)]
        adam.zero_grad()
        (sum(losses) / 3).backward()
        norms = []
        for names in (("see", "gru", "belief"), ("reward",), ("state",)):
            mine = [tensor for name, tensor in expected.items() if name.startswith(names)]
            norms.append(float(torch.nn.utils.clip_grad_norm_(mine, norm)) if mine else 0.0)
        # large enough for clipping to show
        assert min(norms[:2]) > 0.01 and (norms[2] > 0.01) is (kind == "transition")
        adam.step()
    for name, tensor in agent.phi.items():
        torch.testing.assert_close(tensor, expected[name].detach(), rtol=1e-4, atol=1e-6, msg=name)


def test_the_policy_earns_scaled_rewards(
    method: Varibad, point_pool: Callable[..., TaskPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, seen = agent_of(method), []

    def watched(trials: Trials, reward: Tensor, gamma: float, lam: float) -> Any:
        seen.append((reward, gamma, lam))
        return trial_advantages(trials, reward, gamma, lam)

    monkeypatch.setattr("methods.varibad.trial_advantages", watched)
    trials = trials_of(agent, point_pool(10**6))
    agent._learn_policy(trials)
    [(reward, *discounts)] = seen
    torch.testing.assert_close(reward, method.rewards(trials.moments.reward))
    assert not torch.allclose(reward, trials.moments.reward) and discounts == [
        CONFIG.gamma,
        CONFIG.lam,
    ]


@pytest.mark.parametrize(("buffer", "held"), [(3, 3), (10**4, 2 * N * 2)])
def test_the_buffer_holds_as_many_trials_as_it_is_told_to(
    meta_trained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, buffer: int, held: int
) -> None:
    replays = []

    def watched(*args: Any) -> TrialReplay:
        replays.append(TrialReplay(*args))
        return replays[-1]

    monkeypatch.setattr("methods.varibad.TrialReplay", watched)
    meta_trained(Varibad, replace(CONFIG, vae_buffer=buffer, precollect=2 * BUDGET), 2 * BUDGET)
    # including those collected before the first update
    assert [int(replay.held) for replay in replays] == [held]


def test_updates_are_those_of_both_optimisers(
    meta_trained: Callable[..., Any], point_pool: Callable[..., TaskPool]
) -> None:
    agent = agent_of(meta_trained(Varibad, replace(CONFIG, vae_updates=3), BUDGET))
    trials = trials_of(agent, point_pool(10**6))
    for batches in (1, 2):
        agent.learn(trials)
        assert agent.updates == batches * (CONFIG.epochs * CONFIG.minibatches + 3)


def test_nothing_is_learned_before_enough_was_collected(meta_trained: Callable[..., Any]) -> None:
    config = replace(CONFIG, precollect=2 * BUDGET + 1)
    for batches in (3, 5):
        method = meta_trained(Varibad, config, batches * BUDGET)
        # all that is collected enters the statistics it is normalised by
        assert method.states.count == method.rewards.moments.count == batches * BUDGET
    once = meta_trained(Varibad, replace(config, vae_updates=1), 3 * BUDGET)
    at_once = meta_trained(Varibad, CONFIG, BUDGET)
    start = init(once.spec, CONFIG, Streams(0, "train").child("method").torch("init"))
    for trained in (once, at_once):
        moved = (trained.theta["log_std"] - start[0]["log_std"]).abs().max()
        # no farther than the Adam steps on one batch allow
        assert 0 < moved < 1.01 * CONFIG.learning_rate * CONFIG.epochs * CONFIG.minibatches


def test_what_a_belief_is_normalised_by_is_what_was_believed_in_training(
    method: Varibad, point_pool: Callable[..., TaskPool]
) -> None:
    agent = agent_of(method)
    trials = trials_of(agent, point_pool(10**6))
    count, mean = method.beliefs.count, method.beliefs.mean.clone()
    rows = belief(agent.phi, trials.memory).double().flatten(0, 2)  # before the encoder moves
    agent.meta_learn(trials)
    expected = (count * mean + rows.sum(0)) / (count + len(rows))
    torch.testing.assert_close(method.beliefs.mean, expected)
    torch.testing.assert_close(method.beliefs.count, count + len(rows))


def of_task(trials: Trials, n: int) -> Trials:
    moments, choices = (
        type(part)(*(tensor[:, n : n + 1] for tensor in part)) for part in trials[:2]
    )
    return Trials(moments, choices, trials.memory[:, n : n + 1], trials.next_value[:, n : n + 1])


def test_tasks_that_learn_together_learn_as_each_would_alone(
    method: Varibad, point_pool: Callable[..., TaskPool]
) -> None:
    together, batches = agent_of(method, (N,)), []
    for _ in range(2):
        batches.append(trials_of(together, point_pool(10**6)))
        together.learn(batches[-1])
    for n in range(N):
        alone = agent_of(method, (1,))
        for trials in batches:
            alone.learn(of_task(trials, n))
        for ours, theirs in ((together.ppo.params, alone.ppo.params), (together.phi, alone.phi)):
            for name, tensor in ours.items():
                torch.testing.assert_close(
                    tensor[n : n + 1], theirs[name], rtol=1e-3, atol=1e-5, msg=name
                )


def test_what_one_task_sees_moves_no_weight_of_another(
    method: Varibad, point_pool: Callable[..., TaskPool]
) -> None:
    agents = [agent_of(method, (N,)) for _ in range(2)]
    trials = trials_of(agents[0], point_pool(10**6))
    agents[1]._generator.set_state(agents[0]._generator.get_state())
    other = trials.moments.reward.clone()
    other[:, 1] *= 10.0
    ended = trials.moments.trial_ended.clone()
    ended[::9, 1] = True  # it also has more trials, for its ring
    agents[0].learn(trials)
    agents[1].learn(
        trials._replace(moments=trials.moments._replace(reward=other, trial_ended=ended))
    )
    for left, right in (
        (agents[0].ppo.params, agents[1].ppo.params),
        (agents[0].phi, agents[1].phi),
    ):
        for n, alike in enumerate((True, False)):
            assert (
                same(
                    *(
                        {name: tensor[n] for name, tensor in params.items()}
                        for params in (left, right)
                    )
                )
                is alike
            )


def test_a_test_task_is_tuned_alike_whoever_is_beside_it(
    method: Varibad, point_pool: Callable[..., TaskPool]
) -> None:
    tuned, weights = VaribadFinetuned(method.spec, CONFIG), []
    tuned.load_state_dict(method.state_dict())
    for ids in ((0, 1), (0, 2)):
        adapter = tuned.adapter(point_pool(10**6, ids).make_env, N, Streams(0, "adapt"))
        while adapter.updates < 2 * (CONFIG.epochs * CONFIG.minibatches + CONFIG.vae_updates):
            adapter.step(10**4)
        weights.append(adapter._agent.ppo.params | adapter._agent.phi)
    for n, alike in enumerate((True, False)):
        assert (
            same(*({name: tensor[n] for name, tensor in params.items()} for params in weights))
            is alike
        )


@pytest.mark.parametrize("lead", [(), (N,)])
def test_an_agent_goes_on_from_its_state(
    method: Varibad, point_pool: Callable[..., TaskPool], lead: tuple[int, ...]
) -> None:
    one, other = agent_of(method, lead), agent_of(method, lead)
    one.learn(trials_of(one, point_pool(10**6)))
    state = one.state_dict()
    trials = trials_of(one, point_pool(10**6))
    one.learn(trials)
    for _ in range(2):  # after `one` went on, and twice: the state and what was loaded are copies
        other.load_state_dict(state)
        other.learn(trials)
    other.load_state_dict(state)
    again = trials_of(other, point_pool(10**6))
    assert torch.equal(trials.moments.action, again.moments.action)
    other.learn(again)
    assert (
        same(one.ppo.params, other.ppo.params)
        and same(one.phi, other.phi)
        and one.updates == other.updates
    )
