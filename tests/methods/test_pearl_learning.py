"""Learning on point-goal within a minute: PEARL infers where the goal is and does better."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.pool import TaskPool
from benchmark.protocol import Evaluator, adapt
from benchmark.seeding import Streams
from envs.point import PointGoal
from methods.api import Spec
from methods.core.context_adapter import Episodes
from methods.core.replay import Batch
from methods.pearl import Pearl, PearlAgent, PearlConfig, PearlFinetuned

pytestmark = pytest.mark.learning

Train = Callable[..., Any]
FAMILY = PointGoal()
H = FAMILY.horizon
SPEC = Spec(FAMILY.observation_size, FAMILY.action_size, H)
TASKS, BUDGET = 8, 12_000
CONFIG = PearlConfig(
    hidden=64,
    layers=2,
    encoder_hidden=64,
    batch=32,
    context=32,
    meta_batch=8,
    initial_steps=250,
    prior_steps=100,
    posterior_steps=150,
    updates_per_step=0.4,
    learning_rate=2e-3,
    gamma=0.9,
    tau=0.02,
)


@pytest.fixture(scope="module")
def trained(meta_train: Train) -> Pearl:
    tasks = FAMILY.sample(TASKS, np.random.default_rng(0))
    pool = TaskPool(FAMILY, tasks, Streams(0, "train"), pooled=True, allowed=BUDGET)
    method = Pearl(SPEC, CONFIG)
    meta_train(method, pool, TASKS, BUDGET, Streams(0, "train", "method"))
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


def test_it_beats_whatever_a_policy_without_context_could_do(
    trained: Pearl, best_blind_return: float
) -> None:
    before, after = (curve(trained, 2 * H)[i] for i in (0, -1))
    assert after > before + 10
    assert after > best_blind_return + 10


def test_the_return_rises_when_the_posterior_takes_over_from_the_prior(trained: Pearl) -> None:
    """Episodes 0 and 1 explore on the prior; 2 is the first on the posterior of what they saw."""
    tasks = FAMILY.split("id")
    agent = PearlAgent(trained.params, SPEC, CONFIG, Streams(0, "agent"))
    returns = np.zeros((3, len(tasks)))
    for seed in range(5):
        pool = TaskPool(FAMILY, tasks, Streams(seed, "explore"), allowed=3 * H)
        episodes = Episodes(pool.make_env(), CONFIG.latent, 2, torch.Generator().manual_seed(seed))
        seen = []
        for t in range(3 * H):
            step = episodes.step(
                agent.mean,
                lambda seen=seen: agent.believe(
                    Batch(*(torch.cat(part, 1) for part in zip(*seen, strict=True)))
                ),
            )
            seen.append(step)
            returns[t // H] += step.reward[:, 0].numpy() / 5
    first, second, third = returns.mean(1)
    assert third > second + 5
    assert abs(second - first) < 10  # both explore on the prior


def test_training_on_alone_reaches_what_inference_cannot(trained: Pearl) -> None:
    tuned = PearlFinetuned(SPEC, CONFIG)
    tuned.load_state_dict(trained.state_dict())
    own, on = curve(trained, 1000), curve(tuned, 1000)
    # the same until the two episodes of exploration are over
    assert on[: len(own)] == pytest.approx(own, rel=1e-3)
    assert on[-1] > own[-1] + 3
