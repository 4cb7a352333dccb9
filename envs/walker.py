"""Gymnasium's planar Walker2d-v5 at frame skip 8: random dynamics, or one factor for all masses.

The frame skip is the same as the hopper's, so 200 steps last 3.2 s.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np

from envs.api import BoolArray, FloatArray
from envs.family import gymnasium_model
from envs.legs import CommonMass, Legs, RandomDynamics

# m
MIN_HEIGHT = 0.8
MAX_HEIGHT = 2.0
MAX_PITCH = 1.0  # rad


class Walker(Legs):
    """The body, and its condition for a fall."""

    observation_size: ClassVar[int] = 17
    action_size: ClassVar[int] = 6
    bodies: ClassVar[tuple[str, ...]] = (
        "torso",
        "thigh",
        "leg",
        "foot",
        "thigh_left",
        "leg_left",
        "foot_left",
    )
    hinges: ClassVar[tuple[str, ...]] = (
        "thigh_joint",
        "leg_joint",
        "foot_joint",
        "thigh_left_joint",
        "leg_left_joint",
        "foot_left_joint",
    )

    def xml(self) -> Path:
        """The model's MJCF file."""
        return gymnasium_model("walker2d_v5.xml")

    def terminated(self, qpos: FloatArray, qvel: FloatArray) -> BoolArray:
        """Whether it is unhealthy [S]: z outside (0.8, 2) m, or |pitch| ≥ 1 rad."""
        height = qpos[:, 1]
        pitch = qpos[:, 2]
        unhealthy: BoolArray = ~(
            (height > MIN_HEIGHT) & (height < MAX_HEIGHT) & (np.abs(pitch) < MAX_PITCH)
        )
        return unhealthy


class WalkerRand(RandomDynamics, Walker):
    """Run with unknown masses, inertias, dampings and friction: 21 exponents."""

    id: ClassVar[str] = "walker-rand"


class WalkerMass(CommonMass, Walker):
    """Run with one unknown factor on all masses."""

    id: ClassVar[str] = "walker-mass"
