"""Statistics over seeds × families against hand results, naive loops, enumeration, simulation."""

from functools import partial
from itertools import product

import numpy as np
import pytest

from reports.stats.bootstrap import estimate, freedom_of, resampled_shares
from reports.stats.estimates import (
    even_shares,
    improvement,
    iqm,
    mean,
    median,
    optimality_gap,
    placement_variances,
    share_above,
)
from reports.stats.power import student_quantile

NAN = float("nan")
RAGGED = np.array(
    [[0.1, 0.9, 0.4, 1.3, 0.2], [0.5, 0.7, NAN, NAN, NAN], [-0.3, 2.0, 0.6, NAN, NAN]]
)
STATISTICS = {"iqm": iqm, "mean": mean, "median": median, "gap": optimality_gap}


def generator(seed=0):
    return np.random.default_rng(seed)


def now(statistic, values):
    values = np.array(values, dtype=float)
    return statistic(values, even_shares(values))


def families(values):
    """The scores of each family, as lists without gaps."""
    return [row[~np.isnan(row)].tolist() for row in values]


def naive(name, scores):
    """A statistic of lists of scores, one list per family, written just as it is defined."""
    means = [sum(row) / len(row) for row in scores]
    if name == "mean":
        return sum(means) / len(means)
    if name == "median":
        ranked, half = sorted(means), len(means) // 2
        return ranked[half] if len(means) % 2 else (ranked[half - 1] + ranked[half]) / 2
    if name == "gap":
        return sum(sum(max(1 - x, 0) for x in row) / len(row) for row in scores) / len(scores)
    # the interquartile mean: lay the weights out along a line, and cut a piece off at either end
    weighed = sorted((x, 1 / len(row) / len(scores)) for row in scores for x in row)
    cut = len(weighed) // 4 / len(weighed)
    total, at = 0.0, 0.0
    for x, weight in weighed:
        total += x * max(0.0, min(at + weight, 1 - cut) - max(at, cut))
        at += weight
    return total / (1 - 2 * cut)


def test_by_hand():
    two = [[0, 0.25, 0.5, 3], [0.5, 0.75, 1, 9]]
    assert now(mean, two) == (0.9375 + 2.8125) / 2
    assert now(iqm, two) == (0.5 + 0.5 + 0.75 + 1) / 4  # without 0 and 0.25, 3 and 9
    assert now(optimality_gap, two) == (1 + 0.75 + 0.5 + 0 + 0.5 + 0.25 + 0 + 0) / 8
    assert now(partial(optimality_gap, target=0.5), two) == (0.5 + 0.25) / 8
    assert now(median, [[0, 2], [5, 5], [100, 200]]) == 5.0
    assert now(median, [[0, 2], [5, 5]]) == 3.0
    assert now(partial(share_above, thresholds=np.array([-1.0, 0.5, 3.0, 9.0])), two).tolist() == [
        1,
        0.5,
        0.125,
        0,
    ]


def test_a_quarter_is_rounded_down_to_whole_scores():
    np.testing.assert_allclose(now(iqm, [[0, 1, 5]]), 2.0)
    np.testing.assert_allclose(now(iqm, [[0, 1, 5, 100]]), 3.0)
    np.testing.assert_allclose(now(iqm, [[0, 1, 2, 3, 4, 100, 200]]), (1 + 2 + 3 + 4 + 100) / 5)


def test_families_with_fewer_seeds_count_as_much():
    assert now(mean, [[1, 1, 1, 1], [0, NAN, NAN, NAN]]) == 0.5
    assert now(optimality_gap, [[1, 1, 1, 1], [0, NAN, NAN, NAN]]) == 0.5
    assert now(
        partial(share_above, thresholds=np.array([0.5])), [[1, 1, 1, 1], [0, NAN, NAN, NAN]]
    ) == [0.5]
    # 5 scores, so a fifth of the weight is cut at either end: 0.3 is left of the ½ at 0, and 0.3 of
    # the ½ at 1
    np.testing.assert_allclose(now(iqm, [[1, 1, 1, 1], [0, NAN, NAN, NAN]]), 0.5)


@pytest.mark.parametrize("name", STATISTICS)
def test_equals_a_loop_on_scores_and_on_resamples(name):
    for values in (RAGGED, generator(3).normal(size=(6, 10)), np.array([[2.0]])):
        np.testing.assert_allclose(
            now(STATISTICS[name], values), naive(name, families(values)), rtol=0, atol=1e-13
        )
        shares = resampled_shares(values, generator(1), 50, fewer=0)
        scores = families(values)
        for share, got in zip(shares, STATISTICS[name](values, shares), strict=True):
            counts = [
                np.rint(row[: len(x)] * len(x)).astype(int)
                for row, x in zip(share, scores, strict=True)
            ]
            drawn = [np.repeat(x, count).tolist() for x, count in zip(scores, counts, strict=True)]
            np.testing.assert_allclose(got, naive(name, drawn), rtol=0, atol=1e-13)


