"""What the hopper and the walker share: the planar body's task, and two laws for its dynamics.

A law multiplies the model's values by powers, value = nominal × baseᵉ. A task's parameters are the
exponents e, so all zeros give Gymnasium's own body.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from envs.api import FloatArray, Task
from envs.family import Family
from envs.laws import beyond, stratified, union

CONTROL_DT = 0.016  # s: eight simulator steps of 0.002 s
RESET_NOISE = 5e-3  # m and rad, m/s and rad/s
MAX_SEEN_SPEED = 10.0  # m/s and rad/s: observed velocities are clipped to ± this
ALIVE_BONUS = 1.0  # per step
CONTROL_COST = 1e-3  # per squared action
ROOT = 3  # joints of the torso itself (x, z, pitch), which have no damping; hinges follow

BASE = 1.5  # of masses, inertias and friction
DAMPING_BASE = 1.3
MAX_EXPONENT = 2.0  # of training tasks
LEVEL_WIDTH = 0.5  # of the range of |e| at one level of shift
MASS_BANDS = ((0.0, 0.5), (3.0, 3.5))  # training exponents of the `-mass` families


class Legs(Family):
    """A body running in the xz plane: observation (qpos without x, clipped qvel), starts, reward.

    A subclass names its bodies and hinges in the model's order.
    """

    kind: ClassVar[str] = "transition"
    horizon: ClassVar[int] = 200
    frame_skip: ClassVar[int] = 8
    bodies: ClassVar[tuple[str, ...]]
    hinges: ClassVar[tuple[str, ...]]

    def reset_noise(self, generator: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Offsets qpos, qvel [3 + hinges], uniform in ±0.005 as in Hopper-v5 and Walker2d-v5."""
        size = ROOT + len(self.hinges)
        return generator.uniform(-RESET_NOISE, RESET_NOISE, size), generator.uniform(
            -RESET_NOISE, RESET_NOISE, size
        )

    def observe(
        self, qpos: FloatArray, qvel: FloatArray, params: Mapping[str, FloatArray]
    ) -> FloatArray:
        """Height, angles and all velocities, [S, O]; velocities clipped to ±10."""
        seen = np.minimum(np.maximum(qvel, -MAX_SEEN_SPEED), MAX_SEEN_SPEED)
        return np.concatenate((qpos[:, 1:], seen), axis=1, dtype=np.float32)

    def reward(
        self,
        before: FloatArray,
        qpos: FloatArray,
        qvel: FloatArray,
        action: FloatArray,
        params: Mapping[str, FloatArray],
    ) -> FloatArray:
        """Δx/Δt + 1 − 10⁻³‖a‖² [S]: speed in m/s, plus a bonus paid even for the step into a fall.

        Source:
          rand_param_envs. Hopper-v5 and Walker2d-v5 differ only in withholding that last bonus.
        """
        speed = (qpos[:, 0] - before[:, 0]) / CONTROL_DT
        reward: FloatArray = speed + ALIVE_BONUS - CONTROL_COST * np.vecdot(action, action)
        return reward


class RandomDynamics:
    """Mixin of the `-rand` families: an exponent for each body's mass and another for its inertia,
    one for each hinge's damping, and one for friction.

    Mass, inertia (all three axes alike, independently of mass) and sliding friction (all geoms
    alike) are multiplied by 1.5ᵉ, damping by 1.3ᵉ. Training law: every e ~ U(−2, 2).
    """

    id: ClassVar[str]
    bodies: ClassVar[tuple[str, ...]]
    hinges: ClassVar[tuple[str, ...]]
    shift_axes: ClassVar[tuple[str, ...]] = ("dynamics",)
    max_exponent: ClassVar[float] = MAX_EXPONENT

    def names(self) -> tuple[str, ...]:
        """Names of the exponents."""
        parts = ("mass", self.bodies), ("inertia", self.bodies), ("damping", self.hinges)
        return (*(f"{what}_{part}" for what, where in parts for part in where), "friction")

    def sample(self, n: int, generator: np.random.Generator) -> tuple[Task, ...]:
        """`n` training tasks, a Latin hypercube over the exponents."""
        names = self.names()
        # [n, exponents]
        exponents = self.max_exponent * np.stack(
            [2 * stratified(n, generator) - 1 for _ in names], axis=1
        )
        return tuple(
            Task(self.id, "train", i, dict(zip(names, row, strict=True)))
            for i, row in enumerate(exponents.tolist())
        )

    def shifted(
        self, axis: str, shift: float, generator: np.random.Generator
    ) -> Mapping[str, float]:
        """Exponents with random signs: the largest lies `shift` outside the law, the others are up
        to LEVEL_WIDTH smaller. Unlike frozen tasks, these are not screened for whether the body can
        be kept up.
        """
        most = self.max_exponent + shift
        size = generator.uniform(most - LEVEL_WIDTH, most, len(self.names()))
        size[size.argmax()] = most
        exponents = size * generator.choice((-1.0, 1.0), len(size))
        return dict(zip(self.names(), exponents.tolist(), strict=True))

    def model_fields(
        self, nominal: Mapping[str, FloatArray], params: Mapping[str, FloatArray]
    ) -> dict[str, FloatArray]:
        """Mass and inertia (except the world's), hinge damping, and all geoms' sliding friction."""
        size = len(params["friction"])
        mass, inertia = np.ones((2, size, len(self.bodies) + 1))  # [S, world and bodies]
        damping = np.ones((size, ROOT + len(self.hinges)))
        friction = np.ones((size, 1, 3))  # sliding, torsional, rolling
        mass[:, 1:] = BASE ** np.stack([params[f"mass_{body}"] for body in self.bodies], axis=1)
        inertia[:, 1:] = BASE ** np.stack(
            [params[f"inertia_{body}"] for body in self.bodies], axis=1
        )
        damping[:, ROOT:] = DAMPING_BASE ** np.stack(
            [params[f"damping_{hinge}"] for hinge in self.hinges], axis=1
        )
        friction[:, 0, 0] = BASE ** params["friction"]
        return {
            "body_mass": nominal["body_mass"] * mass,
            "body_inertia": nominal["body_inertia"] * inertia[:, :, None],
            "dof_damping": nominal["dof_damping"] * damping,
            "geom_friction": nominal["geom_friction"] * friction,
        }


class CommonMass:
    """Mixin of the `-mass` families: one `exponent` c, all masses × 1.5ᶜ, all else unchanged.

    Training law: c ~ U([0, 0.5] ∪ [3, 3.5]), as in TAVT (arXiv 2502.02834).
    """

    id: ClassVar[str]
    shift_axes: ClassVar[tuple[str, ...]] = ("mass",)
    bands: ClassVar[tuple[tuple[float, float], ...]] = MASS_BANDS

    def sample(self, n: int, generator: np.random.Generator) -> tuple[Task, ...]:
        """`n` training tasks, one in each of n equal pieces of the two bands laid end to end."""
        exponents = union(stratified(n, generator), self.bands).tolist()
        return tuple(
            Task(self.id, "train", i, {"exponent": exponent})
            for i, exponent in enumerate(exponents)
        )

    def shifted(
        self, axis: str, shift: float, generator: np.random.Generator
    ) -> Mapping[str, float]:
        """An exponent in the law's hole if that is deep enough, else one above the law."""
        return {"exponent": float(generator.choice(beyond(self.bands, shift)))}

    def model_fields(
        self, nominal: Mapping[str, FloatArray], params: Mapping[str, FloatArray]
    ) -> dict[str, FloatArray]:
        """Masses of all bodies."""
        return {"body_mass": nominal["body_mass"] * BASE ** params["exponent"][:, None]}
