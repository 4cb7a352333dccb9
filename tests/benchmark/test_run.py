"""A stage as rows: reproducible from its seed in any process, and honest about what was used."""

import time
from dataclasses import fields, replace

import numpy as np
import pytest

from benchmark import run
from benchmark.cells import expand
from benchmark.plugins import load_method
from benchmark.pool import BudgetError, DivergenceError
from benchmark.suites import BUDGETS, SUITES
from envs.point import PointGoal
from methods import METHODS
from results.schema import COLUMNS, NOT_COMPARED, Row, to_frame


def cell_of(method="zero", path=None, **changes):
    cell = expand(
        SUITES["ood"],
        BUDGETS["smoke"],
        {method: path or METHODS[method]},
        families=["point-goal"],
        seeds=1,
        settings={},
    )[0]
    return replace(cell, **changes)


def rows_here(cell):
    """The rows of both stages, computed in this process."""
    method, trained = cell.build(), []
    if cell.meta_trains:
        trained = list(run.rows_of(run.Training(cell, method)))
    meta_env_steps = trained[-1].env_steps if trained else None
    adapted = run.rows_of(run.Adaptation(cell, method, meta_env_steps))
    return to_frame([*trained, *adapted]).drop(columns=list(NOT_COMPARED))


@pytest.fixture
def importable(plugin, here, monkeypatch):
    """`plugin` for tests without the command line, which would search the current directory."""
    monkeypatch.syspath_prepend(here)
    return plugin


class TestSameness:
    @pytest.mark.parametrize("method", ["td3", "apb", "random", "zero"])
    def test_another_process_gave_the_same_rows(self, method, reference, rows_of):
        """There, the trained state went through the store; here, both stages run in one go."""
        rows = rows_of(reference[0])
        there = rows[(rows["method"] == method) & (rows["seed"] == 0)]
        order = ["stage", "env_steps", "task_index"]
        here = rows_here(cell_of(method)).sort_values(order, kind="stable")
        assert len(here) == len(there) > 0
        assert here.reset_index(drop=True).equals(there.reset_index(drop=True)), here.compare(there)

    @pytest.mark.parametrize("method", ["td3", "apb", "apb-random", "random", "zero"])
    def test_another_seed_gives_other_rows(self, method, reference, rows_of):
        rows = rows_of(reference[0])
        for stage, score in (("train", "online_return"), ("adapt", "return_mean")):
            of_stage = rows[(rows["method"] == method) & (rows["stage"] == stage)]
            zero, one = (set(of_stage[of_stage["seed"] == seed][score].dropna()) for seed in (0, 1))
            assert not zero & one

    def test_no_row_repeats(self, reference, rows_of):
        keys = ["method", "variant", "seed", "stage", "env_steps", "task_index"]
        assert not rows_of(reference[0]).duplicated(keys).any()


class TestRows:
    def test_they_fit_the_schema(self, reference, rows_of):
        rows = rows_of(reference[0])
        assert dict(rows.dtypes.astype(str)) == {
            name: kind for name, kind in COLUMNS.items() if name not in NOT_COMPARED
        }
        required = [
            field.name
            for field in fields(Row)
            if field.default is not None and field.name != "variant"
        ]
        assert not rows[required].isna().any(axis=None)
        assert set(rows["status"]) == {"ok"}

    def test_adaptation_says_everything(self, reference, rows_of):
        rows = rows_of(reference[0])
        adapt = rows[rows["stage"] == "adapt"]
        gaps = {name for name in adapt if adapt[name].isna().any()}
        assert gaps == {"meta_env_steps", "n_train_tasks", "online_return", "error"}
        assert set(adapt["n_episodes"]) == {10}
        assert set(adapt["episode_length_mean"]) == {50}
        assert set(adapt["terminated_frac"]) == {0}
        assert (adapt["online_return"].isna() == (adapt["env_steps"] == 0)).all()

    def test_checkpoints_and_costs(self, reference, rows_of):
        rows = rows_of(reference[0])
        ladders = (
            rows[rows["stage"] == "adapt"]
            .groupby("method")["env_steps"]
            .unique()
            .map(sorted)
            .to_dict()
        )
        whole = [0, 50, 100, 200]
        learners = dict.fromkeys(("apb", "apb-random", "td3", "hill-climbing"), whole)
        assert ladders == {**learners, "random": [0], "zero": [0]}
        apb = rows[rows["method"] == "apb"]
        assert set(apb["meta_env_steps"][apb["stage"] == "adapt"]) == {800}
        assert apb["env_steps"][apb["stage"] == "train"].max() == 800
        assert rows["meta_env_steps"][rows["method"] == "td3"].isna().all()

    def test_a_failed_row(self):
        cell = cell_of("apb")
        adapt, train = (run.failed_row(cell, stage, "Error: why") for stage in ("adapt", "train"))
        assert (adapt.status, adapt.error, adapt.split, adapt.suite) == (
            "failed",
            "Error: why",
            "ood",
            "ood",
        )
        assert (train.stage, train.split, train.suite, train.return_mean) == (
            "train",
            None,
            None,
            None,
        )


TOLD = """
class Calls(Trainer):
    calls, updates = [{steps}], {updates}
    def step(self, limit):
        return self.calls.pop(0)(self.walker)[-1] if self.calls else Event.END

class Told(Still):
    meta_trains = True
    def trainer(self, make_env, n_tasks, budget, streams): return Calls(Walker(make_env()))
"""


