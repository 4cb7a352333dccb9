"""Densities and divergences of diagonal Gaussians against torch.distributions and sample means."""

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Independent,
    Normal,
    TanhTransform,
    TransformedDistribution,
    kl_divergence,
)

from methods.core.distributions import kl, log_prob, product_of_gaussians, tanh_log_prob

N, B, A = 3, 5, 2
SHAPES = [(), (A,), (1, A), (N, 1, A), (N, B, A)]  # shapes of log σ


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
    assert not torch.isclose(kl(*other, *one), expected).any()  # it is not symmetric


def test_a_density_integrates_to_one() -> None:
    mean = torch.tensor([0.3, -0.2]).double()
    log_std = torch.tensor([-0.5, 0.2]).double()
    grid = torch.arange(-9, 9, 0.05)
    action = torch.cartesian_prod(grid, grid).double()
    assert float(log_prob(action, mean, log_std).exp().sum()) * 0.05**2 == pytest.approx(
        1.0, abs=1e-6
    )


def test_kl_is_the_mean_log_ratio_over_draws_of_the_first() -> None:
    one, other = (noise(1, A), 0.3 * noise(2, A)), (noise(1, A) + 0.5, 0.3 * noise(4, A))
    action = one[0] + one[1].exp() * noise(5, 200_000, A)
    ratio = log_prob(action, *one) - log_prob(action, *other)
    assert float(kl(*one, *other)) == pytest.approx(
        float(ratio.mean()), abs=5 * float(ratio.std()) / 200_000**0.5
    )


def test_kl_of_a_policy_from_itself_is_at_its_minimum_of_zero() -> None:
    mean, log_std = noise(1, N, B, A), noise(2, N, 1, A)
    moved = mean.clone().requires_grad_(), log_std.clone().requires_grad_()
    divergence = kl(mean, log_std, *moved)
    torch.testing.assert_close(divergence.detach(), torch.zeros(N, B).double(), rtol=0, atol=1e-15)
    for gradient in torch.autograd.grad(divergence.sum(), moved):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-14)
    assert (
        kl(mean, log_std, mean + 0.1 * noise(3, N, B, A), log_std + 0.1 * noise(4, N, 1, A)) > 0
    ).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_density_of_a_squashed_gaussian_equals_that_of_torch(shape: tuple[int, ...]) -> None:
    x, mean, log_std = noise(1, N, B, A), noise(2, N, B, A), 0.5 * noise(3, *shape)
    squashed = TransformedDistribution(gaussian(mean, log_std), [TanhTransform(cache_size=1)])
    expected = squashed.log_prob(x.tanh())
    torch.testing.assert_close(tanh_log_prob(x, mean, log_std), expected, rtol=1e-9, atol=1e-9)


def test_the_density_of_a_squashed_gaussian_integrates_to_one_and_stays_finite_at_the_ends() -> (
    None
):
    mean = torch.tensor([0.8]).double()
    log_std = torch.tensor([-0.3]).double()
    action = torch.linspace(-1, 1, 200_001).double()
    x = torch.atanh(action[1:-1])[:, None]
    assert float(tanh_log_prob(x, mean, log_std).exp().sum()) * 1e-5 == pytest.approx(1.0, abs=1e-3)
    far = torch.tensor([[-40.0], [40.0]], requires_grad=True)  # tanh is ±1 there
    density = tanh_log_prob(far, torch.zeros(1), torch.zeros(1))
    assert density.isfinite().all() and torch.autograd.grad(density.sum(), far)[0].isfinite().all()


def test_a_product_of_gaussians_is_what_the_densities_multiply_to() -> None:
    mean, var, grid = noise(1, 3, A), noise(2, 3, A).exp(), torch.linspace(-8, 8, 4001).double()
    for a in range(A):
        density = torch.stack(
            [Normal(m, v.sqrt()).log_prob(grid) for m, v in zip(mean[:, a], var[:, a], strict=True)]
        ).sum(0)
        weight = density.exp() / density.exp().sum()
        first = (weight * grid).sum()
        mu, sigma2 = (part[a] for part in product_of_gaussians(mean, var))
        torch.testing.assert_close(mu, first, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(
            sigma2, (weight * (grid - first).square()).sum(), rtol=1e-6, atol=1e-8
        )


def test_a_product_does_not_depend_on_the_order_or_on_other_batches() -> None:
    mean, var = noise(1, N, 6, A), noise(2, N, 6, A).exp()
    whole = product_of_gaussians(mean, var)
    mixed = product_of_gaussians(mean[:, [3, 1, 5, 0, 2, 4]], var[:, [3, 1, 5, 0, 2, 4]])
    for n in range(N):
        alone = product_of_gaussians(mean[n], var[n])
        for together, shuffled, one in zip(whole, mixed, alone, strict=True):
            torch.testing.assert_close(together[n], one, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(shuffled[n], one, rtol=1e-12, atol=1e-12)
