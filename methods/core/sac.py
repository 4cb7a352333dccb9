"""Soft actor-critic with a value network: settings, networks, losses; for any leading axes.

Haarnoja, Zhou, Abbeel and Levine 2018, "Soft Actor-Critic" (arXiv 1801.01290), as PEARL uses it;
the temperature α is 1, with rewards scaled instead, or learned as in their second paper (arXiv
1812.05905).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from methods.core.distributions import tanh_log_prob
from methods.core.nets import Params, init_linear, linear, mlp
from methods.core.ranges import check_ranges

LOG_STD = (-20.0, 2.0)  # bounds of the policy's log σ


@dataclass(frozen=True)
class SACConfig:
    """Settings of SAC; official PEARL's unless a comment says otherwise."""

    # networks
    hidden: int = 300  # units of every hidden layer of policy, critics and value
    layers: int = 3  # hidden layers of each
    # learning
    batch: int = 256  # transitions of each task per gradient step, B
    learning_rate: float = 3e-4  # Adam, all networks
    gamma: float = 0.99  # discount γ
    tau: float = 0.005  # Polyak rate τ of the target value
    reward_scale: float = 5.0
    regularisation: float = 1e-3  # of the policy's μ² and (log σ)²
    auto_entropy: bool = False  # learn α so that the entropy is −A, instead of α = 1
    # execution
    # "bf16": matrix products in bfloat16 under autocast; slow on a CPU without instructions for it
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be fp32 or bf16, not {self.precision}")
        check_ranges(self, RANGES)


# plausible values; anything outside is rejected as a typo
RANGES: dict[str, tuple[float, float]] = {
    "hidden": (1, 8192),
    "layers": (1, 16),
    "batch": (1, 65_536),
    "learning_rate": (1e-9, 1.0),
    "gamma": (0.0, 1.0),
    "tau": (1e-9, 1.0),
    "reward_scale": (1e-9, 1e9),
    "regularisation": (0.0, 1e3),
}


def names(net: str, layers: int) -> tuple[str, ...]:
    """Names of the layers of a network: the hidden ones and the last."""
    return tuple(f"{net}{layer}" for layer in range(layers + 1))


def init_mlp(
    net: str,
    n_in: int,
    hidden: int,
    layers: int,
    n_out: int,
    last: float,
    generator: torch.Generator,
    lead: tuple[int, ...] = (),
) -> Params:
    """Fresh weights of a network, as the official code draws them.

    Hidden layers have weights U(−1/√H, 1/√H), with H their number of outputs, and biases 0.1; the
    last layer has weights and biases U(−s, s), with s = `last`.
    """
    sizes = [n_in, *[hidden] * layers, n_out]
    params: Params = {}
    for name, rows, columns in zip(names(net, layers), sizes, sizes[1:], strict=False):
        final = name == f"{net}{layers}"
        bound = last if final else columns**-0.5
        params |= init_linear(
            name, lead, rows, n_out=columns, generator=generator, scale=bound * rows**0.5
        )
        if not final:
            params[f"{name}.b"].fill_(0.1)
    return params


def network(
    params: Mapping[str, Tensor], net: str, layers: int, x: Tensor, precision: str
) -> Tensor:
    """Output of a network for x [..., B, I].

    Its last layer is in float32: bfloat16 has only 8 significant bits, too few for returns in the
    hundreds.
    """
    *hidden, last = names(net, layers)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
        h = mlp(params, tuple(hidden), x).relu()
    return linear(params, last, h.to(x.dtype))


class Drawn(NamedTuple):
    """An action drawn by the policy."""

    action: Tensor  # [..., A] in (−1, 1)
    log_prob: Tensor  # [...]
    mean: Tensor  # [..., A] μ, before the tanh
    log_std: Tensor  # [..., A]


def tanh_gaussian(outputs: Tensor, noise: Tensor) -> Drawn:
    """a = tanh(μ + σ ε) of the policy's outputs μ, log σ [..., 2·A], with ε [..., A] ~ N(0, I)."""
    mean, log_std = outputs.chunk(2, -1)
    log_std = log_std.clamp(*LOG_STD)
    x = mean + log_std.exp() * noise
    return Drawn(x.tanh(), tanh_log_prob(x, mean, log_std), mean, log_std)


def q_target(
    reward: Tensor, terminated: Tensor, next_value: Tensor, gamma: float, scale: float
) -> Tensor:
    """y = c r + γ (1 − d) V̄(s'), [..., B], through which no gradient flows; c is the reward scale.

    Source:
      Haarnoja et al. 2018, eq. 8.
    """
    return (scale * reward + gamma * (1.0 - terminated) * next_value).detach()


def critic_loss(q: Tensor, target: Tensor) -> Tensor:
    """Σᵢ mean (Qᵢ − y)² over both critics, for q [2, ..., B] and y [..., B]: [...]."""
    return (q - target).square().mean(-1).sum(0)


def value_loss(value: Tensor, q: Tensor, log_prob: Tensor, alpha: Tensor) -> Tensor:
    """mean (V(s) − (min Q(s, ã) − α log π(ã|s)))² with ã drawn from the policy: [...].

    Args:
      value, log_prob: [..., B]. q: [2, ..., B]. alpha: [...] α.
    Source:
      Haarnoja et al. 2018, eq. 5, without their ½.
    """
    target = (q.amin(0) - alpha[..., None] * log_prob).detach()
    return (value - target).square().mean(-1)


def policy_loss(drawn: Drawn, q: Tensor, alpha: Tensor, regularisation: float) -> Tensor:
    """mean (α log π(ã|s) − min Q(s, ã)) + c (mean μ² + mean (log σ)²): [...].

    Args:
      drawn: with leading axes [..., B]. q: [2, ..., B]. alpha: [...] α.
    Source:
      Haarnoja et al. 2018, eq. 12; the second term is the official code's.
    """
    size = drawn.mean.square().mean((-1, -2)) + drawn.log_std.square().mean((-1, -2))
    return (alpha.detach()[..., None] * drawn.log_prob - q.amin(0)).mean(-1) + regularisation * size


def temperature_loss(log_alpha: Tensor, log_prob: Tensor, entropy: float) -> Tensor:
    """−log α · mean (log π + H̄) [...], which raises α where the policy's entropy is below H̄.

    Source:
      Haarnoja et al. 2018 (arXiv 1812.05905), eq. 18, in log α as their code has it.
    """
    return -log_alpha * (log_prob.detach() + entropy).mean(-1)
