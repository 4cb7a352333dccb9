"""Tuning laws: a narrower version of each family's training law, with validation tasks outside it
but inside the family's own law.

Settings chosen by how well a method adapts from a tuning law to its validation tasks are chosen for
adaptation out of distribution, without the use of any test task. `load_family("tuning-<id>")` gives
the tuning law of a family. The families that serve to compare with published scores
(`cheetah-dir`, `cheetah-vel-2`, `-3`, `-7`) have none.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import ClassVar

import numpy as np

from envs.ant import AXES, AntDir, AntDir4, AntGoal, AntGoalGap
from envs.api import Task
from envs.cheetah import JOINTS, CheetahJoints, CheetahVel, CheetahVelGap, signs
from envs.hopper import HopperMass, HopperRand
from envs.legs import RandomDynamics
from envs.point import NOMINAL_DAMPING, NOMINAL_MASS, PointGoal, PointRand
from envs.walker import WalkerMass, WalkerRand

PI = float(np.pi)
Bands = tuple[tuple[float, float], ...]
# parameters, and their distance from the tuning law
Found = Iterable[tuple[Mapping[str, float], float]]
NARROW_BANDS: Bands = ((0.0, 0.4), (3.1, 3.5))  # within [0, 0.5] and [3, 3.5]
# places that those leave out, each with its distance from them
INNER_ENDS = ((0.45, 0.05), (0.5, 0.1), (3.0, 0.1), (3.05, 0.05))


class Tuning(ABC):
    """Mixin for a tuning law: one test split, `validation`, with all tasks shifted on one axis."""

    id: ClassVar[str]
    axis: ClassVar[str]

    def splits(self) -> tuple[str, ...]:
        """Names of the test splits."""
        return ("validation",)

    def split(self, name: str) -> tuple[Task, ...]:
        """The validation tasks.

        Raises:
          ValueError: if another split is asked for.
        """
        if name != "validation":
            raise ValueError(f"family {self.id} has no split {name!r}; it has validation")
        found = enumerate(self.validation())
        return tuple(
            Task(self.id, name, i, params=params, shift=shift, shift_axis=self.axis)
            for i, (params, shift) in found
        )

    @abstractmethod
    def validation(self) -> Found:
        """Parameters of the validation tasks, each with its distance from the tuning law."""


class TuningPointGoal(Tuning, PointGoal):
    """Goals on the outer 3/4 of each arc, [0, π/4] and [3π/4, π]; validated on the inner 1/4."""

    id: ClassVar[str] = "tuning-point-goal"
    axis: ClassVar[str] = "angle"
    arcs: ClassVar[Bands] = ((0.0, PI / 4), (3 * PI / 4, PI))

    def validation(self) -> Found:
        """Two goals on the inner quarter of each arc."""
        shifts = (PI / 24, PI / 12)
        angles = [
            (sign * (PI / 4 + shift) + (0.0 if sign > 0 else PI), shift)
            for sign in (1, -1)
            for shift in shifts
        ]
        return [({"angle": angle, "radius": 1.0}, shift) for angle, shift in angles]


class TuningPointRand(Tuning, PointRand):
    """Actuators turned by up to π/6; validated at π/4 and π/3, either way."""

    id: ClassVar[str] = "tuning-point-rand"
    axis: ClassVar[str] = "rotation"
    max_rotation: ClassVar[float] = PI / 6

    def validation(self) -> Found:
        """Four rotations, with nominal mass and damping."""
        nominal = {"mass": NOMINAL_MASS, "damping": NOMINAL_DAMPING}
        return [
            ({"rotation": sign * turn, **nominal}, turn - PI / 6)
            for turn in (PI / 4, PI / 3)
            for sign in (1, -1)
        ]


class TuningCheetahVel(Tuning, CheetahVel):
    """v* ~ U(0, 2) m/s; validated at 2.1, 2.3 and 2.5."""

    id: ClassVar[str] = "tuning-cheetah-vel"
    axis: ClassVar[str] = "speed"
    bands: ClassVar[Bands] = ((0.0, 2.0),)

    def validation(self) -> Found:
        """Three speeds."""
        return [({"target_speed": speed}, speed - 2.0) for speed in (2.1, 2.3, 2.5)]


class TuningCheetahVelGap(Tuning, CheetahVelGap):
    """v* ~ U([0, 0.4] ∪ [3.1, 3.5]) m/s; validated at the inner ends of the family's own bands."""

    id: ClassVar[str] = "tuning-cheetah-vel-gap"
    axis: ClassVar[str] = "speed"
    bands: ClassVar[Bands] = NARROW_BANDS

    def validation(self) -> Found:
        """Four speeds."""
        return [({"target_speed": speed}, shift) for speed, shift in INNER_ENDS]


