"""What the harness does for methods that draw fresh training tasks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.cells import Cell, expand
from benchmark.pool import TaskPool
from benchmark.run import Training, rows_of
from benchmark.seeding import Streams
from benchmark.stage import Stage, perform
from benchmark.suites import BUDGETS, SUITES
from envs.point import PointGoal
from methods import METHODS
from methods.api import Event
from methods.core.policy_gradient import Sampler
from results.store import Store

OUTER_STEP = 4 * 2 * 50 * 2  # tasks × episodes × steps, before and after adaptation
TRIALS = 4 * 2 * 50  # tasks × episodes × steps
FAMILY = PointGoal()


def cell_of(name: str, steps: int) -> Cell:
    cell = expand(
        SUITES["ood"],
        BUDGETS["smoke"],
        {name: METHODS[name]},
        families=["point-goal"],
        seeds=1,
        settings={},
    )[0]
    return replace(cell, train_steps=steps)


def test_tasks_are_counted_as_they_are_seen() -> None:
    generator = np.random.default_rng(0)
    drawn = []

    def draw() -> tuple:
        drawn.append(FAMILY.sample(3, generator))
        return drawn[-1]

    pool = TaskPool(FAMILY, draw(), Streams(0), pooled=True, allowed=100, draw=draw)
    env = pool.make_env()
    env.draw()
    assert pool.n_tasks_seen == 3  # nobody has seen the tasks that were replaced
    for expected in (6, 9):
        env.reset()
        env.step(np.zeros((3, 1, 2), np.float32))
        env.draw()
        assert pool.n_tasks_seen == expected
    assert env._env.tasks == drawn[-1]


def test_a_law_of_two_tasks_has_two_whatever_is_drawn_and_each_draw_has_starts_of_its_own() -> None:
    cell = replace(cell_of("maml", 3 * 4 * 2 * 200 * 2), family="cheetah-dir")
    method, indices = cell.build(), []

    class Draws:
        updates = 0

        def __init__(self, make_env: Any, n_tasks: int, *rest: Any) -> None:
            self.env, self.action = make_env(), np.zeros((n_tasks, 1, 6), np.float32)

        def step(self, limit: int) -> Event:
            if len(indices) == 3 * 4:
                return Event.END
            self.env.draw()
            self.env.reset()
            self.env.step(self.action)
            indices.extend(task.index for task in self.env._env.tasks)
            return Event.ITERATION

    method.trainer = Draws
    assert [row.n_train_tasks for row in rows_of(Training(cell, method))] == [2, 2, 2]
    assert len(set(indices)) == len(indices) == 3 * 4


@pytest.mark.parametrize(("name", "inner_steps"), [("maml", 1), ("cavia", 2), ("maml", 0)])
def test_the_training_curve_is_that_of_adapted_policies(
    name: str, inner_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollouts, collect = [], Sampler.collect

    def watched(self: Sampler, act: Any, limit: int | None = None) -> Any:
        rollouts.append(collect(self, act, limit))
        return rollouts[-1]

    monkeypatch.setattr(Sampler, "collect", watched)
    cell = cell_of(name, 2 * (inner_steps + 1) * OUTER_STEP // 2)
    method = replace(cell, config={**cell.config, "inner_steps": inner_steps}).build()
    rows = list(rows_of(Training(cell, method)))
    adapted = rollouts[inner_steps :: inner_steps + 1]  # the last batch of each outer step
    assert len(rows) == len(adapted) == 2
    for row, rollout in zip(rows, adapted, strict=True):
        episodes = (rollout.terminated | rollout.truncated).sum()
        assert row.online_return == pytest.approx(float(rollout.reward.sum() / episodes), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "steps"),
    [("maml", OUTER_STEP), ("cavia", OUTER_STEP), ("varibad", TRIALS), ("rl2", TRIALS)],
)
def test_every_update_has_tasks_of_its_own(
    name: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, cell = [], cell_of(name, 3 * steps + 100)
    sample = PointGoal.sample
    monkeypatch.setattr(PointGoal, "sample", lambda *args: seen.append(sample(*args)) or seen[-1])
    rows = list(rows_of(Training(cell, cell.build())))
    goals = [tuple(task.params["angle"] for task in tasks) for tasks in seen]
    # one draw when the pool is made, then one for each update
    assert len(set(goals)) == len(goals) == 1 + 3
    assert [row.n_train_tasks for row in rows] == [4, 8, 12]
    assert rows[-1].env_steps == 3 * steps  # steps that do not suffice for another update are left


@pytest.mark.parametrize(
    ("name", "tasks", "updates"), [("maml", 8, 1), ("maml+ft", 8, 2), ("apb", 4, 200)]
)
def test_scores_say_how_many_training_tasks_were_seen(
    name: str, tasks: int, updates: int, tmp_path: Path
) -> None:
    cell, store = cell_of(name, 2 * OUTER_STEP), Store(tmp_path / "store", create=True)
    for stage in ("train", "adapt"):
        assert perform(store, Stage(cell, stage), 1) == ("done", None)
    rows = store.rows(cell.adapt_key)
    assert set(rows["n_train_tasks"]) == {tasks}
    # smoke's 200 steps are two batches of 2 × 50; the method's own stage takes one
    assert rows["updates"].max() == updates


def test_a_budget_that_is_too_small_is_a_failure_that_says_so(tmp_path: Path) -> None:
    cell, store = cell_of("maml", OUTER_STEP - 1), Store(tmp_path / "store", create=True)
    outcome, reason = perform(store, Stage(cell, "train"), 1)
    assert outcome == "failed"
    assert (
        reason is not None
        and "takes 800 environment steps" in reason
        and "the budget is 799" in reason
    )
    assert list(store.rows(cell.train_key)["n_train_tasks"]) == [4]
