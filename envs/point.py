"""A point mass in the plane: reach a goal (`point-goal`), or reach one fixed goal with turned
actuators (`point-rand`).

The tasks are small enough to learn a policy in seconds. Model, laws and splits are ours; the
literature's point robots are kinematic.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from envs.api import FloatArray, Task
from envs.family import Family
from envs.laws import distance, stratified, union

XML = Path(__file__).parent / "assets" / "point.xml"
START = 0.05  # m: half width of the square of starting positions around the origin

GOAL_RADIUS = 1.0  # m
ARCS = ((0.0, np.pi / 3), (2 * np.pi / 3, np.pi))  # rad: angles of training goals

FIXED_GOAL = (1.0, 0.0)  # m: the goal of point-rand
MAX_ROTATION = np.pi / 3  # rad
NOMINAL_MASS = 0.25  # kg
NOMINAL_DAMPING = 1.0  # N·s/m
FACTOR = 1.5  # training masses and dampings lie within this factor of the nominal ones


def _apart(angle: float, arcs: Sequence[tuple[float, float]], shift: float) -> bool:
    """Whether an angle's distance from the arcs, around the circle, is `shift`."""
    turns = (angle + 2 * np.pi * turn for turn in (-1, 0, 1))
    return bool(np.isclose(min(distance(turned, arcs) for turned in turns), shift))


def minus_distance(qpos: FloatArray, x: FloatArray | float, y: FloatArray | float) -> FloatArray:
    """−‖qpos − (x, y)‖₂ in m [S]."""
    distance: FloatArray = np.hypot(qpos[:, 0] - x, qpos[:, 1] - y)
    return -distance


