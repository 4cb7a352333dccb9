"""How much of the simulator's speed is left, and how it compares with what people use instead.

Where two threads share a core, a peer with another number of threads meets us at half our speed.
"""

from collections.abc import Callable, Mapping

import pytest

from envs.api import FloatArray
from envs.cheetah import CheetahVel

PEER_ACTIONS = 200  # peers draw a fresh action for every step, as ours do


class HeavyCheetah(CheetahVel):
    """The cheetah with masses and dampings of its own in every simulation."""

    def model_fields(
        self, nominal: Mapping[str, FloatArray], params: Mapping[str, FloatArray]
    ) -> dict[str, FloatArray]:
        factor = 1 + 0.2 * params["target_speed"]
        return {
            "body_mass": nominal["body_mass"] * factor[:, None],
            "body_inertia": nominal["body_inertia"] * factor[:, None, None],
            "dof_damping": nominal["dof_damping"] * factor[:, None],
        }


@pytest.mark.parametrize(
    ("family", "fields"),
    [(CheetahVel(), ()), (HeavyCheetah(), ("body_mass", "body_inertia", "dof_damping"))],
    ids=["same model", "own masses and dampings"],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_it_keeps_the_speed_of_a_bare_batch(
    speed_over_bare_batch: Callable[..., None],
    family: CheetahVel,
    fields: tuple[str, ...],
    threads: int,
) -> None:
    speed_over_bare_batch(family, threads, fields, goal=0.9, guard=0.86)


@pytest.mark.parametrize(
    ("vectorization", "goal", "guard"), [("sync", 2.5, 2.8), ("async", 10.0, 12.0)]
)
def test_it_beats_gymnasium(
    speed_over_gymnasium: Callable[..., None], vectorization: str, goal: float, guard: float
) -> None:
    """Steps per second at 64 cheetahs over those of 16 vectorised HalfCheetah-v5 in Gymnasium."""
    speed_over_gymnasium(
        CheetahVel(), "HalfCheetah-v5", vectorization, PEER_ACTIONS, goal=goal, guard=guard
    )


def test_it_beats_envpool(speed_over_envpool: Callable[..., None]) -> None:
    """Steps per second at 64 cheetahs on two threads each."""
    speed_over_envpool(CheetahVel(), "HalfCheetah-v5", PEER_ACTIONS, goal=1.2, guard=1.14)
