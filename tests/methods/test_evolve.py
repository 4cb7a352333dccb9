"""The population: against TD3 with one member, against naive loops with more."""

from math import log
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.pool import TaskPool
from benchmark.protocol import Evaluator
from benchmark.seeding import Streams
from envs.point import PointGoal
from methods.apb import ApbEvolveConfig, ApbEvolveRandom
from methods.api import Spec
from methods.core.adapt import TD3Adapter
from methods.core.evolve import EvolvingAdapter, Population, PopulationConfig
from methods.core.nets import Params, actor
from methods.core.replay import Batch, Replay
from methods.core.td3 import TD3Config
from methods.td3 import Td3, Td3Evolve, Td3EvolveConfig

CPU = torch.device("cpu")

FAMILY = PointGoal()
TASKS = FAMILY.split("ood")[:3]
SPEC = Spec(FAMILY.observation_size, FAMILY.action_size, FAMILY.horizon)
SMALL: dict[str, Any] = {"hidden": 8, "batch": 8, "warmup_episodes": 1}


def pool(steps: int) -> TaskPool:
    return TaskPool(FAMILY, TASKS, Streams(0, "test"), allowed=steps)


def adapter_of(
    config: PopulationConfig, steps: int = 10_000, kind: Any = Td3Evolve
) -> tuple[EvolvingAdapter, TaskPool]:
    tasks = pool(steps)
    return kind(SPEC, config).adapter(tasks.make_env, 3, Streams(1, "adapt")), tasks


def same(one: Params, other: Params) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one | other)


def test_a_population_of_one_is_td3() -> None:
    evolving, _ = adapter_of(Td3EvolveConfig(**SMALL, population=1, param_noise=5.0))
    plain = Td3(SPEC, TD3Config(**SMALL)).adapter(pool(10_000).make_env, 3, Streams(1, "adapt"))
    for left in range(160, 0, -1):
        evolving.step(left)
        plain.step(left)
    assert isinstance(plain, TD3Adapter)
    learner = plain.learner
    assert same(evolving.learner.pi, learner.pi) and same(evolving.learner.omega, learner.omega)
    assert evolving.updates == plain.updates == 110


def test_the_steps_of_every_member_count_and_each_is_followed_by_an_update() -> None:
    adapter, tasks = adapter_of(Td3EvolveConfig(**SMALL, population=5))
    for _ in range(30):
        adapter.step(100)
    assert tasks.used.tolist() == [150] * 3 and len(adapter.collector.replay) == 150
    # the warm-up has as many steps as an episode, counted over all members
    assert adapter.updates == 150 - 50


def test_members_act_by_themselves_and_only_the_first_with_noise() -> None:
    config = Td3EvolveConfig(
        **(SMALL | {"warmup_episodes": 0}), population=5, exploration_noise=0.5
    )
    adapter, _ = adapter_of(config)
    adapter.population.draw()
    obs = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    action = adapter._act(obs)
    pi = adapter.learner.pi
    for n in range(3):
        for p in range(5):
            own = {name: pi[name][n] + adapter.population.delta[name][n, p] for name in pi}
            torch.testing.assert_close(action[n, p], actor(own, obs[n, p][None], depth=1)[0])
    assert not torch.equal(action[0, 1], action[0, 2])
    noisy = adapter.collector._explore(obs, adapter._act)
    assert torch.equal(noisy[:, 1:], action[:, 1:]) and not torch.equal(noisy[:, 0], action[:, 0])


