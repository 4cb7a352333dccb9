"""What learners with a memory share: PPO on a policy and a value, and VariBAD's two networks on what is seen and believed."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from methods.core.distributions import entropy, log_prob
from methods.core.nets import Params, init_linear, linear
from methods.core.policy_gradient import LEAST_LOG_STD
from methods.core.ppo import clipped_surrogate, clipped_value_loss, minibatches
from methods.core.ranges import check_ranges

Networks = Sequence[Sequence[str]]  # names of parameters, network by network


@dataclass(frozen=True)
class PPOConfig:
    """Settings of the policy and of PPO; official VariBAD's on cheetah-vel unless a comment says otherwise."""

    # networks
    hidden: int = 128  # units of each hidden layer, of the policy's and of the value's network
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
    copies: int = 1  # trials of each task side by side

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)


RANGES: dict[str, tuple[float, float]] = {  # plausible values; anything outside is rejected as a typo
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
    """What the networks say of B samples."""

    mean: Tensor  # [..., B, A]
    log_std: Tensor  # [..., 1, A]
    value: Tensor  # [..., B]


def init_actor_critic(n_obs: int, n_latent: int, n_act: int, embedding: int, hidden: int, generator: torch.Generator) -> Params:
    """Fresh weights, with so many units of each embedding and of both hidden layers; torch's default scales, σ = 1."""
    params: Params = {}
    for net, n_out in (("actor", n_act), ("critic", 1)):
        params |= init_linear(f"{net}_s", (), n_obs, embedding, generator)
        params |= init_linear(f"{net}_m", (), n_latent, embedding, generator)
        params |= init_linear(f"{net}0", (), 2 * embedding, hidden, generator)
        params |= init_linear(f"{net}1", (), hidden, hidden, generator)
        params |= init_linear(f"{net}2", (), hidden, n_out, generator)
    return params | {"log_std": torch.zeros(1, n_act)}


def actor_critic(params: Mapping[str, Tensor], state: Tensor, latent: Tensor) -> Outputs:
    """Policy and value at states [..., B, O] with latents [..., B, Z]."""

    def net(name: str) -> Tensor:
        seen, known = linear(params, f"{name}_s", state), linear(params, f"{name}_m", latent)
        h = torch.cat([seen.tanh(), known.tanh()], -1)
        for layer in (f"{name}0", f"{name}1"):
            h = linear(params, layer, h).tanh()
        return linear(params, f"{name}2", h)

    return outputs_of(params, net)


def outputs_of(params: Mapping[str, Tensor], net: Callable[[str], Tensor]) -> Outputs:
    """What the two networks `net` say, "actor" and "critic"."""
    return Outputs(net("actor"), params["log_std"].clamp(min=LEAST_LOG_STD), net("critic").squeeze(-1))


class Collected(NamedTuple):
    """What PPO must know of samples that an earlier policy drew."""

    action: Tensor  # [..., B, A]
    log_prob: Tensor  # [..., B]
    value: Tensor  # [..., B]
    advantage: Tensor  # [..., B]
    returns: Tensor  # [..., B]


def ppo_loss(outputs: Outputs, collected: Collected, config: PPOConfig) -> Tensor:
    """−surrogate + c_v · value loss − c_e · entropy, [...]: of each task, where tasks have networks of their own.

    Source:
      Schulman et al. 2017, eq. 9.
    """
    now = log_prob(collected.action, outputs.mean, outputs.log_std)
    gain = clipped_surrogate(now, collected.log_prob, collected.advantage, config.clip)
    error = clipped_value_loss(outputs.value, collected.value, collected.returns, config.clip)
    return -gain + config.value_weight * error - config.entropy_weight * entropy(outputs.log_std).squeeze(-1)


class PPO:
    """Parameters, their optimiser, and how many steps it made, `updates`.

    Args:
      params: shared by all samples, or each with a leading axis [N] of tasks.
      lead: () or (N,).
      networks: names of the parameters whose gradients are clipped together; all of them if there is nothing else to say.
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
        self._config, self._generator, self._lead = config, generator, lead
        self._adam = torch.optim.Adam(list(self.params.values()), config.learning_rate, eps=1e-8, fused=True)
        self.updates = 0

    def update(self, loss_of: Callable[[Params, Tensor], Tensor], size: int) -> None:
        """Epochs of minibatches: `loss_of(parameters, index)` is the loss [*lead] of the samples at an index into `size`."""
        for _ in range(self._config.epochs):
            for index in minibatches(size, self._config.minibatches, self._generator):
                leaves = {name: tensor.detach().requires_grad_() for name, tensor in self.params.items()}
                gradient = torch.autograd.grad(loss_of(leaves, index).sum(), list(leaves.values()))
                named = dict(zip(leaves, gradient, strict=True))
                assign_clipped(self.params, named, self._networks, self._config.max_grad_norm, self._lead)
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
        self._adam.load_state_dict(deepcopy(state["adam"]))  # Adam would go on in the caller's tensors
        self._generator.set_state(state["generator"])
        self.updates = state["updates"]


def assign_clipped(params: Params, gradient: Params, networks: Networks, max_norm: float, lead: tuple[int, ...] = ()) -> None:
    """Give the parameters of each network their gradients, clipped as `clip_gradients` does."""
    for names in networks:
        for name, g in zip(names, clip_gradients([gradient[name] for name in names], max_norm, lead), strict=True):
            params[name].grad = g


def clip_gradients(gradients: Sequence[Tensor], max_norm: float, lead: tuple[int, ...] = ()) -> list[Tensor]:
    """Gradients [*lead, …] scaled down where their common norm, for each leading index, exceeds `max_norm`."""
    norm = torch.stack([g.reshape(*lead, -1).square().sum(-1) for g in gradients]).sum(0).sqrt()  # [*lead]
    scale = (max_norm / norm.clamp(min=1e-12)).clamp(max=1.0)
    return [g * scale.reshape(*lead, *[1] * (g.ndim - len(lead))) for g in gradients]
