"""Student's interval and the spread over seeds, by hand and by simulation."""

import numpy as np
import pytest

from reports.stats.intervals import MIN_MAX, STUDENT, spread, student_interval


def test_equal_values_have_an_interval_of_no_width():
    assert student_interval([2.5] * 7) == (2.5, 2.5)


def test_by_hand():
    half = 4.302653 * 3 / np.sqrt(3)  # t of two degrees of freedom, s = 3
    np.testing.assert_allclose(student_interval([0.0, 3.0, 6.0]), (3 - half, 3 + half), rtol=1e-6)
    half = 2.131847 * np.sqrt(10 / 5)  # at 90 %, four degrees of freedom, s² = 10
    np.testing.assert_allclose(
        student_interval([0, 2, 4, 6, 8], level=0.9), (4 - half, 4 + half), rtol=1e-6
    )


@pytest.mark.parametrize("n_seeds", [5, 10])
def test_covers_the_mean_as_often_as_it_says(n_seeds):
    samples = np.random.default_rng(n_seeds).normal(3.0, 2.0, size=(4_000, n_seeds))
    intervals = [student_interval(sample) for sample in samples]
    assert 0.94 < np.mean([low <= 3.0 <= high for low, high in intervals]) < 0.96


@pytest.mark.parametrize("values", [[], [1.0], [[1.0, 2.0]], [1.0, float("nan")]])
def test_refuses_what_is_not_a_vector_of_seeds(values):
    with pytest.raises(ValueError, match="one per seed"):
        student_interval(values)


def test_refuses_a_level_that_is_no_share():
    with pytest.raises(ValueError, match=r"\(0, 1\), got 95"):
        student_interval([1.0, 2.0], level=95)


def test_spread_by_number_of_seeds():
    nan = float("nan")
    np.testing.assert_equal(spread([]), (nan, nan, nan, 0, ""))
    np.testing.assert_equal(spread([nan]), (nan, nan, nan, 0, ""))
    np.testing.assert_equal(spread([4.0, nan]), (4.0, nan, nan, 1, ""))
    assert spread([4.0, 1.0]) == (2.5, 1.0, 4.0, 2, MIN_MAX)
    assert spread([0.0, 3.0, 6.0]) == (3.0, *student_interval([0.0, 3.0, 6.0]), 3, STUDENT)