def test_shares_above_equal_a_loop():
    tau = np.array([-0.3, 0.2, 0.55, 1.3])
    shares = resampled_shares(RAGGED, generator(), 20)
    for share, got in zip(shares, share_above(RAGGED, shares, tau), strict=True):
        expected = [
            np.mean(
                [
                    sum(w for x, w in zip(*rows, strict=True) if x > t)
                    for rows in zip(RAGGED, share, strict=True)
                ]
            )
            for t in tau
        ]
        np.testing.assert_allclose(got, expected, atol=1e-14)


def test_improvement_by_hand_and_by_a_loop():
    x, y = np.array([[1.0, 2.0, 3.0], [5.0, NAN, NAN]]), np.array([[2.0, 0.0], [5.0, 6.0]])
    assert improvement(x, y, even_shares(x), even_shares(y)) == ((1 + 1.5 + 2) / 6 + 0.25) / 2
    x, y = RAGGED, np.round(generator(4).normal(size=(3, 4)), 1)
    x_shares = resampled_shares(x, generator(0), 20)
    y_shares = resampled_shares(y, generator(1), 20)
    got = improvement(x, y, x_shares, y_shares)
    for d in range(20):
        total = 0.0
        for f, i, j in product(range(3), range(5), range(4)):
            better = 1.0 if x[f, i] > y[f, j] else 0.5 if x[f, i] == y[f, j] else 0.0
            total += x_shares[d, f, i] * y_shares[d, f, j] * better / 3
        assert abs(got[d] - total) < 1e-14


def test_resamples_are_of_the_seeds_of_each_family():
    shares = resampled_shares(RAGGED, generator(), 4_000, fewer=0)
    assert shares.shape == (4_000, 3, 5)
    np.testing.assert_allclose(shares.sum(axis=2), 1)
    assert (shares[:, np.isnan(RAGGED)] == 0).all()
    counts = shares * [[5], [2], [3]]
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-12)
    np.testing.assert_allclose(shares.mean(axis=0), even_shares(RAGGED), atol=0.02)
    # each of two seeds is drawn once with probability ½; families are drawn independently
    both = (counts[:, 1, 0] == 1).mean()
    assert (
        abs(both - 0.5) < 0.03 and abs(np.corrcoef(counts[:, 0, 0], counts[:, 2, 0])[0, 1]) < 0.06
    )


@pytest.mark.parametrize("name", ["mean", "median", "iqm"])
def test_the_plain_interval_equals_the_quantiles_of_all_resamples(name):
    values = np.array([[0.0, 1.0, 4.0], [2.0, 3.0, 9.0]])
    every = [
        naive(name, [list(a), list(b)])
        for a in product(values[0], repeat=3)
        for b in product(values[1], repeat=3)
    ]
    found = estimate(
        values, STATISTICS[name], generator(), level=0.8, draws=60_000, corrected=False
    )
    np.testing.assert_allclose(
        found, [naive(name, families(values)), *np.quantile(every, [0.1, 0.9])], atol=0.17
    )


def test_the_corrected_interval_by_hand():
    """Percentiles over all resamples of n − 1 seeds, stretched by t over z."""
    values = np.array([[0.0, 1.0, 4.0], [2.0, 3.0, 9.0]])
    every = [
        (np.mean(a) + np.mean(b)) / 2
        for a in product(values[0], repeat=2)
        for b in product(values[1], repeat=2)
    ]
    variances = values.var(axis=1, ddof=1) / 3
    factor = student_quantile(0.9, variances.sum() ** 2 / (variances**2 / 2).sum()) / 1.2815516
    centre = values.mean()
    expected = [centre, *(centre + factor * (np.quantile(every, [0.1, 0.9]) - centre))]
    np.testing.assert_allclose(
        estimate(values, mean, generator(), level=0.8, draws=60_000), expected, atol=0.02
    )
    capped = estimate(values, mean, generator(), level=0.8, draws=2_000, bounds=(2.0, 4.0))
    assert capped[1:] == (2.0, 4.0)


def test_resampled_means_of_one_seed_fewer_have_the_variance_of_a_mean():
    shares = resampled_shares(RAGGED, generator(), 60_000)
    means = np.nansum(RAGGED * shares, axis=2)
    expected = [np.var(row, ddof=1) / len(row) for row in families(RAGGED)]
    np.testing.assert_allclose(means.var(axis=0), expected, rtol=0.03)


