"""The smallest detectable effect against tables of power analysis and simulation."""

import numpy as np
import pytest

from reports.stats.power import detectable_effect, pooled_deviation, student_quantile, student_tail


@pytest.mark.parametrize(
    ("p", "freedom", "t"),
    [
        (0.975, 1, 12.7062),
        (0.975, 2, 4.30265),
        (0.95, 4, 2.13185),
        (0.995, 9, 3.24984),
        (0.9, 30, 1.31042),
        (0.975, 1e6, 1.95997),
    ],
)
def test_known_quantiles_of_students_t(p, freedom, t):
    """From printed tables."""
    assert student_quantile(p, freedom) == pytest.approx(t, rel=1e-5)
    assert student_quantile(1 - p, freedom) == -student_quantile(p, freedom)
    assert (
        student_tail(t, freedom) == pytest.approx(1 - p, rel=1e-4)
        and student_quantile(0.5, freedom) == 0
    )


def test_the_tail_of_students_t():
    # one degree of freedom is Cauchy's law, two have a closed form
    for t in (-3.0, -0.1, 0.0, 0.4, 7.0):
        assert student_tail(t, 1) == pytest.approx(0.5 - np.arctan(t) / np.pi, rel=1e-12)
        assert student_tail(t, 2) == pytest.approx((1 - t / np.sqrt(2 + t * t)) / 2, rel=1e-12)
    assert [student_tail(t, 2.5) for t in (-np.inf, np.inf)] == [1.0, 0.0]
    between = student_quantile(0.975, 7.3)
    assert student_quantile(0.975, 8) < between < student_quantile(0.975, 7)
    for wrong in ((np.nan, 3), (1.0, 0), (1.0, np.nan)):
        with pytest.raises(ValueError, match="positive degrees of freedom"):
            student_tail(*wrong)
    with pytest.raises(ValueError, match=r"probability in \(0, 1\), got 1"):
        student_quantile(1, 3)


@pytest.mark.parametrize(
    ("n", "m", "effect"),
    [
        (2, 2, 5.6535),
        (3, 3, 3.0707),
        (5, 5, 2.0244),
        (10, 10, 1.3249),
        (26, 26, 0.7923),
        (64, 64, 0.4991),
    ],
)
def test_known_effects(n, m, effect):
    """Effects, in deviations, for power 0.8 (noncentral t); Cohen: 26 seeds for 0.8, 64 for 0.5."""
    assert detectable_effect(1.0, n, m) == pytest.approx(effect, abs=1e-3)


def test_the_t_test_detects_it_so_often():
    # critical: Student's t with 7 degrees of freedom, two-sided 5 %
    generator, critical = np.random.default_rng(0), 2.364624
    effect = detectable_effect(2.0, 3, 6, power=0.6)
    x, y = generator.normal(effect, 2.0, (20_000, 3)), generator.normal(0.0, 2.0, (20_000, 6))
    pooled = np.sqrt((2 * x.var(axis=1, ddof=1) + 5 * y.var(axis=1, ddof=1)) / 7)
    t = (x.mean(axis=1) - y.mean(axis=1)) / pooled / np.sqrt(1 / 3 + 1 / 6)
    assert abs((np.abs(t) > critical).mean() - 0.6) < 0.012


def test_scales_and_falls_as_it_should():
    assert detectable_effect(3.0, 5, 5) == pytest.approx(3 * detectable_effect(1.0, 5, 5))
    assert (
        detectable_effect(1.0, 4, 6) == detectable_effect(1.0, 6, 4) > detectable_effect(1.0, 5, 5)
    )
    assert (
        detectable_effect(1.0, 5, 5, alpha=0.01)
        > detectable_effect(1.0, 5, 5)
        > detectable_effect(1.0, 5, 5, power=0.5)
    )
    assert detectable_effect(0.0, 5, 5) == 0 and np.isnan(detectable_effect(float("nan"), 5, 5))


def test_pooled_deviation():
    assert pooled_deviation([0.0, 2.0], [5.0, 5.0, 8.0]) == pytest.approx(np.sqrt((2 + 6) / 3))
    assert pooled_deviation([1.0], [0.0, 2.0]) == pytest.approx(np.sqrt(2))
    assert np.isnan(pooled_deviation([1.0], [2.0]))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ((1.0, 1, 1), "a deviation needs at least three seeds"),
        ((1.0, 0, 5), "a deviation needs at least three seeds"),
        ((-1.0, 5, 5), "cannot be negative"),
        ((1.0, 5, 5, 5), "alpha = 5"),
    ],
)
def test_refuses(values, complaint):
    with pytest.raises(ValueError, match=complaint):
        detectable_effect(*values)
