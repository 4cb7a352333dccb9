"""The contract between a method and the harness.

Axes, everywhere in `methods`: time-major `[T, N, E, …]` with `T` steps, `N` tasks, `E` copies of a task; `B` minibatch rows,
`O` observation, `A` action, `D` hidden, `Z` latent, `R` recurrent entries, `F` features, `P` parameters. NumPy crosses the
border to the harness, tensors stay inside. Budgets are environment steps.

A method is a class `M(spec, config)` with a nested or module-level frozen dataclass `M.Config` of its settings. The harness
calls `meta_train` once (if `M.meta_trains`), stores `state_dict()`, and later, in another process, loads it and calls
`adapter` on the test tasks. A method that adapts what another registered method meta-trains names it as `trained_by`. One that
draws fresh tasks for every step of its meta-training says `on_policy = True`, and gets the budget that such methods have; one
that visits a few of many tasks at a time says `many_tasks = True`, and gets more tasks, each for fewer steps. If it has
`least_budget(n_tasks)`, a run that cannot give it as many environment steps is refused before it begins.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from envs.api import BoolArray, Env, FloatArray, Step, TrainEnv


class Spec(NamedTuple):
    """What a method may know of a family before it sees a step."""

    observation_size: int
    action_size: int
    horizon: int  # control steps per episode
    kind: str = "reward"  # "reward" or "transition": what varies from task to task


class Streams(Protocol):
    """Named random generators of one stage; the same name always gives the same draws."""

    def numpy(self, name: str) -> np.random.Generator:
        """A fresh NumPy generator for the purpose `name`."""
        ...

    def torch(self, name: str) -> torch.Generator:
        """A fresh CPU torch generator for the purpose `name`."""
        ...


class MakeEnv(Protocol):
    """Environments of the stage's tasks; steps in them are counted per task against the budget."""

    def __call__(self, copies: int = 1, task_ids: tuple[int, ...] | None = None) -> TrainEnv:
        """An environment of `copies` of each task (all, or those at `task_ids`)."""
        ...


@dataclass(frozen=True)
class TrainRow:
    """A sign of life from meta-training: the harness adds steps and returns from what it saw itself."""

    updates: int  # optimiser steps on weights so far, per task; one of MAML's outer steps is one
    explored: bool = False  # whether all since the last sign was exploration, whose returns are no score: it gets no row


class Policy(Protocol):
    """A frozen policy, evaluated by the harness in environments of its own."""

    def reset(self, mask: BoolArray) -> None:
        """A new episode begins where `mask` [N, E] is true."""
        ...

    def act(self, obs: FloatArray) -> FloatArray:
        """Actions [N, E, A] in [−1, 1] for observations [N, E, O]."""
        ...

    def observe(self, step: Step) -> None:
        """See the outcome of the last action (for policies with memory)."""
        ...


class Adapter(Protocol):
    """Adaptation to N test tasks at once; nothing passes between the tasks."""

    @property
    def updates(self) -> int:
        """Optimiser steps on weights so far, per task."""
        ...

    def step(self, limit: int) -> None:
        """Gather experience and learn, using at most `limit` > 0 environment steps of each task.

        It may use fewer, but as many of each task, and is called again; using none says that the method has finished adapting.
        """
        ...

    def policy(self, generator: np.random.Generator) -> Policy:
        """The current policy, frozen; what it draws comes from `generator`."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything a restart needs: tensors and plain Python only."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


@runtime_checkable
class Method(Protocol):
    """A (meta-)reinforcement-learning method."""

    version: ClassVar[int]  # bumped whenever a change moves a score
    Config: ClassVar[type]  # frozen dataclass of settings, every field with a default
    meta_trains: ClassVar[bool]  # false: learns on the test task alone, `meta_train` is never called
    eval_mode: ClassVar[str]  # "deterministic" or "stochastic" evaluation actions

    def __init__(self, spec: Spec, config: Any) -> None: ...

    def meta_train(self, make_env: MakeEnv, n_tasks: int, budget: int, streams: Streams) -> Iterator[TrainRow]:
        """Learn from `n_tasks` training tasks, using at most `budget` environment steps summed over them."""
        ...

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> Adapter:
        """Begin adaptation to `n_tasks` test tasks from the meta-trained state."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The meta-trained state: tensors and plain Python only."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


class Memoryless:
    """A policy whose action depends on the observation alone.

    Args:
      act: obs [N, E, O] → action [N, E, A], in NumPy.
    """

    def __init__(self, act: Callable[[FloatArray], FloatArray]) -> None:
        self.act = act

    def reset(self, mask: BoolArray) -> None:
        """Nothing to forget."""

    def observe(self, step: Step) -> None:
        """Nothing to remember."""


class Frozen:
    """An adapter that uses no steps.

    Args:
      policy: makes the policy; what it draws comes from the generator.
    """

    updates = 0

    def __init__(self, policy: Callable[[np.random.Generator], Policy]) -> None:
        self.policy = policy

    def step(self, limit: int) -> None:
        """Adapt in no way."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing."""


class WithoutMetaTraining:
    """What a method says of meta-training if it learns on the test task alone."""

    meta_trains: ClassVar[bool] = False

    def meta_train(self, make_env: MakeEnv, n_tasks: int, budget: int, streams: Streams) -> Iterator[TrainRow]:
        """Never called."""
        yield from ()

    def state_dict(self) -> dict[str, Any]:
        """There is no trained state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """There is none to restore."""


__all__ = [
    "Adapter",
    "Env",
    "Frozen",
    "MakeEnv",
    "Memoryless",
    "Method",
    "Policy",
    "Spec",
    "Step",
    "Streams",
    "TrainEnv",
    "TrainRow",
    "WithoutMetaTraining",
]
