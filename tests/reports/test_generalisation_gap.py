"""The generalisation gap: paired by seed, per family, shift axis and method."""

import numpy as np
import pandas as pd
import pytest

from reports.parts.generalisation_gap import generalisation_gaps
from reports.stats.intervals import MIN_MAX, STUDENT, student_interval
from reports.stats.scores import IN_DISTRIBUTION

NAN = float("nan")


def scores_of(split, axis, values, family="f", method="a", **more):
    name = {"split": split, "family": family, "axis": axis, "method": method, "variant": ""}
    return pd.DataFrame([{**name, "seed": s, "score": x, **more} for s, x in values.items()])


INSIDE = scores_of("id", IN_DISTRIBUTION, {0: 10.0, 1: 20.0, 2: 30.0, 3: 40.0})
ANGLE = scores_of("ood", "angle", {0: 9.0, 1: 18.0, 2: 27.0, 4: 0.0})
RADIUS = scores_of("ood", "radius", {0: 0.0, 1: 20.0, 2: 40.0, 3: NAN})


def test_pairs_seeds_and_keeps_axes_apart():
    table = generalisation_gaps(pd.concat([INSIDE, ANGLE, RADIUS])).set_index("axis")
    assert table.loc["angle", ["gap", "low", "high"]].tolist() == [
        2.0,
        *student_interval([1.0, 2.0, 3.0]),
    ]
    assert table.loc["angle", ["n_seeds", "n_unpaired", "interval"]].tolist() == [3, 2, STUDENT]
    assert table.loc["radius", ["gap", "low", "high"]].tolist() == [
        0.0,
        *student_interval([-10.0, 0.0, 10.0]),
    ]
    assert table.loc["radius", ["n_seeds", "n_unpaired"]].tolist() == [3, 1]
    assert len(table) == 2


def test_two_seeds_one_and_none():
    for seeds, expected in (
        ((0, 1), [1.5, 1.0, 2.0, 2, MIN_MAX]),
        ((0,), [1.0, NAN, NAN, 1, ""]),
        ((), [NAN, NAN, NAN, 0, ""]),
    ):
        both = pd.concat([INSIDE, ANGLE[ANGLE["seed"].isin((*seeds, 4))]])
        line = generalisation_gaps(both)[["gap", "low", "high", "n_seeds", "interval"]].iloc[0]
        np.testing.assert_equal(line.to_list(), expected)


def test_the_splits_may_come_from_different_suites_and_budgets_stay_apart():
    both = pd.concat([INSIDE.assign(suite="id"), ANGLE.assign(suite="ood")])
    assert generalisation_gaps(both)["gap"].tolist() == [2.0]
    budgets = pd.concat(
        [both.assign(budget="desk"), both.assign(budget="quick", score=both["score"] * 2)]
    )
    assert generalisation_gaps(budgets)[["budget", "gap"]].to_numpy().tolist() == [
        ["desk", 2.0],
        ["quick", 4.0],
    ]


def test_other_splits_are_left_alone_and_may_be_named():
    gap = scores_of("gap", "angle", {0: 0.0})
    table = pd.concat([INSIDE, ANGLE, gap])
    assert generalisation_gaps(table)["gap"].tolist() == [2.0]
    assert generalisation_gaps(table, outside="gap")["gap"].tolist() == [10.0]


def test_another_method_moves_nothing():
    alone = generalisation_gaps(pd.concat([INSIDE, ANGLE]))
    others = [table.assign(method="A", score=table["score"] ** 2) for table in (INSIDE, ANGLE)]
    both = generalisation_gaps(pd.concat([*others, INSIDE, ANGLE]))
    pd.testing.assert_frame_equal(both[both["method"] == "a"].reset_index(drop=True), alone)


def test_nothing_measured_and_refusals():
    assert generalisation_gaps(INSIDE.iloc[:0]).empty and generalisation_gaps(INSIDE).empty
    with pytest.raises(ValueError, match=r"two scores for .*'id'"):
        generalisation_gaps(
            pd.concat([INSIDE.assign(suite="id"), INSIDE.assign(suite="efficiency"), ANGLE])
        )
    with pytest.raises(
        ValueError, match="'ood' has tasks on the shift axis 'angle'; name a split within"
    ):
        generalisation_gaps(pd.concat([INSIDE, ANGLE]), inside="ood", outside="id")
    with pytest.raises(ValueError, match="two splits"):
        generalisation_gaps(INSIDE, outside="id")
    with pytest.raises(ValueError, match="no column 'split'"):
        generalisation_gaps(INSIDE.drop(columns="split"))
