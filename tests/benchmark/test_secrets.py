"""What a method's environments reveal of their tasks, and how training tasks are drawn."""

import numpy as np
import pytest

from benchmark.pool import TaskPool
from benchmark.seeding import Streams
from envs.point import PointGoal

FAMILY = PointGoal()
TASKS = FAMILY.split("ood")[:3]
N = len(TASKS)


def pool(**changes):
    return TaskPool(FAMILY, TASKS, Streams(0, "test"), **changes)


class TestSecrets:
    def test_a_method_is_told_sizes_and_nothing_of_the_task(self):
        env = pool().make_env()
        public = {name for name in dir(env) if not name.startswith("_")}
        assert public == {
            "n_tasks",
            "copies",
            "horizon",
            "observation_size",
            "action_size",
            "reset",
            "step",
            "draw",
        }

    def test_environments_differ_in_their_reset_noise(self):
        of = pool()
        assert not np.array_equal(of.make_env().reset(), of.make_env().reset())
        np.testing.assert_array_equal(pool().make_env().reset(), pool().make_env().reset())


class TestDraw:
    def drawing(self, seed=1):
        generator = np.random.default_rng(seed)
        return pool(allowed=10_000, pooled=True, draw=lambda: FAMILY.sample(N, generator))

    def rewards(self, env):
        env.reset()
        return env.step(np.zeros((N, 1, 2))).reward

    def test_every_slot_gets_a_fresh_task(self):
        env = self.drawing().make_env()
        before = self.rewards(env)
        env.draw()
        assert (np.abs(self.rewards(env) - before) > 1e-3).all()

    def test_a_full_reset_must_follow(self):
        env = self.drawing().make_env()
        self.rewards(env)
        env.draw()
        with pytest.raises(ValueError, match="reset"):
            env.step(np.zeros((N, 1, 2)))

    def test_adaptation_has_none(self):
        with pytest.raises(RuntimeError, match="only in meta-training"):
            pool().make_env().draw()

    def test_part_of_the_tasks_has_none(self):
        with pytest.raises(RuntimeError, match="all its tasks"):
            self.drawing().make_env(task_ids=(0,)).draw()
