"""Adaptation by memory: a trial on the test task, optionally followed by training there."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from envs.api import BoolArray, FloatArray, Step
from methods.api import MakeEnv
from methods.core.border import array_of, tensor_of
from methods.core.trials import Agent, Choice, Moment, TrialBatch, TrialRunner, Trials, known_of


class EvaluatedAgent(Agent, Protocol):
    """An agent that can be frozen and evaluated."""

    memory_size: int

    @property
    def device(self) -> torch.device:
        """Device of its tensors."""
        ...

    @property
    def updates(self) -> int:
        """Optimiser steps so far, per task."""
        ...

    def mean(self, obs: Tensor, memory: Tensor) -> Tensor:
        """The most likely action [N, E, A]."""
        ...

    def recall(self, moments: Moment) -> Tensor:
        """The memory [T, N, E, R] before each step of trials [T, N, E, …]."""
        ...

    def frozen(self) -> "EvaluatedAgent":
        """A copy that learning does not change."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes: weights, learner, generators."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


class ByMean:
    """An agent that acts by its mean, as in evaluation."""

    def __init__(self, agent: EvaluatedAgent) -> None:
        self._agent = agent
        self.value = agent.value
        self.remember = agent.remember

    def act(self, obs: Tensor, memory: Tensor) -> Choice:
        """The most likely action; nothing learns from it, so density and value are zero."""
        mean = self._agent.mean(obs, memory)
        nothing = mean.new_zeros(mean.shape[:-1])
        return Choice(mean, nothing, nothing)


class RememberingPolicy:
    """Acts by the mean, and continues to remember within the episode.

    Args:
      memory: [N, R] of each task, at the start of every episode.
    """

    def __init__(self, agent: EvaluatedAgent, memory: Tensor) -> None:
        self._agent = agent
        self._start = memory
        self._device = memory.device
        self._memory = self._obs = self._action = torch.zeros(0, device=memory.device)

    def reset(self, mask: BoolArray) -> None:
        """Give episodes that begin the memory from the trial; the others keep theirs."""
        start = self._start[:, None].expand(-1, mask.shape[1], -1)
        going_on = self._memory if self._memory.shape == start.shape else start
        self._memory = torch.where(tensor_of(mask, self._device)[..., None], start, going_on)

    def act(self, obs: FloatArray) -> FloatArray:
        """As `methods.api.Policy.act`."""
        with torch.no_grad():
            self._obs = tensor_of(obs, self._device)
            # remembered unclipped, as in training
            self._action = self._agent.mean(self._obs, self._memory)
            return array_of(self._action.clamp(-1.0, 1.0))

    def observe(self, step: Step) -> None:
        """Remember what the last action led to."""
        next_obs, reward, terminated, truncated = (tensor_of(part, self._device) for part in step)
        with torch.no_grad():
            moment = Moment(
                self._obs,
                self._action,
                reward,
                next_obs=next_obs,
                terminated=terminated,
                truncated=truncated,
                trial_ended=torch.zeros_like(terminated),
            )
            self._memory = self._agent.remember(self._memory, moment)


class TrialAdapter:
    """One trial of k episodes on each test task, by mean actions; evaluated episodes begin with the
    memory after its first k − 1 episodes.

    With `learn`, training follows, on batches of E trials of each task.

    Args:
      make_env: makes environments of the test tasks.
      horizon: H.
      episodes: k.
      agent: acts and remembers.
      learn: updates the agent on a batch; None if its weights stay fixed.
      copies: E.
    """

    def __init__(
        self,
        make_env: MakeEnv,
        horizon: int,
        episodes: int,
        agent: EvaluatedAgent,
        learn: Callable[[Trials], None] | None = None,
        copies: int = 1,
    ) -> None:
        self._agent = agent
        self._episodes = episodes
        self._learn = learn
        env = make_env()
        steps = episodes * horizon
        device = agent.device
        self._trial = TrialBatch(TrialRunner(env, episodes, device), agent.memory_size, steps)
        self._batch = None
        if learn is not None:
            runner = TrialRunner(make_env(copies), episodes, device)
            self._batch = TrialBatch(runner, agent.memory_size, steps)
        self._known = torch.zeros(env.n_tasks, agent.memory_size, device=device)
        self._own_stage = True

    @property
    def updates(self) -> int:
        """Optimiser steps so far, per task."""
        return self._agent.updates

    @property
    def finished(self) -> bool:
        """Whether the trial is over and no training follows it."""
        return not self._own_stage and self._learn is None

    def step(self, limit: int) -> None:
        """Continue the trial; after it, with `learn`, continue batches of trials and updates."""
        if self._own_stage:
            trials = self._trial.collect(ByMean(self._agent), limit)
            if trials is None:
                self._known = self._trial.known(self._episodes - 1)
            else:
                self._know(trials.moments, trials.memory)
                self._own_stage = False
        elif self._batch is not None and self._learn is not None:
            trials = self._batch.collect(self._agent, limit // self._batch.copies)
            if trials is not None:
                self._learn(trials)
                self._know(trials.moments, self._agent.recall(trials.moments))

    def _know(self, moments: Moment, memory: Tensor) -> None:
        self._known = known_of(moments, memory, self._episodes - 1)

    def policy(self, generator: np.random.Generator) -> RememberingPolicy:
        """The present agent, with its memory of each task; it draws nothing."""
        return RememberingPolicy(self._agent.frozen(), self._known)

    def state_dict(self) -> dict[str, Any]:
        """The trial or batch being collected, the memories for evaluation, and the agent."""
        return {
            "trial": self._trial.state_dict(),
            "batch": None if self._batch is None else self._batch.state_dict(),
            "known": self._known.clone(),
            "own_stage": self._own_stage,
            "agent": self._agent.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._trial.load_state_dict(state["trial"])
        if self._batch is not None:
            self._batch.load_state_dict(state["batch"])
        self._known = state["known"].clone()
        self._own_stage = state["own_stage"]
        self._agent.load_state_dict(state["agent"])
