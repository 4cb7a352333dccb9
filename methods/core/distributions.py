"""Gaussians with a diagonal covariance: densities and divergences, over any leading axes."""

from math import e, log, pi

import torch
from torch import Tensor


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
    spread = torch.exp(2.0 * (log_std - log_std_2)) + ((mean - mean_2) * torch.exp(-log_std_2)).square()
    return (log_std_2 - log_std + 0.5 * spread - 0.5).sum(-1)


def entropy(log_std: Tensor) -> Tensor:
    """Σ log σ + (A/2) log 2πe, summed over the last axis of log σ [..., A]."""
    return (log_std + 0.5 * log(2 * pi * e)).sum(-1)
