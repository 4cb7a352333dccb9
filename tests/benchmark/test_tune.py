"""Tuning: which settings are tried, which trials go on, what is logged, and what is refused."""

import json
import shutil
from dataclasses import replace
from math import inf

import numpy as np
import pandas as pd
import pytest

from benchmark.arguments import InputError
from benchmark.local import LocalExecutor
from benchmark.stage import Stage, perform
from benchmark.suites import BUDGETS
from benchmark.tune import (
    RUNGS,
    TUNED_SEED,
    best_of,
    draw_settings,
    line_of,
    logged,
    promoted,
    scaled,
    trials_of,
)
from envs import load_family
from methods import METHODS
from methods.td3 import Td3
from results.store import Store
from results.trials import COLUMNS

SMOKE = BUDGETS["smoke"]
# smoke's own: learning_rate 2e-3, batch 16, tau 0.02
SPACE = {"learning_rate": (2e-3, 1e-3), "batch": (8, 16), "tau": (0.02, 0.01)}


@pytest.fixture(autouse=True)
def _small_space(monkeypatch):
    monkeypatch.setattr(Td3, "space", SPACE)


def drawn(n, seed=0):
    return draw_settings(METHODS["td3"], SMOKE, n, np.random.default_rng(seed))


class TestSettings:
    def test_the_first_are_the_budgets_own_and_no_two_are_alike(self):
        for n in (2, 5, 8, 100):
            tried = drawn(n)
            assert tried[0] == {} and all(settings for settings in tried[1:])
            assert (
                len(tried)
                == min(n, 8)
                == len({json.dumps(settings, sort_keys=True) for settings in tried})
            )
        for settings in tried:
            assert all(value in SPACE[name] for name, value in settings.items())
            assert "batch" not in settings or settings["batch"] == 8  # only changes are named

    def test_the_seed_draws_them(self):
        assert drawn(5) == drawn(5) != drawn(5, seed=1)

    def test_a_method_without_a_space_or_with_a_wrong_one_is_refused(self, monkeypatch):
        for space, complaint in (
            ({}, "declares nothing to tune: give its class a `space`"),
            ({"speed": (1, 2)}, "declares speed in `space`, but its Config has no such setting"),
            (["batch"], "must give each setting a tuple of values"),
            ({"batch": 3}, "must give each setting a tuple of values"),
            ({"batch": ()}, "must give each setting a tuple of values"),
            ({"learning_rate": (float("nan"), 1.0)}, "must give each setting a tuple of values"),
            ({"batch": (16, 0)}, "declares a space that its Config refuses: batch must be from 1"),
        ):
            monkeypatch.setattr(Td3, "space", space)
            with pytest.raises(InputError, match=complaint):
                drawn(4)

    @pytest.mark.parametrize("name", [name for name in METHODS if name not in ("random", "zero")])
    def test_every_method_that_learns_declares_one_that_each_budget_takes(self, name, monkeypatch):
        monkeypatch.undo()
        for budget in ("smoke", "quick", "desk", "paper"):
            assert (
                len(draw_settings(METHODS[name], BUDGETS[budget], 6, np.random.default_rng(0))) == 6
            )


