"""APB: what moves, what does not, what is shared, and what a reset renews."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.pool import TaskPool
from benchmark.seeding import Streams
from envs.point import PointGoal
from methods.apb import Apb, ApbConfig, ApbRandom, ApbReset, ApbResetConfig
from methods.api import Spec
from methods.core.adapt import TD3Adapter
from methods.core.nets import Params
from methods.core.td3 import TD3
from methods.td3 import Td3

FAMILY = PointGoal()
SPEC = Spec(FAMILY.observation_size, FAMILY.action_size, FAMILY.horizon)
CONFIG = ApbConfig(hidden=8, batch=8, warmup_episodes=0)
Trained = Callable[..., Apb]


def pool(steps: int, split: str = "ood", n_tasks: int = 3, pooled: bool = False) -> TaskPool:
    tasks = (
        FAMILY.sample(n_tasks, np.random.default_rng(0))
        if pooled
        else FAMILY.split(split)[:n_tasks]
    )
    return TaskPool(
        FAMILY,
        tasks,
        Streams(0, "test"),
        pooled=pooled,
        allowed=steps * n_tasks if pooled else steps,
    )


@pytest.fixture(scope="module")
def meta_trained(meta_train: Callable[..., Any]) -> Trained:
    """`(config, steps, kind)`: APB after `steps` of meta-training on each of three tasks."""

    def train(config: ApbConfig = CONFIG, steps: int = 60, kind: Callable[..., Any] = Apb) -> Apb:
        method = kind(SPEC, config)
        meta_train(method, pool(steps, pooled=True), 3, 3 * steps, Streams(0, "train"))
        return method

    return train


def adapter_of(method: Apb | Td3, steps: int, seed: int = 0) -> TD3Adapter:
    return method.adapter(pool(steps).make_env, 3, Streams(seed, "adapt"))


def go(adapter: TD3Adapter, steps: int) -> None:
    """Adapt for `steps` environment steps of each task."""
    for left in range(steps, 0, -1):
        adapter.step(left)


def copy(params: Params) -> Params:
    return {name: tensor.detach().clone() for name, tensor in params.items()}


def same(one: Params, other: Params) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one | other)


def test_meta_training_moves_everything_and_shares_only_the_backbone(meta_trained: Trained) -> None:
    short, long = meta_trained(steps=50), meta_trained(steps=60)
    assert not same(short.shared, long.shared)
    assert {name: tensor.shape for name, tensor in long.shared.items()} == {
        "psi0.w": (8, 8),
        "psi0.b": (1, 8),
    }


def test_adaptation_leaves_the_backbone_bit_identical_and_moves_all_else(
    meta_trained: Trained,
) -> None:
    method = meta_trained()
    psi = copy(method.shared)
    adapter = adapter_of(method, 40)
    learner = adapter.loop.learner
    pi, omega = copy(learner.pi), copy(learner.omega)
    assert set(pi) == {"rho_h.w", "rho_h.b", "rho_t.w", "rho_t.b"}
    assert all(tensor.shape[0] == 3 for tensor in pi.values())
    assert all(tensor.shape[:2] == (2, 3) for tensor in omega.values())
    go(adapter, 40)
    assert same(method.shared, psi)
    assert same(learner.frozen, psi)
    assert all(not torch.equal(learner.pi[name], pi[name]) for name in pi)
    assert all(not torch.equal(learner.omega[name], omega[name]) for name in omega)
    obs = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    policy = adapter.policy(np.random.default_rng(0))
    action = policy.act(obs)
    np.testing.assert_array_equal(action, learner.act(torch.from_numpy(obs)).numpy())
    adapter.loop.learner.pi["rho_t.w"].mul_(2)  # does not change the policy
    np.testing.assert_array_equal(policy.act(obs), action)


def test_adaptation_starts_from_scratch_and_not_from_the_training_tasks(
    meta_trained: Trained,
) -> None:
    method = meta_trained()
    one, other = adapter_of(method, 40), adapter_of(method, 40, seed=1)
    assert not same(one.loop.learner.pi, other.loop.learner.pi)
    assert same(one.loop.learner.frozen, other.loop.learner.frozen)
    other_rho = {name: torch.zeros_like(tensor) for name, tensor in method.rho.items()}
    method.load_state_dict(method.state_dict() | {"rho": other_rho})
    assert same(adapter_of(method, 40).loop.learner.pi, one.loop.learner.pi)


def test_the_state_holds_the_whole_meta_trained_actor(meta_trained: Trained) -> None:
    method = meta_trained()
    other = Apb(method.spec, method.config)
    other.load_state_dict(method.state_dict())
    assert same(other.shared, method.shared) and same(other.rho, method.rho)
    assert {name: tensor.shape[0] for name, tensor in other.rho.items()} == dict.fromkeys(
        ("rho_h.w", "rho_h.b", "rho_t.w", "rho_t.b"), 3
    )
    other.load_state_dict({"shared": method.shared})  # the state as first published
    assert same(other.shared, method.shared) and other.rho == {}


@pytest.mark.parametrize("activate_first", [True, False])
@pytest.mark.parametrize("depth", [1, 2])
def test_structure_settings_reach_the_policy(
    depth: int, activate_first: bool, meta_trained: Trained
) -> None:
    config = ApbConfig(
        hidden=8,
        batch=8,
        warmup_episodes=0,
        depth=depth,
        activate_first=activate_first,
        head_scale=0.5,
    )
    method = meta_trained(config, steps=5)
    assert len(method.shared) == 2 * depth
    learner = adapter_of(method, 10).loop.learner
    obs = torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(0))
    params = learner.pi | learner.frozen
    h = obs @ params["rho_h.w"] + params["rho_h.b"]
    h = h.relu() if activate_first else h
    for layer in range(depth):
        h = (h @ params[f"psi{layer}.w"] + params[f"psi{layer}.b"]).relu()
    torch.testing.assert_close(
        learner.act(obs), torch.tanh(h @ params["rho_t.w"] + params["rho_t.b"]).detach()
    )
    assert params["rho_t.w"].abs().max() <= 0.5 / 8**0.5


def test_a_random_backbone_is_drawn_per_seed_and_never_moves() -> None:
    method = ApbRandom(SPEC, CONFIG)
    one, again, other = (adapter_of(method, 30, seed) for seed in (0, 0, 1))
    psi = copy(one.loop.learner.frozen)
    go(one, 30)
    assert same(one.loop.learner.frozen, psi)
    assert same(again.loop.learner.frozen, psi)
    assert not same(other.loop.learner.frozen, psi)
    assert not ApbRandom.meta_trains


def test_td3_trains_the_same_network_whole(meta_trained: Trained) -> None:
    td3 = adapter_of(Td3(SPEC, CONFIG), 30).loop.learner
    apb = adapter_of(meta_trained(), 30).loop.learner
    assert td3.frozen == {}
    assert {
        name: tensor.shape[1:] for name, tensor in td3.pi.items() if name.startswith("psi")
    } == {name: tensor.shape for name, tensor in apb.frozen.items()}
    assert {name: tensor.shape for name, tensor in td3.omega.items()} == {
        n: t.shape for n, t in apb.omega.items()
    }


def reset_steps(period: int, checkpoints: list[int]) -> list[int]:
    """Steps at which an adapter with this reset period renews its learner."""
    method = ApbReset(
        SPEC, ApbResetConfig(hidden=4, batch=1, warmup_episodes=10**6, reset_period=period)
    )
    method.load_state_dict({"shared": method._draw({"psi": ()}, torch.Generator())})
    adapter, found, past = adapter_of(method, checkpoints[-1]), [], 0
    reset = adapter._reset
    adapter._reset = lambda: (found.append(adapter.loop.collector.steps), reset())[1]  # type: ignore[method-assign]
    for checkpoint in checkpoints:
        go(adapter, checkpoint - past)
        past = checkpoint
    return found


def test_resets_come_every_period_but_never_in_the_last_tenth_before_a_checkpoint() -> None:
    assert reset_steps(30, [100]) == [30, 60]  # 90 is in the last tenth of 100
    # the reset due at 90 waits until 99; 180 is in the last tenth of 200
    assert reset_steps(30, [99, 200]) == [30, 60, 99, 120, 150]
    # of two resets that a checkpoint held back, one is made
    assert reset_steps(5, [100, 200]) == [*range(5, 90, 5), *range(100, 180, 5)]


def test_a_reset_draws_weights_that_were_not_there_before() -> None:
    config = ApbResetConfig(hidden=4, batch=1, warmup_episodes=10**6, reset_period=30)
    method = ApbReset(SPEC, config)
    method.load_state_dict({"shared": method._draw({"psi": ()}, torch.Generator())})
    adapter = adapter_of(method, 100)
    found = []
    for steps in (0, 35, 60):  # before any reset, after one, after two
        go(adapter, steps)
        learner = adapter.loop.learner
        found.append([tensor.clone() for tensor in (learner.pi | learner.omega).values()])
    for one, other in combinations(found, 2):
        assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True) if a.std() > 0)


def test_apb_makes_no_reset() -> None:
    adapter = adapter_of(
        ApbRandom(SPEC, ApbConfig(hidden=4, batch=1, warmup_episodes=10**6)), 40_000
    )
    assert isinstance(adapter, TD3Adapter) and adapter._period == 0
    assert {"reset_period"} == vars(ApbResetConfig()).keys() - vars(ApbConfig()).keys()


@pytest.mark.parametrize("rate", [0.25, 3.0])
def test_the_linear_layers_learn_at_a_rate_of_their_own(meta_trained: Trained, rate: float) -> None:
    """Adam's first step equals its learning rate wherever the gradient is not small."""
    config = ApbConfig(hidden=8, batch=8, warmup_episodes=0, linear_rate=rate, learning_rate=1e-3)
    method = Apb(SPEC, config)
    generator = torch.Generator().manual_seed(0)
    pi = method._draw({"rho_h": (3,), "psi": (), "rho_t": (3,)}, generator)
    omega = method._critics(3, generator)
    learner, before = method._learner(pi, {}, omega), copy(pi)
    collect = TD3Adapter(pool(60).make_env(), learner, config, Streams(0, "adapt"))
    go(collect, config.policy_delay)
    for name, tensor in learner.pi.items():
        moved = (tensor - before[name]).abs().max()
        expected = 1e-3 * (rate if name.startswith("rho") else 1.0)
        assert float(moved) == pytest.approx(expected, rel=0.01), name


