"""The loop of meta-training by trials: fresh tasks, a trial in every copy, an update, repeat."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch

from methods.api import Event, MakeEnv
from methods.core.actor_critic import PPOConfig
from methods.core.normalise import RunningMoments
from methods.core.trials import Agent, TrialBatch, TrialRunner, Trials


class TrialLearner(Agent, Protocol):
    """An agent that learns from batches of trials."""

    memory_size: int

    @property
    def device(self) -> torch.device:
        """Device of its tensors."""
        ...

    @property
    def updates(self) -> int:
        """Optimiser steps so far, per task."""
        ...

    @property
    def statistics(self) -> Mapping[str, RunningMoments]:
        """Statistics of the normalisers, by name; only meta-training changes them."""
        ...

    def meta_learn(self, trials: Trials) -> None:
        """Update everything that meta-training changes."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes except the statistics: weights, optimisers, generators."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


def steps_of(config: PPOConfig, n_tasks: int, horizon: int) -> int:
    """Environment steps of one batch, summed over tasks: a trial in each copy of each task."""
    return n_tasks * config.copies * config.trial_episodes * horizon


class TrialTrainer:
    """Meta-training on batches of trials of fresh tasks, with an update on each batch.

    Args:
      agent: acts, remembers and learns.
      budget: environment steps, summed over `n_tasks`.
      least: the part of `budget` that the first update takes.
      keep: called at the end, when training of `agent` is complete.
    Raises:
      ValueError: if the budget does not allow one update.
    """

    def __init__(
        self,
        make_env: MakeEnv,
        horizon: int,
        n_tasks: int,
        budget: int,
        config: PPOConfig,
        agent: TrialLearner,
        least: int,
        keep: Callable[[], None],
    ) -> None:
        self._cost = steps_of(config, n_tasks, horizon)
        if budget < least:
            times = "" if least == self._cost else f", {least // self._cost} times"
            raise ValueError(
                f"one update takes {least} environment steps ({n_tasks} tasks × {config.copies}"
                f" trials × {config.trial_episodes} episodes × {horizon} steps{times}) and the"
                f" budget is {budget}; take fewer or shorter trials"
            )
        self._env = make_env(config.copies)
        self._agent = agent
        self._keep = keep
        runner = TrialRunner(self._env, config.trial_episodes, agent.device)
        self._batch = TrialBatch(runner, agent.memory_size, config.trial_episodes * horizon)

    @property
    def updates(self) -> int:
        """Optimiser steps so far, per task."""
        return self._agent.updates

    def step(self, limit: int) -> Event:
        """Collect a batch of whole trials, and update on it."""
        if limit < self._cost:
            self._keep()
            return Event.END
        self._env.draw()
        trials = self._batch.collect(self._agent)
        assert trials is not None, "without a limit a batch is collected whole"
        self._agent.meta_learn(trials)
        return Event.ITERATION

    def state_dict(self) -> dict[str, Any]:
        """The agent and its statistics; between two steps no trial is in progress."""
        statistics = {
            name: moments.state_dict() for name, moments in self._agent.statistics.items()
        }
        return {"agent": self._agent.state_dict(), "statistics": statistics}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._agent.load_state_dict(state["agent"])
        for name, moments in self._agent.statistics.items():
            moments.load_state_dict(state["statistics"][name])
