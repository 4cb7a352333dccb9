"""A trajectory depends, bit for bit, only on seed, task, copy, episode and actions."""

from collections.abc import Sequence

import numpy as np
import pytest

from envs import FAMILIES, load_family
from envs.api import Task, TaskFamily
from envs.batch import BatchEnv
from envs.noise import NamedGenerator

STEPS = 12


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> TaskFamily:
    return load_family(request.param)


@pytest.fixture
def tasks(family: TaskFamily) -> tuple[Task, ...]:
    return (*family.split("id"), *family.sample(4, np.random.default_rng(8)))[:4]


def plan(tasks: Sequence[Task], copies: int, size: int, steps: int = STEPS) -> np.ndarray:
    """Actions [T, N, E, A] that depend on task and copy, not on their place in a batch."""
    columns = [
        [
            np.random.default_rng((task.index, copy)).uniform(-1, 1, (steps, size))
            for copy in range(copies)
        ]
        for task in tasks
    ]
    return np.moveaxis(np.array(columns), 2, 0)


def play(env: BatchEnv, episodes: int = 2, steps: int = STEPS) -> np.ndarray:
    """Observations and rewards [episodes, T + 1, N, E, O + 1]; ended episodes are reset at once."""
    actions = plan(env.tasks, env.copies, env.action_size, steps)
    history = []
    for _ in range(episodes):
        obs = env.reset()
        rows = [np.concatenate((obs, np.zeros_like(obs[..., :1])), axis=-1)]
        for action in actions:
            step = env.step(action)
            rows.append(np.concatenate((step.obs, step.reward[..., None]), axis=-1))
            env.reset(step.terminated | step.truncated)
        history.append(rows)
    return np.array(history)


def same(one: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_array_equal(one, other)
    assert np.isfinite(one).all()


def test_the_same_seed_gives_the_same_trajectory_and_another_seed_another(
    family: TaskFamily, tasks: Sequence[Task]
) -> None:
    same(play(BatchEnv(family, tasks, seed=3)), play(BatchEnv(family, tasks, seed=3)))
    assert (
        play(BatchEnv(family, tasks, seed=3))[:, 0] != play(BatchEnv(family, tasks, seed=4))[:, 0]
    ).any()


def test_episodes_copies_and_tasks_start_differently(
    family: TaskFamily, tasks: Sequence[Task]
) -> None:
    starts = play(BatchEnv(family, tasks, copies=3))[:, 0]
    flat = starts.reshape(-1, starts.shape[-1])
    assert len(np.unique(flat, axis=0)) == len(flat)


def test_threads_do_not_matter(family: TaskFamily, tasks: Sequence[Task]) -> None:
    same(
        play(BatchEnv(family, tasks, copies=3, threads=1)),
        play(BatchEnv(family, tasks, copies=3, threads=2)),
    )


def test_neighbours_and_slots_do_not_matter(family: TaskFamily, tasks: Sequence[Task]) -> None:
    together = play(BatchEnv(family, tasks, copies=2))
    reversed_ = play(BatchEnv(family, tasks[::-1], copies=2))
    alone = play(BatchEnv(family, tasks[2:3], copies=2))
    same(together, reversed_[:, :, ::-1])
    same(together[:, :, 2:3], alone)


def test_the_number_of_copies_does_not_matter(family: TaskFamily, tasks: Sequence[Task]) -> None:
    same(
        play(BatchEnv(family, tasks, copies=3))[..., :1, :], play(BatchEnv(family, tasks, copies=1))
    )


def test_the_order_of_resets_does_not_matter(family: TaskFamily, tasks: Sequence[Task]) -> None:
    whole, parts = BatchEnv(family, tasks, copies=2), BatchEnv(family, tasks, copies=2)
    obs = whole.reset()
    for slot in (3, 0, 2, 1):
        mask = np.zeros((4, 2), bool)
        mask[slot] = True
        last = parts.reset(mask)
    same(obs, last)
    np.testing.assert_array_equal(whole.batch.state, parts.batch.state)


def test_a_reset_forgets_the_past(family: TaskFamily, tasks: Sequence[Task]) -> None:
    fresh, used = BatchEnv(family, tasks), BatchEnv(family, tasks)
    fresh.reset()
    play(used, episodes=1, steps=3)  # nothing falls so soon, so both have begun one episode
    same(play(fresh, episodes=1), play(used, episodes=1))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_restored_state_goes_on_bit_by_bit(
    family: TaskFamily, tasks: Sequence[Task], threads: int
) -> None:
    env = BatchEnv(family, tasks, copies=2, seed=5)
    env.reset()
    for action in plan(tasks, 2, env.action_size)[:5]:
        step = env.step(action)
        env.reset(step.terminated)
    state = env.state_dict()
    other = BatchEnv(
        family, family.sample(4, np.random.default_rng(9)), copies=2, threads=threads, seed=6
    )
    other.reset()
    other.load_state_dict(state)
    assert other.tasks == env.tasks
    actions = plan(tasks, 2, env.action_size, steps=4)
    for action in actions:
        step, twin = env.step(action), other.step(action)
        for one, two in zip(step, twin, strict=True):
            np.testing.assert_array_equal(one, two)
        same(env.reset(step.terminated), other.reset(twin.terminated))
    np.testing.assert_array_equal(env.batch.state, other.batch.state)
    same(play(env), play(other))


def test_a_state_is_a_snapshot_of_plain_values(family: TaskFamily, tasks: Sequence[Task]) -> None:
    env = BatchEnv(family, tasks)
    env.reset()
    state = env.state_dict()
    before = state["state"].copy()
    play(env, episodes=1, steps=1)
    np.testing.assert_array_equal(state["state"], before)
    assert {type(value) for value in state.values()} == {int, list, np.ndarray}
    assert {type(value) for row in state["tasks"] for value in row.values()} <= {
        str,
        int,
        float,
        dict,
        type(None),
    }


def test_a_state_of_another_size_is_refused(family: TaskFamily, tasks: Sequence[Task]) -> None:
    state = BatchEnv(family, tasks, copies=2).state_dict()
    with pytest.raises(ValueError, match="does not fit"):
        BatchEnv(family, tasks).load_state_dict(state)


def test_putting_tasks_back_gives_their_trajectories_back(
    family: TaskFamily, tasks: Sequence[Task]
) -> None:
    others = family.sample(4, np.random.default_rng(9))
    env = BatchEnv(family, tasks)
    first = play(env)
    env.set_tasks(others)
    with pytest.raises(ValueError, match="reset"):
        env.step(np.zeros((4, 1, env.action_size)))
    same(play(env), play(BatchEnv(family, others)))
    env.set_tasks(tasks)
    same(play(env), first)


def test_fresh_training_tasks_start_freshly(family: TaskFamily) -> None:
    generator = np.random.default_rng(0)
    tasks, others = family.sample(6, generator), family.sample(6, generator)
    env = BatchEnv(family, tasks)
    first = env.reset()
    env.set_tasks(others)
    # a training law with few tasks may draw the same task again
    changed = [one != other for one, other in zip(tasks, others, strict=True)]
    assert any(changed) and (env.reset() != first)[changed].any(axis=-1).all()


def test_a_named_stream_does_not_depend_on_what_was_drawn_before() -> None:
    streams = NamedGenerator()
    one = streams("one").random(3)
    streams("two").integers(0, 2**20, 5, dtype=np.uint32)  # leaves half a word in the buffer
    streams("two").standard_normal(3)
    np.testing.assert_array_equal(streams("one").random(3), one)
    assert (streams("two").random(3) != one).all()
