"""Task families, by id. Importing this package loads neither a simulator nor Gymnasium."""

from importlib import import_module
from typing import cast

from envs.api import TaskFamily

APB_BENCHMARK_PACKAGE = "envs"

FAMILIES: dict[str, str] = {
    "point-goal": "envs.point:PointGoal",
    "point-rand": "envs.point:PointRand",
    "cheetah-vel": "envs.cheetah:CheetahVel",
    "cheetah-vel-2": "envs.cheetah:CheetahVel2",
    "cheetah-vel-3": "envs.cheetah:CheetahVel3",
    "cheetah-vel-gap": "envs.cheetah:CheetahVelGap",
    "cheetah-dir": "envs.cheetah:CheetahDir",
    "cheetah-joints": "envs.cheetah:CheetahJoints",
}


def load_family(family_id: str) -> TaskFamily:
    """The family registered under `family_id`.

    Raises:
      KeyError: if there is none.
    """
    module, name = FAMILIES[family_id].split(":")
    return cast(TaskFamily, getattr(import_module(module), name)())
