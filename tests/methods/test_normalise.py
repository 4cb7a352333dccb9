"""Running statistics against NumPy over all values seen."""

import numpy as np
import pytest
import torch

from methods.core.normalise import RewardScale, RunningMoments


def draws(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(seed).normal(3.0, [0.1, 5.0, 100.0], shape).astype(np.float32)
    )


def test_moments_are_those_of_all_samples_however_they_came() -> None:
    moments, seen = RunningMoments(3), []
    for seed, size in enumerate([1, 7, 50, 2]):
        seen.append(draws(seed, size, 4, 3))
        moments.update(seen[-1])
    rows = torch.cat([part.reshape(-1, 3) for part in seen]).double().numpy()
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-10)
    np.testing.assert_allclose(moments.var, rows.var(0), rtol=1e-10)
    white = moments.whitened(torch.from_numpy(rows).float())
    assert white.dtype == torch.float32
    np.testing.assert_allclose(
        white, (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-8), atol=1e-5
    )


def test_samples_are_whitened_by_the_moments_of_now() -> None:
    moments, other, samples = RunningMoments(3), RunningMoments(3), draws(9, 4, 3)
    other.update(draws(1, 9, 3))
    for seed in range(3):
        moments.update(draws(seed, 9, 3))
        expected = (samples - moments.mean.float()) * (moments.var + 1e-8).rsqrt().float()
        assert torch.equal(moments.whitened(samples), expected)
        assert moments.whitened(samples.double()).dtype == torch.float64
        assert not torch.equal(other.whitened(samples), expected)
        other.load_state_dict(moments.state_dict())
        assert torch.equal(other.whitened(samples), expected)


def test_nothing_is_changed_before_the_first_update() -> None:
    samples = draws(0, 5, 3)
    assert torch.equal(RunningMoments(3).whitened(samples), samples)
    assert torch.equal(RewardScale(0.9)(torch.tensor([3.0, -30.0])), torch.tensor([3.0, -10.0]))


@pytest.mark.parametrize("gamma", [0.0, 0.9])
def test_rewards_are_scaled_by_the_deviation_of_their_discounted_return(gamma: float) -> None:
    generator = np.random.default_rng(0)
    reward, ended = generator.normal(-1.0, 2.0, (30, 4, 2)), generator.random((30, 4, 2)) < 0.1
    scale, totals = RewardScale(gamma), []
    for batch in (slice(0, 10), slice(10, 30)):
        scale.learn(torch.from_numpy(reward[batch]), torch.from_numpy(ended[batch]))
        total = np.zeros((4, 2))
        for t in range(batch.start, batch.stop):
            total = gamma * total + reward[t]
            totals.append(total.copy())
            total[ended[t]] = 0.0
    expected = reward / np.sqrt(np.var(totals) + 1e-8)
    assert ended.any()
    np.testing.assert_allclose(
        scale(torch.from_numpy(reward)), np.clip(expected, -10, 10), rtol=1e-9
    )


def test_a_state_goes_on() -> None:
    one, other = RunningMoments(3), RunningMoments(3)
    one.update(draws(0, 9, 3))
    other.load_state_dict(one.state_dict())
    for moments in (one, other):
        moments.update(draws(1, 9, 3))
    assert (
        torch.equal(one.mean, other.mean)
        and torch.equal(one.var, other.var)
        and one.count == other.count
    )
