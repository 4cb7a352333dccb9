"""Copies of environments, forked processes, and wrappers that read the horizon."""

import multiprocessing
import pickle
from copy import deepcopy

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import TimeAwareObservation

from envs import load_family
from envs.batch import BatchEnv

ID = "envs.gym:apb/hopper-rand-v1"


def run_on(env, steps=30):
    """Return what an environment gives under fixed actions, resetting what terminates."""
    seen, generator = [], np.random.default_rng(1)
    for _ in range(steps):
        action = generator.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        obs, reward, terminated, truncated, _ = env.step(action)
        seen += [obs, reward, terminated, truncated]
        if np.any(terminated):
            mask = {"reset_mask": terminated} if np.ndim(terminated) else None
            seen.append(env.reset(options=mask)[0])
    return seen


def copied(env, how):
    return deepcopy(env) if how == "deepcopy" else pickle.loads(pickle.dumps(env))


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
@pytest.mark.parametrize("vector", [False, True])
def test_a_copy_goes_on_as_the_original_does_and_leaves_it_alone(how, vector):
    env = gymnasium.make_vec(ID, num_envs=3) if vector else gymnasium.make(ID).unwrapped
    env.reset(seed=4)
    run_on(env, steps=7)
    first, second = copied(env, how), copied(env, how)
    runs = [run_on(each) for each in (first, env, second)]
    for one in runs[1:]:
        for ours, theirs in zip(runs[0], one, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    fresh = first.reset(options={"new_task": True})[0]
    np.testing.assert_array_equal(fresh, env.reset(options={"new_task": True})[0])


def test_a_batch_is_copied_with_its_threads_before_its_first_reset_too():
    family = load_family("point-rand")
    env = BatchEnv(family, family.split("ood")[:2], copies=3, threads=2, seed=5)
    again = pickle.loads(pickle.dumps(env))
    np.testing.assert_array_equal(again.reset(), env.reset())
    with pytest.raises(ValueError, match="have ended or were never reset"):
        deepcopy(BatchEnv(family, family.split("ood")[:1])).step(np.zeros((1, 1, 2), np.float32))


def _step(env, queue):
    try:
        env.reset()
        env.step(np.zeros((2, 1, 2), np.float32))
        queue.put("stepped")
    except RuntimeError as error:
        queue.put(str(error))


@pytest.mark.parametrize(
    ("threads", "said"), [(1, "stepped"), (2, "threads exist only in the parent")]
)
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_forked_child_is_told_that_threads_did_not_come_along(threads, said):
    family = load_family("point-goal")
    env = BatchEnv(family, family.split("ood")[:2], threads=threads)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_step, args=(env, queue))
    child.start()
    try:
        assert said in queue.get(timeout=60)
    finally:
        child.kill()
        child.join()


def test_wrappers_find_the_horizon_and_nothing_truncates_twice():
    env = gymnasium.make(ID)
    horizon = load_family("hopper-rand").horizon
    assert env.spec.max_episode_steps == horizon
    assert gymnasium.spec(ID.partition(":")[2]).max_episode_steps is None
    names, inner = [], env
    while isinstance(inner, gymnasium.Wrapper):
        names.append(type(inner).__name__)
        inner = inner.env
    assert "TimeLimit" not in names
    aware = TimeAwareObservation(gymnasium.make("envs.gym:apb/point-goal-v1"), flatten=True)
    obs, _ = aware.reset(seed=0)
    assert obs[-1] == 0
    assert aware.step(np.zeros(2, np.float32))[0][-1] > 0
