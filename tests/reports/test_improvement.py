"""Probability of improvement over tables of scores."""

import numpy as np
import pandas as pd
import pytest

from reports.stats.improvement import probability_of_improvement
from reports.stats.score_matrix import EXACT_IMAGES, OTHERS

NAN = float("nan")


def scores_of(*cells):
    """One line per seed from (family, axis, method, scores of the seeds)."""
    return pd.DataFrame(
        [
            {"family": f, "axis": a, "method": m, "variant": "", "seed": s, "score": x}
            for f, a, m, values in cells
            for s, x in enumerate(values)
        ]
    )


SCORES = scores_of(
    ("f", "speed", "a", [1.0, 2.0, 3.0]),
    ("f", "speed", "b", [2.0, 0.0, 0.0]),
    ("g", "mass", "a", [500.0, 400.0, 300.0]),
    ("g", "mass", "b", [900.0, 350.0, 200.0, 100.0]),
    ("h", "mass", "a", [5.0, 4.0, 3.0]),
    ("i", "angle", "b", [5.0, 4.0, 3.0]),
)


def test_by_hand_with_ties_and_ragged_seeds():
    table = probability_of_improvement(SCORES, {}).set_index("method")
    p = ((2 + 2.5 + 3) / 9 + 8 / 12) / 2
    assert table.loc["a", "value"] == pytest.approx(p) and table.loc["b", "value"] == pytest.approx(
        1 - p
    )
    assert table.loc[
        "a", ["other", "other_variant", "n_seeds", "n_families", "n_left_out"]
    ].tolist() == ["b", "", 3, 2, 2]
    low, high = table.loc["a", ["low", "high"]]
    assert 0 <= low < p < high <= 1
    assert table.loc["b", ["low", "high"]].tolist() == [1 - high, 1 - low]


def test_equals_a_bootstrap_by_loops():
    generator = np.random.default_rng(7)
    pair = SCORES[SCORES["family"].isin(["f", "g"])]
    values = {key: lines["score"].to_numpy() for key, lines in pair.groupby(["family", "method"])}
    drawn = []
    for _ in range(4_000):
        now = {key: generator.choice(sample, sample.size) for key, sample in values.items()}
        of_families = []
        for f in "fg":
            left, right = now[f, "a"][:, None], now[f, "b"]
            of_families.append(((left > right) + (left == right) / 2).mean())
        drawn.append(np.mean(of_families))
    got = probability_of_improvement(pair, {}, draws=20_000, corrected=False).iloc[0]
    np.testing.assert_allclose(
        got[["low", "high"]].to_list(), np.quantile(drawn, [0.025, 0.975]), atol=0.02
    )


@pytest.mark.parametrize(("n_families", "n_seeds"), [(1, 5), (1, 10), (6, 5)])
def test_the_interval_covers(n_families, n_seeds):
    draw, hits = np.random.default_rng(5), []
    for _ in range(150):
        cells = [
            (f"f{i}", "x", m, draw.normal(size=n_seeds)) for i in range(n_families) for m in "ab"
        ]
        one = probability_of_improvement(scores_of(*cells), {}, draws=300).iloc[0]
        hits.append(one["low"] <= 0.5 <= one["high"])
    assert np.mean(hits) > 0.9


def test_groups_stay_apart_and_no_common_family_is_no_line():
    table = probability_of_improvement(SCORES, {"g": {"mass"}, "i": {"angle"}})
    assert table[["group", "method", "n_families", "n_left_out"]].to_numpy().tolist() == [
        [EXACT_IMAGES, "a", 1, 1],
        [EXACT_IMAGES, "b", 1, 1],
        [OTHERS, "a", 1, 1],
        [OTHERS, "b", 1, 1],
    ]
    assert probability_of_improvement(SCORES[SCORES["family"].isin(["h", "i"])], {}).empty


def test_another_method_moves_nothing():
    more = pd.concat(
        [scores_of(("f", "speed", "aa", [7.0, 8.0, 9.0]), ("g", "mass", "A", [1.0])), SCORES]
    )
    table = probability_of_improvement(more, {})
    those = table[table["method"].isin(["a", "b"]) & table["other"].isin(["a", "b"])].reset_index(
        drop=True
    )
    pd.testing.assert_frame_equal(those, probability_of_improvement(SCORES, {}))
    assert len(table) == 10  # A and aa have no family in common


def test_two_seeds_have_no_interval_and_missing_scores_are_left_out():
    few = SCORES[SCORES["seed"] < 2]
    table = probability_of_improvement(few, {})
    assert (
        table[["low", "high"]].isna().all(axis=None)
        and set(table["interval"]) == {""}
        and (table["n_seeds"] == 2).all()
    )
    masked = SCORES.assign(score=SCORES["score"].mask(SCORES["seed"] >= 2))
    pd.testing.assert_frame_equal(probability_of_improvement(masked, {}), table)


def test_nothing_measured_and_refusals():
    assert probability_of_improvement(SCORES.iloc[:0], {}).empty
    with pytest.raises(ValueError, match="two scores for"):
        probability_of_improvement(pd.concat([SCORES, SCORES]), {})
    with pytest.raises(ValueError, match="at least one resample"):
        probability_of_improvement(SCORES, {}, draws=0)
