"""Scores against shift: each level by itself, before any step and at the arm's last checkpoint."""

import pandas as pd
import pytest

from reports.parts.shift import shift_figure, shift_points, shift_table
from reports.parts.styles import method_styles
from reports.stats.scores import IN_DISTRIBUTION, level_scores
from reports.stats.shift_axes import EXACT, axis_text, exact_axes, unit
from results.schema import Row, to_frame

BASE = {
    "budget": "quick",
    "family": "f",
    "family_version": "1",
    "method_version": 1,
    "variant": "",
    "config_hash": "c",
}
TASKS = [
    ("angle", 0.2, 1.0),
    ("angle", 0.2, 3.0),
    ("angle", 0.8, -7.0),
    ("radius", 0.5, 5.0),
    (None, 0.0, 9.0),
]
LAST = {"apb": 100, "maml": 50, "finetune": 100, "zero": 0}
HOSTILE = "_$\\frac$|<b>"


def returned(value, method, seed, b):
    """`value`, plus 1 per 50 steps and 2 per seed, minus 10 per method."""
    return value + b / 50 + 2 * seed - 10 * list(LAST).index(method)


def rows_of(methods, tasks=TASKS, seeds=2):
    return [
        Row(
            **{
                **BASE,
                "method": m,
                "seed": s,
                "suite": "s",
                "suite_version": 1,
                "split": "ood",
                "stage": "adapt",
            },
            task_index=i,
            shift_axis=axis,
            shift=shift,
            env_steps=b,
            return_mean=returned(value, m, s, b),
        )
        for m in methods
        for s in range(seeds)
        for b in (0, 50, 100)
        if b <= LAST[m]
        for i, (axis, shift, value) in enumerate(tasks)
    ]


def cells_of(methods, seeds=2):
    slot = {
        "suite": "s",
        "budget": "quick",
        "family": "f",
        "split": "ood",
        "variant": "",
        "status": "done",
    }
    return pd.DataFrame([{**slot, "method": m, "seed": s} for m in methods for s in range(seeds)])


def expected_of(methods, n_done=2):
    counts = {"variant": "", "n_expected": 2, "n_done": n_done, "n_failed": 0}
    return pd.DataFrame([{"method": m, **counts} for m in methods])


def points_of(methods, rows=None):
    return shift_points(level_scores(to_frame(rows or rows_of(methods)), cells_of(methods)))


def draw(methods, exact=(), points=None):
    points = points_of(methods) if points is None else points
    return shift_figure(
        points,
        expected_of(methods),
        method_styles([(m, "") for m in methods]),
        "f, split ood",
        exact,
    )


def lines(axes, gid):
    return [line for line in axes.lines if (line.get_gid() or "").split(":")[0] == gid]


def test_a_level_is_the_mean_over_its_tasks_and_then_over_seeds():
    points = points_of(["apb"]).set_index(["moment", "level"])
    assert points["mean"].to_dict() == {
        ("start", 0.2): 3.0,
        ("start", 0.8): -6.0,
        ("last", 0.2): 5.0,
        ("last", 0.8): -4.0,
    }
    assert points.loc[("last", 0.8), ["low", "high", "n_seeds", "env_steps"]].tolist() == [
        -5.0,
        -3.0,
        2,
        100,
    ]


def test_only_axes_with_levels_to_compare_are_shown():
    # radius has only one level, and the tasks inside the law have no axis
    assert set(points_of(["apb"])["axis"]) == {"angle"}
    assert shift_points(
        level_scores(to_frame(rows_of(["apb"], TASKS[3:])), cells_of(["apb"]))
    ).empty


def test_axes_are_panels_of_their_own():
    two = [*TASKS, ("radius", 1.0, 6.0)]
    figure = draw(["apb"], points=points_of(["apb"], rows_of(["apb"], two)))
    above = figure.axes[:2]
    assert [axes.get_title() for axes in above] == ["shift axis: angle", "shift axis: radius"]
    assert [figure.axes[i].get_ylabel() for i in (0, 2)] == ["return at b = 0", "return at b = 100"]
    assert [lines(axes, "curve")[0].get_xdata().tolist() for axes in above] == [
        [0.2, 0.8],
        [0.5, 1.0],
    ]
    labels = [axes.get_xlabel() for axes in figure.axes[2:]]
    assert labels == [
        "distance from the training law, angle (rad)",
        "distance from the training law, radius (m)",
    ]


