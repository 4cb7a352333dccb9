"""Defaults that most families share: frozen splits, one model, an end by the clock alone."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from envs.api import (
    AND,
    REWARD_DOWN,
    REWARD_SCALE,
    REWARD_UP,
    TASKS,
    BoolArray,
    FloatArray,
    Task,
    load_split,
    split_names,
)
from envs.levels import SHIFT, has_split, shift_tasks
from envs.sealed import is_sealed, sealed_tasks


class Family:
    """Default implementation of `TaskFamily`; a family overrides what does not fit."""

    id: ClassVar[str]
    version: ClassVar[int] = 1
    law_size: ClassVar[int | None] = None
    isomorphic: ClassVar[frozenset[str]] = frozenset()
    shift_axes: ClassVar[tuple[str, ...]] = ()

    def split(self, name: str) -> tuple[Task, ...]:
        """The test tasks of a frozen split, of its sealed counterpart, or of the split `shift`."""
        if is_sealed(name):
            return sealed_tasks(self, name)
        if name == SHIFT and has_split(self, name):
            return shift_tasks(self)
        return load_split(TASKS / f"{self.id}.json", name)

    def splits(self) -> tuple[str, ...]:
        """Names of the test splits."""
        return split_names(TASKS / f"{self.id}.json")

    def sample(self, n: int, generator: np.random.Generator) -> tuple[Task, ...]:
        """`n` training tasks; each family defines its own law, so there is no default."""
        raise NotImplementedError

    def at_shift(self, axis: str, shift: float, generator: np.random.Generator) -> Task:
        """A task at a distance from the training law; see `TaskFamily.at_shift`."""
        if shift <= 0:
            raise ValueError(f"shift must be a distance above 0, got {shift}")
        params = dict(self.sample(1, generator)[0].params)
        for name in axis.split(AND):
            if name in (REWARD_SCALE, REWARD_UP, REWARD_DOWN):
                way = {REWARD_UP: 1.0, REWARD_DOWN: -1.0}.get(name)
                way = float(generator.choice((-1.0, 1.0))) if way is None else way
                params[REWARD_SCALE] = 10.0 ** (shift * way)
            elif name in self.shift_axes:
                params |= self.shifted(name, shift, generator)
            else:
                known = ", ".join((*self.shift_axes, REWARD_SCALE))
                raise ValueError(
                    f"family {self.id} has no shift axis {name!r}; it has {known}, and any of them"
                    f" joined by {AND!r}"
                )
        return Task(self.id, "shift", 0, params, shift=shift, shift_axis=axis)

    def shifted(
        self, axis: str, shift: float, generator: np.random.Generator
    ) -> Mapping[str, float]:
        """Parameters that lie `shift` outside the law on one of `shift_axes`; the others stay.

        Empty here: a family without axes of its own has nothing to shift.

        Raises:
          ValueError: if nothing lies so far out.
        """
        return {}

    def model_fields(
        self, nominal: Mapping[str, FloatArray], params: Mapping[str, FloatArray]
    ) -> dict[str, FloatArray]:
        """Empty: every task has the same physics."""
        return {}

    def control(self, action: FloatArray, params: Mapping[str, FloatArray]) -> FloatArray:
        """The action itself, [S, A], drives the actuators."""
        return action

    def terminated(self, qpos: FloatArray, qvel: FloatArray) -> BoolArray:
        """All false, [S]: only the clock ends an episode."""
        return np.zeros(len(qpos), bool)


def gymnasium_model(name: str) -> Path:
    """Path of the MJCF file `name` that Gymnasium installs, found without importing Gymnasium.

    Raises:
      ModuleNotFoundError: if Gymnasium is not installed.
    """
    spec = find_spec("gymnasium")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the model {name} comes with gymnasium, which is not installed")
    return Path(spec.origin).parent / "envs" / "mujoco" / "assets" / name
