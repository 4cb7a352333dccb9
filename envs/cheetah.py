"""The planar half-cheetah of Gymnasium's HalfCheetah-v5: what varies is the required speed or
direction, or the actuators.

`cheetah-vel`, `-vel-2`, `-vel-3`, `-vel-7` and `-vel-gap` differ in their law of target
speeds. `cheetah-dir` runs forward or backward, `cheetah-joints` forward with some of its actuators
reversed.
"""

from collections.abc import Collection, Mapping
from itertools import combinations
from pathlib import Path
from typing import ClassVar

import numpy as np

from envs.api import FloatArray, Task
from envs.family import Family, gymnasium_model
from envs.laws import beyond, cycled, stratified, union

CONTROL_DT = 0.05  # s: five simulator steps of 0.01 s
RESET_NOISE = 0.1  # rad and m, rad/s and m/s
CONTROL_COST = 0.05  # per squared action

DIRECTIONS = (-1.0, 1.0)  # backward, forward

# actuators in the model's order; numbered from 1
JOINTS = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
JOINTS_CONTROL_COST = 0.1  # per squared action, as in HalfCheetah-v5
REVERSED = tuple(combinations(JOINTS[:5], 3))  # in training: any three of the first five joints


def mean_speed(before: FloatArray, qpos: FloatArray) -> FloatArray:
    """Mean forward speed Δx/Δt over a step, in m/s [S]."""
    speed: FloatArray = (qpos[:, 0] - before[:, 0]) / CONTROL_DT
    return speed


def signs(negated: Collection[str]) -> dict[str, float]:
    """Parameters of the `cheetah-joints` task that reverses the actuators of joints `negated`."""
    return {joint: -1.0 if joint in negated else 1.0 for joint in JOINTS}


