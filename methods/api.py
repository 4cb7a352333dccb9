"""The contract between a method and the harness.

Axes are time-major throughout `methods`, `[T, N, E, …]`: `T` steps, `N` tasks, `E` copies of a
task. Other sizes are `B` minibatch rows, `O` observation, `A` action, `D` hidden, `Z` latent and
`R` recurrent entries, `F` features, `P` parameters. NumPy arrays cross the border to the harness;
tensors stay inside. Budgets count environment steps.

A method is a class `M(spec, config)` that inherits `Method`, with a nested or module-level frozen
dataclass `M.Config` of its settings. The harness makes a `trainer` (if `M.meta_trains`), steps it
to its end and stores the method's `state_dict()`. Later, in another process, it loads that state
and steps an `adapter` on the test tasks. Between any two steps it may save either learner, stop,
and resume in yet another process, so a step is a small piece of work, seconds at most. An
environment that is to outlive a step must be made together with the learner; one made within a step
ends with it.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch

from envs.api import BoolArray, Env, FloatArray, Step, TrainEnv


class Spec(NamedTuple):
    """What a method may know about a family before its first environment step."""

    observation_size: int
    action_size: int
    horizon: int  # control steps per episode
    kind: str = "reward"  # "reward" or "transition": what varies from task to task


class Streams(Protocol):
    """Named random generators of one stage; the same name always gives the same draws."""

    def numpy(self, name: str) -> np.random.Generator:
        """Return a fresh NumPy generator for the purpose `name`."""
        ...

    @property
    def device(self) -> torch.device:
        """Device for a learner's tensors; the harness restores saved ones to it."""
        ...

    def torch(self, name: str) -> torch.Generator:
        """Return a fresh torch generator on `device` for the purpose `name`."""
        ...


class MakeEnv(Protocol):
    """Factory of environments of the stage's tasks; it counts steps per task against the budget."""

    def __call__(self, copies: int = 1, task_ids: tuple[int, ...] | None = None) -> TrainEnv:
        """Return an environment with `copies` of each task (all tasks, or those at `task_ids`)."""
        ...


class Policy(Protocol):
    """A frozen policy, evaluated by the harness in environments of its own."""

    def reset(self, mask: BoolArray) -> None:
        """Begin a new episode where `mask` [N, E] is true."""
        ...

    def act(self, obs: FloatArray) -> FloatArray:
        """Return actions [N, E, A] in [−1, 1] for observations [N, E, O]."""
        ...

    def observe(self, step: Step) -> None:
        """Receive the outcome of the last action (for policies with memory)."""
        ...


class Learner(Protocol):
    """What trainers and adapters have in common."""

    @property
    def updates(self) -> int:
        """Optimiser steps so far, per task; one outer step of MAML counts as one."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return all that an identically made learner needs to resume, except environments.

        It holds tensors, arrays and plain Python objects.
        """
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


class Event(Enum):
    """Outcome of a meta-training step; the harness itself records steps and returns."""

    NOTHING = "the iteration is still under way"
    EXPLORED = "everything since the last event was exploration, whose returns are not a score"
    ITERATION = "an iteration is over and gets a row"
    END = "the method holds what was trained; no iteration fits the budget, and no step was taken"


class Trainer(Learner, Protocol):
    """Meta-training on N tasks."""

    def step(self, limit: int) -> Event:
        """Collect or learn within `limit`, the remaining environment steps summed over tasks."""
        ...


class Adapter(Learner, Protocol):
    """Adaptation to N test tasks at once; no information passes between the tasks."""

    def step(self, limit: int) -> None:
        """Gather experience and learn, using at most `limit` > 0 steps of each task, the number
        left until the next evaluation.

        It may use fewer, but the same number of each task, and is then called again. Using none
        means that the method has finished adapting.
        """
        ...

    def policy(self, generator: np.random.Generator) -> Policy:
        """Return the current policy, frozen; its random draws come from `generator`."""
        ...


class Method:
    """A (meta-)reinforcement-learning method."""

    version: ClassVar[int]  # bumped whenever a change affects a score
    Config: ClassVar[Any]  # frozen dataclass of settings, every field with a default
    meta_trains: ClassVar[bool]  # false: learns on the test task alone; `trainer` is never called
    eval_mode: str  # "deterministic" or "stochastic" evaluation actions
    # draws fresh tasks for every iteration, and gets the budget of on-policy methods
    on_policy: ClassVar[bool] = False
    # visits a few of many tasks at a time: gets more training tasks, with fewer steps of each
    many_tasks: ClassVar[bool] = False
    # name of the registered method whose meta-training it adapts; "" for its own
    trained_by: ClassVar[str] = ""
    # whether its policies can infer the task within an evaluated episode
    remembers: ClassVar[bool] = False
    # whether the task's parameters are appended to its observations: a reference, not a competitor
    told: ClassVar[bool] = False
    # what tuning tries: the values of each setting
    space: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    def __init__(self, spec: Spec, config: Any) -> None:
        self.spec = spec
        self.config = config

    def least_budget(self, n_tasks: int) -> int:
        """Return the environment steps, summed over tasks, for one iteration of meta-training."""
        return 0

    def trainer(self, make_env: MakeEnv, n_tasks: int, budget: int, streams: Streams) -> Trainer:
        """Return a trainer on `n_tasks` tasks, with `budget` environment steps summed over them."""
        raise NotImplementedError

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> Adapter:
        """Return an adapter to `n_tasks` test tasks that starts from the meta-trained state."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return the meta-trained state: tensors, arrays and plain Python objects."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class Memoryless:
    """A policy whose action depends on the observation alone.

    Args:
      act: obs [N, E, O] → action [N, E, A], as NumPy arrays.
    """

    def __init__(self, act: Callable[[FloatArray], FloatArray]) -> None:
        self.act = act

    def reset(self, mask: BoolArray) -> None:
        """Do nothing; there is no memory to clear."""

    def observe(self, step: Step) -> None:
        """Do nothing; there is no memory to update."""


class Frozen:
    """An adapter that uses no steps.

    Args:
      policy: makes the policy, whose random draws come from the generator.
    """

    updates = 0

    def __init__(self, policy: Callable[[np.random.Generator], Policy]) -> None:
        self.policy = policy

    def step(self, limit: int) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""


__all__ = [
    "Adapter",
    "Env",
    "Event",
    "Frozen",
    "Learner",
    "MakeEnv",
    "Memoryless",
    "Method",
    "Policy",
    "Spec",
    "Step",
]
__all__ += ["Streams", "TrainEnv", "Trainer"]
