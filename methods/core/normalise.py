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
        # `update` moves them to the device of the samples
        self.mean = torch.zeros(size, dtype=torch.float64, device="cpu")
        self.var = torch.ones(size, dtype=torch.float64, device="cpu")
        self.count = 0.0
        # mean and 1 / deviation, by dtype
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
    """Rewards divided by the running standard deviation of their discounted return, for learners of
    values whose rewards vary in size.

        Rₜ = γ Rₜ₋₁ + rₜ,   r̃ₜ = clip(rₜ / √(Var R + 10⁻⁸), −10, 10)

    R restarts at 0 with each trial. The variance is that about the mean, but no mean is subtracted
    from the rewards.

    Args:
      gamma: discount γ.
    Source:
      The official code of VariBAD (`VecNormalize`), after OpenAI's baselines; there, statistics
      change within a batch, R is already 0 when the last step of a trial is counted, and the end of
      one trial also sets the R of all others to 0.
    """

    def __init__(self, gamma: float) -> None:
        self._gamma = gamma
        self.moments = RunningMoments(1)

    def learn(self, reward: Tensor, trial_ended: Tensor) -> None:
        """Add a batch whose first step begins trials: rewards and ends of trials [T, ...]."""
        total = torch.zeros_like(reward[0])
        totals = []
        for r, ended in zip(reward.unbind(), trial_ended.unbind(), strict=True):
            total = self._gamma * total + r
            totals.append(total)
            total = total * ~ended
        self.moments.update(torch.stack(totals)[..., None])

    def __call__(self, reward: Tensor) -> Tensor:
        """Return r̃; before the first batch, rewards are clipped but not scaled."""
        scale = float((self.moments.var + 1e-8).rsqrt()) if self.moments.count else 1.0
        return (reward * scale).clamp(-10.0, 10.0)
