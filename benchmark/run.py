"""One stage of a cell, as a generator of rows; knows nothing of files."""

import json
import resource
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np

from benchmark.cells import Cell
from benchmark.protocol import Checkpoint, DivergenceError, Evaluator, TaskPool, adapt
from benchmark.seeding import Streams
from envs import load_family
from envs.api import Task
from methods.api import Method
from results.schema import Row

Progress = Callable[[int], None]  # told environment steps: summed in meta-training, per test task in adaptation


def train(cell: Cell, method: Method, threads: int = 1, progress: Progress = lambda used: None) -> Iterator[Row]:
    """Meta-train `method`, a row whenever it gives a sign of life; its return is that of the episodes which ended since then.

    Raises:
      BudgetError: if it uses more than its steps.
      DivergenceError: if it acts with numbers that are not finite.
    """
    family, streams = load_family(cell.family), Streams(cell.seed, "train", cell.family)
    clock = _Clock()
    generator, begins = streams.numpy("tasks"), count(step=max(cell.train_tasks, 1))

    def draw() -> tuple[Task, ...]:
        begin = next(begins)  # a running index, so that a task drawn again has starts of its own
        return tuple(replace(task, index=begin + task.index) for task in family.sample(cell.train_tasks, generator))

    pool = TaskPool(family, draw(), streams, threads, pooled=True, allowed=cell.train_steps, draw=draw, progress=progress)
    told = -1  # environment steps in the last row
    for sign in method.meta_train(pool.make_env, cell.train_tasks, cell.train_steps, streams.child("method")):
        if sign.explored:
            pool.online_returns()
            continue
        yield _training_row(cell, pool, sign.updates, clock)
        told = int(pool.used.sum())
    if int(pool.used.sum()) > told:  # what a method used without a sign of life counts as well
        yield _training_row(cell, pool, None, clock)


def adaptation(
    cell: Cell,
    method: Method,
    meta_env_steps: int | None,
    threads: int = 1,
    progress: Progress = lambda used: None,
    n_train_tasks: int | None = None,
) -> Generator[Row, None, None]:
    """Adapt `method` to every task of the cell's split at once, a row per task and checkpoint.

    Args:
      meta_env_steps: what its meta-training used, None without one.
      n_train_tasks: how many tasks that saw, if not those of the cell.

    Raises:
      BudgetError: if it uses more than its steps.
    """
    family, streams = load_family(cell.family), Streams(cell.seed, "adapt", cell.family, cell.split)
    tasks, clock = family.split(cell.split), _Clock()
    pool = TaskPool(family, tasks, streams, threads, progress=progress)
    evaluate = Evaluator(family, tasks, streams, threads)
    adapter = method.adapter(pool.make_env, len(tasks), streams.child("method"))
    for checkpoint in adapt(adapter, pool, evaluate, streams, cell.adapt_steps):
        for index, task in enumerate(tasks):
            yield Row(
                **_identity(cell),
                n_train_tasks=n_train_tasks or cell.train_tasks or None,
                suite=cell.suite,
                suite_version=cell.suite_version,
                split=cell.split,
                **_task(task),
                stage="adapt",
                updates=checkpoint.updates,
                meta_env_steps=meta_env_steps,
                eval_mode=method.eval_mode,
                **_scores(checkpoint, index),
                **clock.read(),
            )


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
    names = ("budget", "family", "family_version", "method", "method_version", "variant", "config_hash", "seed")
    return {name: getattr(cell, name) for name in names}


def _task(task: Task) -> dict[str, Any]:
    params = json.dumps(dict(task.params), sort_keys=True)
    return {"task_index": task.index, "task_params": params, "shift": task.shift, "shift_axis": task.shift_axis}


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
    """Seconds since it was made, and the process's memory peak."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def read(self) -> dict[str, Any]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
        scale = 2**20 if sys.platform == "darwin" else 2**10
        return {"wall_s": time.perf_counter() - self._start, "peak_mem_mb": peak / scale}
