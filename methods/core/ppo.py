"""Proximal policy optimisation: its losses and its minibatches, for any leading axes before the samples.

Schulman, Wolski, Dhariwal, Radford and Klimov 2017 (arXiv 1707.06347).
"""

from collections.abc import Iterator

import torch
from torch import Tensor


def clipped_surrogate(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """mean min(ρ Â, clip(ρ, 1 − ε, 1 + ε) Â) with ρ = π(a|s) / π_old(a|s), which is to grow.

    Args:
      log_prob, old_log_prob, advantage: [..., B].
      clip: ε.
    Returns:
      [...].
    Source:
      Schulman et al. 2017, eq. 7.
    """
    ratio = torch.exp(log_prob - old_log_prob)
    return torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage).mean(-1)


def clipped_value_loss(value: Tensor, old_value: Tensor, returns: Tensor, clip: float) -> Tensor:
    """½ mean max(h(V − G), h(V_clip − G)) with V_clip = V_old + clip(V − V_old, −ε, ε) and Huber's h.

        h(e) = e² / 2 for |e| ≤ 1, |e| − ½ beyond

    Args:
      value, old_value, returns: [..., B] V, V when the batch was collected, and G.
      clip: ε.
    Returns:
      [...].
    Source:
      The clipping of OpenAI's baselines, on VariBAD's Huber loss; neither is in the paper.
    """
    near = old_value + (value - old_value).clamp(-clip, clip)
    return 0.5 * torch.maximum(_huber(value - returns), _huber(near - returns)).mean(-1)


def _huber(error: Tensor) -> Tensor:
    size = error.abs()
    return torch.where(size <= 1.0, 0.5 * error.square(), size - 0.5)


def minibatches(size: int, count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """A random partition of `size` samples into `count` index tensors, as equal as can be."""
    return iter(torch.randperm(size, generator=generator).tensor_split(min(count, size)))
