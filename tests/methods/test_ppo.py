"""PPO's losses against loops, its clipping by hand, and tasks side by side against each alone."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from methods.core.actor_critic import (
    PPO,
    Collected,
    PPOConfig,
    actor_critic,
    clip_gradients,
    clipped_surrogate,
    clipped_value_loss,
    init_actor_critic,
    minibatches,
    ppo_loss,
)
from methods.core.distributions import entropy
from methods.core.nets import Params, spread

N, B, O, A, Z = 3, 13, 4, 2, 5
CONFIG = PPOConfig(hidden=6, epochs=3, minibatches=4)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("clip", [0.1, 0.5])
def test_the_surrogate_equals_a_loop(clip: float) -> None:
    now, old, advantage = noise(1, N, B), noise(2, N, B), noise(3, N, B)
    result = clipped_surrogate(now, old, advantage, clip)
    for n in range(N):
        terms = []
        for b in range(B):
            rho = math.exp(now[n, b] - old[n, b])
            terms.append(
                min(rho * advantage[n, b], min(max(rho, 1 - clip), 1 + clip) * advantage[n, b])
            )
        assert float(result[n]) == pytest.approx(float(sum(terms)) / B)


def test_no_gradient_flows_where_the_ratio_has_gone_far_enough() -> None:
    now = torch.tensor([0.5, 0.5, -0.5, -0.5, 0.05]).double().requires_grad_()
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0]).double()
    gradient = torch.autograd.grad(
        clipped_surrogate(now, torch.zeros(5).double(), advantage, 0.2), now
    )[0]
    assert (gradient != 0).tolist() == [False, True, True, False, True]


def test_the_value_loss_equals_a_loop() -> None:
    value, old, returns = 3 * noise(1, N, B), 3 * noise(2, N, B), 3 * noise(3, N, B)
    result = clipped_value_loss(value, old, returns, 0.2)

    def huber(e: float) -> float:
        return 0.5 * e * e if abs(e) <= 1 else abs(e) - 0.5

    for n in range(N):
        terms = []
        for b in range(B):
            v, o, g = (float(x[n, b]) for x in (value, old, returns))
            near = o + min(max(v - o, -0.2), 0.2)
            terms.append(0.5 * max(huber(v - g), huber(near - g)))
        assert float(result[n]) == pytest.approx(sum(terms) / B)


@pytest.mark.parametrize(("size", "count"), [(13, 4), (8, 2), (3, 8)])
def test_minibatches_are_a_partition(size: int, count: int) -> None:
    parts = list(minibatches(size, count, torch.Generator().manual_seed(0)))
    assert len(parts) == min(size, count)
    assert sorted(torch.cat(parts).tolist()) == list(range(size))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert torch.cat(parts).tolist() != list(range(size)) or size == 3


def test_entropy_is_torchs() -> None:
    log_std = noise(1, N, 1, A)
    expected = Normal(torch.zeros(N, 1, A).double(), log_std.exp()).entropy().sum(-1)
    torch.testing.assert_close(entropy(log_std), expected)


def theta() -> Params:
    params = init_actor_critic(
        O, Z, A, embedding=4, hidden=CONFIG.hidden, generator=torch.Generator().manual_seed(0)
    )
    return {
        name: tensor.double() + 0.1 * noise(k, *tensor.shape)
        for k, (name, tensor) in enumerate(params.items())
    }


def test_policy_and_value_equal_plain_layers() -> None:
    params, state, latent = theta(), noise(1, N, B, O), noise(2, N, B, Z)
    outputs = actor_critic(params, state, latent)
    for net, result in (("actor", outputs.mean), ("critic", outputs.value[..., None])):
        parts = [
            x @ params[f"{net}_{k}.w"] + params[f"{net}_{k}.b"]
            for k, x in (("s", state), ("m", latent))
        ]
        h = torch.cat(parts, -1).tanh()
        for layer in (f"{net}0", f"{net}1"):
            h = (h @ params[f"{layer}.w"] + params[f"{layer}.b"]).tanh()
        torch.testing.assert_close(result, h @ params[f"{net}2.w"] + params[f"{net}2.b"])


def collected() -> Collected:
    return Collected(noise(3, N, B, A), *(noise(seed, N, B) for seed in (4, 5, 6, 7)))


def test_the_loss_is_its_three_terms() -> None:
    outputs, kept = actor_critic(theta(), noise(1, N, B, O), noise(2, N, B, Z)), collected()
    now = Normal(outputs.mean, outputs.log_std.exp()).log_prob(kept.action).sum(-1)
    gain = clipped_surrogate(now, kept.log_prob, kept.advantage, 0.1)
    error = clipped_value_loss(outputs.value, kept.value, kept.returns, 0.1)
    spread_ = Normal(torch.zeros(A).double(), outputs.log_std[0].exp()).entropy().sum()
    torch.testing.assert_close(
        ppo_loss(outputs, kept, CONFIG), -gain + 0.5 * error - 0.01 * spread_
    )


@pytest.mark.parametrize("lead", [(), (N,)])
def test_gradients_are_clipped_by_their_common_norm(lead: tuple[int, ...]) -> None:
    gradients = [noise(1, N, 4, 5), noise(2, N, 1, 5)]
    clipped = clip_gradients(gradients, 2.0, lead)
    parts = [[g[n] for g in gradients] for n in range(N)] if lead else [gradients]
    for n, part in enumerate(parts):
        norm = math.sqrt(sum(float(g.square().sum()) for g in part))
        for g, c in zip(part, clipped, strict=True):
            torch.testing.assert_close(c[n] if lead else c, g * min(1.0, 2.0 / norm))
    small = [g * 1e-3 for g in gradients]
    assert all(
        torch.equal(a, b) for a, b in zip(small, clip_gradients(small, 2.0, lead), strict=True)
    )


def learner(params: Params, lead: tuple[int, ...] = ()) -> PPO:
    return PPO(params, CONFIG, torch.Generator().manual_seed(1), lead)


def test_tasks_that_learn_side_by_side_learn_as_each_would_alone() -> None:
    params = {
        name: tensor + 0.1 * noise(20, *tensor.shape) for name, tensor in spread(theta(), N).items()
    }
    state, latent, kept = noise(1, N, B, O), noise(2, N, B, Z), collected()

    def loss_of(tasks: slice) -> object:
        def loss(params: Params, index: Tensor) -> Tensor:
            samples = Collected(*(part[tasks][:, index] for part in kept))
            return ppo_loss(
                actor_critic(params, state[tasks][:, index], latent[tasks][:, index]),
                samples,
                CONFIG,
            )

        return loss

    together = learner(params, (N,))
    together.update(loss_of(slice(None)), B)
    for n in range(N):
        alone = learner({name: tensor[n : n + 1] for name, tensor in params.items()}, (1,))
        alone.update(loss_of(slice(n, n + 1)), B)
        for name, tensor in alone.params.items():
            torch.testing.assert_close(together.params[name][n : n + 1], tensor, rtol=0, atol=1e-10)
            assert not torch.equal(tensor, params[name][n : n + 1])


def test_an_update_makes_epochs_of_minibatches_and_goes_on_from_its_state() -> None:
    seen: list[int] = []

    def loss(params: Params, index: Tensor) -> Tensor:
        seen.append(len(index))
        return sum((tensor - 1).square().sum() for tensor in params.values())

    one, other = learner(theta()), learner(theta())
    one.update(loss, B)
    assert len(seen) == 3 * 4 and sum(seen) == 3 * B
    state = one.state_dict()
    for _ in range(2):  # twice, because what was loaded is a copy
        other.load_state_dict(state)
        other.update(loss, B)
    assert one.updates == 3 * 4 and other.updates == 6 * 4
    one.update(loss, B)
    assert all(torch.equal(one.params[name], other.params[name]) for name in one.params)


@pytest.mark.parametrize(
    "setting", [{"clip": 0.0}, {"epochs": 0}, {"gamma": float("nan")}, {"trial_episodes": 0}]
)
def test_absurd_settings_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be from"):
        PPOConfig(**setting)
