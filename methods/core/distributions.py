"""Gaussians with a diagonal covariance: densities and divergences, over any leading axes."""

from math import e, log, pi

import torch
from torch import Tensor
from torch.nn.functional import softplus


def log_prob(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log N(a; μ, σ²) summed over the last axis.

        −½ Σ ((a − μ) / σ)² − Σ log σ − (A/2) log 2π

    Args:
      action, mean: [..., A]. log_std: broadcastable to them.
    Returns:
      [...].
    """
    z = (action - mean) * torch.exp(-log_std)
    return (-0.5 * z.square() - log_std).sum(-1) - 0.5 * log(2 * pi) * action.shape[-1]


def kl(mean: Tensor, log_std: Tensor, mean_2: Tensor, log_std_2: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(μ₂, σ₂²)) summed over the last axis.

        Σ log(σ₂ / σ) + (σ² + (μ − μ₂)²) / (2 σ₂²) − ½

    Args:
      mean, mean_2: [..., A]. log_std, log_std_2: broadcastable to them.
    Returns:
      [...].
    """
    spread = (
        torch.exp(2.0 * (log_std - log_std_2)) + ((mean - mean_2) * torch.exp(-log_std_2)).square()
    )
    return (log_std_2 - log_std + 0.5 * spread - 0.5).sum(-1)


def entropy(log_std: Tensor) -> Tensor:
    """Σ log σ + (A/2) log 2πe, summed over the last axis of log σ [..., A]."""
    return (log_std + 0.5 * log(2 * pi * e)).sum(-1)


def tanh_log_prob(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of a = tanh x where x ~ N(μ, σ²), summed over the last axis.

        log N(x; μ, σ²) − Σ log(1 − tanh² x),   log(1 − tanh² x) = 2 (log 2 − x − softplus(−2x))

    The second form does not underflow where tanh x rounds to ±1.

    Args:
      x, mean: [..., A]. log_std: broadcastable to them.
    Returns:
      [...].
    Source:
      Haarnoja, Zhou, Abbeel and Levine 2018 (arXiv 1801.01290), eq. 21.
    """
    return log_prob(x, mean, log_std) - 2.0 * (log(2.0) - x - softplus(-2.0 * x)).sum(-1)


def product_of_gaussians(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the Gaussian proportional to Π N(μₜ, σₜ²) over the axis before the last.

        σ² = 1 / Σ 1/σₜ²,   μ = σ² Σ μₜ/σₜ²

    Args:
      mean, var: [..., T, Z]; variances below 10⁻⁷ are raised to 10⁻⁷.
    Returns:
      μ and σ² [..., Z].
    """
    precision = 1.0 / var.clamp(min=1e-7)
    product = 1.0 / precision.sum(-2)
    return product * (mean * precision).sum(-2), product
