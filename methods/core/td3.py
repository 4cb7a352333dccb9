"""TD3 for N tasks side by side: the losses, and the learner that takes steps on them.

Twin Delayed Deep Deterministic policy gradient, Fujimoto, van Hoof and Meger 2018 (arXiv
1802.09477), official code sfujim/TD3. Losses are summed over tasks and averaged within each, so
every task gets the gradient it would get alone, and a tensor that several tasks share gets the sum
of their gradients.
"""

import logging
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from methods.core.nets import Params, critics
from methods.core.ranges import check_ranges
from methods.core.replay import Batch

# (parameters, obs [N, B, O]) → action [N, B, A]
Actor: TypeAlias = Callable[[Mapping[str, Tensor], Tensor], Tensor]
Gradient: TypeAlias = Callable[..., Params]  # gradient of a loss in its first argument


@dataclass(frozen=True)
class TD3Config:
    """Settings of TD3; defaults are the official code's unless a comment says otherwise."""

    # networks
    hidden: int = 256  # units of every hidden layer, D
    depth: int = 1  # layers of the backbone ψ; 1 gives the official actor of two hidden layers
    # learning
    batch: int = 256  # transitions of each task per update, B
    learning_rate: float = 3e-4  # Adam, actor and critics
    gamma: float = 0.99  # discount γ
    tau: float = 0.005  # Polyak rate τ of the target networks
    policy_noise: float = 0.2  # std of the target action's noise, in action units
    noise_clip: float = 0.5  # bound on that noise
    policy_delay: int = 2  # critic updates per actor update
    # interaction
    exploration_noise: float = 0.1  # std of the acting noise, in action units
    # random actions, no actor updates; ours: the official 25 000 steps exceed our budgets
    warmup_episodes: int = 5
    replay: int = 1_000_000  # transitions kept per task
    # execution
    # "bf16": matrix products in bfloat16 under autocast; slow on a CPU without instructions for it
    precision: str = "fp32"
    # fuse the gradients with torch.compile; falls back to eager mode without a C++ compiler
    compile: bool = False

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be fp32 or bf16, not {self.precision}")
        check_ranges(self, RANGES)


# plausible values; anything outside is rejected as a typo
RANGES: dict[str, tuple[float, float]] = {
    "hidden": (1, 8192),
    "depth": (0, 16),
    "batch": (1, 65_536),
    "learning_rate": (1e-9, 1.0),
    "gamma": (0.0, 1.0),
    "tau": (1e-9, 1.0),
    "policy_noise": (0.0, 10.0),
    "noise_clip": (0.0, 10.0),
    "policy_delay": (1, 1000),
    "exploration_noise": (0.0, 10.0),
    "warmup_episodes": (0, 1_000_000),
    "replay": (1, 100_000_000),
}


def smoothed_action(action: Tensor, noise: Tensor, clip: float) -> Tensor:
    """ã = clip(π'(s') + clip(ε, −c, c), −1, 1), the smoothed action of the target policy.

    Args:
      action: [N, B, A] π'(s').
      noise: [N, B, A] ε ~ N(0, σ̃²).
      clip: c.
    Source:
      Fujimoto et al. 2018, eq. 14.
    """
    return (action + noise.clamp(-clip, clip)).clamp(-1.0, 1.0)


def td_target(reward: Tensor, terminated: Tensor, next_q: Tensor, gamma: float) -> Tensor:
    """y = r + γ (1 − d) min(Q'₁(s', ã), Q'₂(s', ã)).

    Args:
      reward: [N, B]. terminated: [N, B] d, 0 at a time-out.
      next_q: [2, N, B] the target critics' values of the next state.
      gamma: γ.
    Returns:
      [N, B], through which no gradient flows.
    Source:
      Fujimoto et al. 2018, eq. 10.
    """
    return (reward + gamma * (1.0 - terminated) * next_q.amin(0)).detach()


def critic_loss(q: Tensor, target: Tensor) -> Tensor:
    """Σₙ Σᵢ ‖Qᵢ − y‖² / B over both critics i and all tasks n, for q [2, N, B] and target [N, B].

    Source:
      Fujimoto et al. 2018, algorithm 1.
    """
    return (q - target).square().mean(-1).sum()


def actor_loss(q: Tensor) -> Tensor:
    """−Σₙ mean Q₁(s, π(s)), for the first critic's values q [N, B].

    Source:
      Fujimoto et al. 2018, algorithm 1.
    """
    return -q.mean(-1).sum()


