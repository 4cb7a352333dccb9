"""The two stages of a cell, step by step, and the rows that they leave; knows nothing of files."""

import json
import resource
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from math import ceil
from typing import Any, Literal, Protocol

import numpy as np

from benchmark.cells import Cell
from benchmark.exits import is_stop
from benchmark.pool import DivergenceError, TaskPool, UnsavableError
from benchmark.protocol import Checkpoint, CheckpointLoop, Evaluator
from benchmark.seeding import Streams, globals_state, load_globals_state
from envs.api import Task, TaskFamily
from envs.laws import middle
from methods.api import Adapter, Event, Learner, Memoryless, Method
from results.measures import ZERO_RETURN, Measure
from results.schema import Row

# told environment steps: summed in meta-training, per test task in adaptation
TellSteps = Callable[[int], None]


class StageRun(Protocol):
    """A stage under way: it goes on in small steps, and can be saved between any two of them."""

    rows: list[Row]
    measures: list[Measure]  # complete when it is finished

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        ...

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far, also in runs before this one; child processes are left out."""
        ...

    @property
    def used(self) -> int:
        """Environment steps so far: summed over training tasks, or per test task in adaptation."""
        ...

    @property
    def updates(self) -> int:
        """Optimiser steps on weights so far, per task."""
        ...

    def step(self) -> None:
        """Go on; `rows` may grow."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on in another process."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


def streams_of(cell: Cell, stage: Literal["train", "adapt"], device: str = "cpu") -> Streams:
    """The named generators of a stage, those of torch on a device."""
    split = (cell.split,) if stage == "adapt" else ()
    return Streams(cell.seed, stage, cell.family, *split, device=device)


