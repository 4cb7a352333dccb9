"""Permutation tests and the smallest detectable effect against SciPy."""

from typing import Any

import numpy as np
import pytest

from reports.power import detectable_effect
from reports.significance import permutation_test


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
def test_the_noncentral_t_has_the_power(peer: Any, n: int, m: int, alpha: float, power: float) -> None:
    stats, freedom = peer("scipy.stats"), n + m - 2
    delta = detectable_effect(1.0, n, m, alpha, power) / np.sqrt(1 / n + 1 / m)
    critical = stats.t.isf(alpha / 2, freedom)
    assert stats.nct.sf(critical, freedom, delta) + stats.nct.cdf(-critical, freedom, delta) == pytest.approx(power, abs=1e-9)
