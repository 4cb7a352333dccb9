"""Learning on point-goal in seconds: VariBAD believes where the goal is and does better."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmark.pool import TaskPool
from benchmark.protocol import Evaluator, adapt
from benchmark.seeding import Streams
from envs.point import PointGoal
from methods.api import Spec
from methods.varibad import Varibad, VaribadConfig, VaribadFinetuned

pytestmark = pytest.mark.learning

Train = Callable[..., Any]
FAMILY = PointGoal()
SPEC = Spec(FAMILY.observation_size, FAMILY.action_size, FAMILY.horizon)
TASKS, UPDATES = 8, 40
CONFIG = VaribadConfig(
    hidden=32,
    embedding=16,
    memory=32,
    copies=4,
    minibatches=8,
    epochs=4,
    learning_rate=2e-3,
    gamma=0.95,
    lam=0.95,
    precollect=0,
    vae_updates=3,
    posteriors=20,
    transitions=20,
)


@pytest.fixture(scope="module")
def trained(meta_train: Train) -> Varibad:
    budget = UPDATES * TASKS * CONFIG.copies * 2 * FAMILY.horizon
    generator = np.random.default_rng(0)
    draw = partial(FAMILY.sample, TASKS, generator)
    pool = TaskPool(FAMILY, draw(), Streams(0, "train"), pooled=True, allowed=budget, draw=draw)
    method = Varibad(SPEC, CONFIG)
    meta_train(method, pool, TASKS, budget, Streams(0, "train", "method"))
    return method


def curve(method: Any, budget: int) -> list[float]:
    """Mean return over the tasks of the split `id` at each checkpoint."""
    tasks, streams = FAMILY.split("id"), Streams(0, "learning")
    pool = TaskPool(FAMILY, tasks, streams)
    adapter = method.adapter(pool.make_env, len(tasks), streams.child("method"))
    evaluate = Evaluator(FAMILY, tasks, streams)
    return [
        float(c.evaluation.returns.mean()) for c in adapt(adapter, pool, evaluate, streams, budget)
    ]


def test_it_beats_whatever_a_policy_without_memory_could_do(
    trained: Varibad, best_blind_return: float
) -> None:
    assert curve(trained, 100)[-1] > best_blind_return + 5


def test_training_on_alone_reaches_what_a_trial_cannot(trained: Varibad) -> None:
    tuned = VaribadFinetuned(SPEC, CONFIG)
    tuned.load_state_dict(trained.state_dict())
    own, on = curve(trained, 3000), curve(tuned, 3000)
    # the same until the trial is over
    assert on[: len(own)] == pytest.approx(own, rel=1e-3)
    assert on[-1] > own[-1]
