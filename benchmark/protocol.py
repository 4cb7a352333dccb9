"""How a method meets its tasks: counted steps, checkpoints, and evaluation in environments of the harness's own."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from benchmark.seeding import Streams
from envs.api import BoolArray, FloatArray, Step, Task, TaskFamily
from envs.batch import BatchEnv
from methods.api import Adapter, Policy

EPISODES = 10  # of each test task at each checkpoint


class BudgetError(RuntimeError):
    """A method tried to use more environment steps than it was given."""


class DivergenceError(RuntimeError):
    """A method produced actions that are not finite."""


@dataclass
class TaskPool:
    """The tasks of a stage, and what a method has used of them. A method gets `make_env` of it, which guards against slips.

    Attributes:
      allowed: environment steps that may be used: of each task, or with `pooled` summed over the tasks.
      used: [N] environment steps used of each task, in all environments made here.
      not_finite: [N] whether a task's policy ever acted with numbers that are not finite.
    """

    family: TaskFamily
    tasks: Sequence[Task]
    streams: Streams
    threads: int = 1
    pooled: bool = False
    allowed: int = 0
    draw: Callable[[], Sequence[Task]] | None = None  # fresh training tasks for every slot
    progress: Callable[[int], None] = lambda used: None  # told the largest (pooled: summed) count after every step
    used: np.ndarray = field(init=False)
    not_finite: np.ndarray = field(init=False)
    _divergences: np.ndarray = field(init=False)
    _returns: list[list[float]] = field(init=False)
    _made: int = field(init=False, default=0)
    _seen: set[tuple[float, ...]] = field(init=False)  # parameters of the tasks that a method had

    def __post_init__(self) -> None:
        self._seen = set(map(_which, self.tasks))
        self.used, self.not_finite = np.zeros(len(self.tasks), np.int64), np.zeros(len(self.tasks), bool)
        self._divergences = np.zeros(len(self.tasks), np.int64)
        self._returns = [[] for _ in self.tasks]

    def make_env(self, copies: int = 1, task_ids: tuple[int, ...] | None = None) -> "CountedEnv":
        """An environment of `copies` of each task (all, or those at `task_ids`), its steps counted; `methods.api.MakeEnv`.

        Raises:
          ValueError: if `task_ids` names a task twice, which would be counted once, or one that is not there.
        """
        ids = tuple(range(len(self.tasks))) if task_ids is None else tuple(task_ids)
        if len(set(ids)) < len(ids) or not set(ids) <= set(range(len(self.tasks))):
            raise ValueError(f"task_ids must be different numbers from 0 to {len(self.tasks) - 1}, got {ids}")
        seed = self.streams.integer(f"env{self._made}")
        self._made += 1
        env = BatchEnv(self.family, [self.tasks[i] for i in ids], copies, self.threads, seed)
        return CountedEnv(env, np.array(ids), self)

    def fresh_tasks(self) -> Sequence[Task]:
        """Tasks for all slots, from the training law."""
        assert self.draw is not None, "only meta-training draws"
        tasks = self.draw()
        if not self.used.any():  # nobody has seen the tasks that go
            self._seen.clear()
        self._seen.update(map(_which, tasks))
        return tasks

    @property
    def n_tasks_seen(self) -> int:
        """Different tasks that a method had: those of the slots, and what it drew in their place."""
        return len(self._seen)

    def charge(self, ids: np.ndarray, copies: int) -> None:
        """Count one step of each copy of the tasks at `ids`.

        Raises:
          BudgetError: before the step is taken, if it is one too many.
        """
        asked = int(self.used.sum()) + copies * len(ids) if self.pooled else int(self.used[ids].max()) + copies
        if asked > self.allowed:
            scope = "in all" if self.pooled else "of a task"
            raise BudgetError(f"the method asked for environment step {asked} {scope} and may use {self.allowed}")
        self.used[ids] += copies
        self.progress(int(self.used.sum() if self.pooled else self.used.max()))

    def finish(self, task: int, episode_return: float, diverged: bool) -> None:
        """Note the return of a finished episode, and whether its simulation diverged."""
        self._returns[task].append(episode_return)
        self._divergences[task] += diverged

    def divergences(self) -> np.ndarray:
        """[N] simulations that diverged since the last call."""
        counted, self._divergences = self._divergences, np.zeros(len(self.tasks), np.int64)
        return counted

    def online_returns(self) -> list[float | None]:
        """[N] mean return of the episodes that ended since the last call, None for none; what a reset cut off is in none."""
        means = [float(np.mean(returns)) if returns else None for returns in self._returns]
        self._returns = [[] for _ in self.tasks]
        return means


def _which(task: Task) -> tuple[float, ...]:
    """What tells a task from the others of its family."""
    return tuple(task.params[name] for name in sorted(task.params))


class CountedEnv:
    """A `BatchEnv` seen through the budget; the task's parameters are out of sight (`envs.api.TrainEnv`)."""

    def __init__(self, env: BatchEnv, ids: np.ndarray, pool: TaskPool) -> None:
        self._env, self._ids, self._pool = env, ids, pool
        self.n_tasks, self.copies, self.horizon = env.n_tasks, env.copies, env.horizon
        self.observation_size, self.action_size = env.observation_size, env.action_size
        self._return, self._diverged = np.zeros((env.n_tasks, env.copies)), env.diverged.copy()

    def reset(self, mask: BoolArray | None = None) -> FloatArray:
        """As `envs.api.Env.reset`."""
        self._return[... if mask is None else mask] = 0.0
        return self._env.reset(mask)

    def step(self, action: FloatArray) -> Step:
        """As `envs.api.Env.step`, counted; a task whose action is not finite is marked and gets the zero action.

        Raises:
          BudgetError: if the budget does not hold this step.
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
          RuntimeError: in adaptation, where the tasks are given, or in an environment of some of the tasks.
        """
        if self._pool.draw is None or self.n_tasks != len(self._pool.tasks):
            raise RuntimeError("fresh tasks can be drawn only in meta-training, in an environment of all its tasks")
        self._env.set_tasks(self._pool.fresh_tasks())


