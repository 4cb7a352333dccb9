"""A simulation that diverges is counted, affects no other, and never earns more for it."""

from functools import cache

import numpy as np
import pytest

from benchmark.pool import TaskPool
from benchmark.protocol import Evaluator
from benchmark.seeding import Streams
from envs import load_family
from envs.batch import BatchEnv
from envs.cheetah import CheetahVel
from methods.api import Memoryless

FAMILY = CheetahVel()
TASKS = FAMILY.split("ood")
SIX = 6  # actuators


def blow_up(env: BatchEnv, simulation: int) -> None:
    """Give one simulation a velocity that no integrator survives."""
    env.batch.bind("qvel")[simulation] = 1e11


def test_in_meta_training_it_is_counted_and_training_goes_on():
    pool = TaskPool(FAMILY, TASKS, Streams(0), pooled=True, allowed=1000)
    env = pool.make_env()
    env.reset()
    env.step(np.zeros((4, 1, SIX)))
    blow_up(env._env, 2)
    step = env.step(np.zeros((4, 1, SIX)))
    np.testing.assert_array_equal(step.terminated[:, 0], [False, False, True, False])
    assert np.isfinite(step.reward).all()
    env.reset(step.terminated)
    env.step(np.zeros((4, 1, SIX)))
    np.testing.assert_array_equal(pool.divergences(), [0, 0, 1, 0])
    np.testing.assert_array_equal(pool.divergences(), [0, 0, 0, 0])  # reported once
    assert not pool.not_finite.any()


@cache
def sound_evaluation(name):
    """Evaluation of the policy that does nothing."""
    family = load_family(name)
    still = np.zeros((4, 10, family.action_size))
    return Evaluator(family, family.split("ood")[:4], Streams(0))(Memoryless(lambda obs: still))


@pytest.mark.parametrize("name", ["point-goal", "hopper-rand", "ant-dir"])
def test_a_policy_that_acts_with_no_numbers_never_earns_more_than_one_that_does_nothing(name):
    family = load_family(name)
    evaluate = Evaluator(family, family.split("ood")[:4], Streams(0))
    sound = sound_evaluation(name)
    calls = 0

    def act(obs):
        nonlocal calls
        calls += 1
        action = np.zeros((4, 10, family.action_size))
        if calls >= 3:
            action[1, 3, 0] = np.nan
        return action

    lost = evaluate(Memoryless(act))
    np.testing.assert_array_equal(lost.diverged, [False, True, False, False])
    others = np.ones((4, 10), bool)
    others[1, 3] = False
    np.testing.assert_array_equal(lost.returns[others], sound.returns[others])
    assert lost.lengths[1, 3] == 3
    assert lost.returns[1, 3] <= sound.returns[1, 3] + 1e-6
    if name != "point-goal":
        assert lost.returns[1, 3] < 5 < 30 < sound.returns[1, 3]


@pytest.mark.parametrize("name", ["cheetah-vel", "hopper-rand", "ant-dir"])
def test_an_evaluated_episode_that_diverges_never_earns_more_than_one_that_does_not(name):
    family = load_family(name)
    still = np.zeros((4, 10, family.action_size))
    evaluate = Evaluator(family, family.split("ood")[:4], Streams(0))
    sound = sound_evaluation(name)
    calls = 0

    def act(obs):
        nonlocal calls
        calls += 1
        if calls == 5:
            blow_up(evaluate._env, 13)  # the fourth copy of the second task
        return still

    spoiled = evaluate(Memoryless(act))
    np.testing.assert_array_equal(spoiled.diverged, [False, True, False, False])
    others = np.ones((4, 10), bool)
    others[1, 3] = False
    np.testing.assert_array_equal(spoiled.returns[others], sound.returns[others])
    assert spoiled.lengths[1, 3] == 5
    assert spoiled.terminated[1, 3]
    assert spoiled.returns[1, 3] < sound.returns[1].min()
    assert np.isfinite(spoiled.returns).all()
    if name != "cheetah-vel":  # a bonus for being alive, which ends at the divergence
        assert 0 < spoiled.returns[1, 3] < 10