class TestTraining:
    """Meta-training is counted by what happened, not by what a method reports."""

    @pytest.fixture
    def train(self, importable):
        def train(*calls, updates=0):
            """Each `step` runs the next of `calls` on a walker `w`; after the last, it ends."""
            steps = "".join(f"lambda w: {call},\n" for call in calls)
            path = f"{importable(TOLD.format(steps=steps, updates=updates))}:Told"
            return run.rows_of(run.Training(cell_of("method", path), load_method(path)(None, None)))

        return train

    def test_steps_after_the_last_sign_of_life_count(self, train):
        rows = list(
            train("(w.step(30), Event.ITERATION)", "(w.step(90), Event.NOTHING)", updates=3)
        )
        assert [(row.env_steps, row.updates) for row in rows] == [(120, 3), (480, None)]
        assert rows[1].online_return == pytest.approx(-50, abs=10)

    def test_silence_leaves_a_row_too(self, train):
        assert [row.env_steps for row in train()] == [0]
        assert [row.env_steps for row in train("(w.step(200), Event.NOTHING)")] == [800]
        assert [row.env_steps for row in train("(w.step(200), Event.ITERATION)")] == [800]

    def test_one_step_too_many(self, train):
        with pytest.raises(BudgetError, match="step 804 in all and may use 800"):
            list(train(*["(w.once(), Event.ITERATION)"] * 999))

    def test_a_step_that_gives_no_event(self, train):
        with pytest.raises(TypeError, match=r"must return a methods\.api\.Event, not None"):
            list(train("(None,)"))

    @pytest.mark.parametrize("event", ["ITERATION", "NOTHING"])
    def test_divergence_is_found(self, train, event):
        with pytest.raises(DivergenceError, match="actions were not finite"):
            list(train(f"(w.action[2, 0].fill(np.nan), w.step(3), Event.{event})"))

    def test_progress_is_told(self, importable):
        path, told = f"{importable('class Method(Still): meta_trains = True')}:Method", []
        list(
            run.rows_of(
                run.Training(
                    cell_of("method", path), load_method(path)(None, None), progress=told.append
                )
            )
        )
        assert told == list(range(4, 804, 4))


def test_a_task_that_diverged_says_so_and_the_others_do_not(importable):
    path = f"""{
        importable('''
    class Sick(Walker):
        def step(self, limit):
            self.action[3] = np.nan
            super().step(limit)
    class Method(Still):
        def adapter(self, make_env, n_tasks, streams): return Sick(make_env())
    ''')
    }:Method"""
    cell = cell_of("method", path)
    rows = to_frame(run.rows_of(run.Adaptation(cell, load_method(path)(PointGoal, None), None)))
    sick = rows["status"] == "diverged"
    assert set(rows["task_index"][sick]) == {3}
    assert (sick == ((rows["task_index"] == 3) & (rows["env_steps"] > 0))).all()
    zero = load_method(METHODS["zero"])(PointGoal, None)
    still = to_frame(run.rows_of(run.Adaptation(cell_of("zero"), zero, None)))
    at_start = rows[rows["env_steps"] == 0]
    np.testing.assert_array_equal(at_start["return_mean"], still["return_mean"])
    assert rows["return_mean"].notna().all()


class TestMeasures:
    @pytest.mark.parametrize("method", ["apb", "maml"])
    def test_meta_training_measures_what_doing_nothing_earns_on_its_tasks(self, method):
        training = run.Training(cell := cell_of(method), cell_of(method).build())
        assert training.measures == []
        list(run.rows_of(training))
        first = PointGoal().sample(
            cell.train_tasks, run.Streams(cell.seed, "train", cell.family).numpy("tasks")
        )
        assert [measure.task_index for measure in training.measures] == list(range(len(first)))
        for measure, task in zip(training.measures, first, strict=True):
            # at rest at the origin, up to 0.05 m in each coordinate
            assert measure.name == "zero_return"
            assert measure.value == pytest.approx(-50.0 * task.params["radius"], abs=1.5)

    def test_a_stage_taken_up_again_measures_the_same(self):
        cell = cell_of("maml")
        whole = run.Training(cell, cell.build())
        list(run.rows_of(whole))
        begun, again = (run.Training(cell, cell.build()) for _ in range(2))
        for _ in range(3):
            begun.step()
        again.load_state_dict(begun.state_dict())
        list(run.rows_of(again))
        assert again.measures == whole.measures != []

    def test_the_time_of_the_processor_goes_on_where_it_was_saved(self):
        cell = cell_of("maml")
        begun, again = (run.Training(cell, cell.build()) for _ in range(2))
        begun.step()
        state = {**begun.state_dict(), "wall_s": 1000.0}
        again.load_state_dict({**state, "cpu_s": 500.0})
        assert 500.0 <= again.cpu_seconds < 510.0
        del state["cpu_s"]  # as saved by an earlier version
        again.load_state_dict(state)
        assert 1000.0 <= again.cpu_seconds < 1010.0


def test_the_time_of_the_processor_goes_on_where_it_was_and_does_not_wait():
    clock = run._Clock()
    clock.cpu_seconds = 5.0
    time.sleep(0.1)
    slept = clock.cpu_seconds
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    assert 5.0 <= slept < 5.1 and 5.2 <= clock.cpu_seconds < 5.4
