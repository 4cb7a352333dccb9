"""Fresh seeds against published ones: only what changed is called so, and power is reported."""

import numpy as np
import pandas as pd
import pytest

from reports.stats.power import detectable_effect, pooled_deviation
from reports.stats.regression import BETTER, LEVEL, SAME, TOO_FEW, WORSE, regressions
from reports.stats.significance import permutation_test


def scores(values, **place):
    """One line per seed of each method."""
    where = {
        "suite": "s",
        "budget": "quick",
        "family": "f",
        "split": "ood",
        "axis": "angle",
        "variant": "",
        **place,
    }
    return pd.DataFrame(
        [
            {**where, "method": method, "seed": seed, "return_mean": value}
            for method, mine in values.items()
            for seed, value in enumerate(mine)
        ]
    )


def drawn(mean, n, seed, deviation=1.0):
    return np.random.default_rng(seed).normal(mean, deviation, n)


def test_verdicts():
    known = scores(
        {
            "a": drawn(-20, 10, 0),
            "b": drawn(-20, 10, 1),
            "c": drawn(-20, 10, 2),
            "d": drawn(-20, 10, 3),
        }
    )
    fresh = scores(
        {"a": drawn(-30, 4, 4), "b": drawn(-10, 4, 5), "c": drawn(-20, 4, 6), "e": drawn(0, 4, 7)}
    )
    found = regressions(fresh, known).set_index("method")
    # too good is a change as well
    assert found["verdict"].to_dict() == {"a": WORSE, "b": BETTER, "c": SAME}
    a = found.loc["a"]
    assert a["difference"] == pytest.approx(a["mean"] - a["known_mean"]) and a["difference"] < -8
    assert (a["n_seeds"], a["n_known"]) == (4, 10)
    assert a["known_low"] == known.loc[known["method"] == "a", "return_mean"].min()
    x, y = (table.loc[table["method"] == "a", "return_mean"].to_numpy() for table in (fresh, known))
    assert a["p"] == permutation_test(x, y, np.random.default_rng(0))
    assert found["p_holm"].min() == pytest.approx(3 * a["p"])  # over three lines


def test_what_is_too_small_to_matter_is_no_regression():
    known = scores({"a": np.linspace(-20.0, -19.9, 10)})
    fresh = scores({"a": np.linspace(-20.6, -20.5, 6)})
    one = regressions(fresh, known).iloc[0]
    assert one["p_holm"] < 0.001 and one["verdict"] == SAME  # the difference is 3 % of the mean
    assert one["least_effect"] == pytest.approx(0.05 * 19.95)
    wide = scores({"a": drawn(0.0, 10, 0, 4.0)})
    assert regressions(fresh, wide).iloc[0]["least_effect"] == pytest.approx(
        0.5 * wide["return_mean"].std()
    )


def test_seeds_that_can_never_show_anything_are_told_so():
    one = regressions(scores({"a": [-100.0, -101.0]}), scores({"a": [-1.0, -2.0]})).iloc[0]
    assert one["verdict"] == TOO_FEW and np.isinf(one["detectable"])


def test_detectable_is_of_the_first_of_holms_steps():
    known = {name: drawn(-20, 10, i) for i, name in enumerate("abcdef")}
    fresh = {name: drawn(-20, 4, 10 + i) for i, name in enumerate("abcdef")}
    alone = regressions(scores({"a": fresh["a"]}), scores({"a": known["a"]})).iloc[0]
    among = regressions(scores(fresh), scores(known)).set_index("method").loc["a"]
    assert among["detectable"] > alone["detectable"] and among["p"] == alone["p"]


def test_seeds_that_suffice_for_one_line_do_not_for_two():
    alone = regressions(scores({"a": drawn(-20, 4, 0)}), scores({"a": drawn(-20, 4, 1)}))
    both = regressions(
        *(scores({"a": drawn(-20, 4, i), "b": drawn(-20, 4, i + 2)}) for i in (0, 1))
    )
    assert alone["verdict"].tolist() == [SAME]  # four seeds against four can reach p = 2 / 70
    assert both["verdict"].tolist() == [TOO_FEW] * 2 and np.isinf(both["detectable"]).all()


def test_detectable_is_found_with_a_power_of_80_percent():
    x, y = drawn(-20, 6, 0), drawn(-20, 10, 1)
    one = regressions(scores({"a": x}), scores({"a": y})).iloc[0]
    assert one["detectable"] == pytest.approx(
        detectable_effect(pooled_deviation(x, y), 6, 10, 0.05, 0.8)
    )


def test_axes_and_families_are_apart_and_missing_scores_are_none():
    known = pd.concat(
        [scores({"a": drawn(-20, 10, 0)}), scores({"a": drawn(-50, 10, 1)}, axis="radius")]
    )
    fresh = pd.concat(
        [scores({"a": [*drawn(-20, 4, 2), np.nan]}), scores({"a": drawn(-50, 4, 3)}, axis="radius")]
    )
    found = regressions(fresh, known)
    assert found["axis"].tolist() == ["angle", "radius"] and found["n_seeds"].tolist() == [4, 4]
    assert set(found["verdict"]) == {SAME}


def test_false_alarms_are_as_rare_as_said():
    """In 200 comparisons of 12 unchanged lines any alarm is as rare as the level, within error."""
    alarms = 0
    for trial in range(200):
        known = scores({f"m{i}": drawn(-20, 10, 1_000 + 100 * trial + i) for i in range(12)})
        fresh = scores({f"m{i}": drawn(-20, 4, 900_000 + 100 * trial + i) for i in range(12)})
        alarms += bool((regressions(fresh, known)["verdict"] != SAME).any())
    assert alarms <= 200 * LEVEL + 3 * np.sqrt(200 * LEVEL * (1 - LEVEL))
