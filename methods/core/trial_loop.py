"""The loop of meta-training by trials: fresh tasks, a trial in each copy of each, an update, and again."""

from collections.abc import Iterator
from typing import Protocol

from methods.api import MakeEnv
from methods.core.actor_critic import PPOConfig
from methods.core.trials import Agent, TrialBatch, TrialRunner, Trials


class Learner(Agent, Protocol):
    """An agent that learns from batches of trials."""

    memory_size: int

    @property
    def updates(self) -> int:
        """Optimiser steps so far, per task."""
        ...

    def meta_learn(self, trials: Trials) -> None:
        """An update of all that meta-training moves."""
        ...


def steps_of(config: PPOConfig, n_tasks: int, horizon: int) -> int:
    """Environment steps of one batch, summed over tasks: a trial in each copy of each task."""
    return n_tasks * config.copies * config.trial_episodes * horizon


def meta_updates(
    make_env: MakeEnv, horizon: int, n_tasks: int, budget: int, config: PPOConfig, agent: Learner, least: int
) -> Iterator[int]:
    """Batches of trials of `n_tasks` fresh tasks, an update on each, as often as `budget` environment steps allow.

    Args:
      budget: summed over tasks.
      least: what the first update takes of it.
    Yields:
      The agent's updates so far, after each batch.
    Raises:
      ValueError: if the budget does not allow one update.
    """
    per_batch = steps_of(config, n_tasks, horizon)
    if budget < least:
        times = "" if least == per_batch else f", {least // per_batch} times"
        raise ValueError(
            f"one update takes {least} environment steps ({n_tasks} tasks × {config.copies} trials × {config.trial_episodes} "
            f"episodes × {horizon} steps{times}) and the budget is {budget}; take fewer or shorter trials"
        )
    env = make_env(config.copies)
    batch = TrialBatch(TrialRunner(env, config.trial_episodes), agent.memory_size, config.trial_episodes * horizon)
    for _ in range(budget // per_batch):
        env.draw()
        trials = batch.collect(agent)
        assert trials is not None, "without a limit a batch is collected whole"
        agent.meta_learn(trials)
        yield agent.updates
