"""How much simulator speed is left when every simulation has its own dynamics and often falls."""

from collections.abc import Callable

import pytest

from envs.hopper import HopperRand

VARIED = ("body_mass", "body_inertia", "dof_damping", "geom_friction")


@pytest.mark.parametrize("threads", [1, 2])
def test_it_keeps_the_speed_of_a_bare_batch(
    speed_over_bare_batch: Callable[..., None], threads: int
) -> None:
    """Under random actions one hopper in ten falls at each step; our time includes its reset."""
    speed_over_bare_batch(HopperRand(), threads, VARIED, goal=0.9, guard=0.84)
