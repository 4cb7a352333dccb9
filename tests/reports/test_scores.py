"""Scores of small hand-made stores, worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from reports import ReportError
from reports.stats.scores import (
    IN_DISTRIBUTION,
    adaptation_scores,
    add_hold,
    coverage,
    meta_training_scores,
    summarise,
    unfinished,
    with_missing_seeds,
)
from results.schema import Row, to_frame

BASE = {
    "budget": "quick",
    "family": "f",
    "family_version": "1",
    "method_version": 1,
    "variant": "",
    "config_hash": "c",
}
ADAPT = {
    **BASE,
    "suite": "s",
    "suite_version": 1,
    "split": "ood",
    "stage": "adapt",
    "task_params": "{}",
}


def adapt(task, value, *, method="m", seed=0, b=0, axis="angle", shift=0.1, **more):
    columns = {
        "task_index": task,
        "return_mean": value,
        "method": method,
        "seed": seed,
        "env_steps": b,
    }
    return Row(**{**ADAPT, **columns, "shift_axis": axis, "shift": shift, **more})


def expect(*arms, **statuses):
    """Expected cells from (method, seed) pairs, done unless a keyword says so, as m0="failed"."""
    same = {
        "suite": "s",
        "suite_version": 1,
        "budget": "quick",
        "family": "f",
        "split": "ood",
        "variant": "",
    }
    found = [
        {**same, "method": m, "seed": s, "status": statuses.get(f"{m}{s}", "done")} for m, s in arms
    ]
    return pd.DataFrame(found)


def returns(scores, *columns):
    return scores.set_index([*columns, "env_steps"])["return_mean"].to_dict()


def test_averages_tasks_within_a_level_then_levels():
    rows = to_frame(
        [
            adapt(0, 0.0, shift=0.1),
            adapt(1, 2.0, shift=0.1),
            adapt(2, 4.0, shift=0.1),
            adapt(3, 10.0, shift=0.5),
        ]
    )
    scores = adaptation_scores(rows, expect(("m", 0)))
    # not 4, which is the mean over tasks
    assert scores[["return_mean", "n_tasks", "n_levels"]].iloc[0].tolist() == [6.0, 4, 2]


def test_axes_are_kept_apart():
    rows = to_frame(
        [
            adapt(0, 1.0, axis="angle"),
            adapt(1, 5.0, axis="radius"),
            adapt(2, 9.0, axis=None, shift=None),
        ]
    )
    assert returns(adaptation_scores(rows, expect(("m", 0))), "axis") == {
        ("angle", 0): 1.0,
        ("radius", 0): 5.0,
        (IN_DISTRIBUTION, 0): 9.0,
    }


def test_tasks_inside_the_law_are_one_level_whether_their_shift_is_zero_or_missing():
    rows = to_frame([adapt(0, 1.0, axis=None, shift=0.0), adapt(1, 3.0, axis=None, shift=None)])
    scores = adaptation_scores(rows, expect(("m", 0)))
    assert scores[["return_mean", "n_levels"]].to_numpy().tolist() == [[2.0, 1]]


def reference(task, floor, oracle, version="1", uncertain=False, params="{}"):
    place = {
        "family": "f",
        "family_version": version,
        "split": "ood",
        "task_index": task,
        "task_params": params,
    }
    return {
        **place,
        "random": floor - 1,
        "zero": floor,
        "oracle": oracle,
        "floor": floor,
        "uncertain": uncertain,
    }


def test_normalised_scores_are_per_task_and_only_then_averaged():
    rows = to_frame([adapt(0, 5.0), adapt(1, 300.0)])
    references = pd.DataFrame([reference(0, 0.0, 10.0), reference(1, 200.0, 300.0)])
    scores = adaptation_scores(rows, expect(("m", 0)), references)
    assert scores[["normalised", "uncertain"]].iloc[0].tolist() == [(0.5 + 1.0) / 2, False]


def test_a_task_without_an_expert_or_that_is_not_the_same_task_has_no_normalised_score():
    rows, cells = to_frame([adapt(0, 5.0), adapt(1, 3.0)]), expect(("m", 0))
    others = (
        reference(1, 200.0, np.nan),
        reference(1, 0.0, 300.0, version="2"),
        reference(1, 0.0, 300.0, params='{"a": 1.0}'),
    )
    for other in others:
        scores = adaptation_scores(rows, cells, pd.DataFrame([reference(0, 0.0, 10.0), other]))
        assert scores["normalised"].isna().all() and (scores["return_mean"] == 4.0).all()
    assert adaptation_scores(rows, cells)["normalised"].isna().all()


def test_one_task_with_close_references_marks_the_score():
    references = pd.DataFrame([reference(0, 0.0, 10.0), reference(1, 0.0, 1.0, uncertain=True)])
    scores = adaptation_scores(
        to_frame([adapt(0, 5.0), adapt(1, 0.5)]), expect(("m", 0)), references
    )
    assert scores[["normalised", "uncertain"]].iloc[0].tolist() == [0.5, True]


def test_a_missing_task_makes_its_score_missing_and_never_zero():
    rows = [adapt(t, 1.0, b=b) for t in (0, 1) for b in (0, 50)]
    rows[3] = adapt(1, None, b=50)
    scores = adaptation_scores(to_frame(rows), expect(("m", 0)))
    np.testing.assert_equal(scores["return_mean"].to_list(), [1.0, np.nan])
    np.testing.assert_equal(scores["gain"].to_list(), [0.0, np.nan])


def test_a_task_that_only_others_have_is_missing_too():
    rows = to_frame([adapt(0, 1.0), adapt(1, 3.0), adapt(0, 1.0, method="n")])
    scores = adaptation_scores(rows, expect(("m", 0), ("n", 0))).set_index("method")["return_mean"]
    np.testing.assert_equal(scores.to_dict(), {"m": 2.0, "n": np.nan})


def test_gain_is_over_the_same_seed():
    rows = to_frame(
        [
            adapt(0, v, seed=s, b=b)
            for s, b, v in ((0, 0, 1.0), (0, 50, 4.0), (1, 0, 10.0), (1, 50, 11.0))
        ]
    )
    gains = adaptation_scores(rows, expect(("m", 0), ("m", 1))).set_index(["seed", "env_steps"])[
        "gain"
    ]
    assert gains.to_dict() == {(0, 0): 0.0, (0, 50): 3.0, (1, 0): 0.0, (1, 50): 1.0}


def test_gain_without_a_start_is_missing():
    assert adaptation_scores(to_frame([adapt(0, 1.0, b=50)]), expect(("m", 0)))["gain"].isna().all()


def test_only_finished_cells_enter_a_score():
    rows = to_frame([adapt(0, 1.0), adapt(0, 99.0, seed=1), adapt(0, 99.0, seed=2)])
    scores = adaptation_scores(rows, expect(("m", 0), ("m", 1), m1="failed"))
    assert scores["seed"].tolist() == [0]


def test_diverged_cells_enter_and_are_marked():
    rows = to_frame([adapt(0, 1.0), adapt(1, -5.0, status="diverged")])
    assert adaptation_scores(rows, expect(("m", 0)))[
        ["return_mean", "diverged"]
    ].to_numpy().tolist() == [[-2.0, True]]


def test_two_rows_for_one_evaluation_are_refused():
    with pytest.raises(ReportError, match="two rows"):
        adaptation_scores(to_frame([adapt(0, 1.0), adapt(0, 2.0)]), expect(("m", 0)))


def test_summary_over_ragged_seeds():
    values = {
        (0, 0): 1.0,
        (1, 0): 3.0,
        (2, 0): 5.0,
        (0, 50): 2.0,
        (1, 50): 6.0,
        (2, 50): None,
        (0, 100): 7.0,
    }
    rows = to_frame([adapt(0, v, seed=s, b=b) for (s, b), v in values.items()])
    points = summarise(adaptation_scores(rows, expect(("m", 0), ("m", 1), ("m", 2))))
    np.testing.assert_equal(points["mean"].to_list(), [3.0, 4.0, 7.0])
    half = 4.302653 * 2 / np.sqrt(3)  # t of two degrees of freedom, s = 2
    np.testing.assert_allclose(points["low"].to_list(), [3 - half, 2.0, np.nan], rtol=1e-6)
    np.testing.assert_allclose(points["high"].to_list(), [3 + half, 6.0, np.nan], rtol=1e-6)
    assert points["n_seeds"].tolist() == [3, 2, 1]
    assert points["interval"].tolist() == ["95 % Student t", "min–max", ""]


def test_an_interval_does_not_depend_on_who_else_is_in_the_report():
    rows = [adapt(0, float(s * s), seed=s) for s in range(6)]
    alone = summarise(adaptation_scores(to_frame(rows), expect(*(("m", s) for s in range(6)))))
    rows += [adapt(0, float(s), seed=s, method="a") for s in range(6)]
    both = summarise(
        adaptation_scores(to_frame(rows), expect(*((m, s) for m in "am" for s in range(6))))
    )
    pd.testing.assert_frame_equal(alone, both[both["method"] == "m"].reset_index(drop=True))


def test_a_frozen_method_is_held_to_the_end_and_gets_no_point():
    rows = [adapt(0, 1.0, b=b) for b in (0, 50, 100)] + [
        adapt(0, 2.0, method="n", b=b) for b in (0, 50)
    ]
    points = summarise(adaptation_scores(to_frame(rows), expect(("m", 0), ("n", 0))))
    held = add_hold(points)
    assert len(held) == len(points) == 5
    assert held.dropna(subset=["held_to"])[
        ["method", "env_steps", "held_to"]
    ].to_numpy().tolist() == [["n", 50, 100.0]]


def test_coverage_and_what_is_not_finished():
    cells = expect(("m", 0), ("m", 1), ("n", 0), ("n", 1), m1="failed", n0="missing", n1="missing")
    cells["train_status"] = ["done", "done", "failed", None]
    cells["adapt_id"], cells["train_id"] = ["a", "b", "c", "d"], ["tm0", "tm1", "shared", None]
    assert coverage(cells)[["method", "n_expected", "n_done", "n_failed"]].to_numpy().tolist() == [
        ["m", 2, 1, 1],
        ["n", 2, 0, 1],
    ]
    # another arm's meta-training, which n builds on
    train = Row(
        **BASE,
        method="m",
        seed=0,
        stage="train",
        env_steps=0,
        status="failed",
        error="out of memory",
    )
    rows = to_frame(
        [adapt(None, None, seed=1, status="failed", error="loss is not finite"), train]
    ).assign(cell_id=["b", "shared"])
    assert unfinished(rows, cells)[["method", "seed", "status", "error"]].to_numpy().tolist() == [
        ["m", 1, "failed", "loss is not finite"],
        ["n", 0, "failed in meta-training", "out of memory"],
        ["n", 1, "missing", ""],
    ]


@pytest.mark.parametrize(
    ("there", "missing"), [([0, 1], [2]), ([2, 7], [0]), ([5, 6, 7], []), ([0, 1, 2, 3], [])]
)
def test_as_many_seeds_are_missing_as_a_published_line_lacks(there, missing):
    """They need not be the first seeds: only their number counts."""
    cells = expect(*(("m", seed) for seed in there))
    cells = cells.assign(adapt_id="a", train_id="t", train_status="done")
    found = with_missing_seeds(cells, [{"suite": "s", "seeds": {"quick": 3}}])
    lines = found[found["status"] == "missing"]
    assert (lines["seed"].tolist(), len(found)) == (missing, len(there) + len(missing))
    assert lines[["adapt_id", "train_id", "train_status"]].isna().all(axis=None)
    assert with_missing_seeds(cells, [{"suite": "s"}]) is cells


def test_meta_training_takes_the_online_return_first_and_serves_every_arm_that_builds_on_it():
    train = {**BASE, "method": "m", "seed": 0, "stage": "train"}
    rows = [
        Row(**train, env_steps=100, online_return=-3.0, return_mean=-1.0),
        Row(**train, env_steps=200, return_mean=-2.0),
        Row(**train, env_steps=300),
    ]
    cells = expect(("m", 0), ("m+ft", 0), ("m", 1), ("td3", 0)).assign(
        train_id=["one", "one", "two", None]
    )
    scores = meta_training_scores(to_frame(rows).assign(cell_id="one"), pd.concat([cells, cells]))
    assert scores[["method", "seed", "env_steps", "return_mean"]].to_numpy().tolist() == [
        ["m", 0, 100, -3.0],
        ["m", 0, 200, -2.0],
        ["m+ft", 0, 100, -3.0],
        ["m+ft", 0, 200, -2.0],
    ]


def test_each_suite_shows_the_meta_training_that_its_own_cells_build_on():
    train = {**BASE, "method": "m", "seed": 0, "stage": "train", "env_steps": 100}
    rows = to_frame([Row(**train, online_return=-3.0), Row(**train, online_return=-7.0)]).assign(
        cell_id=["old", "new"]
    )
    cells = pd.concat(
        [expect(("m", 0)).assign(suite=s, train_id=i) for s, i in (("s", "old"), ("t", "new"))]
    )
    scores = meta_training_scores(rows, cells)
    assert scores[["suite", "return_mean"]].to_numpy().tolist() == [["s", -3.0], ["t", -7.0]]


def test_nothing_measured_gives_empty_tables():
    scores = adaptation_scores(to_frame([]), expect(("m", 0), m0="missing"))
    assert scores.empty and add_hold(summarise(scores)).empty
    assert meta_training_scores(
        to_frame([]).assign(cell_id=[]), expect(("m", 0)).assign(train_id=None)
    ).empty
