"""Learning on point-goal in seconds: returns that should rise do."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmark.pool import TaskPool
from benchmark.protocol import Evaluator, adapt
from benchmark.seeding import Streams
from envs.point import PointGoal
from methods.apb import Apb, ApbConfig, ApbRandom
from methods.api import Event, Spec
from methods.td3 import Td3

pytestmark = pytest.mark.learning

FAMILY = PointGoal()
SPEC = Spec(FAMILY.observation_size, FAMILY.action_size, FAMILY.horizon)
CONFIG = ApbConfig(
    hidden=64,
    batch=32,
    gamma=0.9,
    tau=0.02,
    learning_rate=3e-3,
    exploration_noise=0.3,
    warmup_episodes=4,
    policy_noise=0.1,
)
STEPS = 1_000


def curve(method: Any, n_tasks: int = 3) -> list[float]:
    """Mean return over the first OOD tasks at each checkpoint."""
    tasks, streams = FAMILY.split("ood")[:n_tasks], Streams(0, "learning")
    pool = TaskPool(FAMILY, tasks, streams)
    adapter = method.adapter(pool.make_env, n_tasks, streams.child("method"))
    evaluate = Evaluator(FAMILY, tasks, streams)
    return [
        float(c.evaluation.returns.mean()) for c in adapt(adapter, pool, evaluate, streams, STEPS)
    ]


def meta_trained(meta_train: Callable[..., Any]) -> tuple[Apb, list[float]]:
    """APB after a short meta-training, and the mean return of each of its episodes."""
    tasks = FAMILY.sample(4, np.random.default_rng(0))
    pool = TaskPool(FAMILY, tasks, Streams(0, "train"), pooled=True, allowed=4 * STEPS)
    method, returns = Apb(SPEC, CONFIG), []

    def tell(event: Event, trainer: Any) -> None:
        if event is Event.ITERATION:
            returns.append(float(np.mean([r for r in pool.online_returns() if r is not None])))

    meta_train(method, pool, 4, 4 * STEPS, Streams(0, "train", "method"), tell)
    return method, returns


def test_td3_learns_out_of_distribution_tasks_from_nothing() -> None:
    returns = curve(Td3(SPEC, CONFIG))
    assert returns[-1] > -20  # the zero action scores −50, the best policy about −6
    assert returns[-1] > returns[0] + 25


def test_apb_meta_trains_and_then_adapts_around_its_frozen_backbone(
    meta_train: Callable[..., Any],
) -> None:
    method, training = meta_trained(meta_train)
    assert np.mean(training[-4:]) > np.mean(training[:4]) + 20
    returns = curve(method)
    assert returns[-1] > -20
    assert returns[-1] > returns[0] + 25


def test_a_random_backbone_is_enough_to_learn_this() -> None:
    returns = curve(ApbRandom(SPEC, CONFIG))
    assert returns[-1] > -20
    assert returns[-1] > returns[0] + 20
