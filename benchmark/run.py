"""The two stages of a cell, step by step, and the rows that they produce; no file is touched."""

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

# called with the environment steps so far: summed in meta-training, per test task in adaptation
TellSteps = Callable[[int], None]


class StageRun(Protocol):
    """A stage under way: it advances in small steps, and can be saved between any two of them."""

    rows: list[Row]
    measures: list[Measure]  # complete once the stage is finished

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        ...

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far, including earlier runs of the stage, without child processes."""
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
        """Take one step; `rows` may grow."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on in another process."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


def streams_of(cell: Cell, stage: Literal["train", "adapt"], device: str = "cpu") -> Streams:
    """The named generators of a stage; those of torch are on `device`."""
    split = (cell.split,) if stage == "adapt" else ()
    return Streams(cell.seed, stage, cell.family, *split, device=device)


class Training:
    """Meta-training: a row per iteration, with the return of the episodes ended since the last row.

    Args:
      method: the method that learns; at the end it holds the trained state.
      threads: number of simulator threads.
      device: the learner's device.
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
        # a running index, so that a task drawn again has other starting states
        self._drawn += max(self._cell.train_tasks, 1)
        return tuple(replace(task, index=begin + task.index) for task in tasks)

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far, including earlier runs of the stage, without child processes."""
        return self._clock.cpu_seconds

    @property
    def used(self) -> int:
        """Environment steps so far, summed over tasks."""
        return int(self._pool.used.sum())

    @property
    def updates(self) -> int:
        """Optimiser steps of the trainer so far, per task."""
        return self._trainer.updates

    def step(self) -> None:
        """Take one step of the trainer.

        Raises:
          BudgetError: if the trainer exceeds its budget of steps.
          DivergenceError: if it has acted with numbers that are not finite.
          TypeError: if it returns anything but an `Event`.
        """
        event = self._trainer.step(self._cell.train_steps - self.used)
        if not isinstance(event, Event):
            raise TypeError(f"a trainer's step must return a methods.api.Event, not {event!r}")
        if event is Event.EXPLORED:
            self._pool.online_returns()
        elif event is Event.ITERATION:
            self._tell(self._trainer.updates)
        elif event is Event.END:
            # steps used since the last reported iteration count as well
            if self.used > self._told:
                self._tell(None)
            self._measure()
            self.finished = True

    def _measure(self) -> None:
        """Measure the zero action on the first tasks drawn, as a bar for trained methods."""
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
        """State of the trainer, environments, counters and drawn tasks, and the rows so far."""
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
    """Draw a cell's training tasks, chosen among more if they are nested or of a narrower law."""
    drawn = max(cell.train_tasks, cell.nested_in)
    tasks = family.sample(ceil(drawn / cell.law), generator)
    return middle(tasks, drawn)[: cell.train_tasks]


class Adaptation:
    """Adaptation to every task of the cell's split at once: a row per task and checkpoint.

    Args:
      method: the method, already meta-trained if it needs to be.
      meta_env_steps: environment steps that its meta-training used; None without meta-training.
      threads: number of simulator threads.
      n_train_tasks: number of tasks that its meta-training saw; None: the cell's `train_tasks`.
      device: the learner's device.
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
        """Whether the budget is used up or the method has finished."""
        return self._loop.finished

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far, including earlier runs of the stage, without child processes."""
        return self._clock.cpu_seconds

    @property
    def used(self) -> int:
        """Environment steps so far, per test task."""
        return int(self._pool.used.max())

    @property
    def updates(self) -> int:
        """Optimiser steps of the adapter so far, per task."""
        return self._adapter.updates

    def step(self) -> None:
        """Take one step of the adapter, or evaluate it and run the suite's probe.

        Raises:
          BudgetError: if the adapter exceeds its budget of steps, or has used more of one test task
            than of another when it reaches a checkpoint.
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
        """State of the adapter, environments and counters, and the rows and measures so far."""
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
        """Return what was measured."""
        ...


class MakeProbe(Protocol):
    """Makes the probe of an adaptation, before its first step."""

    def __call__(
        self, cell: Cell, method: Method, tasks: Sequence[Task], streams: Streams, threads: int
    ) -> Probe:
        """Make it; `streams` are the stage's, `threads` is the number of simulator threads."""
        ...


def load_probe(path: str) -> MakeProbe:
    """Return the class at `path` (module:Class); for "", one whose probe measures nothing."""
    if not path:
        return lambda cell, method, tasks, streams, threads: lambda adapter, used: []
    module, _, name = path.partition(":")
    found: MakeProbe = getattr(import_module(module), name)
    return found


def rows_of(stage: StageRun) -> Generator[Row, None, None]:
    """Run a stage to its end, yielding its rows as they come."""
    told = 0
    while not stage.finished:
        stage.step()
        yield from stage.rows[told:]
        told = len(stage.rows)


def _saved(
    learner: Learner, streams: Streams, pool: TaskPool, rows: list[Row], clock: "_Clock"
) -> dict[str, Any]:
    """Return the part of the saved state that both kinds of stage share.

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
        raise UnsavableError(f"its state_dict returns a {type(state).__name__}, not a dictionary")
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
    streams.load_state_dict(state["streams"])  # including any that the learner forgot to save
    load_globals_state(state["globals"])
    pool.load_state_dict(state["pool"])
    clock.seconds = state["wall_s"]
    clock.cpu_seconds = state.get("cpu_s", state["wall_s"])  # earlier versions saved no cpu_s
    return [Row(**row) for row in state["rows"]]


def _training_row(cell: Cell, pool: TaskPool, updates: int | None, clock: "_Clock") -> Row:
    if pool.not_finite.any():
        raise DivergenceError("meta-training diverged: its actions were not finite")
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
    """Return the row of a failed stage, so that the failure is shown and not forgotten."""
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
    """Time that a stage has taken so far, and the peak memory of the process."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_seconds = 0.0

    @property
    def seconds(self) -> float:
        """Wall-clock seconds, counted from 0 when the clock is made, or from the value last set."""
        return time.perf_counter() - self._start

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._start = time.perf_counter() - seconds

    @property
    def cpu_seconds(self) -> float:
        """As `seconds`, but processor time of this process with all its threads."""
        return time.process_time() - self._cpu_start

    @cpu_seconds.setter
    def cpu_seconds(self, seconds: float) -> None:
        self._cpu_start = time.process_time() - seconds

    def read(self) -> dict[str, Any]:
        """Return wall-clock time and peak memory as columns of a row."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB; in bytes on macOS
        scale = 2**20 if sys.platform == "darwin" else 2**10
        return {"wall_s": self.seconds, "peak_mem_mb": peak / scale}
