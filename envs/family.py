"""What most families share: frozen splits, one model for all tasks, an end by the clock alone."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from envs.api import TASKS, BoolArray, FloatArray, Task, load_split, split_names


class Family:
    """Default answers to a `TaskFamily`'s questions; a family overrides those that do not fit."""

    id: ClassVar[str]
    version: ClassVar[int] = 1
    law_size: ClassVar[int | None] = None
    isomorphic: ClassVar[frozenset[str]] = frozenset()

    def split(self, name: str) -> tuple[Task, ...]:
        """The frozen test tasks of a split."""
        return load_split(TASKS / f"{self.id}.json", name)

    def splits(self) -> tuple[str, ...]:
        """Names of the test splits."""
        return split_names(TASKS / f"{self.id}.json")

    def model_fields(
        self, nominal: Mapping[str, FloatArray], params: Mapping[str, FloatArray]
    ) -> dict[str, FloatArray]:
        """None: every task has the same physics."""
        return {}

    def control(self, action: FloatArray, params: Mapping[str, FloatArray]) -> FloatArray:
        """The action itself drives the actuators [S, A]."""
        return action

    def terminated(self, qpos: FloatArray, qvel: FloatArray) -> BoolArray:
        """Never: only the clock ends an episode [S]."""
        return np.zeros(len(qpos), bool)


def gymnasium_model(name: str) -> Path:
    """The MJCF file `name` that Gymnasium installs, found without importing Gymnasium.

    Raises:
      ModuleNotFoundError: if Gymnasium is not installed.
    """
    spec = find_spec("gymnasium")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the model {name} comes with gymnasium, which is not installed")
    return Path(spec.origin).parent / "envs" / "mujoco" / "assets" / name
