"""Radius and break-even: exact on hand-made tables; the radius's coverage in a simulation."""

from math import inf, isnan, nan

import numpy as np
import pandas as pd
import pytest

from reports.parts.reach import break_even_table, radius_table
from reports.stats.break_even import break_even, tasks_needed
from reports.stats.radius import adaptation_radius, reach

PLACE = {"suite": "shift", "budget": "quick", "family": "f", "split": "shift"}
LEVELS = (1.0, 2.0, 4.0)


def levels_of(returns, axis="angle", normalised=False):
    """`level_scores` from {method: [[return at each level], …]}, one list per seed, at b = 100."""
    return pd.DataFrame(
        [
            {
                **PLACE,
                "axis": axis,
                "method": method,
                "variant": "",
                "level": level,
                "seed": seed,
                "env_steps": b,
                "return_mean": y if b else -99.0,
                "normalised": y / 10 if normalised else nan,
            }
            for method, seeds in returns.items()
            for seed, by_level in enumerate(seeds)
            for level, y in zip(LEVELS, by_level, strict=True)
            for b in ((0, 100) if method != "zero" else (100,))
        ]
    )


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([1.0, 0.75, 0.25], 3.0),
        ([0.4, 0.9, 0.9], 0.0),
        ([0.9, 0.5, 0.5], 4.0),
        ([0.5, 0.0, 1.0], 1.0),
        ([1.0, 0.0, 1.0], 1.5),
    ],
)
def test_the_radius_ends_where_the_gain_first_falls_below_half(gains, expected):
    assert reach(np.array(LEVELS), np.array(gains), 0.5) == expected


def test_a_missing_level_hides_the_radius_only_before_its_end():
    assert isnan(reach(np.array(LEVELS), np.array([0.9, nan, 0.9]), 0.5))
    assert reach(np.array(LEVELS), np.array([0.4, nan, 0.9]), 0.5) == 0.0


def test_gains_are_scaled_by_the_zero_action_and_the_best_of_the_table():
    """The best gain is 10 at every level; apb gains 10, 7.5 and 2.5, so its radius is 3."""
    table = {
        "apb": [[0.0, -2.5, -7.5]] * 3,
        "td3": [[-8.0, 0.0, 0.0]] * 3,
        "zero": [[-10.0, -10.0, -10.0]],
    }
    radii = adaptation_radius(levels_of(table)).set_index("method")
    assert radii["mean"].to_dict() == {"apb": 3.0, "td3": 0.0}
    assert radii["scaled_by"].unique().tolist() == ["the best here"]
    assert radii.loc["apb", ["low", "high", "n_seeds", "beyond"]].tolist() == [3.0, 3.0, 3, 0]
    far = adaptation_radius(levels_of(table | {"apb": [[0.0, 0.0, -1.0]]})).set_index("method")
    assert (far.loc["apb", "mean"], far.loc["apb", "beyond"]) == (4.0, 1)
    assert np.isnan(far.loc["apb", "low"])


def test_references_scale_where_there_are_any():
    radii = adaptation_radius(levels_of({"apb": [[9.0, 6.0, 4.0]]}, normalised=True))
    assert radii["scaled_by"].tolist() == ["references"]
    assert radii["mean"].tolist() == [3.0]


def test_axes_without_levels_and_policies_that_learn_nothing_have_none():
    single = levels_of({"apb": [[0.0, 0.0, 0.0]]})
    assert adaptation_radius(single[single["level"] == 1.0]).empty
    assert adaptation_radius(single.assign(axis="in-distribution")).empty
    assert adaptation_radius(single.iloc[:0]).empty
    nobody = adaptation_radius(levels_of({"apb": [[-10.0] * 3], "zero": [[-10.0] * 3]}))
    assert nobody["mean"].tolist() == [0.0] and nobody["n_seeds"].tolist() == [1]


def test_where_nobody_gains_the_radius_ends_and_no_seed_is_dropped():
    table = {"apb": [[0.0, 0.0, -20.0]] * 2 + [[-12.0] * 3], "zero": [[-10.0] * 3]}
    (one,) = adaptation_radius(levels_of(table)).to_dict("records")
    # two seeds gain 10/6 of the best mean at level 2 and nothing at level 4, so half is left at 3.4
    assert one["n_seeds"] == 3 and one["mean"] == pytest.approx((3.4 + 3.4 + 0.0) / 3)


