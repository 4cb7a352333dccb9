"""Shared parts of learners with a memory: PPO, and VariBAD's networks on state and belief."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from methods.core.distributions import entropy, log_prob
from methods.core.nets import Params, init_linear, linear
from methods.core.policy_gradient import LEAST_LOG_STD
from methods.core.ranges import check_ranges

Networks = Sequence[Sequence[str]]  # names of parameters, network by network


@dataclass(frozen=True)
class PPOConfig:
    """Settings of policy and PPO; official VariBAD's on cheetah-vel unless a comment differs."""

    # networks
    hidden: int = 128  # units of each hidden layer of the policy and of the value network
    # learning
    learning_rate: float = 7e-4  # Adam
    epochs: int = 2
    minibatches: int = 8
    clip: float = 0.1  # ε
    value_weight: float = 0.5
    entropy_weight: float = 0.01
    max_grad_norm: float = 0.5
    gamma: float = 0.97  # discount γ
    lam: float = 0.9  # λ of the advantages
    # experience
    trial_episodes: int = 2  # k
    copies: int = 1  # number of trials of each task side by side

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)


# plausible values; anything outside is rejected as a typo
RANGES: dict[str, tuple[float, float]] = {
    "hidden": (1, 8192),
    "learning_rate": (1e-9, 1.0),
    "epochs": (1, 1000),
    "minibatches": (1, 10_000),
    "clip": (1e-6, 10.0),
    "value_weight": (0.0, 100.0),
    "entropy_weight": (0.0, 100.0),
    "max_grad_norm": (1e-9, 1e9),
    "gamma": (0.0, 1.0),
    "lam": (0.0, 1.0),
    "trial_episodes": (1, 100),
    "copies": (1, 10_000),
}


class Outputs(NamedTuple):
    """Outputs of the networks for B samples."""

    mean: Tensor  # [..., B, A]
    log_std: Tensor  # [..., 1, A]
    value: Tensor  # [..., B]


def init_actor_critic(
    n_obs: int, n_latent: int, n_act: int, embedding: int, hidden: int, generator: torch.Generator
) -> Params:
    """Fresh weights for these embedding and hidden sizes; torch's default scales, σ = 1."""
    params: Params = {}
    for net, n_out in (("actor", n_act), ("critic", 1)):
        params |= init_linear(f"{net}_s", (), n_obs, embedding, generator)
        params |= init_linear(f"{net}_m", (), n_latent, embedding, generator)
        params |= init_linear(f"{net}0", (), 2 * embedding, hidden, generator)
        params |= init_linear(f"{net}1", (), hidden, hidden, generator)
        params |= init_linear(f"{net}2", (), hidden, n_out, generator)
    return params | {"log_std": torch.zeros(1, n_act, device=generator.device)}


def actor_critic(params: Mapping[str, Tensor], state: Tensor, latent: Tensor) -> Outputs:
    """Policy and value at states [..., B, O] with latents [..., B, Z]."""

    def net(name: str) -> Tensor:
        """The output of the network `name`, for state and latent."""
        seen = linear(params, f"{name}_s", state)
        known = linear(params, f"{name}_m", latent)
        h = torch.cat([seen.tanh(), known.tanh()], -1)
        for layer in (f"{name}0", f"{name}1"):
            h = linear(params, layer, h).tanh()
        return linear(params, f"{name}2", h)

    return outputs_of(params, net)


def outputs_of(params: Mapping[str, Tensor], net: Callable[[str], Tensor]) -> Outputs:
    """Outputs of the two networks that `net` computes, "actor" and "critic"."""
    return Outputs(
        net("actor"), params["log_std"].clamp(min=LEAST_LOG_STD), net("critic").squeeze(-1)
    )


class Collected(NamedTuple):
    """What PPO needs to know about samples that an earlier policy drew."""

    action: Tensor  # [..., B, A]
    log_prob: Tensor  # [..., B]
    value: Tensor  # [..., B]
    advantage: Tensor  # [..., B]
    returns: Tensor  # [..., B]


def ppo_loss(outputs: Outputs, collected: Collected, config: PPOConfig) -> Tensor:
    """−surrogate + c_v · value loss − c_e · entropy, [...]: one per task if tasks have their own
    networks.

    Source:
      Schulman et al. 2017, eq. 9.
    """
    now = log_prob(collected.action, outputs.mean, outputs.log_std)
    gain = clipped_surrogate(now, collected.log_prob, collected.advantage, config.clip)
    error = clipped_value_loss(outputs.value, collected.value, collected.returns, config.clip)
    return (
        -gain
        + config.value_weight * error
        - config.entropy_weight * entropy(outputs.log_std).squeeze(-1)
    )


