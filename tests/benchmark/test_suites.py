"""Suites name what exists, run at smoke from the command line, and give references."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmark import run
from benchmark.cells import expand
from benchmark.suites import BUDGETS, SUITES
from envs import FAMILIES, is_family, load_family
from envs.levels import has_split
from methods import METHODS
from methods.api import Event
from methods.bounds import Zero
from results.references import load_references


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_a_suite_names_methods_families_and_splits_that_exist(suite):
    assert set(suite.methods) <= set(METHODS)
    for budget, families in suite.families.items():
        assert budget in BUDGETS and families
        for name in families:
            assert is_family(name)
            assert any(has_split(load_family(name), split) for split in suite.splits)


def test_the_larger_budgets_ask_about_every_locomotion_family_once():
    asked = [name for suite in ("ood", "gap") for name in SUITES[suite].families["paper"]]
    fidelity_only = {"cheetah-dir", "cheetah-vel-2", "cheetah-vel-3", "cheetah-vel-7"}
    assert sorted(asked) == sorted(set(FAMILIES) - {"point-goal", "point-rand"} - fidelity_only)
    assert set(SUITES["id"].families["paper"]) == {*SUITES["ood"].families["paper"], "cheetah-dir"}


def test_suites_about_apb_alone_ask_with_their_families():
    for name, families in {
        "coverage": ("hopper-rand",),
        "architecture": ("cheetah-vel", "hopper-rand"),
        "efficiency": ("cheetah-vel", "cheetah-joints", "hopper-rand", "walker-rand"),
    }.items():
        assert SUITES[name].families["desk"] == families
    assert SUITES["efficiency"].methods == ("apb", "apb-random", "td3")
    assert SUITES["efficiency"].splits == ("id", "ood")


def test_suites_ask_with_the_arms_and_families_of_the_protocol():
    learned = ("maml", "maml+ft", "cavia", "cavia+ft", "pearl", "pearl+ft", "varibad", "varibad+ft")
    compared = ("apb", *learned, "td3", "finetune", "random", "zero")
    variants = ("pre", "post", "none", "unfrozen")
    desk = ("cheetah-vel", "cheetah-joints", "hopper-rand", "walker-rand")
    expected = {
        "ood": (compared, desk, (*desk, "ant-goal", "ant-dir")),
        "id": (compared, (*desk, "cheetah-dir"), (*desk, "ant-goal", "ant-dir", "cheetah-dir")),
        "gap": (
            compared,
            *[("cheetah-vel-gap", "ant-dir-4", "ant-goal-gap", "hopper-mass", "walker-mass")] * 2,
        ),
        "sanity": (("apb", "apb-random", "td3"), ("cheetah-vel",), ("cheetah-vel",)),
        "placement": (
            ("apb", *(f"apb-{name}" for name in variants), "zero"),
            ("cheetah-vel",),
            ("ant-goal", "cheetah-vel"),
        ),
    }
    for name, (methods, at_desk, at_paper) in expected.items():
        suite = SUITES[name]
        assert (suite.methods, suite.families["desk"], suite.families["paper"]) == (
            methods,
            at_desk,
            at_paper,
        )


@pytest.fixture
def shorten(monkeypatch):
    """Give the budget `smoke` other numbers of steps."""
    return lambda **steps: monkeypatch.setitem(BUDGETS, "smoke", replace(BUDGETS["smoke"], **steps))


def test_before_adaptation_the_blind_policies_are_one_and_the_two_with_fresh_layers_another(
    cli, here, rows_of, shorten
):
    shorten(train_steps=400, adapt_steps=10)
    methods = "finetune,apb-none,apb,apb-unfrozen"
    words = (
        "--suite",
        "placement",
        "--budget",
        "smoke",
        "--families",
        "point-goal",
        "--store",
        "store",
    )
    assert cli("run", *words, "--methods", methods).code == 0
    rows = rows_of(here / "store")
    first = rows[(rows["stage"] == "adapt") & (rows["env_steps"] == 0)]
    first = first.pivot(columns="method", index="task_index", values="return_mean").astype(float)
    np.testing.assert_allclose(first["apb-none"], first["finetune"], rtol=1e-5)
    np.testing.assert_allclose(first["apb"], first["apb-unfrozen"], rtol=1e-5)
    assert (first["apb"] != first["apb-none"]).all()


def test_the_page_of_a_real_run_scores_against_the_references_that_are_shipped(cli, here):
    words = ("--suite", "ood", "--budget", "smoke", "--families", "point-goal", "--store", "store")
    assert cli("run", *words, "--methods", "zero,td3").code == 0
    assert cli("report", "--store", "store").code == 0
    for axis in ("angle", "radius"):
        table = pd.read_csv(
            here / "report" / "data" / f"ood_smoke_point-goal_ood_{axis}.csv"
        ).set_index("method")
        assert -0.05 < table.loc["zero", "normalised_mean"] < 0.05
        assert np.isfinite(table.loc["td3", "normalised_mean"])


@pytest.mark.parametrize("suite", [suite for suite in SUITES if suite not in ("ood", "oracle")])
def test_it_runs_at_smoke(cli, here, rows_of, shorten, suite):
    """`ood` runs at smoke, with all of its steps, in many other tests; `oracle` does below."""
    # PEARL needs 800 steps for an iteration
    train_steps = 800 if "pearl" in SUITES[suite].methods else 400
    shorten(train_steps=train_steps, fresh_steps=1_600, adapt_steps=100)
    result = cli(
        "run", "--suite", suite, "--budget", "smoke", "--families", "point-goal", "--store", "store"
    )
    assert (result.code, result.err) == (0, "")
    rows = rows_of(here / "store")
    adapted = rows[rows["stage"] == "adapt"]
    assert set(adapted["method"]) == set(SUITES[suite].methods) and set(rows["status"]) == {"ok"}
    assert set(adapted["split"]) == set(SUITES[suite].splits)
    assert cli("report", "--store", "store").code == 0


def test_references_come_out_of_the_suite_oracle(cli, here, monkeypatch):
    monkeypatch.setitem(
        BUDGETS, "oracle-fast", replace(BUDGETS["oracle-fast"], adapt_steps=100, seeds=2)
    )
    command = ("references", "--store", "store", "--out", "found")
    assert (
        cli(
            "run", "--suite", "ood", "--budget", "smoke", "--methods", "zero", "--store", "store"
        ).code
        == 0
    )
    assert "holds no results of the suite oracle" in cli(*command).complaint
    oracle = (
        "run",
        "--suite",
        "oracle",
        "--budget",
        "oracle-fast",
        "--families",
        "point-goal",
        "--store",
        "store",
    )
    assert cli(*oracle).code == 0
    assert cli(*command).out.strip() == "found/point-goal.json"
    table = load_references(here / "found")
    assert table.groupby("split")["task_index"].count().to_dict() == {"gap": 3, "id": 6, "ood": 8}
    assert table[["zero", "random", "oracle"]].notna().all(axis=None)
    cell = next((here / "store" / "adapt").rglob("cell.json"))
    cell.unlink()
    assert "1 cells of the suite oracle" in cli(*command).complaint


class Redraws:
    """Draws fresh tasks before every episode and notes where it starts."""

    updates = 0

    def __init__(self, env):
        self.env, self.starts = env, []

    def step(self, limit):
        if len(self.starts) == 4:
            return Event.END
        self.starts.append(self.env.reset().copy())
        self.env.draw()
        return Event.NOTHING


def test_a_training_task_that_is_drawn_again_starts_afresh():
    """The law has only two tasks, so that four draws of two bring each one back."""
    cell = expand(
        SUITES["id"],
        BUDGETS["smoke"],
        {"zero": METHODS["zero"]},
        families=["cheetah-dir"],
        seeds=1,
        settings={},
    )[0]
    method, made = Zero(None, None), []
    method.trainer = lambda make_env, *rest: made.append(Redraws(make_env())) or made[0]
    list(run.rows_of(run.Training(replace(cell, train_tasks=2, train_steps=100), method)))
    starts = {start.tobytes() for draw in made[0].starts for start in draw}
    assert len(starts) == 8
