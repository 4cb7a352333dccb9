"""Permutation tests and Holm's correction against definitions, enumeration and simulation."""

from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest

from reports.stats.power import detectable_effect
from reports.stats.significance import differences, holm, lowest_p, permutation_test

NAN = float("nan")


def generator(seed=0):
    return np.random.default_rng(seed)


def p_of(x, y, **how):
    return permutation_test(x, y, generator(), **how)


def naive_p(x, y):
    pooled, n = [*x, *y], len(x)
    observed = abs(np.mean(x) - np.mean(y))
    found = []
    for places in combinations(range(len(pooled)), n):
        chosen = [pooled[i] for i in places]
        rest = [pooled[i] for i in range(len(pooled)) if i not in places]
        found.append(abs(np.mean(chosen) - np.mean(rest)) >= observed - 1e-9)
    return np.mean(found)


def test_by_hand():
    assert p_of([0, 1, 2], [10, 11, 12]) == 2 / 20
    assert p_of([0, 1], [10, 11, 12]) == 1 / 10
    assert p_of([1.0], [1.0]) == p_of([3, 3], [3, 3, 3]) == 1.0
    assert p_of([0, 2], [1, 3]) == 4 / 6  # the differences of means are ±2, ±1 and twice 0


def test_equals_a_loop():
    draw = generator(1)
    for n, m in ((3, 3), (2, 5), (5, 4), (1, 6)):
        x, y = draw.normal(size=n).round(1), draw.normal(1.0, 1.0, size=m).round(1)
        assert p_of(x, y) == pytest.approx(naive_p(x, y)) == p_of(y, x)


def test_neither_scale_nor_place_matters():
    x, y = [0.1, 0.2, 0.7, 0.3], [0.3, 0.6, 0.9, 0.1]
    assert (
        p_of(x, y)
        == p_of(np.array(x) * 1e-7, np.array(y) * 1e-7)
        == p_of(np.array(x) + 1e5, np.array(y) + 1e5)
    )


def test_p_is_uniform_over_all_ways_to_call_the_seeds():
    """Under the null all rearrangements are equally likely: P(p ≤ t) = t at each value of p."""
    pooled = generator(2).normal(size=8)
    found = []
    for places in combinations(range(8), 3):
        chosen = np.isin(np.arange(8), places)
        found.append(p_of(pooled[chosen], pooled[~chosen]))
    for t in set(found):
        assert np.mean(np.array(found) <= t + 1e-12) == pytest.approx(t)
    assert len(set(found)) == comb(8, 3)


def test_drawn_p_values_are_uniform_too():
    draw = generator(3)
    found = np.array(
        [
            permutation_test(
                draw.gamma(2.0, size=6), draw.gamma(2.0, size=7), draw, exact_up_to=1, draws=199
            )
            for _ in range(2_000)
        ]
    )
    for t in (0.05, 0.2, 0.5, 0.9):
        assert abs((found <= t + 1e-12).mean() - t) < 3.5 * np.sqrt(t * (1 - t) / 2_000)
    assert found.min() >= 1 / 200


def test_drawn_agree_with_all():
    x, y = [0.1, 0.5, 0.9, 0.2, 0.4], [0.6, 0.8, 0.7, 1.1, 0.3]
    assert abs(p_of(x, y, exact_up_to=1, draws=40_000) - p_of(x, y)) < 0.008


def test_draws_come_from_the_generator_alone():
    x, y, found = [0.1, 0.5, 0.9], [0.6, 0.8, 0.7], []
    for seed in (0, 1):
        np.random.seed(seed)
        found.append(p_of(x, y, exact_up_to=1, draws=50))
    assert found[0] == found[1]


def test_the_lowest_p_is_that_of_seeds_that_do_not_overlap():
    for n, m in ((1, 1), (2, 2), (2, 3), (5, 5), (3, 6)):
        assert p_of(np.arange(n), 100 + np.arange(m) ** 2) == pytest.approx(lowest_p(n, m))
    assert lowest_p(20, 20) == 1 / 20_001
    assert lowest_p(3, 3) == 0.1 and lowest_p(5, 5) == pytest.approx(0.00794, abs=1e-5)


def test_power_at_the_smallest_effect_is_about_what_was_asked_for():
    draw, effect = generator(4), detectable_effect(1.0, 5, 5)
    rejected = [
        permutation_test(draw.normal(effect, 1, 5), draw.normal(0, 1, 5), draw) <= 0.05
        for _ in range(1_500)
    ]
    assert 0.74 < np.mean(rejected) < 0.82  # a little less than the t-test's 0.8: 0.777 of 4000


def naive_holm(p):
    """Adjusted p: the lowest level at which the step-down procedure rejects."""
    m, order = len(p), sorted(range(len(p)), key=lambda i: p[i])
    adjusted = {}
    for rank, i in enumerate(order):
        adjusted[i] = min(1.0, max((m - r) * p[j] for r, j in enumerate(order[: rank + 1])))
    return [adjusted[i] for i in range(m)]


def test_holm():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.04, NAN, 0.01]), [0.04, NAN, 0.02])
    assert (
        holm([]).size == 0
        and holm([0.7, 0.6]).tolist() == [1.0, 1.0]
        and np.isnan(holm([NAN])).all()
    )
    for p in generator(5).random((50, 7)).round(1):
        np.testing.assert_allclose(holm(p), naive_holm(p.tolist()))