class PPO:
    """Parameters, their optimiser, and the number of its steps, `updates`.

    Args:
      params: shared by all samples, or each with a leading axis [N] of tasks.
      lead: leading axes of the parameters, () or (N,).
      networks: for each network, the names of its parameters, whose gradients are clipped together;
        None to clip all parameters together.
    """

    def __init__(
        self,
        params: Mapping[str, Tensor],
        config: PPOConfig,
        generator: torch.Generator,
        lead: tuple[int, ...] = (),
        networks: Networks | None = None,
    ) -> None:
        self._networks = [list(params)] if networks is None else networks
        self.params = {name: tensor.detach().clone() for name, tensor in params.items()}
        self._config = config
        self._generator = generator
        self._lead = lead
        self._adam = torch.optim.Adam(
            list(self.params.values()), config.learning_rate, eps=1e-8, fused=True
        )
        self.updates = 0

    def update(self, loss_of: Callable[[Params, Tensor], Tensor], size: int) -> None:
        """Run epochs of minibatches over `size` samples; `loss_of(parameters, index)`: [*lead]."""
        for _ in range(self._config.epochs):
            for index in minibatches(size, self._config.minibatches, self._generator):
                leaves = {
                    name: tensor.detach().requires_grad_() for name, tensor in self.params.items()
                }
                gradient = torch.autograd.grad(loss_of(leaves, index).sum(), list(leaves.values()))
                named = dict(zip(leaves, gradient, strict=True))
                assign_clipped(
                    self.params, named, self._networks, self._config.max_grad_norm, self._lead
                )
                self._adam.step()
                self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Parameters, optimiser and generator."""
        return {
            "params": {name: tensor.detach().clone() for name, tensor in self.params.items()},
            "adam": deepcopy(self._adam.state_dict()),
            "generator": self._generator.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, into a learner of the same sizes."""
        for name, tensor in self.params.items():
            tensor.copy_(state["params"][name])
        # without the copy, Adam would update the caller's tensors
        self._adam.load_state_dict(deepcopy(state["adam"]))
        self._generator.set_state(state["generator"])
        self.updates = state["updates"]


def assign_clipped(
    params: Params,
    gradient: Params,
    networks: Networks,
    max_norm: float,
    lead: tuple[int, ...] = (),
) -> None:
    """Assign gradients to the parameters of each network, clipped as by `clip_gradients`."""
    for names in networks:
        for name, g in zip(
            names, clip_gradients([gradient[name] for name in names], max_norm, lead), strict=True
        ):
            params[name].grad = g


def clip_gradients(
    gradients: Sequence[Tensor], max_norm: float, lead: tuple[int, ...] = ()
) -> list[Tensor]:
    """Gradients [*lead, …] scaled to a joint norm of at most `max_norm` per leading index."""
    # [*lead]
    norm = torch.stack([g.reshape(*lead, -1).square().sum(-1) for g in gradients]).sum(0).sqrt()
    scale = (max_norm / norm.clamp(min=1e-12)).clamp(max=1.0)
    return [g * scale.reshape(*lead, *[1] * (g.ndim - len(lead))) for g in gradients]


def clipped_surrogate(
    log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float
) -> Tensor:
    """mean min(ρ Â, clip(ρ, 1 − ε, 1 + ε) Â) with ρ = π(a|s) / π_old(a|s), to be maximised.

    Args:
      log_prob, old_log_prob, advantage: [..., B].
      clip: ε.
    Returns:
      [...].
    Source:
      Schulman et al. 2017, eq. 7.
    """
    ratio = torch.exp(log_prob - old_log_prob)
    return torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage).mean(
        -1
    )


def clipped_value_loss(value: Tensor, old_value: Tensor, returns: Tensor, clip: float) -> Tensor:
    """½ mean max(h(V − G), h(V_clip − G)), V_clip = V_old + clip(V − V_old, −ε, ε), Huber h.

        h(e) = e² / 2 for |e| ≤ 1, |e| − ½ beyond

    Args:
      value, old_value, returns: [..., B] V, V_old when the batch was collected, and G.
      clip: ε.
    Returns:
      [...].
    Source:
      The clipping of OpenAI's baselines, on VariBAD's Huber loss; neither is in the paper.
    """
    near = old_value + (value - old_value).clamp(-clip, clip)
    return 0.5 * torch.maximum(_huber(value - returns), _huber(near - returns)).mean(-1)


def _huber(error: Tensor) -> Tensor:
    size = error.abs()
    return torch.where(size <= 1.0, 0.5 * error.square(), size - 0.5)


def minibatches(size: int, count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """A random partition of `size` samples into `count` index tensors of nearly equal size."""
    order = torch.randperm(size, generator=generator, device=generator.device)
    return iter(order.tensor_split(min(count, size)))
