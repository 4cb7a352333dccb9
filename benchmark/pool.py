"""A stage's tasks as a method meets them: steps are counted and task parameters are hidden."""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import numpy as np

from benchmark.seeding import Streams
from envs.api import BoolArray, FloatArray, Step, Task, TaskFamily
from envs.batch import BatchEnv


class BudgetError(RuntimeError):
    """A method tried to use more environment steps than it was given."""


class DivergenceError(RuntimeError):
    """A method produced actions that are not finite."""


class UnsavableError(RuntimeError):
    """A learner cannot be saved, so that its stage starts anew if it stops."""


@dataclass
class TaskPool:
    """The tasks of a stage and what a method has used of them; methods get its `make_env` only.

    Environments made before `settle` last as long as the learner and are part of the pool's state;
    later ones last for one step.

    Attributes:
      allowed: environment steps that may be used: of each task, or with `pooled` summed over the
        tasks.
      used: [N] environment steps used of each task, over all environments made here.
      not_finite: [N] whether a task's policy ever acted with numbers that are not finite.
    """

    family: TaskFamily
    tasks: Sequence[Task]
    streams: Streams
    threads: int = 1
    pooled: bool = False
    allowed: int = 0
    draw: Callable[[], Sequence[Task]] | None = None  # fresh training tasks for every slot
    # called after every step with the largest count of any task (pooled: the sum of all counts)
    progress: Callable[[int], None] = lambda used: None
    used: np.ndarray = field(init=False)
    not_finite: np.ndarray = field(init=False)
    _divergences: np.ndarray = field(init=False)
    _returns: list[list[float]] = field(init=False)
    _made: int = field(init=False, default=0)
    _settled: bool = field(init=False, default=False)
    _lasting: "list[CountedEnv]" = field(init=False, default_factory=list)
    _passing: "WeakSet[CountedEnv]" = field(init=False, default_factory=WeakSet)
    _seen: set[tuple[float, ...]] = field(init=False)  # parameters of the tasks that a method had

    def __post_init__(self) -> None:
        self._seen = set(map(_which, self.tasks))
        self.used = np.zeros(len(self.tasks), np.int64)
        self.not_finite = np.zeros(len(self.tasks), bool)
        self._divergences = np.zeros(len(self.tasks), np.int64)
        self._returns = [[] for _ in self.tasks]

    def make_env(self, copies: int = 1, task_ids: tuple[int, ...] | None = None) -> "CountedEnv":
        """Make a counted environment: `copies` of all tasks, or of those at `task_ids` (`MakeEnv`).

        Raises:
          ValueError: if `task_ids` names a task twice, whose steps would be counted once, or one
            that does not exist.
        """
        ids = tuple(range(len(self.tasks))) if task_ids is None else tuple(task_ids)
        if len(set(ids)) < len(ids) or not set(ids) <= set(range(len(self.tasks))):
            raise ValueError(
                f"task_ids must be different numbers from 0 to {len(self.tasks) - 1}, got {ids}"
            )
        seed = self.streams.integer(f"env{self._made}")
        self._made += 1
        batch = BatchEnv(self.family, [self.tasks[i] for i in ids], copies, self.threads, seed)
        env = CountedEnv(batch, np.array(ids), self)
        if self._settled:
            self._passing.add(env)
        else:
            self._lasting.append(env)
        return env

    def settle(self) -> None:
        """Note that the learner is made; environments made from now on are to last for one step."""
        self._settled = True

    def fresh_tasks(self) -> Sequence[Task]:
        """Draw tasks for all slots from the training law."""
        assert self.draw is not None, "only meta-training draws"
        tasks = self.draw()
        if not self.used.any():  # nobody has seen the tasks that are replaced
            self._seen.clear()
        self._seen.update(map(_which, tasks))
        return tasks

    @property
    def n_tasks_seen(self) -> int:
        """How many different tasks a method has had: those in the slots and those it drew."""
        return len(self._seen)

    def charge(self, ids: np.ndarray, copies: int) -> None:
        """Count one step of each copy of the tasks at `ids`.

        Raises:
          BudgetError: before the step is taken, if the budget does not allow it.
        """
        asked = (
            int(self.used.sum()) + copies * len(ids)
            if self.pooled
            else int(self.used[ids].max()) + copies
        )
        if asked > self.allowed:
            scope = "in all" if self.pooled else "of a task"
            raise BudgetError(
                f"the method asked for environment step {asked} {scope} and may use {self.allowed}"
            )
        self.used[ids] += copies
        self.progress(int(self.used.sum() if self.pooled else self.used.max()))

    def finish(self, task: int, episode_return: float, diverged: bool) -> None:
        """Note the return of a finished episode, and whether its simulation diverged."""
        self._returns[task].append(episode_return)
        self._divergences[task] += diverged

    def divergences(self) -> np.ndarray:
        """[N] simulations that diverged since the last call."""
        counted = self._divergences
        self._divergences = np.zeros(len(self.tasks), np.int64)
        return counted

    def online_returns(self) -> list[float | None]:
        """[N] mean return of the episodes that ended since the last call, None where none did.

        An episode that a reset cut off does not count.
        """
        means = [float(np.mean(returns)) if returns else None for returns in self._returns]
        self._returns = [[] for _ in self.tasks]
        return means

    def state_dict(self) -> dict[str, Any]:
        """What was used and seen, and the state of every environment that lasts.

        Raises:
          UnsavableError: if an environment that was made within a step still exists.
        """
        if len(self._passing):
            gc.collect()  # it may be alive only as part of a reference cycle
        if len(self._passing):
            raise UnsavableError(
                "it made an environment within a step and kept it: make such environments when the"
                " learner is made"
            )
        return {
            "used": self.used.copy(),
            "not_finite": self.not_finite.copy(),
            "divergences": self._divergences.copy(),
            "returns": [list(returns) for returns in self._returns],
            "made": self._made,
            "seen": np.array(sorted(self._seen), np.float64),  # [tasks, parameters]
            "envs": [env._state() for env in self._lasting],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; tasks and learner must be made in the same way."""
        for mine, saved in (
            (self.used, "used"),
            (self.not_finite, "not_finite"),
            (self._divergences, "divergences"),
        ):
            mine[...] = state[saved]
        self._returns = [list(returns) for returns in state["returns"]]
        self._made = state["made"]
        self._seen = {tuple(params) for params in state["seen"].tolist()}
        for env, saved in zip(self._lasting, state["envs"], strict=True):
            env._restore(saved)


def _which(task: Task) -> tuple[float, ...]:
    """What tells a task apart from others of its family: the values of its parameters."""
    return tuple(task.params[name] for name in sorted(task.params))


class CountedEnv:
    """A `BatchEnv` that counts steps and hides the task's parameters (`envs.api.TrainEnv`)."""

    def __init__(self, env: BatchEnv, ids: np.ndarray, pool: TaskPool) -> None:
        self._env = env
        self._ids = ids
        self._pool = pool
        self.n_tasks = env.n_tasks
        self.copies = env.copies
        self.horizon = env.horizon
        self.observation_size = env.observation_size
        self.action_size = env.action_size
        self._return = np.zeros((env.n_tasks, env.copies))
        self._diverged = env.diverged.copy()

    def reset(self, mask: BoolArray | None = None) -> FloatArray:
        """As `envs.api.Env.reset`."""
        self._return[... if mask is None else mask] = 0.0
        return self._env.reset(mask)

    def step(self, action: FloatArray) -> Step:
        """As `envs.api.Env.step`, counted; a non-finite action becomes zero and marks its task.

        Raises:
          BudgetError: if the budget does not allow this step.
        """
        self._pool.charge(self._ids, self.copies)
        action, bad = finite_actions(action)
        step = self._env.step(action)
        self._pool.not_finite[self._ids] |= bad.any(1)
        self._return += step.reward
        ended = step.terminated | step.truncated
        if ended.any():
            for n, e in np.argwhere(ended):
                diverged = bool(self._env.diverged[n, e] > self._diverged[n, e])
                self._pool.finish(int(self._ids[n]), float(self._return[n, e]), diverged)
            self._diverged = self._env.diverged.copy()
        return step

    def draw(self) -> None:
        """As `envs.api.TrainEnv.draw`.

        Raises:
          RuntimeError: in adaptation, where the tasks are given, or in an environment of only some
            of the tasks.
        """
        if self._pool.draw is None or self.n_tasks != len(self._pool.tasks):
            raise RuntimeError(
                "fresh tasks can be drawn only in meta-training, in an environment of all its tasks"
            )
        self._env.set_tasks(self._pool.fresh_tasks())

    def _state(self) -> dict[str, Any]:
        """Environment state and running returns; hidden from methods, as it holds the tasks."""
        return {
            "env": self._env.state_dict(),
            "return": self._return.copy(),
            "diverged": self._diverged.copy(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._env.load_state_dict(state["env"])
        self._return[...], self._diverged[...] = state["return"], state["diverged"]


def finite_actions(action: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Actions [N, E, A] with every non-finite row set to zero, and a mask [N, E] of those rows.

    Raises:
      TypeError: if they are not a NumPy array of real numbers.
    """
    if not isinstance(action, np.ndarray) or action.dtype.kind not in "fiub":
        kind = f"of {action.dtype}" if isinstance(action, np.ndarray) else type(action).__name__
        raise TypeError(f"actions must be a NumPy array of floats [N, E, A], not {kind}")
    bad: BoolArray = np.logical_not(np.isfinite(action).all(-1))
    return (np.where(bad[..., None], 0.0, action) if bad.any() else action), bad