class Evaluation(NamedTuple):
    """Episodes of each of N tasks; returns in the family's units, lengths in control steps."""

    returns: FloatArray  # [N, episodes]
    lengths: FloatArray  # [N, episodes]
    terminated: BoolArray  # [N, episodes]
    diverged: BoolArray  # [N]


class Evaluator:
    """Evaluates policies on test tasks: the same reset states every time, decided before the first.

    An episode in which the policy acts with numbers that are not finite, or in which the simulation diverges, is marked as
    diverged and ends there. It earns, for every step that it did not live to see, the lowest reward that it has seen, or
    nothing if that is positive: neither may pay, whatever the signs of rewards.
    """

    def __init__(self, family: TaskFamily, tasks: Sequence[Task], streams: Streams, threads: int = 1) -> None:
        self._env = BatchEnv(family, tasks, EPISODES, threads, streams.integer("evaluation"))
        self._start = self._env.state_dict()

    def __call__(self, policy: Policy) -> Evaluation:
        """One episode in each copy of each task; nothing of it is kept by the method."""
        env = self._env
        env.load_state_dict(self._start)
        obs, shape = env.reset(), (env.n_tasks, env.copies)
        returns, lengths, lowest = np.zeros(shape), np.zeros(shape), np.full(shape, np.inf)
        running: BoolArray = np.ones(shape, bool)
        terminated, diverged = np.zeros(shape, bool), np.zeros(shape, bool)
        policy.reset(running.copy())
        while running.any():
            action, not_finite = finite_actions(policy.act(obs))
            step = env.step(action)
            returns += np.where(running, step.reward, 0.0)
            lowest = np.minimum(lowest, step.reward)
            lengths += running
            lost = running & ((env.diverged > 0) | not_finite)
            returns += np.where(lost, np.minimum(lowest, 0.0) * (env.horizon - lengths), 0.0)
            diverged |= lost
            terminated |= running & step.terminated
            ended = step.terminated | step.truncated
            running &= ~(ended | lost)
            policy.observe(step)  # last, so that whatever it does to the arrays it sees moves no score
            obs = env.reset(ended) if ended.any() and running.any() else step.obs
        return Evaluation(returns, lengths, terminated, np.any(diverged, axis=1))


def finite_actions(action: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Actions [N, E, A] with every row that is not finite set to zero, and which rows [N, E] those were."""
    bad: BoolArray = np.logical_not(np.isfinite(action).all(-1))
    return (np.where(bad[..., None], 0.0, action) if bad.any() else action), bad


def checkpoints(horizon: int, budget: int) -> tuple[int, ...]:
    """Steps b at which a policy is evaluated: 0, H, 2H, 5H, 10H, 20H, 50H, … and the budget's end."""
    ladder = [horizon * m * 10**k for k in range(12) for m in (1, 2, 5)]
    return (0, *(b for b in ladder if b < budget), budget)


class Checkpoint(NamedTuple):
    """What is known of N test tasks after `used` steps of each."""

    used: int
    updates: int
    evaluation: Evaluation
    online_returns: list[float | None]  # [N]
    diverged: BoolArray  # [N] in the evaluation, or in adaptation since the last checkpoint


def adapt(
    adapter: Adapter, pool: TaskPool, evaluate: Callable[[Policy], Evaluation], streams: Streams, budget: int
) -> Iterator[Checkpoint]:
    """Adapt and evaluate in turn until the budget is used or the method has finished; the policy is the last, never the best.

    A method that uses no more steps is frozen: it is evaluated once where it stopped, and never again.

    Raises:
      BudgetError: if the method oversteps a checkpoint, or has used more of one task than of another when it reaches one.
    """
    frozen = False
    for checkpoint in checkpoints(pool.family.horizon, budget):
        before, pool.allowed = int(pool.used.max()), checkpoint
        while not frozen and pool.used.max() < checkpoint:
            start = int(pool.used.sum())
            adapter.step(checkpoint - int(pool.used.max()))
            frozen = int(pool.used.sum()) == start
        if pool.used.min() < pool.used.max():
            raise BudgetError(f"at a checkpoint as many steps must be used of each test task, got {pool.used.tolist()}")
        if frozen and pool.used.max() == before:
            return
        evaluation = evaluate(adapter.policy(streams.numpy(f"policy{checkpoint}")))
        diverged = evaluation.diverged | pool.not_finite | (pool.divergences() > 0)
        yield Checkpoint(int(pool.used.max()), adapter.updates, evaluation, pool.online_returns(), diverged)
