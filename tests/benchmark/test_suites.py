"""Suites name what exists, run at smoke from the command line, and their references come out of a store."""

from dataclasses import replace

import pytest

from benchmark import run
from benchmark.cells import expand
from benchmark.suites import BUDGETS, SUITES
from envs import FAMILIES, load_family
from methods import METHODS
from methods.api import TrainRow
from methods.bounds import Zero
from results.references import load_references


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_a_suite_names_methods_families_and_splits_that_exist(suite):
    assert set(suite.methods) <= set(METHODS)
    for budget, families in suite.families.items():
        assert budget in BUDGETS and families
        for name in families:
            assert name in FAMILIES and set(suite.splits) & set(load_family(name).splits())


def test_the_larger_budgets_ask_about_every_locomotion_family_once():
    asked = [name for suite in ("ood", "gap") for name in SUITES[suite].families["paper"]]
    fidelity_only = {"cheetah-dir", "cheetah-vel-2", "cheetah-vel-3"}
    assert sorted(asked) == sorted(set(FAMILIES) - {"point-goal", "point-rand"} - fidelity_only)
    assert set(SUITES["id"].families["paper"]) == {*SUITES["ood"].families["paper"], "cheetah-dir"}


@pytest.mark.parametrize("suite", [suite for suite in SUITES if suite not in ("ood", "oracle")])
def test_it_runs_at_smoke(cli, here, rows_of, suite):
    """`ood` runs at smoke all over the other tests, `oracle` below."""
    result = cli("run", "--suite", suite, "--budget", "smoke", "--families", "point-goal", "--store", "store")
    assert (result.code, result.err) == (0, "")
    rows = rows_of(here / "store")
    adapted = rows[rows["stage"] == "adapt"]
    assert set(adapted["method"]) == set(SUITES[suite].methods) and set(rows["status"]) == {"ok"}
    assert set(adapted["split"]) == set(SUITES[suite].splits)
    assert cli("report", "--store", "store").code == 0


def test_references_come_out_of_the_suite_oracle(cli, here, monkeypatch):
    monkeypatch.setitem(BUDGETS, "oracle-fast", replace(BUDGETS["oracle-fast"], adapt_steps=100, seeds=2))
    command = ("references", "--store", "store", "--out", "found")
    assert cli("run", "--suite", "ood", "--budget", "smoke", "--methods", "zero", "--store", "store").code == 0
    assert "holds no results of the suite oracle" in cli(*command).complaint
    oracle = ("run", "--suite", "oracle", "--budget", "oracle-fast", "--families", "point-goal", "--store", "store")
    assert cli(*oracle).code == 0
    assert cli(*command).out.strip() == "found/point-goal.json"
    table = load_references(here / "found")
    assert table.groupby("split")["task_index"].count().to_dict() == {"gap": 3, "id": 6, "ood": 8}
    assert table[["zero", "random", "oracle"]].notna().all(axis=None)
    cell = next((here / "store" / "adapt").rglob("cell.json"))
    cell.unlink()
    assert "1 cells of the suite oracle" in cli(*command).complaint


class Redraw(Zero):
    """Draws fresh tasks before every episode and notes where it starts."""

    def meta_train(self, make_env, n_tasks, budget, streams):
        env, self.starts = make_env(), []
        for _ in range(4):
            self.starts.append(env.reset().copy())
            env.draw()
        yield TrainRow(0)


def test_a_training_task_that_is_drawn_again_starts_afresh():
    """Of two tasks in all, four draws of two bring each one back."""
    cell = expand(SUITES["id"], BUDGETS["smoke"], {"zero": METHODS["zero"]}, ["cheetah-dir"], 1, {})[0]
    method = Redraw(None, None)
    list(run.train(replace(cell, train_tasks=2, train_steps=100), method))
    starts = {start.tobytes() for draw in method.starts for start in draw}
    assert len(starts) == 8
