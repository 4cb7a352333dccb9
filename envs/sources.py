"""Sources of tasks for the Gymnasium environments: test splits, the user's own, training draws."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from numbers import Integral, Real
from typing import Any

import numpy as np

from envs.api import Task, TaskFamily

NEW_TASK = "new_task"  # key of the reset option that asks for fresh training tasks


class TaskSource:
    """The tasks of `n` slots: fixed ones, or draws from the training law."""

    def __init__(self, law: TaskFamily, n: int, fixed: Sequence[Task] = ()) -> None:
        self._law = law
        self._n = n
        self._fixed = tuple(fixed)
        self._drawn = 0

    def first(self, generator: np.random.Generator) -> tuple[Task, ...]:
        """The first tasks after `generator` has been seeded."""
        self._drawn = 0
        return self._fixed or self._draw(generator)

    def due(
        self, generator: np.random.Generator, seed: int | None, options: dict[str, Any] | None
    ) -> tuple[Task, ...] | None:
        """The tasks that a reset switches to; None if the current ones stay.

        Args:
          generator: source of the draws, just seeded if there is a seed.
          seed: the reset's seed.
          options: the reset's options; {"new_task": True} asks for fresh training tasks.
        Raises:
          ValueError: if fresh tasks are asked for, but the tasks are fixed.
        """
        new = bool((options or {}).get(NEW_TASK))
        if new and self._fixed:
            raise ValueError(
                f"{NEW_TASK} asks for another training task, but this environment's tasks are fixed"
            )
        if seed is not None:
            return self.first(generator)
        return self._draw(generator) if new else None

    def _draw(self, generator: np.random.Generator) -> tuple[Task, ...]:
        # Indices continue from draw to draw: the index is part of the key of the reset noise, so a
        # task drawn twice gets new noise.
        tasks = tuple(
            replace(task, index=self._drawn + task.index)
            for task in self._law.sample(self._n, generator)
        )
        self._drawn += self._n
        return tasks


def frozen_tasks(law: TaskFamily, split: str | None, indices: Sequence[int]) -> list[Task]:
    """The tasks of a test split that have these indices; an empty list without a split.

    Raises:
      ValueError: if there is no such split or task.
    """
    if split is None:
        return []
    tasks = law.split(split)
    if not all(isinstance(index, Integral) and 0 <= index < len(tasks) for index in indices):
        raise ValueError(
            f"split {split!r} of {law.id} has tasks 0 to {len(tasks) - 1}, got {list(indices)}"
        )
    return [tasks[index] for index in indices]


def own_task(law: TaskFamily, params: Mapping[str, float]) -> Task:
    """A task with parameters of the user's choice, in SI units; its shift is unknown (NaN).

    Raises:
      ValueError: if the parameters are not those of the family, or not finite numbers.
    """
    names = law.sample(1, np.random.default_rng(0))[0].params.keys()
    numbers = all(isinstance(value, Real) and isfinite(value) for value in params.values())
    if params.keys() != names or not numbers:
        raise ValueError(
            f"the params of {law.id} must be {', '.join(names)}, each a finite number; got"
            f" {dict(params)}"
        )
    return Task(law.id, "own", 0, params, shift=np.nan)
