"""The contract between a method and the harness.

Axes, everywhere in `methods`: time-major `[T, N, E, …]` with `T` steps, `N` tasks, `E` copies of a
task; `B` minibatch rows, `O` observation, `A` action, `D` hidden, `Z` latent, `R` recurrent
entries, `F` features, `P` parameters. NumPy crosses the border to the harness, tensors stay inside.
Budgets are environment steps.

A method is a class `M(spec, config)` that inherits `Method`, with a nested or module-level frozen
dataclass `M.Config` of its settings. The harness makes a `trainer` (if `M.meta_trains`) and steps
it to its end, stores `state_dict()`, and later, in another process, loads it and steps an `adapter`
on the test tasks. Between any two steps it may save either learner, stop, and go on in yet another
process: a step is a small piece of work, seconds at most. An environment that outlives a step is
made when the learner is made; one that is made within a step ends with it.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar, NamedTuple, Protocol

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

    @property
    def device(self) -> torch.device:
        """Where a learner's tensors are to be; the harness gives saved ones back there."""
        ...

    def torch(self, name: str) -> torch.Generator:
        """A fresh torch generator on that device for the purpose `name`."""
        ...


class MakeEnv(Protocol):
    """Environments of the stage's tasks; steps in them are counted per task against the budget."""

    def __call__(self, copies: int = 1, task_ids: tuple[int, ...] | None = None) -> TrainEnv:
        """An environment of `copies` of each task (all, or those at `task_ids`)."""
        ...


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


class Learner(Protocol):
    """What trainers and adapters have in common."""

    @property
    def updates(self) -> int:
        """Optimiser steps on weights so far, per task; one of MAML's outer steps is one."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything but environments that a learner made the same way needs to go on.

        It holds tensors, arrays and plain Python.
        """
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


class Event(Enum):
    """What a step of meta-training ends with; the harness adds the steps and returns it saw."""

    NOTHING = "it is in the middle of an iteration"
    EXPLORED = "all since the last event was exploration, whose returns are no score"
    ITERATION = "an iteration is over and gets a row"
    END = "the method holds what was trained; the budget allows no more, and no step was taken"


class Trainer(Learner, Protocol):
    """Meta-training on N tasks."""

    def step(self, limit: int) -> Event:
        """Collect or learn within `limit`, the remaining environment steps summed over tasks."""
        ...


class Adapter(Learner, Protocol):
    """Adaptation to N test tasks at once; nothing passes between the tasks."""

    def step(self, limit: int) -> None:
        """Gather experience and learn, using at most `limit` > 0 steps of each task: those left
        until it is evaluated.

        It may use fewer, but as many of each task, and is called again; using none says that the
        method has finished adapting.
        """
        ...

    def policy(self, generator: np.random.Generator) -> Policy:
        """The current policy, frozen; what it draws comes from `generator`."""
        ...


class Method:
    """A (meta-)reinforcement-learning method."""

    version: ClassVar[int]  # bumped whenever a change moves a score
    Config: ClassVar[Any]  # frozen dataclass of settings, every field with a default
    meta_trains: ClassVar[bool]  # false: learns on the test task alone, `trainer` is never called
    eval_mode: str  # "deterministic" or "stochastic" evaluation actions
    # draws fresh tasks for every iteration, and has the budget of such methods
    on_policy: ClassVar[bool] = False
    # visits a few of many tasks at a time: more training tasks, each for fewer steps
    many_tasks: ClassVar[bool] = False
    # the registered method whose meta-training it adapts, "" for its own
    trained_by: ClassVar[str] = ""
    # whether its policies find out the task within an evaluated episode
    remembers: ClassVar[bool] = False
    # whether it is told the task's parameters, behind the observation: no entrant, a reference
    told: ClassVar[bool] = False
    # what tuning tries: settings, each with its values
    space: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    def __init__(self, spec: Spec, config: Any) -> None:
        self.spec = spec
        self.config = config

    def least_budget(self, n_tasks: int) -> int:
        """Environment steps, summed over tasks, needed for one iteration of meta-training."""
        return 0

    def trainer(self, make_env: MakeEnv, n_tasks: int, budget: int, streams: Streams) -> Trainer:
        """Begin to learn from `n_tasks` tasks, with `budget` environment steps summed over them."""
        raise NotImplementedError

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> Adapter:
        """Begin adaptation to `n_tasks` test tasks from the meta-trained state."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The meta-trained state: tensors, arrays and plain Python."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""


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
