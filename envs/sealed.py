"""Sealed test tasks: as far from the law as frozen ones, but drawn from a seed that is named when a
method is finished.

A method can be fitted to frozen tasks, by choosing among variants or by reading them. What it
scores on frozen tasks and not on sealed ones is that. A seed that nobody chose, such as the value
of a public random beacon, makes the draw one that nobody could prepare for.
"""

from dataclasses import replace
from typing import Protocol

import numpy as np

from envs.api import Task, checksum

SEALED = "-sealed-"  # between the name of a frozen split and the seed
JITTER = 0.1  # a sealed task's distance from the law is within this share of a frozen one's
_TRIES = 30


class Shiftable(Protocol):
    """What of a `TaskFamily` is needed here."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    def split(self, name: str) -> tuple[Task, ...]:
        """The test tasks of a split."""
        ...

    def sample(self, n: int, generator: np.random.Generator) -> tuple[Task, ...]:
        """Training tasks."""
        ...

    def at_shift(self, axis: str, shift: float, generator: np.random.Generator) -> Task:
        """A task at a distance from the law."""
        ...


def sealed_name(split: str, seed: int) -> str:
    """The name of the sealed tasks at the shifts of a frozen split."""
    return f"{split}{SEALED}{seed}"


def frozen_name(split: str) -> str:
    """The frozen split at whose shifts sealed tasks lie; a frozen split's own name."""
    return split.partition(SEALED)[0]


def is_sealed(split: str) -> bool:
    """Whether a split is of sealed tasks."""
    _, sealed, seed = split.partition(SEALED)
    return bool(sealed) and seed.isascii() and seed.isdecimal()


def sealed_tasks(family: Shiftable, name: str) -> tuple[Task, ...]:
    """The sealed tasks called `name`, one for each frozen one, in random order.

    Each has the label of its frozen one's shift. Its true distance differs by up to JITTER of it
    where the axis allows that, since on some axes, such as a speed, nothing else could differ.
    Tasks inside the law are drawn from the law. What can still be known beforehand is at which
    distances they lie.
    """
    _, _, seed = name.partition(SEALED)
    named = checksum({"family": [family.id], "split": [frozen_name(name)]})
    generator = np.random.default_rng([int(seed), int(named[:16], 16)])
    frozen = family.split(frozen_name(name))
    fresh = [_like(family, frozen[i], generator) for i in generator.permutation(len(frozen))]
    return tuple(replace(task, split=name, index=i) for i, task in enumerate(fresh))


def _like(family: Shiftable, task: Task, generator: np.random.Generator) -> Task:
    if task.shift_axis is None:
        return family.sample(1, generator)[0]
    for _ in range(_TRIES):
        shift = task.shift * generator.uniform(1 - JITTER, 1 + JITTER)
        try:
            found = family.at_shift(task.shift_axis, shift, generator)
        except ValueError:  # nothing lies there: too far out, or the axis is one of whole numbers
            continue
        return replace(found, shift=task.shift)
    return family.at_shift(task.shift_axis, task.shift, generator)
