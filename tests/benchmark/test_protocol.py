"""Checkpoints and counted steps: a method's budget, its evaluations, and what it is not told."""

import numpy as np
import pytest

from benchmark.pool import BudgetError, TaskPool
from benchmark.protocol import Evaluation, adapt, checkpoints
from benchmark.seeding import Streams
from envs.point import PointGoal

FAMILY = PointGoal()
TASKS = FAMILY.split("ood")[:3]
N, H = len(TASKS), FAMILY.horizon


class Fenced(PointGoal):
    """Ends an episode 0.5 m from the origin."""

    def terminated(self, qpos, qvel):
        return np.hypot(qpos[:, 0], qpos[:, 1]) > 0.5


class Player:
    """Plays at random in the environments it is given, and sums up the rewards it sees."""

    updates = 0

    def __init__(self, *envs):
        self.envs, self.generator = envs, np.random.default_rng(0)
        self.totals, self.finished = [env.reset().sum(-1) * 0.0 for env in envs], []

    def once(self, i):
        env, total = self.envs[i], self.totals[i]
        step = env.step(
            self.generator.uniform(-0.3, 1.0, (env.n_tasks, env.copies, env.action_size))
        )
        total += step.reward
        ended = step.terminated | step.truncated
        self.finished += [(i, n, total[n, e]) for n, e in np.argwhere(ended)]
        total[ended] = 0.0
        if ended.any():
            env.reset(ended)

    def step(self, limit):
        for _ in range(limit // self.envs[0].copies):
            self.once(0)

    def policy(self, generator):
        return generator


def pool(family=FAMILY, allowed=0, **changes):
    return TaskPool(family, TASKS, Streams(0, "test"), allowed=allowed, **changes)


def evaluate(policy):
    """Return zeros without evaluating anything."""
    return Evaluation(np.zeros((N, 1)), np.zeros((N, 1)), np.zeros((N, 1), bool), np.zeros(N, bool))


def run(adapter, of, budget):
    return list(adapt(adapter, of, evaluate, Streams(0), budget))


class TestCheckpoints:
    @pytest.mark.parametrize(
        ("horizon", "budget", "expected"),
        [
            (50, 3000, (0, 50, 100, 250, 500, 1000, 2500, 3000)),
            (200, 100_000, (0, 200, 400, 1000, 2000, 4000, 10_000, 20_000, 40_000, 100_000)),
            (50, 200, (0, 50, 100, 200)),
            (200, 200, (0, 200)),
            (200, 120, (0, 120)),
            (1, 1, (0, 1)),
        ],
    )
    def test_ladder(self, horizon, budget, expected):
        assert checkpoints(horizon, budget) == expected

    def test_a_method_stops_at_each(self):
        of = pool()
        found = run(Player(of.make_env()), of, 320)
        assert [point.used for point in found] == [0, 50, 100, 250, 320]

    def test_a_policy_that_draws_has_other_draws_at_each(self):
        drawn = []

        class Draws(Player):
            def policy(self, generator):
                drawn.append(generator.uniform())

        for _ in range(2):
            of = pool()
            run(Draws(of.make_env()), of, 320)
        assert len({*drawn[:5]}) == 5
        assert drawn[:5] == drawn[5:]  # the same in every run

    def test_steps_are_allowed_up_to_the_next_only(self):
        of, seen = pool(), []

        class Asks(Player):
            def step(self, limit):
                seen.append((limit, of.allowed))
                super().step(min(limit, 30))

        run(Asks(of.make_env()), of, 120)
        assert seen == [(50, 50), (20, 50), (50, 100), (20, 100), (20, 120)]


class TestBudget:
    @pytest.mark.parametrize("copies", [1, 3])
    def test_no_task_gets_a_step_too_many(self, copies):
        of = pool(allowed=10)
        env = of.make_env(copies)
        player = Player(env)
        for _ in range(10 // copies):
            player.once(0)
        before = of.used.copy()
        with pytest.raises(
            BudgetError, match=f"step {before[0] + copies} of a task and may use 10"
        ):
            player.once(0)
        np.testing.assert_array_equal(of.used, before)

    def test_environments_of_one_stage_share_it(self):
        of = pool(allowed=5)
        player = Player(of.make_env(), of.make_env(2, task_ids=(2, 0)))
        player.once(0)
        player.once(1)
        player.once(1)
        np.testing.assert_array_equal(of.used, [5, 1, 5])
        with pytest.raises(BudgetError):
            player.once(0)

    @pytest.mark.parametrize("ids", [(0, 0), (0, N), (-1,), (0, -N)])
    def test_a_task_cannot_be_had_twice(self, ids):
        with pytest.raises(ValueError, match="different numbers from 0 to 2"):
            pool().make_env(1, ids)

    def test_meta_training_shares_one_sum(self):
        told = []
        of = pool(allowed=10, pooled=True, progress=told.append)
        player = Player(of.make_env(), of.make_env(2, task_ids=(1,)))
        for i in (0, 1, 0, 1):
            player.once(i)
        assert told == [3, 5, 8, 10]
        np.testing.assert_array_equal(of.used, [2, 6, 2])
        with pytest.raises(BudgetError, match="step 12 in all and may use 10"):
            player.once(1)

    def test_progress_is_the_task_furthest_on(self):
        told = []
        of = pool(allowed=10, progress=told.append)
        player = Player(of.make_env(task_ids=(1,)), of.make_env(task_ids=(0,)), of.make_env())
        for i in (0, 0, 1, 2):
            player.once(i)
        assert told == [1, 2, 2, 3]

    def test_nothing_is_learned_before_the_first_evaluation(self):
        of = pool()
        with pytest.raises(BudgetError):
            Player(of.make_env()).once(0)

    def test_a_greedy_adapter_is_stopped_at_the_checkpoint(self):
        class Greedy(Player):
            def step(self, limit):
                super().step(limit + 1)

        of, found = pool(), []
        with pytest.raises(BudgetError, match="environment step 51 of a task and may use 50"):
            found.extend(
                point.used for point in adapt(Greedy(of.make_env()), of, evaluate, Streams(0), 200)
            )
        assert of.used.max() == 50


class Lazy(Player):
    """Uses `total` steps and no more."""

    def __init__(self, total, *envs):
        super().__init__(*envs)
        self.left = total

    def step(self, limit):
        super().step(min(limit, self.left))
        self.left -= min(limit, self.left)


class TestFrozen:
    @pytest.mark.parametrize(
        ("total", "expected"),
        [(0, [0]), (50, [0, 50]), (70, [0, 50, 70]), (250, [0, 50, 100, 250]), (1, [0, 1])],
    )
    def test_a_method_that_stops_is_evaluated_once_where_it_stopped(self, total, expected):
        of = pool()
        assert [point.used for point in run(Lazy(total, of.make_env()), of, 1000)] == expected

    def test_tasks_advance_together(self):
        of = pool()
        with pytest.raises(
            BudgetError, match=r"every test task .* same number of steps, got \[50, 0, 0\]"
        ):
            run(Player(of.make_env(task_ids=(0,))), of, 1000)


class TestOnlineReturn:
    @pytest.mark.parametrize("copies", [1, 2])
    def test_mean_of_the_episodes_finished_since_the_last_checkpoint(self, copies):
        family = Fenced()
        of = pool(family)
        player, seen, lengths = Player(of.make_env(copies)), [], set()
        for point in adapt(player, of, evaluate, Streams(0), 350):
            means = [[total for _, task, total in player.finished if task == n] for n in range(N)]
            seen.append(
                (
                    point.online_returns,
                    [float(np.mean(totals)) if totals else None for totals in means],
                )
            )
            lengths.add(len(player.finished))
            player.finished.clear()
        assert len(seen) == 5
        assert len(lengths) > 2, "episodes should be of different lengths"
        assert seen[0][0] == [None] * N
        for ours, naive in seen:
            assert [value is None for value in ours] == [value is None for value in naive]
            np.testing.assert_allclose(
                [v for v in ours if v is not None], [v for v in naive if v is not None], rtol=1e-6
            )

    def test_an_episode_that_was_given_up_is_not_one(self):
        of = pool(allowed=1000)
        env = of.make_env()
        action = np.zeros((N, 1, 2))
        env.reset()
        for _ in range(10):
            env.step(action)
        env.reset()
        rewards = [env.step(action).reward[:, 0] for _ in range(H)]
        np.testing.assert_allclose(of.online_returns(), np.sum(rewards, 0), rtol=1e-6)
        assert of.online_returns() == [None] * N
