"""What the harness does for methods that draw fresh training tasks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.cells import Cell, expand
from benchmark.protocol import TaskPool
from benchmark.run import train
from benchmark.seeding import Streams
from benchmark.suites import BUDGETS, SUITES
from benchmark.work import Stage, perform
from envs.point import PointGoal
from methods import METHODS
from results.store import Store

OUTER_STEP = 4 * 2 * 50 * 2  # tasks × episodes × steps, before and after adaptation
FAMILY = PointGoal()


def cell_of(name: str, steps: int) -> Cell:
    cell = expand(SUITES["ood"], BUDGETS["smoke"], {name: METHODS[name]}, ["point-goal"], 1, {})[0]
    return replace(cell, train_steps=steps)


def test_tasks_are_counted_as_they_are_drawn() -> None:
    generator = np.random.default_rng(0)
    drawn = []

    def draw() -> tuple:
        drawn.append(FAMILY.sample(3, generator))
        return drawn[-1]

    pool = TaskPool(FAMILY, draw(), Streams(0), pooled=True, allowed=100, draw=draw)
    env = pool.make_env()
    env.draw()
    assert pool.tasks_drawn == 3  # nobody saw those of before
    for expected in (6, 9):
        env.reset()
        env.step(np.zeros((3, 1, 2), np.float32))
        env.draw()
        assert pool.tasks_drawn == expected
    assert env._env.tasks == drawn[-1]


@pytest.mark.parametrize("name", ["maml", "cavia"])
def test_every_outer_step_has_tasks_of_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, cell = [], cell_of(name, 3 * OUTER_STEP + 100)
    sample = PointGoal.sample
    monkeypatch.setattr(PointGoal, "sample", lambda *args: seen.append(sample(*args)) or seen[-1])
    rows = list(train(cell, cell.build()))
    goals = [tuple(task.params["angle"] for task in tasks) for tasks in seen]
    assert len(set(goals)) == len(goals) == 1 + 3  # those of the slots, then one draw for each step
    assert [row.n_train_tasks for row in rows] == [4, 8, 12]
    assert rows[-1].env_steps == 3 * OUTER_STEP  # what does not last for another step is left


@pytest.mark.parametrize(("name", "tasks", "updates"), [("maml", 8, 2), ("maml+ft", 8, 2), ("apb", 4, 200)])
def test_scores_say_how_many_training_tasks_were_seen(name: str, tasks: int, updates: int, tmp_path: Path) -> None:
    cell, store = cell_of(name, 2 * OUTER_STEP), Store(tmp_path / "store", create=True)
    for stage in ("train", "adapt"):
        assert perform(store, Stage(cell, stage), 1, lambda used: None) == ("done", None)
    rows = store.rows(cell.adapt_key)
    assert set(rows["n_train_tasks"]) == {tasks}
    assert rows["updates"].max() == updates  # smoke's 200 steps are two batches of 2 × 50


def test_a_budget_that_is_too_small_is_a_failure_that_says_so(tmp_path: Path) -> None:
    cell, store = cell_of("maml", OUTER_STEP - 1), Store(tmp_path / "store", create=True)
    outcome, reason = perform(store, Stage(cell, "train"), 1, lambda used: None)
    assert outcome == "failed"
    assert reason is not None and "takes 800 environment steps" in reason and "the budget is 799" in reason
    assert list(store.rows(cell.train_key)["n_train_tasks"]) == [4]
