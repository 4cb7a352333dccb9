"""Policy gradients for N tasks side by side: Gaussian policies, batches of experience, losses.

Policy-gradient learners use a batch once, so everything after its collection is a function of
`Samples`.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from math import gcd, log
from typing import Any, NamedTuple

import torch
from torch import Tensor

from envs.api import Env, Step
from methods.core.border import array_of, tensor_of
from methods.core.distributions import kl, log_prob
from methods.core.nets import Params, mlp
from methods.core.returns import (
    advantages,
    baseline_features,
    discounted_returns,
    finished,
    fit_baseline,
    normalised,
)

Act = Callable[[Tensor], Tensor]  # obs [N, E, O] → action [N, E, A]
# mean [N, B, A] and log_std [N, 1, A] of a policy, [1, A] where tasks share it
Outputs = tuple[Tensor, Tensor]

LEAST_LOG_STD = log(1e-6)  # rllab's


def init_gaussian_policy(
    n_in: int,
    n_act: int,
    hidden: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> Params:
    """Fresh Gaussian policy, two hidden layers: Xavier uniform, biases 0, σ = 1 in every state.

    Source:
      rllab's GaussianMLPPolicy, on which MAML and CAVIA build.
    """
    sizes = (n_in, hidden, hidden, n_act)
    device = generator.device
    params = Params()
    for layer, (rows, columns) in enumerate(pairwise(sizes)):
        bound = (6.0 / (rows + columns)) ** 0.5
        params[f"pi{layer}.w"] = (
            torch.empty(rows, columns, device=device)
            .uniform_(-bound, bound, generator=generator)
            .to(dtype)
        )
        params[f"pi{layer}.b"] = torch.zeros(1, columns, dtype=dtype, device=device)
    return params | {"log_std": torch.zeros(1, n_act, dtype=dtype, device=device)}


def gaussian_policy(params: Mapping[str, Tensor], obs: Tensor) -> Outputs:
    """Mean [..., B, A] and log σ [..., 1, A] of the actions at obs [..., B, O]."""
    return mlp(params, ("pi0", "pi1", "pi2"), obs), params["log_std"].clamp(min=LEAST_LOG_STD)


def sampled(outputs: Outputs, generator: torch.Generator) -> Tensor:
    """Draw actions from a policy's outputs; the environment clips them, densities ignore that."""
    mean, log_std = outputs
    return mean + torch.exp(log_std) * torch.empty_like(mean).normal_(generator=generator)


class Rollout(NamedTuple):
    """T control steps of N tasks × E copies; where an episode ends, the next begins."""

    obs: Tensor  # [T, N, E, O]
    action: Tensor  # [T, N, E, A] before clipping
    reward: Tensor  # [T, N, E]
    terminated: Tensor  # [T, N, E] bool
    truncated: Tensor  # [T, N, E] bool
    time: Tensor  # [T, N, E] control steps since the episode began
    last_obs: Tensor  # [N, E, O] after the last step, before any reset


class Samples(NamedTuple):
    """What a policy gradient needs from a batch: B = T·E steps of each of N tasks."""

    obs: Tensor  # [N, B, O]
    action: Tensor  # [N, B, A]
    advantage: Tensor  # [N, B]


