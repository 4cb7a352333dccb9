"""The ablations of APB, and fine-tuning, differ from it in what they claim and in nothing else."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark.pool import TaskPool
from benchmark.seeding import Streams
from envs.point import PointGoal
from methods.apb import (
    Apb,
    ApbConfig,
    ApbNone,
    ApbPost,
    ApbPre,
    ApbRandom,
    ApbReset,
    ApbResetConfig,
    ApbUnfrozen,
)
from methods.api import Spec
from methods.core.adapt import TD3Adapter
from methods.finetune import Finetune

N = 3
FAMILY = PointGoal()
SPEC = Spec(FAMILY.observation_size, FAMILY.action_size, FAMILY.horizon)
CONFIG = ApbConfig(hidden=8, batch=8, warmup_episodes=0)
Trained = Callable[..., Any]

# method: layers that each task has for itself in meta-training, layers that adaptation moves, and
# layers that it leaves as they were
CLAIMS: dict[type[Any], tuple[set[str], set[str], set[str]]] = {
    Apb: ({"rho_h", "rho_t"}, {"rho_h", "rho_t"}, {"psi0"}),
    ApbPre: ({"rho_h"}, {"rho_h"}, {"psi0", "rho_t"}),
    ApbPost: ({"rho_t"}, {"rho_t"}, {"rho_h", "psi0"}),
    ApbUnfrozen: ({"rho_h", "rho_t"}, {"rho_h", "psi0", "rho_t"}, set()),
    Finetune: (set(), {"rho_h", "psi0", "rho_t"}, set()),
}


def pool(steps: int, pooled: bool = False) -> TaskPool:
    tasks = FAMILY.sample(N, np.random.default_rng(0)) if pooled else FAMILY.split("ood")[:N]
    return TaskPool(
        FAMILY, tasks, Streams(0, "test"), pooled=pooled, allowed=steps * N if pooled else steps
    )


@pytest.fixture(scope="module")
def meta_trained(meta_train: Trained) -> Trained:
    """`(kind, config, steps)`: a method after `steps` of meta-training on each of its tasks."""

    def train(kind: type[Any], config: ApbConfig = CONFIG, steps: int = 60) -> Any:
        method = kind(SPEC, config)
        meta_train(method, pool(steps, pooled=True), N, steps * N, Streams(0, "train"))
        return method

    return train


def adapter_of(method: Any, steps: int = 200, seed: int = 0) -> Any:
    return method.adapter(pool(steps).make_env, N, Streams(seed, "adapt"))


def go(adapter: Any, steps: int) -> None:
    """Adapt for `steps` environment steps of each task."""
    for left in range(steps, 0, -1):
        adapter.step(left)


def layers(params: dict[str, Tensor]) -> set[str]:
    return {name.split(".")[0] for name in params}


def state_of(method: Any) -> dict[str, Tensor]:
    """What meta-training hands to adaptation."""
    state = method.state_dict()
    return dict(state["pi" if "pi" in state else "shared"])


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return layers(
        {name: tensor for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    )


@pytest.mark.parametrize("kind", CLAIMS)
def test_layers_of_a_tasks_own_have_a_task_axis_and_the_others_are_what_meta_training_hands_over(
    kind: type[Any], meta_trained: Trained
) -> None:
    own, _, _ = CLAIMS[kind]
    assert layers(state_of(meta_trained(kind))) == {"rho_h", "psi0", "rho_t"} - own
    kept = meta_trained(kind).state_dict().get("rho", {})
    assert layers(kept) == own and all(len(tensor) == N for tensor in kept.values())
    # no tensor that is handed over has a task axis
    assert all(tensor.ndim == 2 for tensor in state_of(meta_trained(kind)).values())


@pytest.mark.parametrize("kind", CLAIMS)
def test_meta_training_moves_every_shared_layer(kind: type[Any], meta_trained: Trained) -> None:
    short, long = state_of(meta_trained(kind, steps=50)), state_of(meta_trained(kind, steps=60))
    assert moved(short, long) == layers(long)


@pytest.mark.parametrize("kind", CLAIMS)
def test_adaptation_moves_exactly_what_it_claims_a_copy_for_each_task(
    kind: type[Any], meta_trained: Trained
) -> None:
    _, moving, still = CLAIMS[kind]
    method = meta_trained(kind)
    handed = {name: tensor.clone() for name, tensor in state_of(method).items()}
    adapter = adapter_of(method)
    learner = adapter.loop.learner
    before = {name: tensor.clone() for name, tensor in learner.pi.items()}
    assert (layers(learner.pi), layers(learner.frozen)) == (moving, still)
    go(adapter, 60)
    assert moved(before, learner.pi) == moving
    for name, tensor in learner.pi.items():
        assert not torch.equal(tensor[0], tensor[1]), name  # each task moves in its own way
    assert all(torch.equal(learner.frozen[name], handed[name]) for name in learner.frozen)
    assert all(torch.equal(tensor, handed[name]) for name, tensor in state_of(method).items())


@pytest.mark.parametrize("kind", CLAIMS)
def test_critics_are_fresh_and_belong_to_the_task(kind: type[Any], meta_trained: Trained) -> None:
    method = meta_trained(kind)
    omega, other = (adapter_of(method, seed=seed).loop.learner.omega for seed in (0, 1))
    assert all(tensor.shape[:2] == (2, N) for tensor in omega.values())
    assert all(not torch.equal(tensor, other[name]) for name, tensor in omega.items())


@pytest.mark.parametrize("kind", [ApbUnfrozen, Finetune])
def test_what_was_meta_trained_begins_every_copy(kind: type[Any], meta_trained: Trained) -> None:
    method = meta_trained(kind)
    pi = adapter_of(method).loop.learner.pi
    for name, tensor in state_of(method).items():
        assert all(torch.equal(pi[name][n], tensor) for n in range(N))


def test_apb_and_its_unfrozen_variant_begin_as_the_same_policy(meta_trained: Trained) -> None:
    frozen, unfrozen = meta_trained(Apb), ApbUnfrozen(SPEC, CONFIG)
    unfrozen.load_state_dict(frozen.state_dict())  # what `trained_by` makes of it
    assert ApbUnfrozen.trained_by == "apb"
    obs = np.random.default_rng(0).normal(size=(N, 4, 4)).astype(np.float32)
    actions = [adapter_of(m).policy(np.random.default_rng(0)).act(obs) for m in (frozen, unfrozen)]
    np.testing.assert_allclose(*actions, rtol=0, atol=1e-6)


def test_the_variant_with_resets_adapts_what_apb_meta_trains_and_begins_as_apb_does(
    meta_trained: Trained,
) -> None:
    apb, reset = meta_trained(Apb), ApbReset(SPEC, ApbResetConfig(**vars(CONFIG), reset_period=20))
    reset.load_state_dict(apb.state_dict())  # what `trained_by` makes of it
    assert ApbReset.trained_by == "apb"
    one, other = adapter_of(apb), adapter_of(reset)
    go(one, 20)
    go(other, 20)
    for same in (True, False):  # equal until the first reset
        layers = zip(one.loop.learner.pi.values(), other.loop.learner.pi.values(), strict=True)
        assert all(torch.equal(*pair) is same for pair in layers)
        go(one, 20)
        go(other, 20)


def test_apb_random_is_apb_around_a_backbone_that_nothing_trained(meta_trained: Trained) -> None:
    one, other = (
        adapter_of(kind).loop.learner for kind in (meta_trained(Apb), ApbRandom(SPEC, CONFIG))
    )
    assert layers(one.frozen) == layers(other.frozen)
    # the same fresh layers
    assert all(torch.equal(tensor, other.pi[name]) for name, tensor in one.pi.items())
    assert not torch.equal(one.frozen["psi0.w"], other.frozen["psi0.w"])
    # scaled to U(−1, 1)
    psi, rho = (other.frozen["psi0.w"] * 8**0.5).flatten(), (other.pi["rho_h.w"] * 4**0.5).flatten()
    # backbone and linear layers do not share their draws
    assert not torch.allclose(psi[: len(rho)], rho[: len(psi)])


def test_apb_none_adapts_nothing_and_equals_finetune_at_b_0(meta_trained: Trained) -> None:
    none, finetune = meta_trained(ApbNone), meta_trained(Finetune)
    blind, tuned = adapter_of(none), adapter_of(finetune)
    obs = np.random.default_rng(0).normal(size=(N, 4, 4)).astype(np.float32)
    obs[1:] = obs[:1]
    before = blind.policy(np.random.default_rng(0)).act(obs)
    np.testing.assert_allclose(
        before, tuned.policy(np.random.default_rng(0)).act(obs), rtol=0, atol=1e-6
    )
    # the policy is blind to the task
    np.testing.assert_array_equal(before[1:], np.broadcast_to(before[:1], before[1:].shape))
    for adapter in (blind, tuned):
        go(adapter, 60)
    np.testing.assert_array_equal(blind.policy(np.random.default_rng(0)).act(obs), before)
    assert not np.allclose(tuned.policy(np.random.default_rng(0)).act(obs), before, atol=1e-4)
    assert (blind.updates, tuned.updates) == (0, 60)


def test_finetune_collects_its_warm_up_itself_while_only_critics_learn(
    meta_trained: Trained,
) -> None:
    quiet = ApbConfig(hidden=8, batch=8, warmup_episodes=1, exploration_noise=0.0)
    adapter: TD3Adapter = adapter_of(meta_trained(Finetune, quiet))
    learner = adapter.loop.learner
    pi, omega = (
        {name: tensor.clone() for name, tensor in tree.items()}
        for tree in (learner.pi, learner.omega)
    )
    go(adapter, 50)
    assert moved(pi, learner.pi) == set()
    assert moved(omega, learner.omega) == {"q0", "q1", "q2"}
    seen = adapter.loop.collector.replay.sample(20, torch.Generator().manual_seed(0))
    # no noise: the actor's own actions
    torch.testing.assert_close(learner.act(seen.obs), seen.action)
    go(adapter, 50)
    assert moved(pi, learner.pi) == {"rho_h", "psi0", "rho_t"}


def test_finetune_without_an_actor_says_what_to_do() -> None:
    with pytest.raises(
        RuntimeError, match="finish a trainer or call load_state_dict before adapter"
    ):
        adapter_of(Finetune(SPEC, CONFIG))
