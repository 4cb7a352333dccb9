"""How a method is measured: checkpoints, and evaluation in the harness's own environments."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmark.pool import BudgetError, TaskPool, finite_actions
from benchmark.seeding import Streams
from envs.api import BoolArray, FloatArray, Task, TaskFamily
from envs.batch import BatchEnv
from methods.api import Adapter, Policy

EPISODES = 10  # per test task and checkpoint


class Evaluation(NamedTuple):
    """Episodes of each of N tasks; returns in the family's units, lengths in control steps."""

    returns: FloatArray  # [N, episodes]
    lengths: FloatArray  # [N, episodes]
    terminated: BoolArray  # [N, episodes]
    diverged: BoolArray  # [N]


class Evaluator:
    """Evaluates policies on test tasks, from the same reset states every time, fixed beforehand.

    An episode in which the policy acts with numbers that are not finite, or in which the simulation
    diverges, is marked as diverged and ends there. For every step that is then missing from the
    horizon it earns the lowest reward of its steps so far, or 0 if that is positive, so that
    neither pays off, whatever the sign of the rewards.
    """

    def __init__(
        self, family: TaskFamily, tasks: Sequence[Task], streams: Streams, threads: int = 1
    ) -> None:
        self._env = BatchEnv(family, tasks, EPISODES, threads, streams.integer("evaluation"))
        self._start = self._env.state_dict()

    def __call__(self, policy: Policy) -> Evaluation:
        """Run one episode in each copy of each task; the method keeps nothing of it."""
        env = self._env
        env.load_state_dict(self._start)
        obs = env.reset()
        shape = (env.n_tasks, env.copies)
        returns = np.zeros(shape)
        lengths = np.zeros(shape)
        lowest = np.full(shape, np.inf)
        running: BoolArray = np.ones(shape, bool)
        terminated = np.zeros(shape, bool)
        diverged = np.zeros(shape, bool)
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
            # last, so that whatever it does to the arrays it is given changes no score
            policy.observe(step)
            obs = env.reset(ended) if ended.any() and running.any() else step.obs
        return Evaluation(returns, lengths, terminated, np.any(diverged, axis=1))


def checkpoints(horizon: int, budget: int) -> tuple[int, ...]:
    """Steps b at which a policy is evaluated: 0, H, 2H, 5H, 10H, 20H, … and the budget's end."""
    ladder = [horizon * m * 10**k for k in range(12) for m in (1, 2, 5)]
    return (0, *(b for b in ladder if b < budget), budget)


class Checkpoint(NamedTuple):
    """What is known about N test tasks after `used` steps of each."""

    used: int
    updates: int
    evaluation: Evaluation
    online_returns: list[float | None]  # [N]
    diverged: BoolArray  # [N] in evaluation or adaptation, as `CheckpointLoop.step` says


class CheckpointLoop:
    """Adapts and evaluates until the budget is used or the method stops using steps.

    What is evaluated is always the current policy, never the best so far. A method that uses no
    more steps is frozen: it is evaluated once where it stopped, and never again.
    """

    def __init__(
        self,
        adapter: Adapter,
        pool: TaskPool,
        evaluate: Callable[[Policy], Evaluation],
        streams: Streams,
        budget: int,
    ) -> None:
        self._adapter = adapter
        self._pool = pool
        self._evaluate = evaluate
        self._streams = streams
        self._ladder = checkpoints(pool.family.horizon, budget)
        # number of checkpoints reached, and steps used at the last of them
        self._reached = 0
        self._evaluated_at = 0
        self._frozen = False

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self._reached == len(self._ladder)

    def step(self) -> Checkpoint | None:
        """Take a step of the adapter, or evaluate and return a checkpoint.

        A checkpoint marks a task as diverged if an evaluated episode did, if a simulation diverged
        since the last checkpoint, or if any action in its adaptation so far was not finite.

        Raises:
          BudgetError: if the method oversteps a checkpoint, or has used more steps of one task than
            of another when it reaches one.
        """
        pool = self._pool
        checkpoint = self._ladder[self._reached]
        pool.allowed = checkpoint
        used = int(pool.used.max())
        if used < checkpoint and not self._frozen:
            before = int(pool.used.sum())
            self._adapter.step(checkpoint - used)
            self._frozen = int(pool.used.sum()) == before
            return None
        if pool.used.min() < used:
            raise BudgetError(
                "at a checkpoint every test task must have used the same number of steps, got"
                f" {pool.used.tolist()}"
            )
        if self._frozen and used == self._evaluated_at:
            self._reached = len(self._ladder)
            return None
        evaluation = self._evaluate(
            self._adapter.policy(self._streams.numpy(f"policy{checkpoint}"))
        )
        diverged = evaluation.diverged | pool.not_finite | (pool.divergences() > 0)
        self._reached = self._reached + 1
        self._evaluated_at = used
        return Checkpoint(used, self._adapter.updates, evaluation, pool.online_returns(), diverged)

    def state_dict(self) -> dict[str, Any]:
        """How far the loop is."""
        return {
            "reached": self._reached,
            "evaluated_at": self._evaluated_at,
            "frozen": self._frozen,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._reached = state["reached"]
        self._evaluated_at = state["evaluated_at"]
        self._frozen = state["frozen"]


def adapt(
    adapter: Adapter,
    pool: TaskPool,
    evaluate: Callable[[Policy], Evaluation],
    streams: Streams,
    budget: int,
) -> Iterator[Checkpoint]:
    """Run a `CheckpointLoop` to its end and yield its checkpoints."""
    loop = CheckpointLoop(adapter, pool, evaluate, streams, budget)
    while not loop.finished:
        if (checkpoint := loop.step()) is not None:
            yield checkpoint