class TestTrials:
    def test_trials_run_on_the_tuning_law_with_a_share_of_the_steps_and_seeds_of_their_own(self):
        budget = replace(SMOKE, train_steps=800, fresh_steps=4000, adapt_steps=200)
        (trial,) = trials_of(
            "apb",
            METHODS["apb"],
            "point-goal",
            budget=budget,
            rung=0,
            chosen={3: {"batch": 8}},
            seed=5,
        )
        cell = trial.cell
        assert (cell.family, cell.split, cell.test_tasks) == ("tuning-point-goal", "validation", 4)
        assert (cell.train_steps, cell.adapt_steps, cell.seed) == (200, 50, TUNED_SEED + 5)
        assert cell.config["batch"] == 8 and trial.number == 3
        (later,) = trials_of(
            "apb",
            METHODS["apb"],
            "point-goal",
            budget=budget,
            rung=1,
            chosen={3: {"batch": 8}},
            seed=5,
        )
        assert (later.cell.train_steps, later.cell.adapt_steps) == (400, 100)
        assert later.cell.train_id != cell.train_id
        assert scaled(budget, 0.5).fresh_steps == 2000
        assert scaled(replace(budget, meta_steps={"methods.maml": 600}), 0.5).meta_steps == {
            "methods.maml": 300
        }

    @pytest.mark.parametrize(("n", "go_on"), [(2, 2), (6, 2), (7, 3), (12, 4)])
    def test_the_best_third_goes_on_and_at_least_two(self, n, go_on):
        scores = np.random.default_rng(n).permutation(n).astype(float)
        lines = pd.DataFrame({"rung": 0, "trial": range(n), "score": scores})
        chosen = promoted(lines, 1)
        assert len(chosen) == go_on and set(scores[chosen]) == set(sorted(scores)[-go_on:])

    def test_failed_trials_go_on_last_and_of_equals_the_first_does(self):
        lines = pd.DataFrame({"rung": 0, "trial": range(4), "score": [-inf, -3.0, -3.0, -3.0]})
        assert promoted(lines, 1) == [1, 2]
        both = pd.concat([lines, pd.DataFrame({"rung": 1, "trial": [1, 2], "score": [-2.0, -2.0]})])
        assert best_of(both)["trial"] == 1

    def test_a_trial_whose_training_failed_has_the_worst_score_and_says_so(
        self, tmp_path, monkeypatch
    ):
        (trial,) = trials_of(
            "apb", METHODS["apb"], "point-goal", budget=SMOKE, rung=0, chosen={0: {}}, seed=0
        )
        store = Store(tmp_path / "store", create=True)
        monkeypatch.setattr("methods.core.adapt.TD3Trainer.step", lambda *_: 1 / 0)
        assert perform(store, Stage(trial.cell, "train"), 1)[0] == "failed"
        line = line_of(trial, store, 1)
        assert (line["score"], line["status"]) == (-inf, "failed")

    def test_of_a_log_only_trials_that_did_not_fail_need_not_run(self, tmp_path):
        """A trial may have diverged before it failed."""
        trials = trials_of(
            "td3",
            METHODS["td3"],
            "point-goal",
            budget=SMOKE,
            rung=0,
            chosen=dict(enumerate(drawn(4))),
            seed=0,
        )
        statuses = ("ok", "diverged", "failed", "diverged,failed")
        lines = [
            {**dict.fromkeys(COLUMNS, 0), "cell_id": trial.id, "status": status}
            for trial, status in zip(trials, statuses, strict=True)
        ]
        pd.DataFrame(lines).to_csv(tmp_path / "log.csv", index=False)
        known = logged(tmp_path / "log.csv", trials)
        assert {name: line["status"] for name, line in known.items()} == {
            trials[0].id: "ok",
            trials[1].id: "diverged",
        }


WORDS = (
    "tune",
    "--method",
    "td3",
    "--family",
    "point-goal",
    "--budget",
    "smoke",
    "--trials",
    "4",
    "--store",
    "runs",
)


