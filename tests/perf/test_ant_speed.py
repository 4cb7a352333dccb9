"""The ant's speed, measured like the cheetah's in `test_env_speed`: contacts dominate the cost.

Gymnasium and EnvPool compute contact forces on top of the physics; peers and ours draw a fresh
random action for every step.
"""

from collections.abc import Callable

import pytest

from envs.ant import AntGoal

PEER_ACTIONS = 200  # as many as ours
# ant-goal never ends early; an ant on its back has more contacts
SAME_TASK = {"terminate_when_unhealthy": False}


@pytest.mark.parametrize("threads", [1, 2])
def test_it_keeps_the_speed_of_a_bare_batch(
    speed_over_bare_batch: Callable[..., None], threads: int
) -> None:
    speed_over_bare_batch(AntGoal(), threads, goal=0.9, guard=0.89)


@pytest.mark.parametrize(
    ("vectorization", "goal", "guard"), [("sync", 2.5, 2.4), ("async", 4.0, 3.2)]
)
def test_it_beats_gymnasium(
    speed_over_gymnasium: Callable[..., None], vectorization: str, goal: float, guard: float
) -> None:
    """Steps per second at 64 ants over those of 16 Ant-v5 in Gymnasium's vector environments."""
    speed_over_gymnasium(
        AntGoal(), "Ant-v5", vectorization, PEER_ACTIONS, goal=goal, guard=guard, **SAME_TASK
    )


def test_it_beats_envpool(speed_over_envpool: Callable[..., None]) -> None:
    """Steps per second at 64 ants on two threads each."""
    speed_over_envpool(AntGoal(), "Ant-v5", PEER_ACTIONS, goal=1.3, guard=1.17, **SAME_TASK)
