"""Task families, by id. Importing this package loads neither a simulator nor Gymnasium."""

from importlib import import_module
from typing import cast

from envs.api import TaskFamily

APB_BENCHMARK_PACKAGE = "envs"

FAMILIES: dict[str, str] = {
    "point-goal": "envs.point:PointGoal",
    "point-rand": "envs.point:PointRand",
    "cheetah-vel": "envs.cheetah:CheetahVel",
    "ant-goal": "envs.ant:AntGoal",
    "ant-goal-gap": "envs.ant:AntGoalGap",
    "ant-dir": "envs.ant:AntDir",
    "ant-dir-4": "envs.ant:AntDir4",
}


def load_family(family_id: str) -> TaskFamily:
    """The family registered under `family_id`.

    Raises:
      KeyError: if there is none.
    """
    module, name = FAMILIES[family_id].split(":")
    return cast(TaskFamily, getattr(import_module(module), name)())
