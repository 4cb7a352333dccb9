"""Areas under adaptation curves, and the steps to a level, worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from reports.stats.curve_areas import adaptation_areas, horizon, steps_to

NAN = float("nan")
CURVE = {0: 9.0, 100: 1.0, 200: 3.0, 800: 5.0}


def scores_of(*curves, family="f", axis="speed"):
    """One line per checkpoint from (method, seed, scores by checkpoint)."""
    return pd.DataFrame(
        [
            {
                "family": family,
                "axis": axis,
                "method": m,
                "variant": "",
                "seed": s,
                "env_steps": b,
                "score": y,
            }
            for m, s, curve in curves
            for b, y in curve.items()
        ]
    )


def areas(*curves, **how):
    table = adaptation_areas(scores_of(*curves), **how)
    return {
        (method, seed): area
        for method, seed, area in table[["method", "seed", "area"]].itertuples(index=False)
    }


def test_by_hand_and_the_start_stands_apart():
    table = adaptation_areas(
        scores_of(("a", 0, CURVE), ("a", 1, {b: y + 10 for b, y in CURVE.items()}))
    )
    expected = (2.0 * np.log(2) + 4.0 * np.log(4)) / np.log(8)
    np.testing.assert_allclose(table["area"], [expected, expected + 10])
    assert table["at_zero"].tolist() == [9.0, 19.0] and table[["held_from", "floor"]].isna().all(
        axis=None
    )
    assert list(table.columns) == [
        "family",
        "axis",
        "method",
        "variant",
        "seed",
        "area",
        "at_zero",
        "held_from",
        "floor",
    ]


def test_a_flat_curve_has_its_own_height_and_a_line_over_the_logarithm_its_middle():
    steps = (0, 50, 100, 250, 500, 1_000, 3_000)
    assert areas(("a", 0, dict.fromkeys(steps, -40.0)))["a", 0] == pytest.approx(-40)
    assert areas(("a", 0, {b: np.log(max(b, 1)) for b in steps}))["a", 0] == pytest.approx(
        np.log(50 * 3_000) / 2
    )


def test_equals_a_fine_sum():
    curve = dict(zip((0, 50, 100, 250, 500), np.random.default_rng(0).normal(size=5), strict=True))
    log_b = np.linspace(np.log(50), np.log(500), 200_001)
    y = np.interp(log_b, np.log(list(curve)[1:]), list(curve.values())[1:])
    assert areas(("a", 0, curve))["a", 0] == pytest.approx(y.mean(), abs=1e-4)


def test_a_frozen_method_is_carried_flat_to_the_end():
    frozen, bound = {0: 0.0, 100: 1.0, 200: 3.0}, {0: 7.0}
    table = adaptation_areas(
        scores_of(("a", 0, CURVE), ("m", 0, frozen), ("random", 0, bound))
    ).set_index("method")
    assert table.loc["m", "area"] == pytest.approx((2.0 * np.log(2) + 3.0 * np.log(4)) / np.log(8))
    assert table.loc["random", ["area", "at_zero", "held_from"]].tolist() == [7.0, 7.0, 0.0]
    assert table.loc["m", "held_from"] == 200 and np.isnan(table.loc["a", "held_from"])


def test_a_curve_counts_as_the_zero_action_while_it_is_below_it():
    bad, zero = {0: -90.0, 100: -70.0, 200: 3.0, 800: 5.0}, {0: 2.0}
    table = adaptation_areas(
        scores_of(("a", 0, CURVE), ("b", 0, bad), ("zero", 0, zero), ("zero", 1, {0: 4.0}))
    )
    found = table.set_index(["method", "seed"])
    # the heights of `bad` are 3, 3 and 5, because the mean of the zero action is 3
    expected = (3.0 * np.log(2) + 4.0 * np.log(4)) / np.log(8)
    np.testing.assert_allclose(found.loc[[("a", 0), ("b", 0)], "area"], [expected] * 2)
    assert found.loc[("b", 0), "at_zero"] == -90.0 and (found["floor"] == 3.0).all()
    # the zero action keeps its own scores, though one is below their mean
    assert found.loc["zero", "area"].tolist() == [2.0, 4.0]


def test_the_floor_is_that_of_the_suite_family_and_axis_and_keeps_gaps():
    low, nan = {0: -9.0, 100: -9.0, 200: -9.0}, {0: -9.0, 100: NAN, 200: -9.0}
    tables = [
        scores_of(("a", 0, low), ("zero", 0, {0: 1.0})),
        scores_of(("a", 0, low), ("zero", 0, {0: 2.0}), axis="mass"),
        scores_of(("a", 0, low), ("a", 1, nan), ("zero", 0, {0: NAN}), family="g"),
        scores_of(("a", 0, nan), ("zero", 0, {0: 0.0}), family="h"),
    ]
    found = adaptation_areas(
        pd.concat(
            [
                *(table.assign(suite="s") for table in tables),
                tables[0].assign(suite="t", score=-9.0),
            ]
        )
    )
    areas_of_a = found[found["method"] == "a"].set_index(["suite", "family", "axis", "seed"])[
        "area"
    ]
    assert areas_of_a.loc[
        [("s", "f", "speed", 0), ("s", "f", "mass", 0), ("s", "g", "speed", 0)]
    ].tolist() == pytest.approx([1, 2, -9])
    assert (
        areas_of_a.loc["t"].tolist() == pytest.approx([-9.0])
        and areas_of_a.loc[[("s", "g", "speed", 1), ("s", "h", "speed", 0)]].isna().all()
    )


def test_steps_to_a_level():
    curves = {
        "at once": ({0: 0.5, 100: 0.1}, 0),
        "late": ({0: 0.0, 100: 0.4, 200: 0.7, 400: 0.2}, 200),
        "never": ({0: 0.0, 100: 0.49}, np.inf),
        "no reference": ({0: NAN, 100: NAN}, NAN),
        "gap before": ({0: 0.0, 100: NAN, 200: 0.9}, NAN),
        "gap after": ({0: 0.0, 100: 0.8, 200: NAN}, 100),
    }
    table = steps_to(
        scores_of(*((name, 0, curve) for name, (curve, _) in curves.items())), value="score"
    )
    assert list(table.columns) == ["family", "axis", "method", "variant", "seed", "steps"]
    expected = {name: steps for name, (_, steps) in sorted(curves.items())}
    np.testing.assert_equal(dict(zip(table["method"], table["steps"], strict=True)), expected)
    assert steps_to(scores_of(("a", 0, CURVE)), 4.0, value="score")["steps"].tolist() == [0]
    with pytest.raises(ValueError, match="no column 'normalised'"):
        steps_to(scores_of(("a", 0, CURVE)))


def test_the_horizon_shows_where_the_second_checkpoint_is_twice_the_first():
    assert horizon([0, 50, 100, 200]) == 50
    assert horizon([0, 50, 200]) is horizon([0, 50]) is horizon([0]) is None


def test_a_curve_with_a_gap_has_no_area():
    for lost in (100, 200, 800):
        found = areas(("a", 0, CURVE | {lost: NAN}), ("a", 1, CURVE))
        assert np.isnan(found["a", 0]) and np.isfinite(found["a", 1])
        without = {b: y for b, y in CURVE.items() if b != lost}
        # as when a seed stopped before the others
        assert np.isnan(areas(("a", 0, without), ("a", 1, CURVE))["a", 0])
    assert np.isfinite(areas(("a", 0, CURVE | {0: NAN}))["a", 0])
    late = {b: y for b, y in CURVE.items() if b != 100}
    assert np.isnan(areas(("late", 0, late), ("a", 0, CURVE))["late", 0])  # without its first point


def test_one_checkpoint_is_the_area_and_none_is_none():
    assert areas(("a", 0, {0: 1.0, 200: 4.0}), ("random", 0, {0: 2.0})) == {
        ("a", 0): 4.0,
        ("random", 0): 2.0,
    }
    table = adaptation_areas(scores_of(("zero", 0, {0: 2.0})))
    assert np.isnan(table["area"].iloc[0]) and table["at_zero"].iloc[0] == 2.0


def test_ends_may_be_given():
    given = areas(("a", 0, CURVE), horizon=200, budget=1_600)["a", 0]
    assert given == pytest.approx((4.0 * np.log(4) + 5.0 * np.log(2)) / np.log(8))
    assert areas(("zero", 0, {0: 2.0}), horizon=100, budget=800) == {("zero", 0): 2.0}


def test_families_have_their_own_ends_and_axes_their_own_areas():
    shorter = {0: 0.0, 50: 1.0, 100: 1.0}
    table = pd.concat(
        [
            scores_of(("a", 0, CURVE)),
            scores_of(("a", 0, CURVE), axis="radius"),
            scores_of(("a", 0, shorter), family="g"),
        ]
    )
    found = adaptation_areas(table.assign(suite="s"))
    assert found[["suite", "family", "axis"]].to_numpy().tolist() == [
        ["s", "f", "radius"],
        ["s", "f", "speed"],
        ["s", "g", "speed"],
    ]
    assert found["area"].iloc[2] == pytest.approx(1.0)


def test_another_method_moves_nothing():
    alone = adaptation_areas(scores_of(("b", 0, CURVE), ("b", 1, CURVE | {200: 0.0})))
    both = adaptation_areas(
        scores_of(("a", 0, {0: 1.0, 100: 2.0}), ("b", 0, CURVE), ("b", 1, CURVE | {200: 0.0}))
    )
    pd.testing.assert_frame_equal(both[both["method"] == "b"].reset_index(drop=True), alone)


def test_nothing_measured_and_refusals():
    scores = scores_of(("a", 0, CURVE))
    assert adaptation_areas(scores.iloc[:0]).empty
    with pytest.raises(ValueError, match="800 steps lies beyond the budget's end at 500"):
        adaptation_areas(scores, budget=500)
    for how in ({"horizon": 900}, {"horizon": -1}):
        with pytest.raises(ValueError, match="0 < H ≤ B"):
            adaptation_areas(scores, **how)
    with pytest.raises(ValueError, match="0 < H ≤ B"):
        adaptation_areas(scores_of(("zero", 0, {0: 2.0})), budget=800)
    with pytest.raises(ValueError, match="no column 'env_steps'"):
        adaptation_areas(scores.drop(columns="env_steps"))
    with pytest.raises(ValueError, match="two scores for"):
        adaptation_areas(pd.concat([scores, scores]))
