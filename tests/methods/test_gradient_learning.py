"""Learning on point-goal in seconds: one MAML or CAVIA step gains, training on gains more."""

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
from methods.cavia import Cavia, CaviaConfig, CaviaFinetuned
from methods.maml import Maml, MamlConfig, MamlFinetuned

pytestmark = pytest.mark.learning

FAMILY = PointGoal()
SPEC = Spec(FAMILY.observation_size, FAMILY.action_size, FAMILY.horizon)
TASKS, EPISODES, OUTER_STEPS = 8, 10, 14
BATCH = EPISODES * FAMILY.horizon  # environment steps per task and gradient step
SMALL = {"hidden": 32, "episodes": EPISODES}
METHODS = {
    "maml": (Maml, MamlFinetuned, MamlConfig(**SMALL, own_steps=1)),
    "cavia": (Cavia, CaviaFinetuned, CaviaConfig(**SMALL, own_steps=1)),
}


@pytest.fixture(scope="module", params=METHODS)
def trained(request: pytest.FixtureRequest, meta_train: Callable[..., Any]) -> tuple[Any, Any]:
    """The method after a few outer steps, and its fine-tuned sibling in the same state."""
    kind, sibling, config = METHODS[request.param]
    budget = 2 * OUTER_STEPS * TASKS * BATCH
    generator = np.random.default_rng(0)
    tasks, draw = FAMILY.sample(TASKS, generator), partial(FAMILY.sample, TASKS, generator)
    pool = TaskPool(FAMILY, tasks, Streams(0, "train"), pooled=True, allowed=budget, draw=draw)
    method, tuned = kind(SPEC, config), sibling(SPEC, config)
    meta_train(method, pool, TASKS, budget, Streams(0, "train", "method"))
    tuned.load_state_dict(method.state_dict())
    return method, tuned


def curve(method: Any, split: str, budget: int) -> list[float]:
    """Mean return over the tasks of a split at each checkpoint."""
    tasks, streams = FAMILY.split(split), Streams(0, "learning")
    pool = TaskPool(FAMILY, tasks, streams)
    adapter = method.adapter(pool.make_env, len(tasks), streams.child("method"))
    evaluate = Evaluator(FAMILY, tasks, streams)
    return [
        float(c.evaluation.returns.mean()) for c in adapt(adapter, pool, evaluate, streams, budget)
    ]


def test_one_inner_step_gains_clearly_over_none(trained: tuple[Any, Any]) -> None:
    before, *_, after = curve(trained[0], "id", BATCH)
    assert after > before + 15


def test_training_on_alone_reaches_what_one_step_cannot(trained: tuple[Any, Any]) -> None:
    own, tuned = (curve(method, "ood", 12 * BATCH) for method in trained)
    assert tuned[: len(own)] == own  # the same until the method itself is frozen
    assert tuned[-1] > own[-1] + 5
