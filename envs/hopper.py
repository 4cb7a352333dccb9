"""Gymnasium's planar Hopper-v5 at frame skip 8: random dynamics, or one factor for all masses.

At v5's frame skip of 4, an episode of 200 steps would last 1.6 s, and a hopper that does nothing
stays up for nearly that long.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np

from envs.api import BoolArray, FloatArray
from envs.family import gymnasium_model
from envs.legs import CommonMass, Legs, RandomDynamics

MIN_HEIGHT = 0.7  # m
MAX_PITCH = 0.2  # rad
MAX_STATE = 100.0  # rad, m/s and rad/s: bound on all angles and velocities


class Hopper(Legs):
    """The body, and its condition for a fall."""

    observation_size: ClassVar[int] = 11
    action_size: ClassVar[int] = 3
    bodies: ClassVar[tuple[str, ...]] = ("torso", "thigh", "leg", "foot")
    hinges: ClassVar[tuple[str, ...]] = ("thigh_joint", "leg_joint", "foot_joint")

    def xml(self) -> Path:
        """The model's MJCF file."""
        return gymnasium_model("hopper.xml")

    def terminated(self, qpos: FloatArray, qvel: FloatArray) -> BoolArray:
        """Whether unhealthy [S]: z ≤ 0.7 m, |pitch| ≥ 0.2 rad, or an angle or velocity ≥ 100."""
        upright = (qpos[:, 1] > MIN_HEIGHT) & (np.abs(qpos[:, 2]) < MAX_PITCH)
        bounded = (np.abs(qpos[:, 2:]) < MAX_STATE).all(axis=1) & (np.abs(qvel) < MAX_STATE).all(
            axis=1
        )
        unhealthy: BoolArray = ~(upright & bounded)
        return unhealthy


class HopperRand(RandomDynamics, Hopper):
    """Run with unknown masses, inertias, dampings and friction: 12 exponents."""

    id: ClassVar[str] = "hopper-rand"


class HopperMass(CommonMass, Hopper):
    """Run with one unknown factor on all masses."""

    id: ClassVar[str] = "hopper-mass"