class Training:
    """Meta-training: a row per iteration, with the return of the episodes ended since the last row.

    Args:
      method: learns, and at the end holds what was trained.
      threads: of the simulator.
      device: of the learner.
    """

    def __init__(
        self,
        cell: Cell,
        method: Method,
        threads: int = 1,
        progress: TellSteps = lambda used: None,
        device: str = "cpu",
    ) -> None:
        family, streams = cell.seen_family(), streams_of(cell, "train", device)
        self._cell = cell
        self._family = family
        self._clock = _Clock()
        self.rows = list[Row]()
        self._generator = streams.numpy("tasks")
        self._drawn = 0
        self._threads = threads
        self._tasks = self._draw()
        self.measures = list[Measure]()
        self._pool = TaskPool(
            family,
            self._tasks,
            streams,
            threads,
            pooled=True,
            allowed=cell.train_steps,
            draw=self._draw,
            progress=progress,
        )
        budget = (cell.train_tasks, cell.train_steps)
        self._streams = streams.child("method")
        self._trainer = method.trainer(self._pool.make_env, *budget, self._streams)
        self._pool.settle()
        self._told = -1  # environment steps in the last row
        self.finished = False

    def _draw(self) -> tuple[Task, ...]:
        begin = self._drawn
        tasks = training_tasks(self._cell, self._family, self._generator)
        # a running index, so that a task drawn again has starts of its own
        self._drawn += max(self._cell.train_tasks, 1)
        return tuple(replace(task, index=begin + task.index) for task in tasks)

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far, also in runs before this one; child processes are left out."""
        return self._clock.cpu_seconds

    @property
    def used(self) -> int:
        """Environment steps so far, summed over tasks."""
        return int(self._pool.used.sum())

    @property
    def updates(self) -> int:
        """Those of the trainer."""
        return self._trainer.updates

    def step(self) -> None:
        """A step of the trainer.

        Raises:
          BudgetError: if it uses more than its steps.
          DivergenceError: if it acts with numbers that are not finite.
          TypeError: if it gives no `Event`.
        """
        event = self._trainer.step(self._cell.train_steps - self.used)
        if not isinstance(event, Event):
            raise TypeError(f"a step of a trainer must give a methods.api.Event, not {event!r}")
        if event is Event.EXPLORED:
            self._pool.online_returns()
        elif event is Event.ITERATION:
            self._tell(self._trainer.updates)
        elif event is Event.END:
            # what a method used without telling of an iteration counts as well
            if self.used > self._told:
                self._tell(None)
            self._measure()
            self.finished = True

    def _measure(self) -> None:
        """Measure the zero action on the first-drawn training tasks: a bar for trained methods."""
        tasks = self._tasks
        action_size = self._family.action_size
        evaluate = Evaluator(
            self._family, tasks, Streams(self._cell.seed, "zero", self._cell.family), self._threads
        )
        returns = evaluate(
            Memoryless(lambda obs: np.zeros((*obs.shape[:-1], action_size), np.float32))
        ).returns
        self.measures = [
            Measure(name=ZERO_RETURN, env_steps=0, task_index=task.index, value=float(mean))
            for task, mean in zip(tasks, returns.mean(1), strict=True)
        ]

    def _tell(self, updates: int | None) -> None:
        self.rows.append(_training_row(self._cell, self._pool, updates, self._clock))
        self._told = self.used

    def state_dict(self) -> dict[str, Any]:
        """Trainer, environments, counters, drawn tasks, and rows so far."""
        return {
            **_saved(self._trainer, self._streams, self._pool, self.rows, self._clock),
            "tasks": self._generator.bit_generator.state,
            "drawn": self._drawn,
            "told": self._told,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.rows = _restored(state, self._trainer, self._streams, self._pool, self._clock)
        self._generator.bit_generator.state = state["tasks"]
        self._drawn = state["drawn"]
        self._told = state["told"]


def training_tasks(
    cell: Cell, family: TaskFamily, generator: np.random.Generator
) -> tuple[Task, ...]:
    """Draw the training tasks of a cell; among more, if they are to be nested or narrower."""
    drawn = max(cell.train_tasks, cell.nested_in)
    tasks = family.sample(ceil(drawn / cell.law), generator)
    return middle(tasks, drawn)[: cell.train_tasks]


class Adaptation:
    """Adaptation to every task of the cell's split at once: a row per task and checkpoint.

    Args:
      method: meta-trained, if it is to be.
      meta_env_steps: what its meta-training used, None without one.
      threads: of the simulator.
      n_train_tasks: how many tasks its meta-training saw, if not those of the cell.
      device: of the learner.
    """

    def __init__(
        self,
        cell: Cell,
        method: Method,
        meta_env_steps: int | None,
        threads: int = 1,
        progress: TellSteps = lambda used: None,
        n_train_tasks: int | None = None,
        device: str = "cpu",
    ) -> None:
        family, streams = cell.seen_family(), streams_of(cell, "adapt", device)
        self._tasks = family.split(cell.split)
        self._clock = _Clock()
        self.rows = list[Row]()
        self.measures = list[Measure]()
        self._pool = TaskPool(family, self._tasks, streams, threads, progress=progress)
        evaluate = Evaluator(family, self._tasks, streams, threads)
        self._streams = streams.child("method")
        self._adapter = method.adapter(self._pool.make_env, len(self._tasks), self._streams)
        self._pool.settle()
        self._loop = CheckpointLoop(self._adapter, self._pool, evaluate, streams, cell.adapt_steps)
        self._probe = load_probe(cell.probe)(cell, method, self._tasks, streams, threads)
        self._every_row: dict[str, Any] = {
            **_identity(cell),
            "n_train_tasks": n_train_tasks or cell.train_tasks or None,
            "suite": cell.suite,
            "suite_version": cell.suite_version,
            "split": cell.split,
            "stage": "adapt",
            "meta_env_steps": meta_env_steps,
            "eval_mode": method.eval_mode,
        }

    @property
    def finished(self) -> bool:
        """Whether the budget is used, or the method has finished."""
        return self._loop.finished

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far, also in runs before this one; child processes are left out."""
        return self._clock.cpu_seconds

    @property
    def used(self) -> int:
        """Environment steps so far, per test task."""
        return int(self._pool.used.max())

    @property
    def updates(self) -> int:
        """Those of the adapter."""
        return self._adapter.updates

    def step(self) -> None:
        """A step of the adapter, or an evaluation and what the suite's probe measures.

        Raises:
          BudgetError: if it uses more than its steps.
        """
        checkpoint = self._loop.step()
        for index, task in enumerate(self._tasks if checkpoint is not None else ()):
            assert checkpoint is not None
            told = {
                "updates": checkpoint.updates,
                **_task(task),
                **_scores(checkpoint, index),
                **self._clock.read(),
            }
            self.rows.append(Row(**self._every_row, **told))
        if checkpoint is not None:
            self.measures += self._probe(self._adapter, checkpoint.used)

    def state_dict(self) -> dict[str, Any]:
        """Adapter, environments, counters, rows and measures so far."""
        return {
            **_saved(self._adapter, self._streams, self._pool, self.rows, self._clock),
            "measures": [asdict(measure) for measure in self.measures],
            "loop": self._loop.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.rows = _restored(state, self._adapter, self._streams, self._pool, self._clock)
        self.measures = [Measure(**measure) for measure in state.get("measures", ())]
        self._loop.load_state_dict(state["loop"])


class Probe(Protocol):
    """Measures an adapter at a checkpoint, after `used` steps of each task; changes nothing."""

    def __call__(self, adapter: Adapter, used: int) -> list[Measure]:
        """What was found."""
        ...


class MakeProbe(Protocol):
    """Makes the probe of an adaptation, before its first step."""

    def __call__(
        self, cell: Cell, method: Method, tasks: Sequence[Task], streams: Streams, threads: int
    ) -> Probe:
        """`streams` are those of the stage, `threads` of the simulator."""
        ...


def load_probe(path: str) -> MakeProbe:
    """The class at module:Class, or one that measures nothing for ""."""
    if not path:
        return lambda cell, method, tasks, streams, threads: lambda adapter, used: []
    module, _, name = path.partition(":")
    found: MakeProbe = getattr(import_module(module), name)
    return found


def rows_of(stage: StageRun) -> Generator[Row, None, None]:
    """The rows of a stage, run to its end."""
    told = 0
    while not stage.finished:
        stage.step()
        yield from stage.rows[told:]
        told = len(stage.rows)


def _saved(
    learner: Learner, streams: Streams, pool: TaskPool, rows: list[Row], clock: "_Clock"
) -> dict[str, Any]:
    """What is saved of both stages.

    Raises:
      UnsavableError: if the learner cannot give its state.
    """
    try:
        state = learner.state_dict()
    except BaseException as error:  # a method may raise anything
        if is_stop(error):
            raise
        raise UnsavableError(f"its state_dict raises {type(error).__name__}: {error}") from error
    if not isinstance(state, Mapping):
        raise UnsavableError(f"its state_dict gives a {type(state).__name__}, not a dictionary")
    return {
        "learner": state,
        "streams": streams.state_dict(),
        "globals": globals_state(),
        "pool": pool.state_dict(),
        "rows": [asdict(row) for row in rows],
        "wall_s": clock.seconds,
        "cpu_s": clock.cpu_seconds,
    }


def _restored(
    state: Mapping[str, Any], learner: Learner, streams: Streams, pool: TaskPool, clock: "_Clock"
) -> list[Row]:
    learner.load_state_dict(state["learner"])
    streams.load_state_dict(state["streams"])  # including those that the learner forgets
    load_globals_state(state["globals"])
    pool.load_state_dict(state["pool"])
    clock.seconds = state["wall_s"]
    clock.cpu_seconds = state.get("cpu_s", state["wall_s"])  # not in what earlier versions saved
    return [Row(**row) for row in state["rows"]]


def _training_row(cell: Cell, pool: TaskPool, updates: int | None, clock: "_Clock") -> Row:
    if pool.not_finite.any():
        raise DivergenceError("meta-training diverged: it acted with numbers that are not finite")
    returns = [value for value in pool.online_returns() if value is not None]
    return Row(
        **_identity(cell),
        n_train_tasks=pool.n_tasks_seen,
        stage="train",
        env_steps=int(pool.used.sum()),
        updates=updates,
        meta_env_steps=int(pool.used.sum()),
        online_return=float(np.mean(returns)) if returns else None,
        status="diverged" if pool.divergences().any() else "ok",
        **clock.read(),
    )


def failed_row(cell: Cell, stage: str, error: str) -> Row:
    """The row that a failed stage leaves, so that it is shown and not forgotten."""
    place: dict[str, Any] = {"n_train_tasks": cell.train_tasks or None}
    if stage == "adapt":
        place |= {"suite": cell.suite, "suite_version": cell.suite_version, "split": cell.split}
    return Row(**_identity(cell), **place, stage=stage, env_steps=0, status="failed", error=error)


def _identity(cell: Cell) -> dict[str, Any]:
    names = (
        "budget",
        "family",
        "family_version",
        "method",
        "method_version",
        "variant",
        "config_hash",
        "seed",
    )
    return {name: getattr(cell, name) for name in names}


def _task(task: Task) -> dict[str, Any]:
    params = json.dumps(dict(task.params), sort_keys=True)
    return {
        "task_index": task.index,
        "task_params": params,
        "shift": task.shift,
        "shift_axis": task.shift_axis,
    }


def _scores(checkpoint: Checkpoint, index: int) -> dict[str, Any]:
    evaluation = checkpoint.evaluation
    returns = evaluation.returns[index]
    return {
        "env_steps": checkpoint.used,
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "n_episodes": len(returns),
        "episode_length_mean": float(evaluation.lengths[index].mean()),
        "terminated_frac": float(evaluation.terminated[index].mean()),
        "online_return": checkpoint.online_returns[index],
        "status": "diverged" if checkpoint.diverged[index] else "ok",
    }


class _Clock:
    """Time that a stage took so far, and the process's memory peak."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_seconds = 0.0

    @property
    def seconds(self) -> float:
        """Since it was made, or since the time it was set to."""
        return time.perf_counter() - self._start

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._start = time.perf_counter() - seconds

    @property
    def cpu_seconds(self) -> float:
        """As `seconds`, of the processor's time that this process, with its threads, took."""
        return time.process_time() - self._cpu_start

    @cpu_seconds.setter
    def cpu_seconds(self, seconds: float) -> None:
        self._cpu_start = time.process_time() - seconds

    def read(self) -> dict[str, Any]:
        """As columns of a row."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
        scale = 2**20 if sys.platform == "darwin" else 2**10
        return {"wall_s": self.seconds, "peak_mem_mb": peak / scale}