class Sampler:
    """Collects batches of `episodes` horizons of every task, all steps of which are used.

    A batch begins with a reset. After an episode that ends early another begins, and one that the
    end of the batch cuts off is bootstrapped. The number of copies divides both `episodes` and the
    horizon, so that a batch can pause at any checkpoint.

    Args:
      env: made with `copies_of(episodes, horizon)` copies.
      episodes: horizons of experience in a batch, K.
      device: the device of the experience.
    """

    def __init__(self, env: Env, episodes: int, device: torch.device) -> None:
        self.env, self.steps = env, episodes // env.copies * env.horizon
        self._device = device
        self._rows: list[list[Tensor]] = []  # steps of the batch being collected
        self._obs = torch.zeros(env.n_tasks, env.copies, env.observation_size, device=device)
        self._time = torch.zeros(env.n_tasks, env.copies, device=device)
        self._last = self._obs

    def collect(self, act: Act, limit: int | None = None) -> Rollout | None:
        """Continue the batch by at most `limit` environment steps per task; None until complete.

        A limit too small for a step of each copy allows none; a budget of whole horizons never
        leaves such a remainder.
        """
        left = self.steps - len(self._rows)
        for _ in range(left if limit is None else min(left, limit // self.env.copies)):
            if not self._rows:
                self._obs = tensor_of(self.env.reset(), self._device)
                self._time.zero_()
            action = act(self._obs)
            step = self.env.step(array_of(action))
            outcome = (step.reward, step.terminated, step.truncated)
            told = [tensor_of(part, self._device) for part in outcome]
            self._rows.append([self._obs, action, *told, self._time.clone()])
            self._go_on(step)
        if len(self._rows) < self.steps:
            return None
        obs, action, reward, terminated, truncated, time = (
            torch.stack(column) for column in zip(*self._rows, strict=True)
        )
        rollout = Rollout(
            obs,
            action,
            reward,
            terminated=terminated,
            truncated=truncated,
            time=time,
            last_obs=self._last,
        )
        self._rows = []
        return rollout

    def _go_on(self, step: Step) -> None:
        ended = step.terminated | step.truncated
        self._last = tensor_of(step.obs, self._device)
        self._obs = tensor_of(self.env.reset(ended), self._device) if ended.any() else self._last
        self._time = (self._time + 1.0) * ~tensor_of(ended, self._device)

    def state_dict(self) -> dict[str, Any]:
        """The part of a batch collected so far; the harness keeps the environment's own state."""
        return {
            "rows": [[t.clone() for t in row] for row in self._rows],
            "obs": self._obs.clone(),
            "time": self._time.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._rows = [list(row) for row in state["rows"]]
        self._obs = state["obs"].clone()
        self._time = state["time"].clone()


def copies_of(episodes: int, horizon: int) -> int:
    """Number of copies of each task to collect with: the gcd of `episodes` and `horizon`."""
    return gcd(episodes, horizon)


def samples(rollout: Rollout, gamma: float, lam: float) -> Samples:
    """Advantages of a batch, from a linear baseline fitted to it, normalised within each task.

    The baseline knows the clock, and the return that it predicts ends with the episode, also where
    the clock ends it: the value after a truncation is 0. An episode that the end of the batch cuts
    off is bootstrapped with the baseline's prediction, and its steps, whose full returns are not
    known, are left out of the fit (so where many are cut off, the fit favours short episodes).
    """
    ended = rollout.terminated | rollout.truncated
    features = baseline_features(rollout.obs, rollout.time)  # [T, N, E, F]
    after = baseline_features(rollout.last_obs, rollout.time[-1] + 1.0)  # [N, E, F]
    returns = discounted_returns(rollout.reward, ended, gamma)
    # [N, F]
    weights = fit_baseline(_by_task(features), _by_task(returns), _by_task(finished(ended)))
    value = (features @ weights[:, :, None]).squeeze(-1).to(rollout.reward.dtype)
    last = (after @ weights[:, :, None]).squeeze(-1).to(rollout.reward.dtype)
    next_value = torch.cat([value[1:], last[None]]) * ~rollout.truncated
    advantage = advantages(
        rollout.reward,
        value,
        next_value,
        terminated=rollout.terminated,
        truncated=rollout.truncated,
        gamma=gamma,
        lam=lam,
    )
    return Samples(_by_task(rollout.obs), _by_task(rollout.action), normalised(_by_task(advantage)))


def _by_task(values: Tensor) -> Tensor:
    """[T, N, E, …] → [N, T·E, …]."""
    return values.transpose(0, 1).flatten(1, 2)


def reinforce_loss(outputs: Outputs, batch: Samples) -> Tensor:
    """−mean log π(a|s) Â of each task [N].

    Source:
      Williams 1992, with advantages in place of returns.
    """
    return -(log_prob(batch.action, *outputs) * batch.advantage).mean(-1)


def surrogate(outputs: Outputs, before: Outputs, batch: Samples) -> Tensor:
    """mean π(a|s) / π_before(a|s) Â of each task [N], which a step of TRPO raises.

    Source:
      Schulman et al. 2015, eq. 14 (arXiv 1502.05477).
    """
    ratio = torch.exp(log_prob(batch.action, *outputs) - log_prob(batch.action, *before))
    return (ratio * batch.advantage).mean(-1)


def mean_kl(before: Outputs, outputs: Outputs) -> Tensor:
    """Mean KL(π_before ‖ π) over the states of each task [N]."""
    return kl(*before, *outputs).mean(-1)
