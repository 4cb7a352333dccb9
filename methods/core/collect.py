"""Experience for off-policy learners: one environment step of every task at a time, into replay."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.api import Env, FloatArray
from methods.api import Streams
from methods.core.replay import Batch, Replay


class Collector:
    """Steps an environment of one copy per task with Gaussian action noise, after a warm-up.

    Args:
      env: an environment with E = 1.
      noise: std of the acting noise, in action units.
      warmup: environment steps per task of the warm-up.
      capacity: transitions kept per task.
      blind: whether the actions of the warm-up are uniform random ones, not the policy's.
    """

    def __init__(self, env: Env, noise: float, warmup: int, capacity: int, streams: Streams, blind: bool = True) -> None:
        self.env, self.noise, self.warmup, self.blind, self.steps = env, noise, warmup, blind, 0
        self.replay = Replay(env.n_tasks, capacity, env.observation_size, env.action_size)
        self._generator = streams.torch("exploration")
        self._obs: FloatArray | None = None  # [N, 1, O], None before the first episode

    @property
    def warming_up(self) -> bool:
        """Whether the next step belongs to the warm-up."""
        return self.steps < self.warmup

    def step(self, act: Callable[[Tensor], Tensor]) -> None:
        """One step of every task with the policy `act`: obs [N, 1, O] → action [N, 1, A]."""
        if self._obs is None:
            self._obs = self.env.reset()
        obs = torch.from_numpy(self._obs)
        action = self._explore(obs, act)
        step = self.env.step(action.numpy())
        self.replay.add(
            Batch(
                obs,
                action,
                torch.from_numpy(step.reward),
                torch.from_numpy(step.obs),
                torch.from_numpy(step.terminated).to(torch.float32),
            )
        )
        ended = step.terminated | step.truncated
        self._obs = self.env.reset(ended) if ended.any() else step.obs
        self.steps += 1

    def _explore(self, obs: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
        shape = (*obs.shape[:2], self.env.action_size)
        if self.blind and self.warming_up:
            return torch.empty(shape).uniform_(-1.0, 1.0, generator=self._generator)
        noise = torch.empty(shape).normal_(0.0, self.noise, generator=self._generator)
        return (act(obs).to(torch.float32) + noise).clamp_(-1.0, 1.0)

    def state_dict(self) -> dict[str, Any]:
        """Replay, counter, generator and current observation; the environment's own state is the harness's."""
        return {
            "replay": self.replay.state_dict(),
            "steps": self.steps,
            "generator": self._generator.get_state(),
            "obs": None if self._obs is None else torch.from_numpy(np.asarray(self._obs)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.replay.load_state_dict(state["replay"])
        self.steps = state["steps"]
        self._generator.set_state(state["generator"])
        self._obs = None if state["obs"] is None else state["obs"].numpy()
