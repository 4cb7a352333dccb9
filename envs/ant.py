"""The ant of Gymnasium's Ant-v5: reach a goal (`ant-goal`, `ant-goal-gap`) or run in a direction
(`ant-dir`, `ant-dir-4`).

Observations and costs contain no contact forces: where the literature includes them, MuJoCo mostly
left them at zero.

The body has exact four-fold symmetry: after a quarter turn about the vertical, or a reflection, and
renumbering of its legs, it is the same body. On state and action these symmetries act as signed
permutations, which preserve the reset law and the bounds on the action; ant-dir(θ + π/2) rewards
the image of a motion under the quarter turn as ant-dir(θ) rewards the motion.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from envs.api import BoolArray, FloatArray, Task
from envs.family import Family, gymnasium_model
from envs.laws import annuli, beyond, cycled, stratified

CONTROL_DT = 0.05  # s: five simulator steps of 0.01 s
RESET_NOISE = 0.1  # m, rad and components of the quaternion; m/s and rad/s
TURN = 2 * np.pi  # rad

GOAL_CONTROL_COST = 0.1  # per squared action
GOAL_BANDS = ((0.0, 2.0),)  # m: radii of training goals
GAP_BANDS = ((0.0, 1.0), (2.5, 3.0))  # m: the same for ant-goal-gap

DIRECTION_CONTROL_COST = 0.5  # per squared action
ALIVE_BONUS = 1.0  # per step
HEALTHY_HEIGHT = (0.2, 1.0)  # m: of the torso's centre
MAX_DIRECTION = 1.5 * np.pi  # rad: training directions lie between 0 and this
AXES = (0.0, np.pi / 2, np.pi, 1.5 * np.pi)  # rad: the training directions of ant-dir-4


class Ant(Family):
    """Base of the ant families: the body and its starting states."""

    kind: ClassVar[str] = "reward"
    horizon: ClassVar[int] = 200
    action_size: ClassVar[int] = 8
    frame_skip: ClassVar[int] = 5

    def xml(self) -> Path:
        """The model's MJCF file."""
        return gymnasium_model("ant.xml")

    def reset_noise(self, generator: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Offsets of all qpos [15] (uniform, ±0.1) and qvel [14] (normal, σ 0.1), as in Ant-v5."""
        return generator.uniform(
            -RESET_NOISE, RESET_NOISE, 15
        ), RESET_NOISE * generator.standard_normal(14)


class AntGoal(Ant):
    """Reach a goal hidden from the policy: reward −‖xy − g‖₁ − 0.1‖a‖², g at `angle` rad and
    `radius` m from the origin.

    Training law: g uniform in the disc r ≤ 2.
    """

    id: ClassVar[str] = "ant-goal"
    observation_size: ClassVar[int] = 29
    shift_axes: ClassVar[tuple[str, ...]] = ("radius",)
    bands: ClassVar[tuple[tuple[float, float], ...]] = GOAL_BANDS

    def sample(self, n: int, generator: np.random.Generator) -> tuple[Task, ...]:
        """`n` training tasks, a Latin hypercube over angle and area."""
        angles = (TURN * stratified(n, generator)).tolist()
        radii = annuli(stratified(n, generator), self.bands).tolist()
        rows = (
            {"angle": angle, "radius": radius} for angle, radius in zip(angles, radii, strict=True)
        )
        return tuple(Task(self.id, "train", i, params) for i, params in enumerate(rows))

    def shifted(
        self, axis: str, shift: float, generator: np.random.Generator
    ) -> Mapping[str, float]:
        """A radius in the law's hole if that is deep enough, else one outside the law."""
        return {"radius": float(generator.choice(beyond(self.bands, shift)))}

    def observe(
        self, qpos: FloatArray, qvel: FloatArray, params: Mapping[str, FloatArray]
    ) -> FloatArray:
        """x and y, height, quaternion, joint angles and all velocities, [S, 29]."""
        return np.concatenate((qpos, qvel), axis=1, dtype=np.float32)

    def reward(
        self,
        before: FloatArray,
        qpos: FloatArray,
        qvel: FloatArray,
        action: FloatArray,
        params: Mapping[str, FloatArray],
    ) -> FloatArray:
        """−(1-norm distance from torso to goal after the step, in m) − control cost [S]."""
        radius = params["radius"]
        angle = params["angle"]
        distance = np.abs(qpos[:, 0] - radius * np.cos(angle)) + np.abs(
            qpos[:, 1] - radius * np.sin(angle)
        )
        reward: FloatArray = -distance - GOAL_CONTROL_COST * np.vecdot(action, action)
        return reward


class AntGoalGap(AntGoal):
    """`ant-goal` with a hole in its law: g uniform by area on r ≤ 1 and on 2.5 ≤ r ≤ 3.

    Tested in the hole, at r = 1.75. The inner disc has probability 4/15. Law and test points
    are those of LDM (arXiv 2105.13524) and TAVT (arXiv 2502.02834).
    """

    id: ClassVar[str] = "ant-goal-gap"
    bands: ClassVar[tuple[tuple[float, float], ...]] = GAP_BANDS


class AntDir(Ant):
    """Run towards `direction` θ (rad): reward (Δxy/Δt)·(cos θ, sin θ) − 0.5‖a‖² + 1; the
    episode ends, with that step still rewarded, if z ∉ [0.2, 1] m.

    Training law: θ ~ U(0, 3π/2). Every direction outside it is a quarter turn from one inside.
    """

    id: ClassVar[str] = "ant-dir"
    observation_size: ClassVar[int] = 27
    isomorphic: ClassVar[frozenset[str]] = frozenset({"direction"})  # quarter turns
    shift_axes: ClassVar[tuple[str, ...]] = ("direction",)
    max_direction: ClassVar[float] = MAX_DIRECTION

    def sample(self, n: int, generator: np.random.Generator) -> tuple[Task, ...]:
        """`n` training tasks, one in each of n equal intervals of direction."""
        directions = (self.max_direction * stratified(n, generator)).tolist()
        return tuple(
            Task(self.id, "train", i, {"direction": direction})
            for i, direction in enumerate(directions)
        )

    def shifted(
        self, axis: str, shift: float, generator: np.random.Generator
    ) -> Mapping[str, float]:
        """A direction on either side of the law."""
        if shift > (TURN - self.max_direction) / 2:
            raise ValueError(f"no direction lies {shift} rad outside the law")
        sides = (self.max_direction + shift, TURN - shift)
        return {"direction": float(generator.choice(sides))}

    def observe(
        self, qpos: FloatArray, qvel: FloatArray, params: Mapping[str, FloatArray]
    ) -> FloatArray:
        """Height, quaternion, joint angles and all velocities, [S, 27]."""
        return np.concatenate((qpos[:, 2:], qvel), axis=1, dtype=np.float32)

    def reward(
        self,
        before: FloatArray,
        qpos: FloatArray,
        qvel: FloatArray,
        action: FloatArray,
        params: Mapping[str, FloatArray],
    ) -> FloatArray:
        """The torso's mean velocity along the direction in m/s, − control cost, + bonus [S]."""
        direction = params["direction"]
        velocity = (qpos[:, :2] - before[:, :2]) / CONTROL_DT
        speed = velocity[:, 0] * np.cos(direction) + velocity[:, 1] * np.sin(direction)
        reward: FloatArray = (
            speed - DIRECTION_CONTROL_COST * np.vecdot(action, action) + ALIVE_BONUS
        )
        return reward

    def terminated(self, qpos: FloatArray, qvel: FloatArray) -> BoolArray:
        """Whether the torso is too low or too high [S]."""
        low, high = HEALTHY_HEIGHT
        ended: BoolArray = (qpos[:, 2] < low) | (qpos[:, 2] > high)
        return ended


class AntDir4(AntDir):
    """`ant-dir` trained along four axes and tested along four diagonals, as in LDM and TAVT.

    The diagonals are not images of the axes: the body's symmetries permute the axes. Rotating the
    world by π/4 and leaving the body as it is maps motions and rewards too, but only until the
    torso touches the floor (the friction pyramid there does not rotate along), and it maps the
    starts, which all face along the x axis, to starts that do not occur.
    """

    id: ClassVar[str] = "ant-dir-4"
    law_size: ClassVar[int | None] = len(AXES)
    isomorphic: ClassVar[frozenset[str]] = frozenset()
    axes: ClassVar[tuple[float, ...]] = AXES

    def sample(self, n: int, generator: np.random.Generator) -> tuple[Task, ...]:
        """`n` training tasks; no direction is repeated until all have been drawn."""
        kinds = cycled(n, len(self.axes), generator).tolist()
        return tuple(
            Task(self.id, "train", i, {"direction": self.axes[kind]})
            for i, kind in enumerate(kinds)
        )

    def shifted(
        self, axis: str, shift: float, generator: np.random.Generator
    ) -> Mapping[str, float]:
        """A direction on either side of an axis, at most an eighth of a turn away."""
        if shift > np.pi / 4:
            raise ValueError(f"no direction lies {shift} rad from every axis of the law")
        places = [axis + side * shift for axis in self.axes for side in (-1.0, 1.0)]
        return {"direction": float(generator.choice(places))}