def test_a_reset_renews_the_tasks_own_parameters_and_keeps_replay_and_backbone(
    meta_trained: Trained,
) -> None:
    method = meta_trained(
        ApbResetConfig(hidden=8, batch=8, warmup_episodes=0, reset_period=20), kind=ApbReset
    )
    adapter = adapter_of(method, 60)
    go(adapter, 20)
    learner = adapter.loop.learner
    before = TD3(learner.actor, learner.pi, {}, learner.omega, learner.config)
    experience = adapter.loop.collector.replay.state_dict()["data"]
    adapter._reset()
    after = adapter.loop.learner
    assert all(not torch.equal(after.pi[name], before.pi[name]) for name in before.pi)
    assert all(not torch.equal(after.omega[name], before.omega[name]) for name in before.omega)
    for name, tensor in after.omega.items():
        assert torch.equal(after.omega_target[name], tensor)
    assert same(after.pi_target, after.pi)
    assert after.state_dict()["adam"][0]["state"] == {}  # Adam starts anew, without moments
    assert same(after.frozen, method.shared)
    assert torch.equal(adapter.loop.collector.replay.state_dict()["data"], experience)
    assert adapter.updates == 20
    go(adapter, 5)
    assert adapter.updates == 25


def test_warm_up_makes_no_update() -> None:
    adapter = adapter_of(Td3(SPEC, ApbConfig(hidden=8, batch=8, warmup_episodes=1)), 60)
    start = copy(adapter.loop.learner.pi)
    go(adapter, 50)
    assert adapter.updates == 0
    assert same(adapter.loop.learner.pi, start)
    go(adapter, 10)
    assert adapter.updates == 10


