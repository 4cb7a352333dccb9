"""Aggregates and profiles of hand-made score tables: what is combined, left out and counted."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from reports.parts.generalisation_gap import generalisation_gaps
from reports.stats.aggregates import COUNTS, IQM, MEAN, STATISTICS, aggregate, performance_profiles
from reports.stats.bootstrap import BOOTSTRAP, estimate
from reports.stats.curve_areas import adaptation_areas
from reports.stats.estimates import mean
from reports.stats.improvement import probability_of_improvement
from reports.stats.score_matrix import EXACT_IMAGES, OTHERS
from reports.stats.scores import IN_DISTRIBUTION, adaptation_scores, coverage, last_scores
from reports.stats.significance import differences
from results.schema import Row, to_frame

NAN = float("nan")
EXACT = {"point": frozenset({"angle"}), "joints": frozenset({"joints"})}


def line(family="vel", axis="speed", method="apb", seed=0, score=0.5, variant="", **more):
    return {
        "family": family,
        "axis": axis,
        "method": method,
        "variant": variant,
        "seed": seed,
        "score": score,
        **more,
    }


def scores_of(*cells, **more):
    """One line per seed from (family, axis, method, scores of the seeds)."""
    return pd.DataFrame(
        [line(f, a, m, s, x, **more) for f, a, m, values in cells for s, x in enumerate(values)]
    )


def expected_of(*arms, n_expected=3):
    """A `coverage` table from (family, method)."""
    return pd.DataFrame(
        [{"family": f, "method": m, "variant": "", "n_expected": n_expected} for f, m in arms]
    )


def of(table, *columns, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    return table[list(columns)].to_numpy().tolist()


FULL = scores_of(
    ("vel", "speed", "apb", [0.2, 0.4, 0.6]),
    ("rand", "dynamics", "apb", [0.0, 0.1, 0.2]),
    ("point", "angle", "apb", [0.9, 1.0, 1.1]),
    ("point", "radius", "apb", [0.3, 0.3, 0.3]),
    ("vel", "speed", "td3", [0.1, 0.1, 0.4]),
)


def test_a_line_per_group_arm_and_statistic():
    table = aggregate(FULL, EXACT)
    names = table[["group", "method", "statistic"]].to_numpy().tolist()
    pairs = [(EXACT_IMAGES, "apb"), (OTHERS, "apb"), (OTHERS, "td3")]
    assert names == [[*pair, statistic] for pair in pairs for statistic in STATISTICS]
    assert list(table.columns) == [
        "group",
        "method",
        "variant",
        "statistic",
        "value",
        "low",
        "high",
        "interval",
        *COUNTS,
    ]
    np.testing.assert_allclose(
        of(table, "value", group=OTHERS, method="apb", statistic=MEAN), [[0.8 / 3]]
    )
    assert of(table, "n_seeds", "n_families", "n_scores", statistic=IQM) == [
        [3, 1, 3],
        [3, 3, 9],
        [3, 1, 3],
    ]
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()
    assert set(table["interval"]) == {BOOTSTRAP}


def test_axes_of_different_kinds_and_tasks_without_one_stay_apart():
    inside = scores_of(("point", IN_DISTRIBUTION, "apb", [5.0, 5.0, 5.0]))
    table = aggregate(pd.concat([FULL[FULL["family"] == "point"], inside]), EXACT)
    found = dict(of(table, "group", "value", statistic=MEAN))
    assert found == {
        EXACT_IMAGES: pytest.approx(1.0),
        IN_DISTRIBUTION: 5.0,
        OTHERS: pytest.approx(0.3),
    }


def test_suites_budgets_and_splits_stay_apart():
    for name in ("suite", "budget", "split"):
        both = pd.concat(
            [FULL.assign(**{name: "a"}), FULL.assign(**{name: "b"}, score=FULL["score"] + 1)]
        )
        table = aggregate(both, EXACT)
        assert table.columns[0] == name
        alone = aggregate(FULL, EXACT)
        pd.testing.assert_frame_equal(
            table[table[name] == "a"].drop(columns=name).reset_index(drop=True), alone
        )


def test_another_method_moves_nothing():
    alone = FULL[FULL["method"] == "apb"]
    more = pd.concat(
        [scores_of(("vel", "speed", "aaa", [9.0, 1.0]), ("rand", "dynamics", "zzz", [3.0])), FULL]
    )
    for tabulate in (aggregate, performance_profiles):
        before, after = tabulate(alone, EXACT), tabulate(more, EXACT)
        pd.testing.assert_frame_equal(
            before, after[after["method"] == "apb"].reset_index(drop=True)
        )


def test_the_order_of_lines_does_not_matter():
    pd.testing.assert_frame_equal(
        aggregate(FULL.sample(frac=1, random_state=1), EXACT), aggregate(FULL, EXACT)
    )


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    scores = scores_of(("vel", "speed", "apb", np.random.default_rng(0).normal(size=9)))
    one, same, other = (aggregate(scores, EXACT, seed=seed)["low"] for seed in (0, 0, 1))
    assert one.equals(same) and not one.equals(other)


def test_a_missing_score_is_left_out_and_counted_and_never_zero():
    ragged = FULL.assign(score=FULL["score"].mask((FULL["family"] == "rand") & (FULL["seed"] == 1)))
    table = aggregate(ragged, EXACT)
    (others,) = of(
        table,
        "value",
        "n_seeds",
        "n_scores",
        "n_missing",
        group=OTHERS,
        method="apb",
        statistic=MEAN,
    )
    assert others == [pytest.approx((0.4 + 0.1 + 0.3) / 3), 2, 8, 1]
    assert of(table, "low", "interval", group=OTHERS, method="apb", statistic=MEAN) == [
        [pytest.approx(NAN, nan_ok=True), ""]
    ]
    dropped = aggregate(ragged.dropna(), EXACT)
    pd.testing.assert_frame_equal(
        dropped.drop(columns="n_missing"), table.drop(columns="n_missing")
    )


def test_what_is_expected_and_not_there_is_missing():
    arms = [
        ("vel", "apb"),
        ("rand", "apb"),
        ("point", "apb"),
        ("vel", "td3"),
        ("rand", "td3"),
        ("vel", "maml"),
        ("else", "apb"),
    ]
    table = aggregate(FULL, EXACT, expected_of(*arms, n_expected=5))
    found = of(table, "group", "method", "n_families", "n_scores", "n_missing", statistic=IQM)
    assert found == [
        [EXACT_IMAGES, "apb", 1, 3, 2],
        [OTHERS, "apb", 3, 9, 6],
        [OTHERS, "maml", 0, 0, 5],
        [OTHERS, "td3", 1, 3, 7],
    ]
    assert table.loc[table["method"] == "maml", ["value", "low", "high"]].isna().all(axis=None)
    # arms that were not expected lack nothing
    unplanned = aggregate(FULL, EXACT, expected_of(("vel", "apb")))
    assert (unplanned["n_missing"] == 0).all() and set(unplanned["method"]) == {"apb", "td3"}


def test_families_without_references_are_left_out_and_counted():
    table = pd.concat(
        [
            FULL,
            scores_of(("goal", "radius", "apb", [NAN] * 3), ("goal", "radius", "td3", [NAN] * 3)),
        ]
    )
    before, after = aggregate(FULL, EXACT), aggregate(table, EXACT)
    pd.testing.assert_frame_equal(
        before.drop(columns="n_left_out"), after.drop(columns="n_left_out")
    )
    assert of(after, "group", "method", "n_left_out", statistic=IQM) == [
        [EXACT_IMAGES, "apb", 0],
        [OTHERS, "apb", 1],
        [OTHERS, "td3", 1],
    ]
    arms = [("goal", "apb"), ("goal", "td3"), ("goal", "maml")]
    planned = aggregate(table, EXACT, expected_of(*arms, n_expected=3))
    assert of(planned, "n_missing", "n_left_out", method="maml", statistic=IQM) == [[0, 1]]
    # once any method has a score there, a method without one lacks it
    third = pd.concat([table, scores_of(("goal", "radius", "rl2", [1.0]))])
    assert of(
        aggregate(third, EXACT),
        "n_missing",
        "n_left_out",
        group=OTHERS,
        method="td3",
        statistic=IQM,
    ) == [[3, 0]]


def test_families_with_close_references_are_counted():
    marked = FULL.assign(
        uncertain=pd.array(np.where(FULL["family"] == "vel", True, None), dtype="boolean")
    )
    assert of(aggregate(marked, EXACT), "n_uncertain", statistic=IQM) == [[0], [1], [1]]


def test_a_table_as_the_store_types_it():
    typed = FULL.astype(
        {
            "family": "string",
            "axis": "category",
            "method": "string",
            "variant": "string",
            "seed": "Int64",
        }
    )
    pd.testing.assert_frame_equal(
        aggregate(typed.astype({"score": "Float64"}), EXACT), aggregate(FULL, EXACT)
    )
    renamed = FULL.rename(columns={"score": "normalised"})
    pd.testing.assert_frame_equal(
        aggregate(renamed, EXACT, value="normalised"), aggregate(FULL, EXACT)
    )


def test_from_rows_to_every_statistic():
    """The tables that the rest of the package makes are the ones that these functions take."""
    cell = {
        "budget": "b",
        "family_version": "1",
        "method_version": 1,
        "variant": "",
        "config_hash": "",
        "stage": "adapt",
    }
    rows, cells = [], []
    for family, split, axis, method, seed in product(
        "fg", ("id", "ood"), ("x",), ("apb", "td3"), range(4)
    ):
        place = {"suite": "s", "family": family, "split": split, "method": method, "seed": seed}
        cells.append(
            {**place, "budget": "b", "variant": "", "status": "done" if seed < 3 else "missing"}
        )
        for b in (0, 50, 100) if seed < 3 else ():
            value = b / 10 + seed + (method == "apb") - 5 * (split == "ood")
            shift = {"shift_axis": axis, "shift": 1.0} if split == "ood" else {}
            how = {"task_index": 0, "task_params": "{}", "env_steps": b, "return_mean": value}
            rows.append(Row(**cell, **place, **shift, **how))
    places = pd.DataFrame(cells)[["family", "split"]].drop_duplicates().query("family == 'f'")
    bounds = {
        "task_index": 0,
        "task_params": "{}",
        "random": 0.0,
        "zero": 0.0,
        "oracle": 20.0,
        "floor": 0.0,
        "uncertain": True,
    }
    scores = adaptation_scores(
        to_frame(rows), pd.DataFrame(cells), places.assign(family_version="1", **bounds)
    )
    last, expected = last_scores(scores), coverage(pd.DataFrame(cells))

    table = aggregate(last, {"f": {"x"}}, expected, value="normalised")
    found = of(table, "split", "group", "value", *COUNTS, method="apb", statistic=MEAN)
    assert found == [
        ["id", IN_DISTRIBUTION, pytest.approx(12 / 20), 3, 1, 3, 1, 1, 1],
        ["ood", EXACT_IMAGES, pytest.approx(7 / 20), 3, 1, 3, 1, 0, 1],
        ["ood", OTHERS, pytest.approx(NAN, nan_ok=True), 0, 0, 0, 0, 1, 0],
    ]
    assert len(performance_profiles(last, {}, [0.5], value="normalised")) == 4
    assert set(probability_of_improvement(last, {}, value="return_mean")["n_families"]) == {2}
    assert (
        generalisation_gaps(last, value="return_mean")["gap"].tolist() == [pytest.approx(5.0)] * 4
    )
    assert (
        differences(last, ("td3", ""), value="return_mean")["difference"].tolist()
        == [pytest.approx(1.0)] * 4
    )
    areas = adaptation_areas(scores, value="return_mean")
    assert areas["area"].iloc[0] == pytest.approx(8.5) and areas["at_zero"].iloc[0] == 1.0


def test_profiles_are_shares_above_each_threshold():
    table = performance_profiles(FULL, EXACT, [0.9, 0.0, 0.3])
    assert of(table, "threshold", "value", group=OTHERS, method="apb") == [
        [0.0, pytest.approx((1 + 2 / 3 + 1) / 3)],
        [0.3, pytest.approx((2 / 3 + 0 + 0) / 3)],
        [0.9, 0.0],
    ]
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()
    assert of(table, "n_seeds", "n_families", "interval", method="td3", threshold=0.9) == [
        [3, 1, BOOTSTRAP]
    ]
    profiles = performance_profiles(FULL, EXACT)
    assert (profiles.groupby(["group", "method"])["value"].diff().dropna() <= 1e-12).all()
    assert profiles[["low", "high"]].stack().between(0, 1).all()


def test_intervals_are_corrected_unless_told_otherwise():
    for tabulate in (aggregate, performance_profiles):
        corrected, plain = (tabulate(FULL, EXACT, corrected=which) for which in (True, False))
        pd.testing.assert_frame_equal(
            corrected.drop(columns=["low", "high"]), plain.drop(columns=["low", "high"])
        )
        assert not corrected[["low", "high"]].equals(plain[["low", "high"]])
    wide, narrow = (
        of(aggregate(FULL, EXACT, corrected=which), "low", "high", statistic=MEAN)[1]
        for which in (True, False)
    )
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_intervals_are_of_the_level_that_their_name_says():
    assert BOOTSTRAP.startswith("95 %")
    for tabulate in (aggregate, performance_profiles):
        pd.testing.assert_frame_equal(tabulate(FULL, EXACT), tabulate(FULL, EXACT, level=0.95))
    values = np.array([[0.2, 0.4, 0.6, 0.1]])
    said, named = (
        estimate(values, mean, np.random.default_rng(0), **level) for level in ({}, {"level": 0.95})
    )
    np.testing.assert_array_equal(said, named)


def test_nothing_measured_gives_empty_tables():
    for empty in (FULL.iloc[:0], FULL.iloc[:0].assign(suite="", budget="", split="")):
        table = aggregate(empty, EXACT)
        assert table.empty and "value" in table and performance_profiles(empty, EXACT).empty
    nothing = FULL.assign(score=NAN)
    assert performance_profiles(nothing, EXACT).empty
    assert (
        aggregate(nothing, EXACT)["value"].isna().all()
        and (aggregate(nothing, EXACT)["n_families"] == 0).all()
    )


@pytest.mark.parametrize(
    ("scores", "complaint"),
    [
        (FULL.drop(columns="axis"), "no column 'axis', only family"),
        (FULL.drop(columns="score"), "no column 'score'"),
        (pd.concat([FULL, FULL]), r"two scores for .*'vel'.*select one checkpoint"),
        (FULL.assign(score="high"), "not a number.*convert it first"),
        (FULL.assign(score=float("inf")), "infinite score of"),
        (FULL.assign(seed=None), "'seed' .* missing"),
        (FULL.assign(seed=0.5), "'seed' holds 0.5; .* whole numbers"),
        (FULL.assign(seed="first"), "'seed' holds something that is not a number"),
        (FULL.assign(method=None), "'method' .* missing"),
    ],
)
def test_refuses_tables(scores, complaint):
    for tabulate in (aggregate, performance_profiles):
        with pytest.raises(ValueError, match=complaint):
            tabulate(scores, EXACT)


def test_refuses_settings():
    with pytest.raises(ValueError, match="is the text 'angle'; give a set"):
        aggregate(FULL, {"point": "angle"})
    with pytest.raises(ValueError, match="finite thresholds"):
        performance_profiles(FULL, EXACT, [0.1, NAN])
    with pytest.raises(ValueError, match=r"\(0, 1\), got 95"):
        aggregate(FULL, EXACT, level=95)