def critic_objective(
    omega: Params,
    omega_target: Params,
    pi_target: Params,
    batch: Batch,
    noise: Tensor,
    actor: Actor,
    config: TD3Config,
) -> Tensor:
    """The critic loss as a function of ω, with target noise ε [N, B, A]."""
    with torch.autocast(noise.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        action = smoothed_action(actor(pi_target, batch.next_obs), noise, config.noise_clip)
        next_q = critics(omega_target, batch.next_obs, action)
        q = critics(omega, batch.obs, batch.action)
    y = td_target(batch.reward, batch.terminated, next_q.to(noise.dtype), config.gamma)
    return critic_loss(q.to(noise.dtype), y)


def actor_objective(
    pi: Params, frozen: Params, omega: Params, obs: Tensor, actor: Actor, config: TD3Config
) -> Tensor:
    """The actor loss as a function of the actor's trainable parameters π."""
    first = {name: tensor[0] for name, tensor in omega.items()}
    with torch.autocast(obs.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        q = critics(first, obs, actor(pi | frozen, obs))
    return actor_loss(q.to(obs.dtype))


class TD3:
    """Parameters, targets and optimisers of N tasks.

    Args:
      actor: the policy as a function of its parameters.
      pi: actor parameters that learn; tensors without a task axis are shared.
      frozen: actor parameters that do not learn.
      omega: twin critics, leading axes [2, N].
      rates: learning rates of those actor parameters that have their own, by name.
    """

    def __init__(
        self,
        actor: Actor,
        pi: Params,
        frozen: Params,
        omega: Params,
        config: TD3Config,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        self.actor = actor
        self.config = config
        self.updates = 0
        self._rates = dict(rates or {})
        self.pi = _copy(pi)
        self.frozen = dict(frozen)
        self.omega = _copy(omega)
        self.pi_target = _copy(pi)
        self.omega_target = _copy(omega)
        self._critic_gradient = gradient_of(
            partial(critic_objective, actor=actor, config=config), config.compile
        )
        self._actor_gradient = gradient_of(
            partial(actor_objective, actor=actor, config=config), config.compile
        )
        self._start_adam()

    def _start_adam(self) -> None:
        # Adam is elementwise, so one optimiser over the stack equals one per task while all tasks
        # step together
        rate = self.config.learning_rate
        groups = dict[float, list[Tensor]]()
        for name, tensor in self.pi.items():
            groups.setdefault(self._rates.get(name, rate), []).append(tensor)
        self._pi_adam = torch.optim.Adam(
            [{"params": params, "lr": own} for own, params in groups.items()], fused=True
        )
        self._omega_adam = torch.optim.Adam(list(self.omega.values()), rate, fused=True)

    def restart(self, pi: Params, omega: Params) -> None:
        """Begin again from other parameters; targets are set to them and optimisers are reset."""
        for mine, fresh in (
            (self.pi, pi),
            (self.pi_target, pi),
            (self.omega, omega),
            (self.omega_target, omega),
        ):
            _overwrite(mine, fresh)
        self._start_adam()

    def act(self, obs: Tensor) -> Tensor:
        """Deterministic actions [N, B, A] for obs [N, B, O]."""
        return self.actor(self.pi | self.frozen, obs)

    def update(self, batch: Batch, noise: Tensor, actor_waits: bool = False) -> None:
        """Make one step of algorithm 1, with target noise ε [N, B, A] ~ N(0, σ̃²).

        If `actor_waits`, the actor itself is not updated.
        """
        target = self.pi_target | self.frozen
        gradient = self._critic_gradient(self.omega, self.omega_target, target, batch, noise)
        _apply(self._omega_adam, self.omega, gradient)
        self.updates += 1
        if self.updates % self.config.policy_delay == 0:
            if not actor_waits:
                gradient = self._actor_gradient(self.pi, self.frozen, self.omega, batch.obs)
                _apply(self._pi_adam, self.pi, gradient)
            self._follow()

    def _follow(self) -> None:
        """Move the targets by Polyak averaging: θ' ← τ θ + (1 − τ) θ'."""
        targets = [*self.pi_target.values(), *self.omega_target.values()]
        torch._foreach_lerp_(targets, [*self.pi.values(), *self.omega.values()], self.config.tau)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the frozen parameters, which belong to whoever froze them."""
        trees = {
            name: _copy(getattr(self, name))
            for name in ("pi", "omega", "pi_target", "omega_target")
        }
        # Adam's `state_dict` returns its live tensors
        adam = [deepcopy(adam.state_dict()) for adam in (self._pi_adam, self._omega_adam)]
        return {**trees, "adam": adam, "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, into a learner of the same sizes."""
        for tree in ("pi", "omega", "pi_target", "omega_target"):
            _overwrite(getattr(self, tree), state[tree])
        for adam, saved in zip((self._pi_adam, self._omega_adam), state["adam"], strict=True):
            adam.load_state_dict(saved)
        self.updates = state["updates"]


def gradient_of(loss: Callable[..., Tensor], compiled: bool) -> Gradient:
    """The gradient of `loss` in its first argument, a parameter tree.

    If `compiled`, it is fused into few kernels; if that fails, for example without a C++ compiler,
    the eager version is used.
    """

    def eager(params: Params, *args: Any) -> Params:
        """The gradient without compilation."""
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in params.items()}
        return dict(
            zip(
                leaves, torch.autograd.grad(loss(leaves, *args), list(leaves.values())), strict=True
            )
        )

    if not compiled:
        return eager
    fused: Gradient | None = torch.compile(torch.func.grad(loss))

    def call(params: Params, *args: Any) -> Params:
        """The compiled gradient, as long as that works."""
        nonlocal fused
        if fused is not None:
            try:
                return fused(params, *args)
            except Exception as error:  # compilers fail in many ways
                fused = None
                reason = str(error).strip().splitlines()[:1]
                logging.getLogger(__name__).warning(
                    "torch.compile failed, going on without it: %s", *reason
                )
        return eager(params, *args)

    return call


def _apply(adam: torch.optim.Adam, params: Params, gradient: Params) -> None:
    for name, tensor in params.items():
        tensor.grad = gradient[name]
    adam.step()


def _copy(params: Mapping[str, Tensor]) -> Params:
    return {name: tensor.detach().clone() for name, tensor in params.items()}


def _overwrite(params: Params, fresh: Mapping[str, Tensor]) -> None:
    for name, tensor in params.items():
        tensor.copy_(fresh[name])
