"""The planar half-cheetah of Gymnasium's HalfCheetah-v5: run at a speed that is not told (`cheetah-vel`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from envs.api import FloatArray, Task
from envs.family import Family, gymnasium_model
from envs.laws import stratified

CONTROL_DT = 0.05  # s: five simulator steps of 0.01 s
RESET_NOISE = 0.1  # rad and m, rad/s and m/s
CONTROL_COST = 0.05  # per squared action
MAX_SPEED = 2.5  # m/s: fastest training task


class Cheetah(Family):
    """What the families share: the body, its observation (qpos without x, then qvel) and its starts."""

    horizon: ClassVar[int] = 200
    observation_size: ClassVar[int] = 17
    action_size: ClassVar[int] = 6
    frame_skip: ClassVar[int] = 5

    def xml(self) -> Path:
        """The model's MJCF file."""
        return gymnasium_model("half_cheetah.xml")

    def reset_noise(self, generator: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Offsets (qpos [9] uniform in ±0.1, qvel [9] normal with deviation 0.1), as HalfCheetah-v5 draws them."""
        return generator.uniform(-RESET_NOISE, RESET_NOISE, 9), RESET_NOISE * generator.standard_normal(9)

    def observe(self, qpos: FloatArray, qvel: FloatArray, params: Mapping[str, FloatArray]) -> FloatArray:
        """Height, angles and all velocities, [S, 17]."""
        return np.concatenate((qpos[:, 1:], qvel), axis=1, dtype=np.float32)


class CheetahVel(Cheetah):
    """Run at `target_speed` v* in m/s: reward −|Δx/Δt − v*| − 0.05‖a‖².

    Training law: v* ~ U(0, 2.5).
    """

    id: ClassVar[str] = "cheetah-vel"
    kind: ClassVar[str] = "reward"

    def sample(self, n: int, generator: np.random.Generator) -> tuple[Task, ...]:
        """`n` training tasks, one in each of n equal intervals of speed."""
        speeds = (MAX_SPEED * stratified(n, generator)).tolist()
        return tuple(Task(self.id, "train", i, {"target_speed": speed}) for i, speed in enumerate(speeds))

    def reward(
        self, before: FloatArray, qpos: FloatArray, qvel: FloatArray, action: FloatArray, params: Mapping[str, FloatArray]
    ) -> FloatArray:
        """Minus the error in mean forward speed over the step, in m/s, minus the control cost [S]."""
        speed = (qpos[:, 0] - before[:, 0]) / CONTROL_DT
        reward: FloatArray = -CONTROL_COST * np.vecdot(action, action) - np.abs(speed - params["target_speed"])
        return reward