class TestCommand:
    def test_every_trial_is_in_the_log_and_a_second_run_repeats_nothing(self, cli, here):
        done = cli(*WORDS, "--out", "logs")
        assert done.code == 0 and "best: trial " in done.out
        log = pd.read_csv(here / "logs/smoke_point-goal_td3.csv")
        assert log["rung"].tolist() == [0, 0, 0, 0, 1, 1] and log["trial"].tolist()[:4] == [
            0,
            1,
            2,
            3,
        ]
        assert set(log["fraction"]) == {rung.fraction for rung in RUNGS} and set(log["status"]) == {
            "ok"
        }
        assert set(log["trial"][4:]) == set(log[:4].nlargest(2, "score")["trial"])
        assert [json.loads(text) for text in log["settings"][:1]] == [{}] and (
            log["core_s"] > 0
        ).all()
        store = Store(here / "runs", create=False)
        rows, cells = store.read(["tuning"])
        assert (
            len(cells) == 6
            and set(cells["status"]) == {"done"}
            and set(rows["seed"]) == {TUNED_SEED}
        )
        validated = {task.index for task in load_family("tuning-point-goal").split("validation")}
        assert set(rows["task_index"].dropna()) == validated
        for line in log.to_dict("records"):
            of_line = cells["budget"].str.endswith(f"{line['fraction']:g}") & (
                cells["variant"] == variant(line)
            )
            (cell,) = cells[of_line].to_dict("records")
            mine = rows[rows["cell_id"] == cell["adapt_id"]]
            assert line["score"] == pytest.approx(
                mine[mine["env_steps"] == mine["env_steps"].max()]["return_mean"].mean()
            )
        again = cli(*WORDS, "--out", "more")
        assert (
            again.code == 0
            and (here / "more/smoke_point-goal_td3.csv").read_bytes()
            == (here / "logs/smoke_point-goal_td3.csv").read_bytes()
        )

    def test_a_trial_in_the_log_is_not_run_again_where_the_store_is_lost(self, cli, here):
        cli(*WORDS, "--out", "logs")
        path = here / "logs/smoke_point-goal_td3.csv"
        whole = path.read_bytes()
        log = pd.read_csv(path)
        shutil.rmtree(here / "runs")
        assert cli(*WORDS, "--out", "logs").code == 0 and path.read_bytes() == whole
        assert not Store(here / "runs", create=False).read(["tuning"])[0].shape[0]  # nothing ran
        last = log.iloc[-1]
        for cut, ran in (
            (log.drop(index=[1, 5]), {log["cell_id"][1], log["cell_id"][5]}),
            (log.assign(status=["failed", *log["status"][1:]]), {log["cell_id"][0]}),
            (log.replace({"cell_id": {last["cell_id"]: "of another version"}}), {last["cell_id"]}),
        ):
            shutil.rmtree(here / "runs")
            cut.to_csv(path, index=False)
            done = cli(*WORDS, "--out", "logs")
            assert done.code == 0
            others = len(cut) - len(log) + len(ran)  # failed trials, and those of another version
            assert ("also holds other trials" in done.out) == (others > 0)
            assert others == 0 or (path.parent / f"{path.name}.old").read_text() == cut.to_csv(
                index=False
            )
            rows, _ = Store(here / "runs", create=False).read(["tuning"])
            assert set(rows["cell_id"]) == ran
            again = pd.read_csv(path)
            same = [name for name in log if name != "core_s"]
            pd.testing.assert_frame_equal(again[same], log[same])

    def test_what_finished_before_a_stop_is_logged(self, cli, here, monkeypatch):
        def interrupt(executor, stages, show):
            run(executor, stages[:1], show)
            raise KeyboardInterrupt

        run = LocalExecutor.run
        monkeypatch.setattr(LocalExecutor, "run", interrupt)
        cli(*WORDS, "--out", "logs")
        assert len(pd.read_csv(here / "logs/smoke_point-goal_td3.csv")) == 1

    def test_bad_input_is_one_line(self, cli):
        for change, complaint in (
            (("--family", "cheetah-vel-2"), "has no tuning law"),
            (("--family", "cheetah"), "unknown family 'cheetah'"),
            (("--method", "td4"), "unknown method 'td4'"),
            (("--method", "zero"), "declares nothing to tune"),
            (
                ("--method", "apb", "--budget", "oracle-fast"),
                "has no meta-training, which apb needs",
            ),
            (("--trials", "1"), "--trials"),
            (("--time-limit", "soon"), "is not a duration"),
        ):
            assert complaint in cli(*WORDS, *change).complaint


def variant(line):
    return " ".join(
        f"{name}={value}" for name, value in sorted(json.loads(line["settings"]).items())
    )