def test_holm_keeps_the_chance_of_any_false_rejection():
    p = generator(6).random((4_000, 6))
    rejected = np.mean([(holm(row) <= 0.05).any() for row in p])
    assert abs(rejected - (1 - (1 - 0.05 / 6) ** 6)) < 0.012


def scores_of(*cells):
    """One line per seed from (family, axis, method, scores of the seeds)."""
    return pd.DataFrame(
        [
            {"family": f, "axis": a, "method": m, "variant": "", "seed": s, "score": x}
            for f, a, m, values in cells
            for s, x in enumerate(values)
        ]
    )


A, B = [1.0, 2.0, 3.0, 4.0, 5.0], [11.0, 12.0, 13.0, 14.0, 15.0]
SCORES = scores_of(
    ("f", "speed", "a", A),
    ("f", "speed", "b", B),
    ("g", "angle", "a", A),
    ("g", "angle", "b", [2.0, 3.0, 4.0, 5.0]),
    ("g", "radius", "a", A),
    ("g", "radius", "b", A),
    ("h", "mass", "b", A),
)


def test_differences_of_a_pair():
    table = differences(SCORES)
    assert table[["method", "other", "family", "axis"]].to_numpy().tolist() == [
        ["b", "a", "f", "speed"],
        ["b", "a", "g", "angle"],
        ["b", "a", "g", "radius"],
    ]
    assert table["difference"].tolist() == [10.0, 0.5, 0.0]
    p = [2 / 252, naive_p(A, [2.0, 3.0, 4.0, 5.0]), 1.0]
    np.testing.assert_allclose(table["p"], p)
    np.testing.assert_allclose(table["p_holm"], naive_holm(p))
    np.testing.assert_allclose(table["lowest_p"], [2 / 252, 1 / 126, 2 / 252])
    np.testing.assert_allclose(
        table["deviation"], [np.sqrt(2.5), np.sqrt((10 + 5) / 7), np.sqrt(2.5)]
    )
    np.testing.assert_allclose(
        table["smallest_effect"].iloc[0], detectable_effect(np.sqrt(2.5), 5, 5)
    )
    assert table[["n_seeds", "n_other"]].to_numpy().tolist() == [[5, 5], [4, 5], [5, 5]]


def test_against_one_arm():
    three = pd.concat([SCORES, scores_of(("f", "speed", "c", [0.0, 0.1, 0.2]))])
    table = differences(three, ("b", ""))
    assert table[["method", "other", "family"]].to_numpy().tolist() == [
        ["a", "b", "f"],
        ["a", "b", "g"],
        ["a", "b", "g"],
        ["c", "b", "f"],
    ]
    assert table["difference"].iloc[0] == -10.0
    assert len(differences(three)) == 5


def test_another_method_moves_nothing():
    more = pd.concat([scores_of(("f", "speed", "aa", [0.0, 9.0]), ("h", "mass", "A", A)), SCORES])
    table = differences(more)
    those = table[table["method"].isin(["a", "b"]) & table["other"].isin(["a", "b"])].reset_index(
        drop=True
    )
    pd.testing.assert_frame_equal(
        those.drop(columns="p_holm"), differences(SCORES).drop(columns="p_holm")
    )
    np.testing.assert_allclose(table["p_holm"], naive_holm(table["p"].tolist()))  # over all pairs


def test_among_equal_methods_hardly_ever_any_pair_differs():
    """Four methods, two families, six seeds: twelve tests together."""
    draw, alarms = generator(7), 0
    for _ in range(200):
        equal = scores_of(
            *((family, "x", method, draw.normal(size=6)) for family in "fg" for method in "abcd")
        )
        alarms += (differences(equal)["p_holm"] <= 0.05).any()
    assert alarms / 200 <= 0.05


def test_so_few_seeds_that_nothing_is_ever_detected():
    table = differences(
        scores_of(("f", "x", "a", [0.0, 0.1, 0.2]), ("f", "x", "b", [5.0, 5.1, 5.2]))
    )
    assert table[["p", "lowest_p", "smallest_effect"]].iloc[0].tolist() == [0.1, 0.1, np.inf]


def test_suites_stay_apart_and_missing_scores_are_left_out():
    two = pd.concat(
        [
            SCORES.assign(suite="s"),
            SCORES.assign(suite="t", score=SCORES["score"].mask(SCORES["axis"] == "angle")),
        ]
    )
    table = differences(two)
    assert table.groupby("suite").size().to_dict() == {"s": 3, "t": 2}
    np.testing.assert_allclose(table.loc[table["suite"] == "t", "p_holm"], [4 / 252, 1.0])
    assert differences(SCORES.iloc[:0]).empty and "p_holm" in differences(SCORES.iloc[:0])


def test_refuses():
    for x in ([], [[1.0]], [1.0, NAN]):
        with pytest.raises(ValueError, match="one per seed"):
            p_of(x, [1.0])
    with pytest.raises(ValueError, match="at least one rearrangement"):
        p_of([1.0], [2.0], draws=0)
    for p in ([0.5, 1.5], [-0.1], 0.5):
        with pytest.raises(ValueError, match=r"p-values in \[0, 1\]"):
            holm(p)
    with pytest.raises(
        ValueError, match=r"no score of \('c', ''\); the arms .*\('a', ''\), \('b', ''\)"
    ):
        differences(SCORES, ("c", ""))
