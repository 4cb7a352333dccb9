"""Policy-gradient methods on point-goal: step-counted tasks and a short meta-training."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmark.pool import TaskPool
from benchmark.seeding import Streams
from envs.point import PointGoal
from methods.api import Spec

POINT = PointGoal()
TRAINED_ON = 2  # tasks


@pytest.fixture
def point_pool() -> Callable[..., TaskPool]:
    """`(steps, ids)`: a pool of the test tasks at `ids`, each with `steps` that may be used."""

    def make(steps: int, ids: tuple[int, ...] = (0, 1)) -> TaskPool:
        return TaskPool(
            POINT, [POINT.split("ood")[i] for i in ids], Streams(0, "test"), allowed=steps
        )

    return make


@pytest.fixture(scope="session")
def best_blind_return() -> float:
    """Bound on the return, on the split `id`, of policies that do not find out where the goal is.

    Step by step, each of them is in the same places whatever the task; at best always at
    the one from which the goals are nearest on average.
    """
    goals = np.array(
        [task.params["radius"] * np.exp(1j * task.params["angle"]) for task in POINT.split("id")]
    )
    side = np.linspace(-1.0, 1.0, 201)
    places = side[:, None, None] + 1j * side[:, None]
    return float(-POINT.horizon * np.abs(places - goals).mean(-1).min())


@pytest.fixture
def meta_trained(meta_train: Callable[..., Any]) -> Callable[..., Any]:
    """`(method, config, budget)`: a method meta-trained on two tasks; `kind` says what varies."""

    def train(of: Any, config: Any, budget: int, kind: str = "reward") -> Any:
        generator = np.random.default_rng(0)
        tasks = POINT.sample(TRAINED_ON, generator)
        streams = Streams(0, "train")
        pool = TaskPool(
            POINT,
            tasks,
            streams,
            pooled=True,
            allowed=budget,
            draw=lambda: POINT.sample(TRAINED_ON, generator),
        )
        method = of(Spec(POINT.observation_size, POINT.action_size, POINT.horizon, kind), config)
        meta_train(method, pool, TRAINED_ON, budget, streams.child("method"))
        return method

    return train
