"""Which task a named environment has: a frozen one, the user's own, or training-law draws."""

import json
from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from envs import FAMILIES, load_family
from envs.api import TaskFamily
from envs.batch import BatchEnv
from envs.gym import TaskEnv


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> TaskFamily:
    return load_family(request.param)


@pytest.fixture
def name(family: TaskFamily) -> str:
    return f"apb/{family.id}-v{family.version}"


def test_a_split_gives_its_tasks_and_info_tells_them_in_full(name: str, family: TaskFamily) -> None:
    for split in family.splits():
        for index, task in enumerate(family.split(split)):
            env = gymnasium.make(name, split=split, index=index)
            _, info = env.reset()
            assert env.unwrapped.task == task
            assert info == {"task": {"params": dict(task.params), "shift": task.shift}}
            assert env.step(env.action_space.sample())[4] == info
            json.dumps(info)


def test_what_a_caller_writes_into_an_info_stays_there(name: str) -> None:
    env = gymnasium.make(name, split="id")
    _, info = env.reset(seed=0)
    expected = json.dumps(info)
    info["task"]["params"].clear()
    assert json.dumps(env.step(env.action_space.sample())[4]) == expected


def test_a_seed_draws_a_training_task_and_a_reset_without_one_keeps_it(name: str) -> None:
    env = gymnasium.make(name)
    one, _ = env.reset(seed=1)
    task = env.unwrapped.task
    assert (task.split, task.index, task.shift) == ("train", 0, 0)
    another, _ = env.reset()
    assert env.unwrapped.task == task and (another != one).any()
    np.testing.assert_array_equal(env.reset(seed=1)[0], one)
    assert env.unwrapped.task == task
    drawn = [env.reset(seed=seed)[1] and env.unwrapped.task.params for seed in range(8)]
    assert any(params != drawn[0] for params in drawn)


def test_a_new_task_is_drawn_on_demand_by_the_generator_of_the_seed(
    name: str, family: TaskFamily
) -> None:
    env = gymnasium.make(name)
    env.reset(seed=2)
    generator = np.random.default_rng(2)
    for index in range(4):
        assert env.unwrapped.task == replace(family.sample(1, generator)[0], index=index)
        env.reset()
        env.reset(options={"new_task": False})
        assert env.unwrapped.task.index == index
        env.reset(options={"new_task": True})


def test_without_a_seed_environments_differ() -> None:
    one, two = (gymnasium.make("apb/cheetah-vel-v1") for _ in range(2))
    assert one.unwrapped.task != two.unwrapped.task
    assert (one.reset()[0] != two.reset()[0]).any()


def test_a_task_of_ones_own(name: str, family: TaskFamily) -> None:
    params = dict(family.split("id")[1].params)
    env = gymnasium.make(name, params=params)
    _, info = env.reset(seed=0)
    assert info["task"] == {"params": params, "shift": None}
    batch = BatchEnv(family, [env.unwrapped.task], seed=0)
    batch.reset()
    action = np.full(family.action_size, 0.5)
    np.testing.assert_array_equal(env.step(action)[0], batch.step(action[None, None]).obs[0, 0])
    for wrong in (
        dict.fromkeys(params, np.nan),
        {},
        params | {"colour": 1.0},
        dict.fromkeys(params, "1.0"),
    ):
        with pytest.raises(ValueError, match=next(iter(params))):
            gymnasium.make(name, params=wrong)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"split": "ood", "index": 4}, r"'ood' of cheetah-vel has tasks 0 to 3, got \[4\]"),
        ({"split": "ood", "index": -1}, r"tasks 0 to 3, got \[-1\]"),
        ({"split": "ood", "index": 1.5}, r"tasks 0 to 3, got \[1.5\]"),
        ({"split": "none"}, "it has id, ood"),
        ({"index": 1}, "needs a split: id, ood"),
        ({"split": "id", "params": {"target_speed": 1.0}}, "not both"),
        ({"render_mode": "depth_array"}, r"one of \['rgb_array'\], got 'depth_array'"),
    ],
)
def test_what_does_not_exist_is_refused(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskEnv("cheetah-vel", **kwargs)


def test_a_fixed_task_stays(name: str, family: TaskFamily) -> None:
    for env in (
        gymnasium.make(name, split="id"),
        gymnasium.make(name, params=dict(family.split("id")[0].params)),
    ):
        before = env.unwrapped.task
        env.reset(seed=1)
        assert env.unwrapped.task is before
        for seed in (None, 1):
            with pytest.raises(ValueError, match="fixed"):
                env.reset(seed=seed, options={"new_task": True})
