"""Evaluation: ten episodes from fixed starts, checked one at a time, separate from learning."""

import mujoco
import numpy as np
import pytest

from benchmark.pool import TaskPool
from benchmark.protocol import EPISODES, Evaluator, adapt
from benchmark.seeding import Streams
from envs.batch import BatchEnv
from envs.model import load_model
from envs.point import PointGoal, PointRand

STREAMS = Streams(4, "adapt", "point-goal", "ood")


class Fenced(PointGoal):
    """Ends episodes 0.6 m from the origin: some copies early, some at the last step, some never."""

    def terminated(self, qpos, qvel):
        return np.hypot(qpos[:, 0], qpos[:, 1]) > 0.6


class Linear:
    """Acts with a = K·s + k, coming to rest at a point per task; records what it is shown."""

    def __init__(self, n_tasks, seed=0):
        generator = np.random.default_rng(seed)
        self.gain = np.tile(np.eye(4, 2, dtype=np.float32) * -0.5, (n_tasks, 1, 1))
        self.bias = generator.normal(0.0, 0.4, (n_tasks, 1, 2)).astype(np.float32)
        self.seen, self.resets, self.steps = [], [], []

    def reset(self, mask):
        self.resets.append(mask.copy())

    def act(self, obs):
        self.seen.append(obs.copy())
        return obs @ self.gain + self.bias

    def observe(self, step):
        self.steps.append(step)


class Spoiled(Linear):
    """Acts with NaN in one copy of one task, from one step on."""

    def __init__(self, *arguments, task, copy, at):
        super().__init__(*arguments)
        self.place, self.at = (task, copy), at

    def act(self, obs):
        action = super().act(obs)
        if len(self.seen) > self.at:
            action[self.place] = np.nan
        return action


class Vandal(Linear):
    """Overwrites whatever it is shown."""

    def observe(self, step):
        step.reward[:], step.terminated[:], step.truncated[:] = 1e6, True, True


def alone(family, task, qpos, gain, bias):
    """One episode in a simulation of its own, step by step: (return, length, terminated)."""
    model = load_model(family.xml())
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_forward(model, data)
    total, params = 0.0, {name: np.array([value]) for name, value in task.params.items()}
    for length in range(1, family.horizon + 1):
        obs = family.observe(data.qpos[None], data.qvel[None], {}).astype(np.float32)
        data.ctrl[:] = np.clip(obs @ gain + bias, -1.0, 1.0)[0]
        before = data.qpos.copy()
        for _ in range(family.frame_skip):
            mujoco.mj_step(model, data)
        total += float(
            family.reward(before[None], data.qpos[None], data.qvel[None], data.ctrl[None], params)[
                0
            ]
        )
        if family.terminated(data.qpos[None], data.qvel[None])[0]:
            return total, length, True
    return total, family.horizon, False


@pytest.mark.parametrize("family", [PointGoal(), Fenced()])
def test_equal_to_one_simulation_at_a_time(family):
    tasks = family.split("ood")
    policy = Linear(len(tasks))
    found = Evaluator(family, tasks, STREAMS, threads=2)(policy)
    starts = policy.seen[0][..., :2]
    naive = [
        [alone(family, task, starts[n, e], policy.gain[n], policy.bias[n]) for e in range(EPISODES)]
        for n, task in enumerate(tasks)
    ]
    returns, lengths, terminated = np.moveaxis(np.array(naive, np.float64), -1, 0)
    np.testing.assert_allclose(found.returns, returns, rtol=1e-4)
    np.testing.assert_array_equal(found.lengths, lengths)
    np.testing.assert_array_equal(found.terminated, terminated.astype(bool))
    assert not found.diverged.any()
    assert terminated.any() == isinstance(family, Fenced)
    assert len(set(lengths.ravel())) > 5 or not terminated.any()
    assert not terminated.all()


def test_a_time_out_is_not_a_termination():
    found = Evaluator(PointGoal(), PointGoal().split("ood"), STREAMS)(Linear(8))
    assert not found.terminated.any()
    assert (found.lengths == PointGoal.horizon).all()


def test_an_episode_that_terminates_at_the_last_step_terminated():
    class Late(PointGoal):
        clock = 0

        def terminated(self, qpos, qvel):
            self.clock += 1
            return np.full(len(qpos), self.clock % self.horizon == 0)

    found = Evaluator(Late(), PointGoal().split("ood"), STREAMS)(Linear(8))
    assert found.terminated.all()
    assert (found.lengths == PointGoal.horizon).all()


