"""The split `shift`: tasks at finer and farther levels than the frozen ones, on every shift axis of
a family and on the scale of its rewards. The family alone determines them, through `at_shift`.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np

from envs.api import REWARD_DOWN, REWARD_UP, Task, checksum
from envs.sealed import Shiftable, frozen_name

SHIFT = "shift"
SHARES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # of the farthest frozen task's distance
SCALES = (0.5, 1.0)  # levels of the reward scale, in powers of ten, up and down
EACH = 2  # tasks per level, where they can differ
_TRIES = 20


class Leveled(Shiftable, Protocol):
    """The part of `TaskFamily` that is needed here."""

    @property
    def shift_axes(self) -> tuple[str, ...]:
        """The axes that shifts are measured on."""
        ...

    def splits(self) -> tuple[str, ...]:
        """The names of the frozen splits."""
        ...


def has_split(family: Leveled, split: str) -> bool:
    """Whether a family has a split of that name: a frozen or sealed one, or `shift`."""
    name, names = frozen_name(split), family.splits()
    return name in names or (name == SHIFT and "ood" in names)


def shift_tasks(family: Leveled) -> tuple[Task, ...]:
    """The tasks of the split `shift`, axis by axis and level by level.

    A level without possible tasks, such as half a joint, is left out.

    Raises:
      ValueError: if the family has no frozen tasks outside the law to measure distances by.
    """
    named = checksum({"family": [family.id], "split": [SHIFT]})
    generator = np.random.default_rng(int(named[:16], 16))
    farthest: dict[str, float] = {}
    for task in family.split("ood"):
        if task.shift_axis is not None:
            farthest[task.shift_axis] = max(task.shift, farthest.get(task.shift_axis, 0.0))
    levels = [
        (axis, share * farthest[axis])
        for axis in family.shift_axes
        if axis in farthest
        for share in SHARES
    ]
    levels += [(way, scale) for way in (REWARD_DOWN, REWARD_UP) for scale in SCALES]
    found = [task for axis, shift in levels for task in _at(family, axis, shift, generator)]
    return tuple(replace(task, split=SHIFT, index=i) for i, task in enumerate(found))


def _at(family: Leveled, axis: str, shift: float, generator: np.random.Generator) -> Iterator[Task]:
    """Yield up to EACH distinct tasks at one level."""
    seen: list[dict[str, float]] = []
    for _ in range(_TRIES):
        try:
            task = family.at_shift(axis, shift, generator)
        except ValueError:
            return
        if (params := dict(task.params)) not in seen:
            seen.append(params)
            yield task
        if len(seen) == EACH:
            return
