"""Gymnasium interface of one task: registration, `check_env`, parity with BatchEnv, endings."""

import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs.gym
from envs import FAMILIES, load_family
from envs.api import TaskFamily
from envs.batch import BatchEnv
from envs.gym import register_family
from envs.point import PointGoal

INFINITE = {
    "A Box observation space minimum value is -infinity",
    "A Box observation space maximum value is infinity",
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> TaskFamily:
    return load_family(request.param)


@pytest.fixture
def name(family: TaskFamily) -> str:
    return f"apb/{family.id}-v{family.version}"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A family registered late: its law has one task, and `ends` alone decides termination."""

    class Stub(PointGoal):
        id = "late-goal"
        version = 7
        ends = False

        def sample(self, n, generator):
            return tuple(
                replace(task, family=self.id)
                for task in super().sample(n, np.random.default_rng(0))
            )

        def terminated(self, qpos, qvel):
            return np.full(len(qpos), self.ends)

    monkeypatch.setattr(envs.gym, "Stub", Stub, raising=False)
    monkeypatch.setitem(FAMILIES, Stub.id, "envs.gym:Stub")
    yield register_family(Stub.id)
    del gymnasium.registry["apb/late-goal-v7"]


def actions(env: gymnasium.Env, steps: int) -> np.ndarray:
    return (
        np.random.default_rng(0).uniform(-1, 1, (steps, *env.action_space.shape)).astype(np.float32)
    )


def play(env: gymnasium.Env, steps: int = 25) -> list[tuple]:
    """(observation, reward, terminated, truncated) per step, and the observation of each reset."""
    rows = []
    for action in actions(env, steps):
        *row, _ = env.step(action)
        rows.append(tuple(row))
        if row[2] or row[3]:
            rows.append(env.reset()[0])
    return rows


def same(one: list, other: list) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        assert not isinstance(a, tuple) or a[1:] == b[1:]


# --- registration ---------------------------------------------------------------------------------


def test_a_fresh_interpreter_finds_a_task_by_name(tmp_path: Path) -> None:
    root = str(Path(envs.__file__).parents[1])
    code = (
        f"import sys; sys.path.insert(0, {root!r}); import gymnasium; env ="
        " gymnasium.make('envs.gym:apb/cheetah-vel-v1', split='ood', index=2);"
        " print(env.unwrapped.task.params['target_speed'], sum(name.startswith('apb/') for name in"
        " gymnasium.registry))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (done.stdout.split(), done.stderr) == (["3.5", str(len(FAMILIES))], "")


def test_every_family_is_registered_and_its_horizon_is_not(name: str, family: TaskFamily) -> None:
    spec = gymnasium.spec(name)
    assert (spec.namespace, spec.name, spec.version, spec.max_episode_steps) == (
        "apb",
        family.id,
        family.version,
        None,
    )


def test_a_family_can_be_registered_later(stub: str) -> None:
    assert stub == "apb/late-goal-v7"
    assert gymnasium.make(stub).unwrapped.task.family == "late-goal"
    with pytest.raises(KeyError, match="nowhere"):
        register_family("nowhere")


@pytest.mark.parametrize("kind", ["training", "id", "own"])
def test_check_env_has_nothing_to_say_but_that_bounds_are_infinite(
    name: str, family: TaskFamily, kind: str
) -> None:
    whose = {
        "training": {},
        "id": {"split": "id"},
        "own": {"params": dict(family.split("id")[0].params)},
    }
    env = gymnasium.make(name, **whose[kind]).unwrapped
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        check_env(env, skip_render_check=True)  # pictures have tests of their own
    messages = [str(warning.message) for warning in seen]
    assert len(messages) == 2
    assert all(any(text in message for message in messages) for text in INFINITE), messages


def test_spaces_and_types(name: str, family: TaskFamily) -> None:
    env = gymnasium.make(name)
    assert env.observation_space == gymnasium.spaces.Box(
        -np.inf, np.inf, (family.observation_size,), np.float32
    )
    assert env.action_space == gymnasium.spaces.Box(-1, 1, (family.action_size,), np.float32)
    obs, _ = env.reset(seed=0)
    later, reward, terminated, truncated, _ = env.step(env.action_space.sample())
    assert obs in env.observation_space and later in env.observation_space
    assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)


# --- sameness -------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [None, "id"])
def test_a_seed_gives_the_trajectory_of_batch_env_bit_by_bit(
    name: str, family: TaskFamily, split: str | None
) -> None:
    env = gymnasium.make(name, split=split)
    for seed in (4, 3):
        tasks = family.split("id")[:1] if split else family.sample(1, np.random.default_rng(seed))
        batch = BatchEnv(family, tasks, seed=seed)
        np.testing.assert_array_equal(env.reset(seed=seed)[0], batch.reset()[0, 0])
        assert env.unwrapped.task == tasks[0]
        for action in actions(env, 25):
            *row, _ = env.step(action)
            step = batch.step(action[None, None])
            for ours, theirs in zip(row, step, strict=True):
                np.testing.assert_array_equal(ours, theirs[0, 0])
            if row[2] or row[3]:
                np.testing.assert_array_equal(env.reset()[0], batch.reset()[0, 0])


def test_the_spec_makes_the_environment_again(name: str) -> None:
    env = gymnasium.make(name, split="id", index=1)
    text = env.spec.to_json()
    for again in (
        gymnasium.make(env.spec),
        gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(text)),
    ):
        assert again.unwrapped.task == env.unwrapped.task
        np.testing.assert_array_equal(env.reset(seed=5)[0], again.reset(seed=5)[0])
        same(play(env), play(again))


# --- tasks and ends -------------------------------------------------------------------------------


def test_a_task_drawn_twice_does_not_start_twice_in_the_same_way(stub: str) -> None:
    env = gymnasium.make(stub)
    first, _ = env.reset(seed=0)
    params = env.unwrapped.task.params
    again, _ = env.reset(options={"new_task": True})
    assert env.unwrapped.task.params == params and (again != first).any()


def test_the_clock_truncates_and_an_ended_episode_must_be_reset(stub: str) -> None:
    env = gymnasium.make(stub, disable_env_checker=True)
    env.reset()
    ends = [env.step(np.zeros(2))[2:4] for _ in range(50)]
    assert ends == [(False, False)] * 49 + [(False, True)]
    with pytest.raises(ValueError, match="reset"):
        env.step(np.zeros(2))
    env.reset()
    env.step(np.zeros(2))


def test_what_the_body_ends_is_terminated(stub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    env = gymnasium.make(stub)
    env.reset()
    monkeypatch.setattr(env.unwrapped.batch_env.family, "ends", True)
    assert env.step(env.action_space.sample())[2:4] == (True, False)


def test_wrong_actions_are_refused(name: str, family: TaskFamily) -> None:
    env = gymnasium.make(name).unwrapped
    env.reset(seed=0)
    for shape in ((), (family.action_size + 1,), (1, family.action_size)):
        with pytest.raises(ValueError, match="shape"):
            env.step(np.zeros(shape))
    with pytest.raises(ValueError, match="finite"):
        env.step(np.full(family.action_size, np.nan))


def test_closing_twice_does_no_harm(name: str) -> None:
    env = gymnasium.make(name)
    env.reset(seed=0)
    env.close()
    env.close()
    # the renderer is gone, the simulation is not
    assert env.unwrapped._pictures is None
    assert env.unwrapped.step(np.zeros(env.action_space.shape))[2] is False