class TuningCheetahJoints(Tuning, CheetahJoints):
    """Three of the first four joints negated (4 tasks); validated on the fifth plus two of them."""

    id: ClassVar[str] = "tuning-cheetah-joints"
    axis: ClassVar[str] = "joints"
    law_size: ClassVar[int | None] = 4
    reversed_joints: ClassVar[tuple[tuple[str, ...], ...]] = tuple(combinations(JOINTS[:4], 3))

    def validation(self) -> Found:
        """Six tasks, each two signs away from the nearest of the law."""
        return [(signs((*pair, JOINTS[4])), 2.0) for pair in combinations(JOINTS[:4], 2)]


class _NarrowDynamics(Tuning, RandomDynamics):
    """Exponents e ~ U(−1, 1); validated at |e| from 1 to 1.5 and 1.5 to 2, with random signs."""

    axis: ClassVar[str] = "dynamics"
    max_exponent: ClassVar[float] = 1.0
    seed: ClassVar[int]

    def validation(self) -> Found:
        """Three tasks per level; the shift is the largest exponent's distance from the law."""
        generator = np.random.default_rng(self.seed)
        found = []
        for low, high in ((1.0, 1.5), (1.5, 2.0)):
            for _ in range(3):
                size = generator.uniform(low, high, len(self.names()))
                sign = generator.choice((-1.0, 1.0), len(self.names()))
                found.append(
                    (
                        dict(zip(self.names(), (size * sign).tolist(), strict=True)),
                        float(size.max()) - 1.0,
                    )
                )
        return found


class TuningHopperRand(_NarrowDynamics, HopperRand):
    """`hopper-rand` with half the range of every exponent."""

    id: ClassVar[str] = "tuning-hopper-rand"
    seed: ClassVar[int] = 301


class TuningWalkerRand(_NarrowDynamics, WalkerRand):
    """`walker-rand` with half the range of every exponent."""

    id: ClassVar[str] = "tuning-walker-rand"
    seed: ClassVar[int] = 302


class _NarrowMass(Tuning):
    """c ~ U([0, 0.4] ∪ [3.1, 3.5]); validated at the inner ends of the family's own bands."""

    axis: ClassVar[str] = "mass"
    bands: ClassVar[Bands] = NARROW_BANDS

    def validation(self) -> Found:
        """Four exponents."""
        return [({"exponent": exponent}, shift) for exponent, shift in INNER_ENDS]


class TuningHopperMass(_NarrowMass, HopperMass):
    """`hopper-mass` with narrower bands."""

    id: ClassVar[str] = "tuning-hopper-mass"


class TuningWalkerMass(_NarrowMass, WalkerMass):
    """`walker-mass` with narrower bands."""

    id: ClassVar[str] = "tuning-walker-mass"


class TuningAntGoal(Tuning, AntGoal):
    """Goals on the disc r ≤ 1.5 m; validated at 1.75 and 2."""

    id: ClassVar[str] = "tuning-ant-goal"
    axis: ClassVar[str] = "radius"
    bands: ClassVar[Bands] = ((0.0, 1.5),)

    def validation(self) -> Found:
        """Two angles at each radius."""
        return [
            ({"angle": angle, "radius": r}, r - 1.5)
            for r in (1.75, 2.0)
            for angle in (PI / 5, 6 * PI / 5)
        ]


class TuningAntGoalGap(Tuning, AntGoalGap):
    """Goals at r ≤ 0.8 m or 2.7 ≤ r ≤ 3 m; validated at the edges of the family's own hole."""

    id: ClassVar[str] = "tuning-ant-goal-gap"
    axis: ClassVar[str] = "radius"
    bands: ClassVar[Bands] = ((0.0, 0.8), (2.7, 3.0))

    def validation(self) -> Found:
        """Two angles at each radius."""
        return [
            ({"angle": angle, "radius": r}, 0.2)
            for r in (1.0, 2.5)
            for angle in (PI / 5, 6 * PI / 5)
        ]


class TuningAntDir(Tuning, AntDir):
    """θ ~ U(0, 1.25π); validated at 1.3π, 1.4π and 1.5π."""

    id: ClassVar[str] = "tuning-ant-dir"
    axis: ClassVar[str] = "direction"
    max_direction: ClassVar[float] = 1.25 * PI

    def validation(self) -> Found:
        """Three directions."""
        return [({"direction": turn * PI}, (turn - 1.25) * PI) for turn in (1.3, 1.4, 1.5)]


class TuningAntDir4(Tuning, AntDir4):
    """Three of the four axes; validated on the fourth."""

    id: ClassVar[str] = "tuning-ant-dir-4"
    axis: ClassVar[str] = "direction"
    law_size: ClassVar[int | None] = 3
    axes: ClassVar[tuple[float, ...]] = AXES[:3]

    def validation(self) -> Found:
        """One direction."""
        return [({"direction": AXES[3]}, PI / 2)]
