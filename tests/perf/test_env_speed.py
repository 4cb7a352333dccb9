"""How much of the simulator's speed is left, and how it compares with what people use instead.

Only ratios are asserted. Run it on an idle machine: where two threads share a core, a peer of
another thread count meets half of us.
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
    speed_over_bare_batch: Callable[..., float],
    family: CheetahVel,
    fields: tuple[str, ...],
    threads: int,
) -> None:
    assert speed_over_bare_batch(family, threads, fields) >= 0.9


@pytest.mark.parametrize(("vectorization", "least"), [("sync", 2.5), ("async", 10.0)])
def test_it_beats_gymnasium(
    speed_over_gymnasium: Callable[..., float], vectorization: str, least: float
) -> None:
    """Steps per second at 64 cheetahs over those of 16 vectorised HalfCheetah-v5 in Gymnasium."""
    assert (
        speed_over_gymnasium(CheetahVel(), "HalfCheetah-v5", vectorization, PEER_ACTIONS) >= least
    )


def test_it_beats_envpool(speed_over_envpool: Callable[..., float]) -> None:
    """Steps per second at 64 cheetahs on two threads each."""
    assert speed_over_envpool(CheetahVel(), "HalfCheetah-v5", PEER_ACTIONS) >= 1.2
