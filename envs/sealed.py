"""Sealed test tasks: as far from the law as frozen ones, but drawn from a seed that is named only
when a method is finished.

A method can be fitted to the frozen tasks, by choosing among variants or by reading the tasks. What
it scores on frozen tasks but not on sealed ones is due to that. With a seed that nobody chose, such
as the value of a public random beacon, nobody could have prepared for the draw.
"""

from dataclasses import replace
from typing import Protocol

import numpy as np

from envs.api import Task, checksum

SEALED = "-sealed-"  # between the name of a frozen split and the seed
JITTER = 0.1  # largest relative difference of a sealed task's distance from the frozen one's
_TRIES = 30


class Shiftable(Protocol):
    """The part of `TaskFamily` that is needed here."""

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
    """Name of the split of sealed tasks at the shifts of a frozen split."""
    return f"{split}{SEALED}{seed}"


def frozen_name(split: str) -> str:
    """Name of the frozen split behind a sealed one; a frozen split's name is returned as it is."""
    return split.partition(SEALED)[0]


def is_sealed(split: str) -> bool:
    """Whether a split is one of sealed tasks."""
    _, sealed, seed = split.partition(SEALED)
    return bool(sealed) and seed.isascii() and seed.isdecimal()


def sealed_tasks(family: Shiftable, name: str) -> tuple[Task, ...]:
    """Draw the sealed tasks of the split `name`, one for each frozen task, in random order.

    Each is labelled with the shift of its frozen task. Its true distance differs from that by up to
    JITTER, relatively, where the axis allows it, because on some axes, such as a speed, nothing
    else could differ. Tasks inside the law are drawn from the law. Only the distances at which the
    tasks lie can still be known beforehand.
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
        except ValueError:  # no task lies there: too far out, or the axis has whole numbers only
            continue
        return replace(found, shift=task.shift)
    return family.at_shift(task.shift_axis, task.shift, generator)