def test_an_adapter_goes_on_from_its_state(meta_trained: Trained) -> None:
    method = meta_trained()
    one = adapter_of(method, 200)
    go(one, 50)  # to an episode's end, since a new environment begins with an episode too
    other = adapter_of(method, 200)
    other.load_state_dict(one.state_dict())
    assert same(one.loop.learner.pi, other.loop.learner.pi)
    assert same(one.loop.learner.omega, other.loop.learner.omega)
    sampled = [
        a.loop.collector.replay.sample(9, torch.Generator().manual_seed(0)) for a in (one, other)
    ]
    assert all(torch.equal(left, right) for left, right in zip(*sampled, strict=True))
    draws = [a.loop._noise_generator.get_state() for a in (one, other)]
    assert torch.equal(*draws)


def test_apb_without_a_backbone_says_what_to_do() -> None:
    with pytest.raises(
        RuntimeError, match="finish a trainer or call load_state_dict before adapter"
    ):
        adapter_of(Apb(SPEC, CONFIG), 10)


def test_a_restored_adapter_draws_the_same_resets(meta_trained: Trained) -> None:
    method = meta_trained(
        ApbResetConfig(hidden=8, batch=8, warmup_episodes=0, reset_period=20), kind=ApbReset
    )
    one, other = adapter_of(method, 200), adapter_of(method, 200)
    go(one, 30)  # one reset, after which the generator has moved on
    other.load_state_dict(one.state_dict())
    for adapter in (one, other):
        adapter._reset()
    assert same(one.loop.learner.pi, other.loop.learner.pi)
    assert same(one.loop.learner.omega, other.loop.learner.omega)


@pytest.mark.parametrize(
    "absurd", [{"depth": 0}, {"head_scale": float("nan")}, {"linear_rate": 0}, {"reset_period": 0}]
)
def test_settings_that_make_no_sense_are_refused(absurd: dict[str, float]) -> None:
    with pytest.raises(
        ValueError, match=f"{next(iter(absurd))}.* must be|{next(iter(absurd))} from"
    ):
        ApbResetConfig(**absurd)