def test_each_arm_is_drawn_at_its_own_last_checkpoint():
    start, last = draw(["apb", "maml"]).axes
    assert [line.get_xydata().tolist() for line in lines(start, "curve")] == [
        [[0.2, 3.0], [0.8, -6.0]],
        [[0.2, -7.0], [0.8, -16.0]],
    ]
    assert [line.get_ydata().tolist() for line in lines(last, "curve")] == [
        [5.0, -4.0],
        [-6.0, -15.0],
    ]
    assert len(last.collections) == 2  # bands


def test_bounds_and_the_blind_policy_vary_with_the_level():
    start, last = draw(["apb", "finetune", "zero"]).axes
    for axes in (start, last):
        assert lines(axes, "bound")[0].get_xydata().tolist() == [[0.2, -27.0], [0.8, -36.0]]
    assert not lines(start, "blind")  # at the start it is the curve of finetune
    assert lines(last, "blind")[0].get_xydata().tolist() == [[0.2, -17.0], [0.8, -26.0]]


def test_before_any_step_there_is_one_row():
    assert len(draw(["zero"]).axes) == 1


def test_a_level_without_all_seeds_is_hollow():
    rows = [row for row in rows_of(["apb"]) if not (row.seed == 1 and row.shift == 0.8)]
    points = points_of(["apb"], rows)
    (few,) = lines(draw(["apb"], points=points).axes[1], "few")
    assert few.get_xydata().tolist() == [[0.8, -5.0]] and few.get_markerfacecolor() == "white"
    assert "−5.00 (1 of 2 seeds)" in shift_table(points, expected_of(["apb"]), "angle")


def test_the_table_has_a_line_per_arm_and_moment():
    table = shift_table(points_of(["apb", "zero"]), expected_of(["apb", "td3", "zero"]), "angle")
    assert [line.strip("| ").split(" | ") for line in table.splitlines()] == [
        ["method", "steps on the test task", "shift 0.2 rad", "shift 0.8 rad"],
        ["---", "---:", "---:", "---:"],
        ["apb", "0", "3.00 ± 1.00", "−6.00 ± 1.00"],
        ["apb", "100", "5.00 ± 1.00", "−4.00 ± 1.00"],
        ["td3", "–", "–", "–"],
        ["zero", "0", "−27.0 ± 1.00", "−36.0 ± 1.00"],
    ]


def test_exact_images_are_named_with_their_axis():
    plans = [
        {
            "cells": [
                {"slot": {"family": "f"}, "isomorphic_axes": ["angle"]},
                {"slot": {"family": "g"}},
            ]
        }
    ]
    assert exact_axes(plans) == {"f": frozenset({"angle"}), "g": frozenset()}
    assert axis_text("angle", {"angle"}) == f"shift axis angle ({EXACT})"
    assert axis_text("radius", {"angle"}) == "shift axis radius"
    assert axis_text(IN_DISTRIBUTION, ()) == "in-distribution tasks"
    assert [unit("angle"), unit("mine")] == ["rad", ""]
    assert draw(["apb"], exact={"angle"}).axes[0].get_title() == f"shift axis: angle\n{EXACT}"


@pytest.mark.filterwarnings("error")
def test_hostile_names_draw():
    points = points_of(["apb"]).assign(axis=HOSTILE, method=HOSTILE)
    figure = shift_figure(
        points, expected_of([HOSTILE]), method_styles([(HOSTILE, "")]), HOSTILE, {HOSTILE}
    )
    figure.draw_without_rendering()
    table = shift_table(points, expected_of([HOSTILE]), HOSTILE)
    assert (
        len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1
        and "<b" not in table
    )


def test_a_row_of_normalised_scores_stands_below_where_there_are_references():
    methods = ["apb", "zero"]
    levels = level_scores(to_frame(rows_of(methods)), cells_of(methods))
    assert shift_points(levels, "normalised").empty  # no task has references
    known = levels.assign(normalised=levels["return_mean"] / 10)
    known.loc[known["level"] == 0.8, "normalised"] = float("nan")
    normal = shift_points(known, "normalised")
    assert set(normal["level"]) == {0.2}
    figure = shift_figure(
        points_of(methods),
        expected_of(methods),
        method_styles([(m, "") for m in methods]),
        "t",
        normal=normal,
    )
    start, last, below = figure.axes
    assert start.get_ylim() == last.get_ylim() != below.get_ylim()
    assert below.get_ylabel() == "normalised score at b = 100"
    (curve,) = lines(below, "curve")
    assert curve.get_xydata().tolist() == [[0.2, 0.5]]  # the last checkpoint only
