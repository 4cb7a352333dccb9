"""Returns, advantages and the linear baseline of on-policy learners, for any axes after time.

`terminated` ends an episode for good, `truncated` cuts it off by the clock. They are never mixed: a
state may have a value after the second, but not after the first. Where neither is set in the last
row, the batch ends inside an episode.
"""

import torch
from torch import Tensor


def discounted_returns(reward: Tensor, ended: Tensor, gamma: float) -> Tensor:
    """Rewards to go until the end of the episode or of the batch.

        Gₜ = rₜ + γ (1 − eₜ) Gₜ₊₁,  G_T = 0

    Args:
      reward: [T, …].
      ended: [T, …] bool e, whether the episode ended with the step, for whatever reason.
      gamma: discount γ.
    Returns:
      [T, …] in the units of `reward`.
    """
    total = torch.zeros_like(reward[0])
    returns = torch.empty_like(reward)
    for t in reversed(range(len(reward))):
        total = reward[t] + gamma * total * ~ended[t]
        returns[t] = total
    return returns


def finished(ended: Tensor) -> Tensor:
    """Whether the episode of each step [T, …] ends in the batch, so that its return is known."""
    return ended.flip(0).cummax(0).values.flip(0)


def advantages(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    lam: float,
) -> Tensor:
    """Generalised advantage estimates.

        δₜ = rₜ + γ (1 − dₜ) V(sₜ₊₁) − V(sₜ),   Âₜ = δₜ + γ λ (1 − eₜ) Âₜ₊₁,   Â_T = 0

    with d terminated and e terminated or truncated: both stop the sum, but only d drops the value
    of the next state.

    Args:
      reward: [T, …]. value: [T, …] V(sₜ).
      next_value: [T, …] V(sₜ₊₁) of the state that the step led to, before any reset.
      terminated, truncated: [T, …] bool.
      gamma, lam: discount γ and mixing λ in [0, 1].
    Returns:
      [T, …] in the units of `reward`.
    Source:
      Schulman et al. 2016, eq. 16 (arXiv 1506.02438), with episodes that end in the batch.
    """
    delta = reward + gamma * next_value * ~terminated - value
    ended = terminated | truncated
    total = torch.zeros_like(reward[0])
    result = torch.empty_like(reward)
    for t in reversed(range(len(reward))):
        total = delta[t] + gamma * lam * total * ~ended[t]
        result[t] = total
    return result


def normalised(values: Tensor) -> Tensor:
    """(x − mean) / std over the last axis; zeros where all values are equal."""
    centred = values - values.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True).sqrt() + 1e-8)
    # rounding can make the mean of equal numbers differ from them; the division would give ±1
    return torch.where((values == values[..., :1]).all(-1, keepdim=True), 0.0, scaled)


def baseline_features(obs: Tensor, time: Tensor) -> Tensor:
    """Features (s, s², τ, τ², τ³, 1) of the linear baseline, with τ = t / 100 and s clipped to ±10.

    Args:
      obs: [..., B, O].
      time: [..., B] control steps since the episode began.
    Returns:
      [..., B, 2·O + 4] in float64, for the fit.
    Source:
      Duan et al. 2016, section 5 (arXiv 1604.06778); the clipping is rllab's.
    """
    s = obs.to(torch.float64).clamp(-10.0, 10.0)
    tau = time.to(torch.float64)[..., None] / 100.0
    return torch.cat([s, s.square(), tau, tau.square(), tau**3, torch.ones_like(tau)], -1)


def fit_baseline(features: Tensor, returns: Tensor, known: Tensor, ridge: float = 1e-5) -> Tensor:
    """Least-squares weights of a baseline for each leading axis.

        w = argmin Σ known (x·w − G)² + ridge ‖w‖²

    Args:
      features: [..., B, F] x, float64.
      returns: [..., B] G.
      known: [..., B] bool, the rows whose return is known; others, such as padding, do not enter
        the fit.
      ridge: weight of the penalty.
    Returns:
      [..., F] w, float64; zeros where no row is known.
    """
    rows = torch.where(known[..., None], features, 0.0)
    gram = rows.mT @ rows + ridge * torch.eye(
        features.shape[-1], dtype=features.dtype, device=features.device
    )
    moment = rows.mT @ torch.where(known, returns, 0.0).to(features.dtype)[..., None]
    weights: Tensor = torch.linalg.solve(gram, moment)
    return weights.squeeze(-1)
