"""The bootstrap against what can be worked out by hand, by enumeration and by simulation."""

from itertools import product

import numpy as np
import pytest

from reports.stats import BOOTSTRAP, MIN_MAX, bootstrap_interval, spread


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_equal_values_have_an_interval_of_no_width():
    assert bootstrap_interval([2.5] * 7, generator()) == (2.5, 2.5)


def test_of_three_seeds_the_95_percent_interval_is_the_range():
    # each extreme mean has probability 1/27 = 3.7 %, more than the 2.5 % that are cut off
    assert bootstrap_interval([0.0, 3.0, 6.0], generator()) == (0.0, 6.0)


def test_equals_the_quantiles_of_all_resamples():
    values = np.array([0.0, 1.0, 2.0, 4.0, 8.0])
    means = np.array([np.mean(resample) for resample in product(values, repeat=5)])
    expected = np.quantile(means, [0.05, 0.95])
    np.testing.assert_allclose(bootstrap_interval(values, generator(), level=0.9, draws=40_000), expected, atol=0.11)


def test_covers_the_mean_about_as_often_as_it_says():
    draw, resample = generator(1), generator(2)
    samples = draw.normal(3.0, 2.0, size=(400, 20))
    intervals = [bootstrap_interval(sample, resample, draws=400) for sample in samples]
    covered = np.mean([low <= 3.0 <= high for low, high in intervals])
    assert 0.88 < covered < 0.97  # the percentile method is a little too narrow at 20 values


def test_draws_come_from_the_generator_alone():
    np.random.seed(0)
    first = bootstrap_interval([1.0, 5.0, 2.0, 8.0, 7.0], generator(3))
    np.random.seed(1)
    assert bootstrap_interval([1.0, 5.0, 2.0, 8.0, 7.0], generator(3)) == first


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [1.0, float("nan")]])
def test_refuses_what_is_not_a_vector_of_seeds(values):
    with pytest.raises(ValueError, match="one per seed"):
        bootstrap_interval(values, generator())


def test_refuses_a_level_that_is_no_share():
    with pytest.raises(ValueError, match=r"\(0, 1\), got 95"):
        bootstrap_interval([1.0, 2.0], generator(), level=95)


def test_spread_by_number_of_seeds():
    nan = float("nan")
    np.testing.assert_equal(spread([], generator()), (nan, nan, nan, 0, ""))
    np.testing.assert_equal(spread([nan], generator()), (nan, nan, nan, 0, ""))
    np.testing.assert_equal(spread([4.0, nan], generator()), (4.0, nan, nan, 1, ""))
    assert spread([4.0, 1.0], generator()) == (2.5, 1.0, 4.0, 2, MIN_MAX)
    assert spread([0.0, 3.0, 6.0], generator()) == (3.0, 0.0, 6.0, 3, BOOTSTRAP)
