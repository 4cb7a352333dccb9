"""Task families, by id. Importing this package loads neither a simulator nor Gymnasium."""

from difflib import get_close_matches
from importlib import import_module
from typing import cast

from envs.api import TaskFamily
from envs.permuted import PREFIX, Permuted

APB_BENCHMARK_PACKAGE = "envs"

FAMILIES: dict[str, str] = {
    "point-goal": "envs.point:PointGoal",
    "point-rand": "envs.point:PointRand",
    "cheetah-vel": "envs.cheetah:CheetahVel",
    "cheetah-vel-2": "envs.cheetah:CheetahVel2",
    "cheetah-vel-3": "envs.cheetah:CheetahVel3",
    "cheetah-vel-7": "envs.cheetah:CheetahVel7",
    "cheetah-vel-gap": "envs.cheetah:CheetahVelGap",
    "cheetah-dir": "envs.cheetah:CheetahDir",
    "cheetah-joints": "envs.cheetah:CheetahJoints",
    "hopper-rand": "envs.hopper:HopperRand",
    "hopper-mass": "envs.hopper:HopperMass",
    "walker-rand": "envs.walker:WalkerRand",
    "walker-mass": "envs.walker:WalkerMass",
    "ant-goal": "envs.ant:AntGoal",
    "ant-goal-gap": "envs.ant:AntGoalGap",
    "ant-dir": "envs.ant:AntDir",
    "ant-dir-4": "envs.ant:AntDir4",
}


TUNING = "tuning-"  # before a family's id: its tuning law
PIXELS = ("pixels-point-goal", "pixels-point-rand")  # families that see pictures
# families to compare with published scores; they have no tuning law
FIDELITY = ("cheetah-dir", "cheetah-vel-2", "cheetah-vel-3", "cheetah-vel-7")


def is_family(family_id: str) -> bool:
    """Whether `load_family` knows the id: a registered id, bare or after "permuted-" or (if it has
    a tuning law) "tuning-", or one of `PIXELS`.
    """
    return (
        family_id.removeprefix(PREFIX) in FAMILIES
        or has_tuning_law(family_id.removeprefix(TUNING), family_id)
        or family_id in PIXELS
    )


def has_tuning_law(base: str, family_id: str | None = None) -> bool:
    """Whether the family `base` has a tuning law and, if `family_id` is given, that id names it."""
    return base in FAMILIES and base not in FIDELITY and family_id in (None, TUNING + base)


def load_family(family_id: str) -> TaskFamily:
    """Return the family registered under `family_id`. The prefix "permuted-" gives `Permuted` of
    it, "tuning-" its tuning law, and "pixels-" the variant of a point family that sees pictures.

    Raises:
      KeyError: if there is no such family.
    """
    if has_tuning_law(base := family_id.removeprefix(TUNING), family_id):
        name = "Tuning" + FAMILIES[base].partition(":")[2]
        return cast(TaskFamily, getattr(import_module("envs.tuning"), name)())
    if family_id in PIXELS:
        found = import_module("envs.pixels").PIXELS[family_id]
        return cast(TaskFamily, found())
    if family_id not in FAMILIES and is_family(family_id):
        # To the type checker, instance attributes do not satisfy a protocol's class variables; to
        # code that reads them it makes no difference.
        return cast(TaskFamily, Permuted(load_family(family_id.removeprefix(PREFIX))))
    if family_id not in FAMILIES:
        near = get_close_matches(family_id, FAMILIES, n=3) or FAMILIES
        raise KeyError(f"no family {family_id!r}; there are {', '.join(near)}")
    module, name = FAMILIES[family_id].split(":")
    return cast(TaskFamily, getattr(import_module(module), name)())