def test_degrees_of_freedom():
    sizes = np.array([5.0, 5.0, 3.0])
    assert freedom_of(np.array([1.0, 1.0, 0.5]), sizes) == pytest.approx(
        2.5**2 / (0.25 + 0.25 + 0.125)
    )
    assert (
        freedom_of(np.array([1.0, 0.0, 0.0]), sizes) == 4 and freedom_of(np.zeros(3), sizes) == 10
    )


def test_variances_of_placements_by_hand():
    x, y = np.array([[1.0, 2.0, 4.0]]), np.array([[0.0, 2.0, 3.0, NAN]])
    variances, sizes = placement_variances(x, y)
    of_x, of_y = [1 / 3, 1.5 / 3, 1.0], [1.0, 1.5 / 3, 1 / 3]
    np.testing.assert_allclose(variances, [np.var(terms, ddof=1) / 3 for terms in (of_x, of_y)])
    assert sizes.tolist() == [3, 3]


def covered(name, scores, truth, draws=500):
    found = [
        estimate(values, STATISTICS[name], generator(i), draws=draws)[1:]
        for i, values in enumerate(scores)
    ]
    return np.mean([low <= truth <= high for low, high in found])


@pytest.mark.parametrize(("n_families", "n_seeds"), [(1, 5), (1, 10), (6, 5), (6, 10)])
@pytest.mark.parametrize("name", ["mean", "iqm", "median", "gap"])
def test_the_interval_covers_as_often_as_it_says(n_families, n_seeds, name):
    scores = generator(100 + n_seeds).normal(0.7, 0.3, size=(600, n_families, n_seeds))
    truth = 0.324975 if name == "gap" else 0.7  # E max(1 − X, 0) = 0.3 Φ(1) + 0.3 φ(1)
    # about 95 %, for the median 98 %; three standard errors are 0.027
    assert 0.92 < covered(name, scores, truth) < 0.99


def test_the_interval_of_the_mean_covers_where_one_family_varies_most():
    deviations = np.array([0.5, 0.1, 0.1, 0.1, 0.1, 0.1])[:, None]
    assert (
        0.92 < covered("mean", 0.7 + deviations * generator(7).normal(size=(600, 6, 5)), 0.7) < 0.98
    )


def test_the_plain_interval_covers_less():
    scores = generator(1).normal(3.0, 2.0, size=(600, 1, 5))
    found = [
        estimate(values, mean, generator(i), draws=500, corrected=False)[1:]
        for i, values in enumerate(scores)
    ]
    # P(|T| ≤ z √(4/5)) = 0.846, where T has 4 degrees of freedom
    assert np.mean([low <= 3.0 <= high for low, high in found]) < 0.88


def test_too_few_seeds_have_a_value_and_no_interval():
    for values in ([[1.0, 2.0, 3.0], [1.0, 2.0, NAN]], [[4.0]]):
        value, low, high = estimate(np.array(values), mean, generator())
        assert np.isfinite(value) and np.isnan(low) and np.isnan(high)
    assert np.isfinite(estimate(np.array([[1.0, 2.0, 3.0]]), mean, generator())).all()


def test_draws_come_from_the_generator_alone():
    values, found = generator(5).normal(size=(2, 6)), []
    for seed in (0, 1):
        np.random.seed(seed)
        found.append(estimate(values, iqm, generator(3)))
    assert found[0] == found[1] != estimate(values, iqm, generator(4))


@pytest.mark.parametrize(
    ("values", "how", "complaint"),
    [
        ([1.0, 2.0, 3.0], {}, "families by seeds"),
        (np.empty((0, 0)), {}, "families by seeds"),
        ([[1.0, 2.0, 3.0], [NAN, NAN, NAN]], {}, "no score at all; leave it out"),
        ([[1.0, NAN, 3.0, 4.0]], {}, "follows a missing one"),
        ([[1.0, 2.0, 3.0]], {"level": 95}, r"\(0, 1\), got 95"),
        ([[1.0, 2.0, 3.0]], {"draws": 0}, "at least one resample"),
    ],
)
def test_refuses(values, how, complaint):
    with pytest.raises(ValueError, match=complaint):
        estimate(np.array(values), mean, generator(), **how)


def test_refuses_methods_of_different_families():
    x, y = np.ones((2, 3)), np.ones((1, 3))
    with pytest.raises(ValueError, match="2 and 1 families; select"):
        improvement(x, y, even_shares(x), even_shares(y))
