"""Permutation tests, Student's t, Welch's t and the smallest detectable effect against SciPy."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from reports.stats.intervals import student_interval
from reports.stats.power import detectable_effect, student_quantile, student_tail
from reports.stats.significance import permutation_test
from reports.stats.theory import spearman
from reports.stats.welch import equivalence, welch_interval


@pytest.mark.parametrize(("n", "m"), [(3, 3), (5, 5), (4, 6)])
def test_p_values_are_scipys(peer: Any, n: int, m: int) -> None:
    generator = np.random.default_rng(n)
    x, y = generator.normal(0.0, 1.0, n), generator.normal(1.0, 1.0, m)

    def distance(x: Any, y: Any, axis: int) -> Any:
        return np.abs(x.mean(axis=axis) - y.mean(axis=axis))

    how = {"vectorized": True, "n_resamples": np.inf, "alternative": "greater"}
    theirs = peer("scipy.stats").permutation_test((x, y), distance, **how).pvalue
    assert permutation_test(x, y, generator) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(2, 3), (3, 4), (5, 5), (10, 10), (30, 20)])
@pytest.mark.parametrize(("alpha", "power"), [(0.05, 0.8), (0.01, 0.9)])
def test_the_noncentral_t_has_the_power(
    peer: Any, n: int, m: int, alpha: float, power: float
) -> None:
    stats, freedom = peer("scipy.stats"), n + m - 2
    delta = detectable_effect(1.0, n, m, alpha, power) / np.sqrt(1 / n + 1 / m)
    critical = stats.t.isf(alpha / 2, freedom)
    assert stats.nct.sf(critical, freedom, delta) + stats.nct.cdf(
        -critical, freedom, delta
    ) == pytest.approx(power, abs=1e-9)


@pytest.mark.parametrize("freedom", [0.7, 1, 2, 3.4, 9, 58, 1e4])
def test_students_t_is_scipys(peer: Any, freedom: float) -> None:
    stats = peer("scipy.stats")
    for t in (-40.0, -1.3, 0.0, 0.02, 2.1, 15.0):
        assert student_tail(t, freedom) == pytest.approx(
            stats.t.sf(t, freedom), rel=1e-10, abs=1e-300
        )
    for p in (0.001, 0.4, 0.5, 0.975, 0.9999):
        assert student_quantile(p, freedom) == pytest.approx(stats.t.ppf(p, freedom), rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(3, 3), (5, 5), (10, 4)])
def test_intervals_and_equivalence_are_scipys(peer: Any, n: int, m: int) -> None:
    stats, generator = peer("scipy.stats"), np.random.default_rng(n)
    x, y = generator.normal(0.0, 1.0, n), generator.normal(0.3, 2.0, m)
    assert student_interval(x) == pytest.approx(
        stats.t.interval(0.95, n - 1, x.mean(), stats.sem(x)), rel=1e-9
    )
    theirs = stats.ttest_ind(x, y, equal_var=False)
    assert welch_interval(x, y) == pytest.approx(tuple(theirs.confidence_interval(0.95)), rel=1e-9)

    def p(shift: float, side: str) -> float:
        return float(stats.ttest_ind(x + shift, y, equal_var=False, alternative=side).pvalue)

    found = equivalence(x, y, 1.5)
    assert found.supports == pytest.approx(
        min(max(p(1.5, "greater"), p(-1.5, "less")), p(0.0, "greater")), rel=1e-9
    )
    assert found.contradicts == pytest.approx(p(1.5, "less"), rel=1e-9)


@pytest.mark.parametrize("n", [3, 8, 30])
def test_rank_correlations_are_scipys_also_with_ties(peer: Any, n: int) -> None:
    generator = np.random.default_rng(n)
    x, y = generator.integers(0, n, n).astype(float), generator.normal(size=n)
    theirs = peer("scipy.stats").spearmanr(x, y).statistic
    assert spearman(pd.Series(x), pd.Series(y)) == pytest.approx(theirs, abs=1e-12)