@pytest.mark.parametrize("size", [2, 5, 8])
def test_the_best_are_recombined_as_in_a_naive_loop(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    pi = {
        "a.w": torch.randn(3, 4, 2, generator=generator),
        "a.b": torch.randn(3, 1, 2, generator=generator),
    }
    config = PopulationConfig(population=size, param_noise=0.3, noise_floor=0.2)
    population = Population(pi, config, generator)
    start = (0.3 / np.sqrt(4)) ** 2
    assert all(torch.allclose(v, torch.full_like(v, start)) for v in population.variance.values())
    before = {name: tensor.clone() for name, tensor in pi.items()}
    delta = {name: tensor.clone() for name, tensor in population.delta.items()}
    returns = torch.randn(3, size, generator=generator)
    population.recombine(pi, returns)
    k = max(1, size // 2)
    weights = np.array([log((k + 1) / i) for i in range(1, k + 1)])
    weights /= weights.sum()
    for n in range(3):
        best = sorted(range(size), key=lambda p: -returns[n, p])[:k]
        for name, tensor in pi.items():
            moved = before[name][n].double().clone()
            spread = torch.full_like(moved, 0.2**2 * start)
            for weight, p in zip(weights, best, strict=True):
                moved += weight * delta[name][n, p]
                spread += weight * delta[name][n, p].double() ** 2
            torch.testing.assert_close(tensor[n].double(), moved, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(
                population.variance[name][n].double(), spread, rtol=1e-5, atol=1e-7
            )


def test_perturbations_have_their_deviation_and_the_first_has_none() -> None:
    pi = {"a.w": torch.zeros(2, 50, 40), "a.b": torch.zeros(2, 1, 40)}
    population = Population(
        pi, PopulationConfig(population=10, param_noise=0.5), torch.Generator().manual_seed(0)
    )
    delta = population.delta["a.w"]
    assert (delta[:, 0] == 0).all() and float(delta[:, 1:].std()) == pytest.approx(
        0.5 / np.sqrt(50), rel=0.02
    )
    drawn = delta.clone()
    population.draw()
    assert not torch.equal(population.delta["a.w"], drawn)


def test_only_the_first_episode_since_the_draw_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members that fall start again; what they earn then is stored but not credited to them."""
    far = 0.15
    monkeypatch.setattr(
        PointGoal, "terminated", lambda self, qpos, qvel: np.hypot(qpos[:, 0], qpos[:, 1]) > far
    )
    adapter, _ = adapter_of(Td3EvolveConfig(**(SMALL | {"warmup_episodes": 0}), population=5))
    judged: list[torch.Tensor] = []
    monkeypatch.setattr(
        adapter.population, "recombine", lambda pi, returns: judged.append(returns.clone())
    )
    earned, over = torch.zeros(3, 5), torch.zeros(3, 5, dtype=torch.bool)
    step = adapter.collector.step

    def watched(act: Any) -> Any:
        found = step(act)
        earned.add_(torch.where(over, 0.0, torch.from_numpy(found.reward)))
        over.logical_or_(torch.from_numpy(found.terminated | found.truncated))
        return found

    monkeypatch.setattr(adapter.collector, "step", watched)
    for draw in range(3):
        earned.zero_()
        over.zero_()
        for _ in range(50):
            adapter.step(1_000)
        torch.testing.assert_close(judged[draw], earned)
        assert over.any() and (earned > -40).any()
    # the episodes of each draw begin at the start, wherever the previous ones had got to
    places = adapter.collector.replay.at(torch.arange(500, 505).expand(3, 5)).obs
    assert (places[..., :2].abs() <= 0.05).all()


@pytest.mark.parametrize("size", [2, 5, 10])
def test_who_acted_at_random_is_not_judged(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, _ = adapter_of(Td3EvolveConfig(**SMALL | {"warmup_episodes": 3}, population=size))
    times: list[int] = []
    monkeypatch.setattr(
        adapter.population, "recombine", lambda pi, returns: times.append(adapter.collector.steps)
    )
    for _ in range(300 // size):
        adapter.step(1_000)
    # the warm-up has 150 steps; a population is judged only if it began after them
    draws = range(0, 10_000, 50 * size)
    expected = [begin + 50 * size for begin in draws if begin >= 150 and begin + 50 * size <= 300]
    assert times == expected


def test_the_learner_takes_the_steps_that_are_too_few_for_all() -> None:
    config = Td3EvolveConfig(**(SMALL | {"warmup_episodes": 0}), population=5)
    adapter, tasks = adapter_of(config)
    for limit in (12, 7, 2):
        tasks.allowed = limit + int(tasks.used[0])
        adapter.step(limit)
    assert tasks.used.tolist() == [12] * 3
    assert adapter.updates == len(adapter.collector.replay) == 12
    starts = adapter.collector.replay.at(torch.tensor([[10, 11]] * 3)).obs
    assert (starts[..., :2].abs() <= 0.05).all() and (starts[..., 2:] == 0).all()


def test_replay_takes_several_transitions_at_once_also_around_its_end() -> None:
    def batch(values: torch.Tensor) -> Batch:
        row = values[None, :, None]
        return Batch(row, row, values[None], row, values[None])

    together, apart = Replay(1, 7, 1, 1, CPU), Replay(1, 7, 1, 1, CPU)
    for begin in (0, 3, 6, 9):
        values = torch.arange(begin, begin + 3.0)
        together.add(batch(values))
        for value in values:
            apart.add(batch(value[None]))
        assert len(together) == len(apart)
        index = torch.arange(len(apart))[None]
        assert torch.equal(together.at(index).obs, apart.at(index).obs)


@pytest.mark.learning
def test_the_search_alone_finds_the_goal_around_a_random_backbone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without gradients, only recombination can move the policy."""
    config = ApbEvolveConfig(
        hidden=16,
        batch=8,
        warmup_episodes=0,
        population=10,
        param_noise=1.0,
        noise_floor=0.3,
    )
    adapter, _ = adapter_of(config, 20_000, ApbEvolveRandom)
    monkeypatch.setattr(adapter.learner, "update", lambda batch, noise: None)
    evaluate = Evaluator(FAMILY, TASKS, Streams(2, "evaluation"))

    def earned() -> np.ndarray:
        returns: np.ndarray = evaluate(adapter.policy(np.random.default_rng(0))).returns.mean(1)
        return returns

    before = earned()
    for _ in range(30 * 50):
        adapter.step(20_000)
    assert (earned() > before + 10).all() and earned().mean() > -30


def test_arms_perturb_what_their_task_learns_and_nothing_else() -> None:
    """A population moves as many weights as gradients do: the linear layers, or all of TD3's."""
    apb, _ = adapter_of(ApbEvolveConfig(**SMALL), kind=ApbEvolveRandom)
    td3, _ = adapter_of(Td3EvolveConfig(**SMALL))
    layers = {f"{layer}.{part}" for layer in ("rho_h", "rho_t") for part in "wb"}
    assert set(apb.population.delta) == layers == set(apb.learner.pi)
    assert set(td3.population.delta) == layers | {"psi0.w", "psi0.b"} and not td3.learner.frozen
    assert set(apb.learner.frozen) == {"psi0.w", "psi0.b"}
    frozen = {name: tensor.clone() for name, tensor in apb.learner.frozen.items()}
    for _ in range(60):
        apb.step(1_000)
    assert same(frozen, apb.learner.frozen)
