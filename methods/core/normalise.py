"""Running statistics that a method learns from its training tasks and freezes afterwards."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class RunningMoments:
    """Mean and variance of everything seen so far, by entry, in float64.

    Args:
      size: entries of a sample.
    Source:
      Chan, Golub and LeVeque 1979, for the union of two samples.
    """

    def __init__(self, size: int) -> None:
        # they follow the samples to their device
        self.mean = torch.zeros(size, dtype=torch.float64, device="cpu")
        self.var = torch.ones(size, dtype=torch.float64, device="cpu")
        self.count = 0.0
        # mean and 1 / deviation, by precision
        self._affine: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    def update(self, samples: Tensor) -> None:
        """Add `samples` [..., size]."""
        rows = samples.detach().to(torch.float64).reshape(-1, len(self.mean))
        count = len(rows)
        mean = rows.mean(0)
        var = rows.var(0, correction=0)
        total = self.count + count
        before, var_before = self.mean.to(rows.device), self.var.to(rows.device)
        delta = mean - before
        squares = (
            var_before * self.count + var * count + delta.square() * (self.count * count / total)
        )
        self.mean = before + delta * (count / total)
        self.var = squares / total
        self.count = total
        self._affine.clear()

    def whitened(self, samples: Tensor) -> Tensor:
        """(x − mean) / √(var + 10⁻⁸) of `samples` [..., size], same dtype; raw before an update."""
        if not self.count:
            return samples
        if samples.dtype not in self._affine:
            self._affine[samples.dtype] = (
                self.mean.to(samples.dtype),
                (self.var + 1e-8).rsqrt().to(samples.dtype),
            )
        mean, scale = self._affine[samples.dtype]
        return (samples - mean) * scale

    def state_dict(self) -> dict[str, Any]:
        """Moments and count."""
        return {"mean": self.mean, "var": self.var, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.mean = state["mean"]
        self.var = state["var"]
        self.count = state["count"]
        self._affine.clear()


class RewardScale:
    """Rewards over the running deviation of their discounted return, for a learner of values whose
    rewards vary in size.

        Rₜ = γ Rₜ₋₁ + rₜ,   r̃ₜ = clip(rₜ / √(Var R + 10⁻⁸), −10, 10)

    R begins anew with a trial. The variance is that about the mean, the mean itself is not taken
    off.

    Args:
      gamma: discount γ.
    Source:
      The official code of VariBAD (`VecNormalize`), after OpenAI's baselines; there, statistics
      move within a batch, R is 0 by the time that the last step of a trial is counted, and a trial
      that ends sets the R of all others to 0, too.
    """

    def __init__(self, gamma: float) -> None:
        self._gamma = gamma
        self.moments = RunningMoments(1)

    def learn(self, reward: Tensor, trial_ended: Tensor) -> None:
        """Add a batch that begins with trials: rewards and ends [T, ...]."""
        total = torch.zeros_like(reward[0])
        totals = []
        for r, ended in zip(reward.unbind(), trial_ended.unbind(), strict=True):
            total = self._gamma * total + r
            totals.append(total)
            total = total * ~ended
        self.moments.update(torch.stack(totals)[..., None])

    def __call__(self, reward: Tensor) -> Tensor:
        """r̃; rewards as they are, but for the clipping, before the first batch."""
        scale = float((self.moments.var + 1e-8).rsqrt()) if self.moments.count else 1.0
        return (reward * scale).clamp(-10.0, 10.0)