def test_a_policy_that_is_told_its_task_scales_nobody():
    table = {"apb": [[0.0] * 3], "context-td3": [[90.0] * 3], "zero": [[-10.0] * 3]}
    radii = adaptation_radius(levels_of(table)).set_index("method")
    assert radii.loc["apb", "mean"] == 4.0


@pytest.mark.parametrize("n_seeds", [5, 10])
def test_the_interval_covers_the_radius_of_the_law(n_seeds):
    """Gains are 1 − d/6 with noise: the radius is 3, up to a bias from the noise."""
    generator = np.random.default_rng(n_seeds)
    many = 1 - np.array(LEVELS) / 6 + 0.1 * generator.standard_normal((20_000, 3))
    law = np.mean([reach(np.array(LEVELS), gains, 0.5) for gains in many])
    covered = 0
    for _ in range(400):
        gains = 1 - np.array(LEVELS) / 6 + 0.1 * generator.standard_normal((n_seeds, 3))
        (one,) = adaptation_radius(
            levels_of({"apb": (10 * gains).tolist()}, normalised=True)
        ).to_dict("records")
        covered += one["low"] <= law <= one["high"]
    assert 0.91 <= covered / 400 <= 0.985


def test_the_table_says_where_nobody_looked_farther():
    table = {
        "apb": [[0.0, 0.0, 0.0], [0.0, 0.0, -6.0]],
        "td3": [[0.0, 0.0, 0.0]] * 2,
        "zero": [[-10.0] * 3],
    }
    expected = pd.DataFrame({"method": ["td3", "apb", "zero"], "variant": ""})
    lines = radius_table(adaptation_radius(levels_of(table)), expected).splitlines()
    assert lines[0].startswith("| method | adaptation radius, angle rad")
    assert "at least 4" in lines[2] and "td3" in lines[2]
    assert "apb" in lines[3] and "at least" in lines[3] and len(lines) == 4


@pytest.mark.parametrize(
    ("meta", "steps", "standard", "expected"),
    [
        (10_000.0, 500.0, 1_500.0, 10.0),
        (0.0, 500.0, 1_500.0, 0.0),
        (10_000.0, 1_500.0, 1_500.0, inf),
        (10_000.0, inf, 1_500.0, inf),
        (10_000.0, 500.0, inf, 0.0),
    ],
)
def test_meta_training_pays_when_its_steps_are_won_back(meta, steps, standard, expected):
    assert tasks_needed(meta, steps, standard) == expected
    if 0 < expected < inf:
        assert meta + expected * steps == expected * standard


def test_the_break_even_number_of_a_table():
    def curve(method, reached_at, meta):
        """Normalised scores that pass one half at a given checkpoint per seed; None for never."""
        return [
            {
                **PLACE,
                "axis": "angle",
                "method": method,
                "variant": "",
                "seed": seed,
                "env_steps": b,
                "return_mean": 0.0,
                "normalised": 1.0 if at is not None and b >= at else 0.0,
                "meta_env_steps": meta,
            }
            for seed, at in enumerate(reached_at)
            for b in (0, 100, 200, 400)
        ]

    scores = pd.DataFrame(
        [
            *curve("td3", [400, 400, None], nan),
            *curve("apb", [100, 100, 200], 3_000.0),
            *curve("maml", [None, None, 100], 3_000.0),
            *curve("apb-random", [200, 200, 200], nan),
        ]
    )
    found = break_even(scores).set_index("method")
    assert found["tasks"].to_dict() == {"apb": 10.0, "apb-random": 0.0, "maml": inf}
    assert found["standard_steps"].unique().tolist() == [400.0]
    assert break_even(scores.assign(normalised=nan)).empty
    assert break_even(scores[scores["method"] != "td3"]).empty
    expected = pd.DataFrame({"method": ["apb", "maml", "apb-random", "td3"], "variant": ""})
    lines = break_even_table(break_even(scores), expected).splitlines()[2:]
    last = [line.strip("| ").split(" | ")[-1] for line in lines]
    assert last == ["10", "never", "1"] and "never" in lines[1]