class Cheetah(Family):
    """Base of the cheetah families: body, observation (qpos without x, then qvel) and starts."""

    horizon: ClassVar[int] = 200
    observation_size: ClassVar[int] = 17
    action_size: ClassVar[int] = 6
    frame_skip: ClassVar[int] = 5

    def xml(self) -> Path:
        """The model's MJCF file."""
        return gymnasium_model("half_cheetah.xml")

    def reset_noise(self, generator: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Offsets of qpos [9] (uniform, ±0.1) and qvel [9] (normal, σ 0.1) as in HalfCheetah-v5."""
        return generator.uniform(
            -RESET_NOISE, RESET_NOISE, 9
        ), RESET_NOISE * generator.standard_normal(9)

    def observe(
        self, qpos: FloatArray, qvel: FloatArray, params: Mapping[str, FloatArray]
    ) -> FloatArray:
        """Height, angles and all velocities, [S, 17]."""
        return np.concatenate((qpos[:, 1:], qvel), axis=1, dtype=np.float32)


class CheetahVel(Cheetah):
    """Run at `target_speed` v* in m/s: reward −|Δx/Δt − v*| − 0.05‖a‖².

    Training law: v* ~ U(0, 2.5), the "medium" one of MIER (https://arxiv.org/abs/2006.07178).
    """

    id: ClassVar[str] = "cheetah-vel"
    kind: ClassVar[str] = "reward"
    shift_axes: ClassVar[tuple[str, ...]] = ("speed",)
    # m/s: training speeds, uniform
    bands: ClassVar[tuple[tuple[float, float], ...]] = ((0.0, 2.5),)

    def sample(self, n: int, generator: np.random.Generator) -> tuple[Task, ...]:
        """`n` training tasks, one in each of n equal intervals of the bands laid end to end."""
        speeds = union(stratified(n, generator), self.bands).tolist()
        return tuple(
            Task(self.id, "train", i, {"target_speed": speed}) for i, speed in enumerate(speeds)
        )

    def shifted(
        self, axis: str, shift: float, generator: np.random.Generator
    ) -> Mapping[str, float]:
        """A speed in the law's hole if that is deep enough, else one above the law."""
        return {"target_speed": float(generator.choice(beyond(self.bands, shift)))}

    def reward(
        self,
        before: FloatArray,
        qpos: FloatArray,
        qvel: FloatArray,
        action: FloatArray,
        params: Mapping[str, FloatArray],
    ) -> FloatArray:
        """−|error of the mean forward speed over the step| in m/s, − control cost [S]."""
        error = np.abs(mean_speed(before, qpos) - params["target_speed"])
        reward: FloatArray = -CONTROL_COST * np.vecdot(action, action) - error
        return reward


class CheetahVel2(CheetahVel):
    """`cheetah-vel` with MAML's law v* ~ U(0, 2), to compare with published scores.

    Source:
      Finn, Abbeel and Levine 2017 (https://arxiv.org/abs/1703.03400).
    """

    id: ClassVar[str] = "cheetah-vel-2"
    bands: ClassVar[tuple[tuple[float, float], ...]] = ((0.0, 2.0),)


class CheetahVel3(CheetahVel):
    """`cheetah-vel` with PEARL's law v* ~ U(0, 3), to compare with published scores.

    Source:
      Rakelly et al. 2019 (https://arxiv.org/abs/1903.08254).
    """

    id: ClassVar[str] = "cheetah-vel-3"
    bands: ClassVar[tuple[tuple[float, float], ...]] = ((0.0, 3.0),)


class CheetahVel7(CheetahVel):
    """`cheetah-vel` with RoML's law v* ~ U(0, 7), to compare with published scores.

    Source:
      Greenberg et al. 2023 (https://arxiv.org/abs/2301.11147).
    """

    id: ClassVar[str] = "cheetah-vel-7"
    bands: ClassVar[tuple[tuple[float, float], ...]] = ((0.0, 7.0),)


class CheetahVelGap(CheetahVel):
    """`cheetah-vel` trained on slow and fast, tested in between: v* ~ U([0, 0.5] ∪ [3, 3.5]).

    Law and test speeds are those of TAVT (https://arxiv.org/abs/2502.02834). LDM
    (https://arxiv.org/abs/2105.13524) has the same law and OOD speeds, and tests 0.25 and 3.25
    inside the law.
    """

    id: ClassVar[str] = "cheetah-vel-gap"
    bands: ClassVar[tuple[tuple[float, float], ...]] = ((0.0, 0.5), (3.0, 3.5))


class CheetahDir(Cheetah):
    """Run forward or backward, `direction` d = ±1: reward d·Δx/Δt − 0.05‖a‖².

    These two are the only tasks; training and test share them.
    """

    id: ClassVar[str] = "cheetah-dir"
    kind: ClassVar[str] = "reward"
    law_size: ClassVar[int | None] = len(DIRECTIONS)

    def sample(self, n: int, generator: np.random.Generator) -> tuple[Task, ...]:
        """`n` training tasks, both directions equally often (for odd n, a random one once more)."""
        kinds = cycled(n, len(DIRECTIONS), generator)
        return tuple(
            Task(self.id, "train", i, {"direction": DIRECTIONS[kind]})
            for i, kind in enumerate(kinds)
        )

    def reward(
        self,
        before: FloatArray,
        qpos: FloatArray,
        qvel: FloatArray,
        action: FloatArray,
        params: Mapping[str, FloatArray],
    ) -> FloatArray:
        """Mean speed in the required direction over the step, in m/s, − control cost [S]."""
        forward = params["direction"] * mean_speed(before, qpos)
        reward: FloatArray = forward - CONTROL_COST * np.vecdot(action, action)
        return reward


class CheetahJoints(Cheetah):
    """Run forward with some actuators reversed: reward Δx/Δt − 0.1‖a‖², as in HalfCheetah-v5;
    one parameter ±1 for each joint.

    Training law: three of the first five joints negated, ten tasks. Law and main split (joint 6 and
    two of the first five) are those of MIER (https://arxiv.org/abs/2006.07178). The task s under
    action a equals the unreversed body under s ⊙ a.
    """

    id: ClassVar[str] = "cheetah-joints"
    kind: ClassVar[str] = "transition"
    law_size: ClassVar[int | None] = len(REVERSED)
    isomorphic: ClassVar[frozenset[str]] = frozenset({"joints"})  # signs of action entries
    shift_axes: ClassVar[tuple[str, ...]] = ("joints",)
    reversed_joints: ClassVar[tuple[tuple[str, ...], ...]] = REVERSED

    def sample(self, n: int, generator: np.random.Generator) -> tuple[Task, ...]:
        """`n` training tasks; none is repeated until all have been drawn."""
        kinds = cycled(n, len(self.reversed_joints), generator)
        return tuple(
            Task(self.id, "train", i, signs(self.reversed_joints[kind]))
            for i, kind in enumerate(kinds)
        )

    def shifted(
        self, axis: str, shift: float, generator: np.random.Generator
    ) -> Mapping[str, float]:
        """Signs that differ in `shift` joints from those of the nearest task of the law."""
        law = [frozenset(joints) for joints in self.reversed_joints]
        every = (frozenset(some) for n in range(7) for some in combinations(JOINTS, n))
        found = [some for some in every if min(len(some ^ joints) for joints in law) == shift]
        if not found:
            raise ValueError(f"no combination of signs differs from the law in {shift} joints")
        return signs(found[generator.integers(len(found))])

    def model_fields(
        self, nominal: Mapping[str, FloatArray], params: Mapping[str, FloatArray]
    ) -> dict[str, FloatArray]:
        """Actuator gears, each multiplied by the sign of its joint."""
        sign = np.stack([params[joint] for joint in JOINTS], axis=1)
        return {"actuator_gear": nominal["actuator_gear"] * sign[:, :, None]}

    def reward(
        self,
        before: FloatArray,
        qpos: FloatArray,
        qvel: FloatArray,
        action: FloatArray,
        params: Mapping[str, FloatArray],
    ) -> FloatArray:
        """Mean forward speed over the step, in m/s, minus the control cost [S]."""
        reward: FloatArray = mean_speed(before, qpos) - JOINTS_CONTROL_COST * np.vecdot(
            action, action
        )
        return reward
