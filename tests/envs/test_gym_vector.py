"""Gymnasium interface of many tasks: parity with BatchEnv, masked resets, wrappers."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

from envs import FAMILIES, load_family
from envs.api import TaskFamily
from envs.batch import BatchEnv
from envs.gym_vector import TaskVectorEnv

N = 2


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> TaskFamily:
    return load_family(request.param)


@pytest.fixture
def name(family: TaskFamily) -> str:
    return f"envs.gym:apb/{family.id}-v{family.version}"


@pytest.fixture
def points() -> gymnasium.vector.VectorEnv:
    """Three goals, whose episodes end only by the horizon of 50 steps."""
    return gymnasium.make_vec("envs.gym:apb/point-goal-v1", num_envs=3, split="gap")


def actions(env: gymnasium.vector.VectorEnv, steps: int) -> np.ndarray:
    return (
        np.random.default_rng(0).uniform(-1, 1, (steps, *env.action_space.shape)).astype(np.float32)
    )


def test_it_is_what_gymnasium_expects(name: str, family: TaskFamily) -> None:
    env = gymnasium.make_vec(name, num_envs=3, vectorization_mode="vector_entry_point")
    single = gymnasium.make(name)
    assert isinstance(env, TaskVectorEnv) and env.num_envs == 3
    assert (env.single_observation_space, env.single_action_space) == (
        single.observation_space,
        single.action_space,
    )
    assert (env.observation_space.shape, env.action_space.shape) == (
        (3, family.observation_size),
        (3, family.action_size),
    )
    assert env.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert env.metadata["render_modes"] == ["rgb_array"]
    obs, _ = env.reset(seed=0)
    later, *arrays, _ = env.step(env.action_space.sample())
    assert obs in env.observation_space and later in env.observation_space
    assert [array.dtype for array in arrays] == [np.float64, bool, bool]
    assert {array.shape for array in arrays} == {(3,)}


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"threads": 2}, {"split": "id"}, {"split": "id", "indices": [1, 0]}, {"copies": N}],
)
def test_a_seed_gives_the_trajectories_of_batch_env_bit_by_bit(
    name: str, family: TaskFamily, kwargs: dict
) -> None:
    copies = kwargs.get("copies", 1)
    env = gymnasium.make_vec(name, num_envs=N * copies, **kwargs)
    for seed in (4, 3):
        frozen = [family.split("id")[i] for i in kwargs.get("indices", range(N))]
        tasks = frozen if "split" in kwargs else family.sample(N, np.random.default_rng(seed))
        batch = BatchEnv(family, tasks, copies, seed=seed)
        np.testing.assert_array_equal(
            env.reset(seed=seed)[0], batch.reset().reshape(N * copies, -1)
        )
        assert env.tasks == tuple(tasks)
        for action in actions(env, 25):
            *parts, _ = env.step(action)
            step = batch.step(action.reshape(N, copies, -1))
            for ours, theirs in zip(parts, step, strict=True):
                np.testing.assert_array_equal(ours, theirs.reshape(ours.shape))
            mask = parts[2] | parts[3]
            np.testing.assert_array_equal(
                env.reset(options={"reset_mask": mask})[0].ravel(),
                batch.reset(mask.reshape(N, -1)).ravel(),
            )


def test_info_tells_every_sub_environment_its_task(name: str, family: TaskFamily) -> None:
    env = DictInfoToList(gymnasium.make_vec(name, num_envs=2 * N, split="id", copies=2))
    _, infos = env.reset(seed=0)
    tasks = [task for task in family.split("id")[:N] for _ in range(2)]
    assert infos == [{"task": {"params": dict(task.params), "shift": task.shift}} for task in tasks]
    infos[0]["task"]["params"].clear()
    assert env.step(env.action_space.sample())[4][0] == infos[1] == env.reset()[1][0]


def test_infos_share_no_memory(points: gymnasium.vector.VectorEnv) -> None:
    _, infos = points.reset()
    expected = infos["task"]["params"]["angle"].copy()
    infos["task"]["params"]["angle"][:] = 0
    np.testing.assert_array_equal(
        points.step(actions(points, 1)[0])[4]["task"]["params"]["angle"], expected
    )


def test_new_tasks_are_drawn_on_demand(name: str, family: TaskFamily) -> None:
    env = gymnasium.make_vec(name, num_envs=3)
    env.reset(seed=2)
    generator = np.random.default_rng(2)
    for index in (0, 3):
        drawn = family.sample(3, generator)
        assert [task.params for task in env.tasks] == [task.params for task in drawn]
        assert [task.index for task in env.tasks] == [index, index + 1, index + 2]
        env.reset()
        _, infos = env.reset(options={"new_task": True})
        for key, values in infos["task"]["params"].items():
            if not key.startswith("_"):
                assert values.tolist() == [task.params[key] for task in env.tasks]


def test_a_mask_resets_where_it_is_true_and_nowhere_else(
    points: gymnasium.vector.VectorEnv,
) -> None:
    points.reset(seed=0)
    before = points.step(actions(points, 1)[0])[0]
    mask = np.array([False, True, False])
    options = {"reset_mask": mask}
    after, _ = points.reset(options=options)
    assert (after != before).any(axis=1).tolist() == mask.tolist()
    assert options == {"reset_mask": mask}  # unchanged, since wrappers read it afterwards
    for wrong in (np.ones(2, bool), np.ones(3, int), np.ones((3, 1), bool)):
        with pytest.raises(ValueError, match=r"must be bool \[3\]"):
            points.reset(options={"reset_mask": wrong})
    with pytest.raises(ValueError, match="leave out reset_mask"):
        points.reset(seed=1, options={"reset_mask": mask})


def test_new_tasks_come_everywhere_or_not_at_all(points: gymnasium.vector.VectorEnv) -> None:
    with pytest.raises(ValueError, match="fixed"):
        points.reset(options={"new_task": True})
    training = gymnasium.make_vec("apb/point-goal-v1", num_envs=2)
    with pytest.raises(ValueError, match="leave out reset_mask"):
        training.reset(options={"new_task": True, "reset_mask": np.ones(2, bool)})


def test_stepping_an_ended_sub_environment_is_refused(points: gymnasium.vector.VectorEnv) -> None:
    points.reset()
    for action in actions(points, 20):
        points.step(action)
    points.reset(options={"reset_mask": np.array([True, False, False])})
    for action in actions(points, 30):
        _, _, terminated, truncated, _ = points.step(action)
    assert truncated.tolist() == [False, True, True] and not terminated.any()
    with pytest.raises(ValueError, match="2 simulations have ended"):
        points.step(actions(points, 1)[0])
    points.reset(options={"reset_mask": truncated})
    points.step(actions(points, 1)[0])


def test_episode_statistics_are_those_of_the_episodes(name: str) -> None:
    env = RecordEpisodeStatistics(gymnasium.make_vec(name, num_envs=N, split="id"))
    env.reset(seed=0)
    returns, lengths, episodes = np.zeros(N), np.zeros(N, int), []
    for action in actions(env, 2 * env.unwrapped.batch_env.horizon):
        _, reward, terminated, truncated, info = env.step(action)
        returns, lengths = returns + reward, lengths + 1
        ended = terminated | truncated
        if not ended.any():
            assert "episode" not in info
            continue
        np.testing.assert_array_equal(info["_episode"], ended)
        np.testing.assert_array_equal(info["episode"]["r"], np.where(ended, returns, 0))
        np.testing.assert_array_equal(info["episode"]["l"], np.where(ended, lengths, 0))
        episodes += lengths[ended].tolist()
        returns, lengths = np.where(ended, 0, returns), np.where(ended, 0, lengths)
        env.reset(options={"reset_mask": ended})
    assert len(episodes) >= 2 * N and list(env.length_queue) == episodes[-100:]


def test_the_spec_makes_the_environment_again(name: str) -> None:
    env = gymnasium.make_vec(name, num_envs=N, split="id", indices=[1, 0])
    again = gymnasium.make_vec(env.spec)
    assert isinstance(again, TaskVectorEnv) and again.tasks == env.tasks
    np.testing.assert_array_equal(env.reset(seed=5)[0], again.reset(seed=5)[0])


def test_gymnasiums_own_vector_env_takes_the_single_one_too() -> None:
    env = gymnasium.make_vec(
        "envs.gym:apb/cheetah-vel-v1", num_envs=2, vectorization_mode="sync", split="ood", index=1
    )
    obs, infos = env.reset(seed=3)
    alone = gymnasium.make("apb/cheetah-vel-v1", split="ood", index=1)
    for i in range(2):
        np.testing.assert_array_equal(alone.reset(seed=3 + i)[0], obs[i])
    assert infos["task"]["shift"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"num_envs": 4, "split": "gap"},
            r"'gap' of point-goal has tasks 0 to 2, got \[0, 1, 2, 3\]",
        ),
        ({"num_envs": 2, "split": "gap", "indices": [0, 3]}, r"tasks 0 to 2, got \[0, 3\]"),
        ({"num_envs": 2, "split": "gap", "indices": [1, 1]}, "2 different task indices"),
        ({"num_envs": 2, "split": "gap", "indices": [1]}, "2 different task indices"),
        ({"num_envs": 2, "indices": [0, 1]}, "of split None"),
        ({"num_envs": 0}, "positive multiple of copies, got 0 and 1"),
        ({"num_envs": 3, "copies": 2}, "positive multiple of copies, got 3 and 2"),
        ({"num_envs": 2, "split": "none"}, "it has id, gap, ood"),
        ({"num_envs": 1, "render_mode": "human"}, "got 'human'"),
    ],
)
def test_what_does_not_exist_is_refused(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskVectorEnv("point-goal", **kwargs)


def test_wrong_actions_are_refused(points: gymnasium.vector.VectorEnv) -> None:
    points.reset()
    for shape in ((2,), (6,), (3, 3), (2, 3), (3, 1, 2)):
        with pytest.raises(ValueError, match="shape"):
            points.step(np.zeros(shape))


def test_closing_twice_does_no_harm(points: gymnasium.vector.VectorEnv) -> None:
    points.close()
    points.close()
    assert points.closed