def test_the_same_ten_starts_for_every_policy_every_time():
    tasks = PointGoal().split("ood")
    one, again, other = Linear(8, seed=0), Linear(8, seed=0), Linear(8, seed=1)
    evaluate = Evaluator(PointGoal(), tasks, STREAMS)
    first, between, second = evaluate(one), evaluate(other), evaluate(again)
    fresh = Evaluator(PointGoal(), tasks, Streams(4, "adapt", "point-goal", "ood"), threads=2)(
        Linear(8, seed=0)
    )
    np.testing.assert_array_equal(one.seen[0], other.seen[0])
    for repeated in (second, fresh):
        np.testing.assert_array_equal(first.returns, repeated.returns)
    assert not np.array_equal(first.returns, between.returns)
    assert len({tuple(start) for start in one.seen[0].reshape(-1, 4).tolist()}) == 8 * EPISODES
    another_seed = Linear(8)
    Evaluator(PointGoal(), tasks, Streams(5, "adapt", "point-goal", "ood"))(another_seed)
    assert not np.array_equal(another_seed.seen[0], one.seen[0])


def test_a_policy_is_reset_once_and_sees_every_step():
    policy = Linear(8)
    Evaluator(PointGoal(), PointGoal().split("ood"), STREAMS)(policy)
    assert [mask.all() for mask in policy.resets] == [True]
    assert len(policy.steps) == len(policy.seen) == PointGoal.horizon
    for step, obs in zip(policy.steps, policy.seen[1:], strict=False):
        np.testing.assert_array_equal(step.obs, obs)


@pytest.mark.parametrize(("task", "copy", "at"), [(1, 3, 0), (5, 9, 20), (0, 0, 49)])
def test_numbers_that_are_not_finite_mark_their_task_and_no_other(task, copy, at):
    tasks = PointRand().split("ood")[:6]
    sound = Evaluator(PointRand(), tasks, STREAMS)(Linear(6))
    spoiled = Evaluator(PointRand(), tasks, STREAMS)(Spoiled(6, task=task, copy=copy, at=at))
    np.testing.assert_array_equal(spoiled.diverged, np.arange(6) == task)
    assert not sound.diverged.any()
    touched = np.zeros((6, EPISODES), bool)
    touched[task, copy] = True
    np.testing.assert_array_equal(spoiled.returns[~touched], sound.returns[~touched])
    assert np.isfinite(spoiled.returns).all()


def test_what_happens_after_an_episode_is_over_does_not_count():
    tasks = Fenced().split("ood")
    sound = Evaluator(Fenced(), tasks, STREAMS)(Linear(8))
    task, copy = np.argwhere(sound.terminated & (sound.lengths < 40))[0]
    late = Spoiled(8, task=task, copy=copy, at=int(sound.lengths[task, copy]))
    spoiled = Evaluator(Fenced(), tasks, STREAMS)(late)
    np.testing.assert_array_equal(spoiled.returns, sound.returns)
    assert len(late.seen) > late.at, "the policy should have acted after its episode had ended"
    assert not spoiled.diverged.any()


def test_a_policy_cannot_write_its_own_score():
    tasks = PointGoal().split("ood")
    sound, moved = (Evaluator(PointGoal(), tasks, STREAMS)(kind(8)) for kind in (Linear, Vandal))
    np.testing.assert_array_equal(sound.returns, moved.returns)
    np.testing.assert_array_equal(sound.lengths, moved.lengths)


class Wanderer:
    """Acts at random for as long as it may, and keeps all its observations."""

    updates = 0

    def __init__(self, env):
        self.env, self.generator, self.seen = env, np.random.default_rng(0), [env.reset()]

    def step(self, limit):
        for _ in range(limit):
            step = self.env.step(self.generator.uniform(-1.0, 1.0, (self.env.n_tasks, 1, 2)))
            ended = step.terminated | step.truncated
            self.seen.append(self.env.reset(ended) if ended.any() else step.obs)

    def policy(self, generator):
        return Linear(8)


def test_evaluation_is_not_charged_and_moves_nothing():
    tasks = PointGoal().split("ood")
    real = Evaluator(PointGoal(), tasks, STREAMS)
    nothing = real(Linear(8))
    seen = []
    for evaluate in (real, lambda policy: nothing):
        pool = TaskPool(PointGoal(), tasks, STREAMS)
        wanderer = Wanderer(pool.make_env())
        assert [point.used for point in adapt(wanderer, pool, evaluate, STREAMS, 120)] == [
            0,
            50,
            100,
            120,
        ]
        seen.append(np.array(wanderer.seen))
    np.testing.assert_array_equal(*seen)


def test_adaptation_marks_a_task_whose_actions_are_not_finite():
    tasks = PointGoal().split("ood")[:3]
    pool = TaskPool(PointGoal(), tasks, STREAMS, allowed=100)
    env, sound = pool.make_env(2), BatchEnv(PointGoal(), tasks, 2, 1, STREAMS.integer("env0"))
    action = np.full((3, 2, 2), 0.5)
    bad = action.copy()
    bad[1, 0, 0] = np.inf
    np.testing.assert_array_equal(env.reset(), sound.reset())
    step, expected = env.step(bad), sound.step(action)
    np.testing.assert_array_equal(pool.not_finite, [False, True, False])
    untouched = np.array([[True, True], [False, True], [True, True]])
    np.testing.assert_array_equal(step.reward[untouched], expected.reward[untouched])
    assert np.isfinite(step.reward).all()
