"""Welch's interval and tests of equivalence, by hand and by simulation."""

from math import inf, nan, sqrt

import numpy as np
import pytest

from reports.stats.power import student_quantile, student_tail
from reports.stats.welch import (
    difference,
    equivalence,
    seeds_for_equivalence,
    shown_margin,
    welch_interval,
)

X, Y = [1.0, 2.0, 3.0], [0.0, 2.0, 4.0, 6.0]  # s²/n = 1/3 and (20/3)/4 = 5/3
FREEDOM = 4 / ((1 / 9) / 2 + (25 / 9) / 3)


def draw(seed, mean, deviation, n, size):
    return np.random.default_rng(seed).normal(mean, deviation, (size, n))


def test_a_difference_by_hand():
    assert difference(X, Y) == pytest.approx((-1.0, sqrt(2), FREEDOM))
    assert difference([1.0, 1.0], [0.0, 0.0, 0.0]) == (1.0, 0.0, 3.0)
    half = student_quantile(0.975, FREEDOM) * sqrt(2)
    assert welch_interval(X, Y) == pytest.approx((-1 - half, -1 + half))
    np.testing.assert_equal(welch_interval(X, Y[:2]), (nan, nan))


def test_equivalence_by_hand():
    far, near = equivalence(X, Y, 0.5), equivalence(X, Y, 9.0)
    # p of lying above −0.5, which is harder to show than below 0.5
    assert far.supports == pytest.approx(1 - student_tail(0.5 / sqrt(2), FREEDOM))
    assert far.contradicts == pytest.approx(student_tail(0.5 / sqrt(2), FREEDOM))
    assert (
        near.supports == pytest.approx(student_tail(8 / sqrt(2), FREEDOM))
        and near.contradicts > 0.99
    )


def test_better_supports_however_far():
    above = equivalence([5.0, 5.1, 5.2], [0.0, 0.1, 0.2], 0.5)
    assert above.supports < 0.001 and above.contradicts > 0.99
    below = equivalence([0.0, 0.1, 0.2], [5.0, 5.1, 5.2], 0.5)
    assert below.supports > 0.99 and below.contradicts < 0.001


def test_seeds_that_all_score_alike_leave_no_doubt():
    assert equivalence([1.0, 1.0], [1.0, 1.0], 0.1) == (0.0, 1.0)
    assert equivalence([0.0, 0.0], [1.0, 1.0], 0.1) == (1.0, 0.0)


@pytest.mark.parametrize(("n", "m", "ratio"), [(5, 5, 1.0), (10, 10, 1.0), (10, 5, 2.0)])
def test_the_interval_covers_as_often_as_it_says(n, m, ratio):
    pairs = zip(draw(0, 2.0, 1.0, n, 2_000), draw(1, 0.0, ratio, m, 2_000), strict=True)
    intervals = [welch_interval(x, y) for x, y in pairs]
    assert 0.935 < np.mean([low <= 2 <= high for low, high in intervals]) < 0.965


@pytest.mark.parametrize("n", [5, 10])
def test_what_is_worse_by_the_margin_is_hardly_ever_called_near_or_worse(n):
    pairs = list(zip(draw(2, -0.1, 0.1, n, 2_000), draw(3, 0.0, 0.1, n, 2_000), strict=True))
    found = np.array([equivalence(x, y, 0.1) for x, y in pairs])
    assert ((found <= 0.05).mean(axis=0) < 0.062).all()  # 2.5 standard errors above 0.05, in 2000
    alike = np.array([equivalence(x + 0.1, y, 0.1) for x, y in pairs])
    assert (alike[:, 1] <= 0.05).mean() < 0.005


def test_the_margin_that_is_shown_has_its_power():
    margin = shown_margin(0.2, 8, 8)
    pairs = zip(draw(4, 0.0, 0.2, 8, 2_000), draw(5, 0.0, 0.2, 8, 2_000), strict=True)
    assert 0.78 < np.mean([equivalence(x, y, margin).supports <= 0.05 for x, y in pairs]) < 0.87


def test_the_seeds_that_equivalence_needs():
    few = seeds_for_equivalence(0.1, 0.1)
    assert shown_margin(0.1, few, few) <= 0.1 < shown_margin(0.1, few - 1, few - 1)
    assert seeds_for_equivalence(0.1, 0.1, alpha=0.01) > few
    assert seeds_for_equivalence(0.0, 0.1) == 2 and seeds_for_equivalence(100.0, 0.1) is None


@pytest.mark.parametrize("values", [[], [1.0], [1.0, nan], [1.0, inf], [[1.0, 2.0]]])
def test_refuses(values):
    with pytest.raises(ValueError, match="one per seed"):
        difference(values, [1.0, 2.0])
    with pytest.raises(ValueError, match="positive margin, got 0"):
        equivalence(X, Y, 0)
