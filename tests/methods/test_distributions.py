"""Densities and divergences of diagonal Gaussians against torch.distributions and a mean over draws."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from methods.core.distributions import kl, log_prob

N, B, A = 3, 5, 2
SHAPES = [(), (A,), (1, A), (N, 1, A), (N, B, A)]  # of a log σ


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(mean: Tensor, log_std: Tensor) -> Independent:
    return Independent(Normal(mean, log_std.exp().expand_as(mean)), 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_log_prob_equals_that_of_torch(shape: tuple[int, ...]) -> None:
    action, mean, log_std = noise(1, N, B, A), noise(2, N, B, A), noise(3, *shape)
    expected = gaussian(mean, log_std).log_prob(action)
    torch.testing.assert_close(log_prob(action, mean, log_std), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shape_2", SHAPES)
def test_kl_equals_that_of_torch(shape: tuple[int, ...], shape_2: tuple[int, ...]) -> None:
    one, other = (noise(1, N, B, A), noise(2, *shape)), (noise(3, N, B, A), noise(4, *shape_2))
    expected = kl_divergence(gaussian(*one), gaussian(*other))
    torch.testing.assert_close(kl(*one, *other), expected, rtol=1e-12, atol=1e-12)
    assert not torch.isclose(kl(*other, *one), expected).any()  # it has a direction


def test_a_density_integrates_to_one() -> None:
    mean, log_std, grid = torch.tensor([0.3, -0.2]).double(), torch.tensor([-0.5, 0.2]).double(), torch.arange(-9, 9, 0.05)
    action = torch.cartesian_prod(grid, grid).double()
    assert float(log_prob(action, mean, log_std).exp().sum()) * 0.05**2 == pytest.approx(1.0, abs=1e-6)


def test_kl_is_the_mean_log_ratio_over_draws_of_the_first() -> None:
    one, other = (noise(1, A), 0.3 * noise(2, A)), (noise(1, A) + 0.5, 0.3 * noise(4, A))
    action = one[0] + one[1].exp() * noise(5, 200_000, A)
    ratio = log_prob(action, *one) - log_prob(action, *other)
    assert float(kl(*one, *other)) == pytest.approx(float(ratio.mean()), abs=5 * float(ratio.std()) / 200_000**0.5)


def test_kl_of_a_policy_from_itself_is_at_its_minimum_of_zero() -> None:
    mean, log_std = noise(1, N, B, A), noise(2, N, 1, A)
    moved = mean.clone().requires_grad_(), log_std.clone().requires_grad_()
    divergence = kl(mean, log_std, *moved)
    torch.testing.assert_close(divergence.detach(), torch.zeros(N, B).double(), rtol=0, atol=1e-15)
    for gradient in torch.autograd.grad(divergence.sum(), moved):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-14)
    assert (kl(mean, log_std, mean + 0.1 * noise(3, N, B, A), log_std + 0.1 * noise(4, N, 1, A)) > 0).all()
