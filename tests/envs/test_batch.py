"""The environment contract, for every registered family: shapes, ends, refusals, fresh arrays."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from envs import FAMILIES, load_family
from envs.api import Task, TaskFamily
from envs.batch import BatchEnv
from envs.point import PointGoal

N, E = 3, 2


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> TaskFamily:
    return load_family(request.param)


@pytest.fixture
def env(family: TaskFamily) -> BatchEnv:
    return BatchEnv(family, family.sample(N, np.random.default_rng(0)), copies=E, seed=1)


def actions(env: BatchEnv, steps: int, seed: int = 0) -> np.ndarray:
    return (
        np.random.default_rng(seed)
        .uniform(-1, 1, (steps, env.n_tasks, env.copies, env.action_size))
        .astype(np.float32)
    )


def test_shapes_and_types(env: BatchEnv, family: TaskFamily) -> None:
    assert (env.n_tasks, env.copies) == (N, E)
    assert (env.observation_size, env.action_size, env.horizon) == (
        family.observation_size,
        family.action_size,
        family.horizon,
    )
    obs = env.reset()
    assert obs.shape == (N, E, family.observation_size) and obs.dtype == np.float32
    step = env.step(actions(env, 1)[0])
    assert step.obs.shape == obs.shape and step.obs.dtype == np.float32
    assert step.reward.shape == (N, E) and step.reward.dtype == np.float32
    for end in (step.terminated, step.truncated):
        assert end.shape == (N, E) and end.dtype == bool


def test_observations_are_finite_and_none_is_constant(env: BatchEnv) -> None:
    seen = [env.reset()]
    for action in actions(env, 15):
        step = env.step(action)
        seen.append(step.obs)
        if (step.terminated | step.truncated).any():
            env.reset(step.terminated | step.truncated)
    assert np.isfinite(seen).all()
    assert (np.std(seen, axis=0) > 0).all()


def test_results_share_no_memory_and_survive_later_steps(env: BatchEnv) -> None:
    first = env.reset()
    step = env.step(actions(env, 1)[0])
    kept = [np.copy(array) for array in (first, *step)]
    later = env.step(actions(env, 1, seed=1)[0])
    again = env.reset()
    for array, copy in zip((first, *step), kept, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert not any(np.shares_memory(array, other) for other in (*later, again, env.batch.state))
    step.obs[...] = step.reward[...] = np.nan  # a caller may write into what it was given
    step.terminated[...] = step.truncated[...] = True
    assert np.isfinite(env.step(actions(env, 1)[0]).obs).all()


def test_the_clock_truncates_at_the_horizon_and_only_then(env: BatchEnv) -> None:
    env.reset()
    clock = np.zeros((N, E), int)
    for _ in range(env.horizon):
        step = env.step(np.zeros((N, E, env.action_size)))
        clock += 1
        np.testing.assert_array_equal(step.truncated, (clock == env.horizon) & ~step.terminated)
        env.reset(step.terminated)
        clock[step.terminated] = 0


def test_what_the_task_ends_is_terminated_even_at_the_horizon() -> None:
    family = PointGoal()
    family.horizon = 3  # type: ignore[misc]
    family.terminated = lambda qpos, qvel: np.arange(len(qpos)) == 1  # type: ignore[method-assign]
    env = BatchEnv(family, family.split("gap"))
    env.reset()
    step = env.step(actions(env, 1)[0])
    assert step.terminated.ravel().tolist() == [False, True, False] and not step.truncated.any()
    for _ in range(2):
        env.reset(step.terminated)
        step = env.step(actions(env, 1)[0])
    assert step.truncated.ravel().tolist() == [True, False, True]
    env.reset()
    env._clock[:] = 2  # as if all were before their last step
    step = env.step(actions(env, 1)[0])
    assert step.terminated.ravel().tolist() == [False, True, False]
    assert step.truncated.ravel().tolist() == [True, False, True]


def test_it_must_be_reset_first(env: BatchEnv) -> None:
    with pytest.raises(ValueError, match="reset"):
        env.step(actions(env, 1)[0])


def test_one_ended_simulation_stops_all(env: BatchEnv) -> None:
    env.reset()
    env._clock[3] = env.horizon - 1
    step = env.step(actions(env, 1)[0])
    np.testing.assert_array_equal(step.truncated.ravel(), np.arange(N * E) == 3)
    with pytest.raises(ValueError, match="1 simulations have ended"):
        env.step(actions(env, 1)[0])
    env.reset(step.truncated)
    assert not env.step(actions(env, 1)[0]).truncated.any()


def test_a_partial_first_reset_is_not_enough(env: BatchEnv) -> None:
    mask = np.zeros((N, E), bool)
    mask[0, 1] = True
    env.reset(mask)
    with pytest.raises(ValueError, match=f"{N * E - 1} simulations"):
        env.step(actions(env, 1)[0])
    env.reset(~mask)
    env.step(actions(env, 1)[0])


def test_a_reset_leaves_the_others_where_they_are(env: BatchEnv) -> None:
    env.reset()
    obs = env.step(actions(env, 1)[0]).obs
    mask = np.zeros((N, E), bool)
    mask[1, 0] = True
    after = env.reset(mask)
    np.testing.assert_array_equal(after[~mask], obs[~mask])
    assert (after[mask] != obs[mask]).any()
    np.testing.assert_array_equal(env.reset(np.zeros((N, E), bool)), after)


def test_actions_are_clipped(env: BatchEnv) -> None:
    big = 3 * actions(env, 1)[0]
    big[0, 0, 0] = 1e30  # finite, although its float32 square is not
    env.reset()
    state = env.state_dict()
    clipped = env.step(np.clip(big, -1, 1))
    env.load_state_dict(state)
    for one, other in zip(clipped, env.step(big), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_is_refused_and_changes_nothing(
    env: BatchEnv, value: float
) -> None:
    env.reset()
    state = env.batch.state.copy()
    action = actions(env, 1)[0]
    action[2, 1, 0] = value
    with pytest.raises(ValueError, match=r"slots \[2\]"):
        env.step(action)
    np.testing.assert_array_equal(env.batch.state, state)
    assert not env.diverged.any()
    env.step(actions(env, 1)[0])


def test_wrong_shapes_are_refused(env: BatchEnv) -> None:
    env.reset()
    for shape in (
        (N, E),
        (N * E, env.action_size),
        (N, E, env.action_size + 1),
        (1, E, env.action_size),
    ):
        with pytest.raises(ValueError, match="shape"):
            env.step(np.zeros(shape))
    for mask in (np.ones(N, bool), np.ones((N, E), int)):
        with pytest.raises(ValueError, match="mask"):
            env.reset(mask)


def test_tasks_of_another_family_and_empty_environments_are_refused(
    env: BatchEnv, family: TaskFamily
) -> None:
    with pytest.raises(ValueError, match="elsewhere"):
        env.set_tasks([replace(task, family="elsewhere") for task in env.tasks])
    with pytest.raises(ValueError, match="slots"):
        env.set_tasks(env.tasks[1:])
    for kwargs in ({"copies": 0}, {"threads": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            BatchEnv(family, env.tasks, **kwargs)
    with pytest.raises(ValueError, match="at least 1"):
        BatchEnv(family, [])


def test_tasks_are_frozen_plain_and_picklable() -> None:
    task = Task(
        "point-goal",
        "id",
        0,
        params={"angle": np.float64(1.0), "radius": 1},
        shift=0.0,
        shift_axis=None,
    )
    assert pickle.loads(pickle.dumps(task)) == task
    assert all(type(value) is float for value in task.params.values())
    with pytest.raises(TypeError):
        task.params["angle"] = 2.0  # type: ignore[index]