class Point(Family):
    """Base of both families: body, observation (x, y, ẋ, ẏ) in m and m/s, start at rest."""

    horizon: ClassVar[int] = 50
    observation_size: ClassVar[int] = 4
    action_size: ClassVar[int] = 2
    frame_skip: ClassVar[int] = 5  # × 0.02 s

    def xml(self) -> Path:
        """The model's MJCF file."""
        return XML

    def reset_noise(self, generator: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Offsets (position [2] in m, velocity [2] in m/s): uniform in a small square, at rest."""
        return generator.uniform(-START, START, 2), np.zeros(2)

    def observe(
        self, qpos: FloatArray, qvel: FloatArray, params: Mapping[str, FloatArray]
    ) -> FloatArray:
        """Position in m and velocity in m/s, [S, 4]."""
        return np.concatenate((qpos, qvel), axis=1, dtype=np.float32)


class PointGoal(Point):
    """Reach a hidden goal, `angle` rad and `radius` m from the origin: reward −‖xy − g‖₂ in m.

    Training goals lie at radius 1 on the arcs [0, π/3] and [2π/3, π], uniform in angle.
    """

    id: ClassVar[str] = "point-goal"
    kind: ClassVar[str] = "reward"
    isomorphic: ClassVar[frozenset[str]] = frozenset({"angle"})  # mirror images and quarter turns
    shift_axes: ClassVar[tuple[str, ...]] = ("angle", "radius")
    arcs: ClassVar[tuple[tuple[float, float], ...]] = ARCS

    def sample(self, n: int, generator: np.random.Generator) -> tuple[Task, ...]:
        """`n` training tasks, one in each of n equal pieces of the two arcs laid end to end."""
        angles = union(stratified(n, generator), self.arcs)
        rows = ({"angle": float(angle), "radius": GOAL_RADIUS} for angle in angles)
        return tuple(Task(self.id, "train", i, params) for i, params in enumerate(rows))

    def shifted(
        self, axis: str, shift: float, generator: np.random.Generator
    ) -> Mapping[str, float]:
        """A goal farther out, or on either side of an arc, at most a quarter turn away."""
        if axis == "radius":
            return {"radius": GOAL_RADIUS + shift}
        sides = [side for low, high in self.arcs for side in (low - shift, high + shift)]
        angles = [angle for angle in sides if _apart(angle, self.arcs, shift)]
        if not angles:
            raise ValueError(f"no goal lies {shift} rad outside the law")
        return {"angle": float(generator.choice(angles))}

    def reward(
        self,
        before: FloatArray,
        qpos: FloatArray,
        qvel: FloatArray,
        action: FloatArray,
        params: Mapping[str, FloatArray],
    ) -> FloatArray:
        """Minus the distance to the goal after the step, in m [S]."""
        goal_x = params["radius"] * np.cos(params["angle"])
        goal_y = params["radius"] * np.sin(params["angle"])
        return minus_distance(qpos, goal_x, goal_y)


class PointRand(Point):
    """Reach (1, 0) with actuators turned by `rotation` rad, a `mass` in kg and a `damping` in
    N·s/m: reward −‖xy − g‖₂ in m.

    Training law: rotation ~ U(−π/3, π/3); mass and damping = nominal × 1.5^U(−1, 1).
    """

    id: ClassVar[str] = "point-rand"
    kind: ClassVar[str] = "transition"
    isomorphic: ClassVar[frozenset[str]] = frozenset({"rotation"})  # quarter turns of the actuators
    shift_axes: ClassVar[tuple[str, ...]] = ("rotation", "mass", "damping")
    max_rotation: ClassVar[float] = MAX_ROTATION

    def sample(self, n: int, generator: np.random.Generator) -> tuple[Task, ...]:
        """`n` training tasks, a Latin hypercube over rotation and mass and damping exponents."""
        rotation, mass, damping = (2 * stratified(n, generator) - 1 for _ in range(3))
        columns = (
            rotation * self.max_rotation,
            NOMINAL_MASS * FACTOR**mass,
            NOMINAL_DAMPING * FACTOR**damping,
        )
        rows = zip(*(column.tolist() for column in columns), strict=True)
        keys = "rotation", "mass", "damping"
        return tuple(
            Task(self.id, "train", i, dict(zip(keys, row, strict=True)))
            for i, row in enumerate(rows)
        )

    def shifted(
        self, axis: str, shift: float, generator: np.random.Generator
    ) -> Mapping[str, float]:
        """A rotation outside the law in either direction, with nominal mass and damping; or a mass
        or damping outside the law on either side, by a factor of 1.5^shift.
        """
        sign = float(generator.choice((-1.0, 1.0)))
        if axis == "rotation":
            if shift > np.pi - self.max_rotation:
                raise ValueError(f"no rotation lies {shift} rad outside the law")
            turn = sign * (self.max_rotation + shift)
            return {"rotation": turn, "mass": NOMINAL_MASS, "damping": NOMINAL_DAMPING}
        nominal = {"mass": NOMINAL_MASS, "damping": NOMINAL_DAMPING}[axis]
        return {axis: nominal * FACTOR ** (sign * (1.0 + shift))}

    def model_fields(
        self, nominal: Mapping[str, FloatArray], params: Mapping[str, FloatArray]
    ) -> dict[str, FloatArray]:
        """Directions of the two forces, mass with its inertia, and damping of both joints."""
        cos = np.cos(params["rotation"])
        sin = np.sin(params["rotation"])
        # [S, 2, 6]: force and torque of each actuator
        gear = np.zeros((len(cos), *nominal["actuator_gear"].shape))
        gear[:, 0, :2] = np.stack((cos, sin), axis=1)
        gear[:, 1, :2] = np.stack((-sin, cos), axis=1)
        factor = params["mass"] / NOMINAL_MASS
        return {
            "actuator_gear": gear,
            "body_mass": nominal["body_mass"] * factor[:, None],
            "body_inertia": nominal["body_inertia"] * factor[:, None, None],
            "dof_damping": np.broadcast_to(
                params["damping"][:, None], (len(cos), nominal["dof_damping"].size)
            ),
        }

    def reward(
        self,
        before: FloatArray,
        qpos: FloatArray,
        qvel: FloatArray,
        action: FloatArray,
        params: Mapping[str, FloatArray],
    ) -> FloatArray:
        """Minus the distance to (1, 0) after the step, in m [S]."""
        return minus_distance(qpos, *FIXED_GOAL)
