"""The memory convention of all recurrent methods, and the GRU that implements it.

A memory is what is known *before* a step. With m₀ = 0 at the beginning of a trial,

    mₜ₊₁ = GRU(mₜ, xₜ),   xₜ a function of (aₜ, s′ₜ, eₜ, rₜ),

where s′ₜ is the state that step t led to, before any reset, and eₜ says whether the episode ended
there. So a policy acts at t on (sₜ, mₜ), and mₜ depends on nothing from t on. A trial may contain
several episodes; memory continues across them and ends with the trial.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from methods.core.nets import Params, init_linear, linear


def init_gru(
    name: str, n_in: int, size: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Params:
    """Fresh GRU, R = `size`: `name_x` [I, 3R], `name_m` [R, 3R], all U(−1/√R, 1/√R) as in torch."""
    scale = (n_in / size) ** 0.5  # `init_linear` takes its scale in units of 1/√I
    wide = init_linear(
        f"{name}_x", (), n_in, n_out=3 * size, generator=generator, scale=scale, dtype=dtype
    )
    return wide | init_linear(f"{name}_m", (), size, 3 * size, generator, dtype=dtype)


def init_encoder(
    n_obs: int, n_act: int, embeddings: tuple[int, int, int], size: int, generator: torch.Generator
) -> Params:
    """Fresh weights: `see_a`, `see_s`, `see_r` of sizes `embeddings`, and GRU `gru`, R = `size`."""
    params: Params = {}
    for name, n_in, n_out in zip("asr", (n_act, n_obs + 1, 1), embeddings, strict=True):
        params |= init_linear(f"see_{name}", (), n_in, n_out, generator)
    return params | init_gru("gru", sum(embeddings), size, generator)


def seen(
    params: Mapping[str, Tensor], action: Tensor, reward: Tensor, next_obs: Tensor, ended: Tensor
) -> Tensor:
    """x of a step, the GRU's input [..., I]: action, reward, next state and end of the episode.

    Args:
      action: [..., A]. reward: [...]. next_obs: [..., O].
      ended: [...] whether the episode ended with the step, for whatever reason.
    """
    state = torch.cat([next_obs, ended[..., None].to(next_obs.dtype)], -1)
    parts = (("a", action), ("s", state), ("r", reward[..., None]))
    return torch.cat([linear(params, f"see_{name}", part).relu() for name, part in parts], -1)


def gru_cell(params: Mapping[str, Tensor], name: str, gates: Tensor, memory: Tensor) -> Tensor:
    """One step of a GRU.

        r, z = σ(x Wᵣ + m Uᵣ), σ(x W_z + m U_z)
        n = tanh(x Wₙ + r ∘ (m Uₙ))
        m′ = (1 − z) ∘ n + z ∘ m

    Args:
      gates: [..., B, 3R] x W with its biases, for r, z and n: `linear(params, f"{name}_x", x)`.
      memory: [..., B, R] m.
    Returns:
      [..., B, R] m′.
    Source:
      Cho et al. 2014 (arXiv 1406.1078), with the reset gate applied after the product, as in
      cuDNN and torch.
    """
    size = memory.shape[-1]
    held = linear(params, f"{name}_m", memory)
    reset, keep = torch.sigmoid(gates[..., : 2 * size] + held[..., : 2 * size]).chunk(2, -1)
    fresh = torch.tanh(gates[..., 2 * size :] + reset * held[..., 2 * size :])
    return torch.lerp(fresh, memory, keep)


def memories(
    params: Mapping[str, Tensor],
    name: str,
    x: Tensor,
    trial_ended: Tensor,
    start: Tensor,
    truncation: int | None = None,
) -> Tensor:
    """The memory before each of T steps, and after the last.

    Args:
      x: [T, ..., B, I] the GRU's input, from each step's outcome.
      trial_ended: [T, ..., B] bool, whether the trial ended with the step; the memory after it is
        then 0.
      start: [..., B, R] memory before the first step.
      truncation: steps after which gradients are cut, None for never.
    Returns:
      [T + 1, ..., B, R].
    """
    gates = linear(params, f"{name}_x", x)
    going_on = (~trial_ended).to(x.dtype)[..., None]
    if truncation and truncation < len(x):
        return _in_segments(params, name, gates, going_on=going_on, start=start, length=truncation)
    return _in_turn(params, name, gates, going_on, start)


def _in_turn(
    params: Mapping[str, Tensor], name: str, gates: Tensor, going_on: Tensor, start: Tensor
) -> Tensor:
    memory = start
    result = [start]
    # unbind all at once: the gradient of indexing a step would be as large as the whole tensor
    for gate, goes_on in zip(gates.unbind(), going_on.unbind(), strict=True):
        memory = gru_cell(params, name, gate, memory) * goes_on
        result.append(memory)
    return torch.stack(result)


def _in_segments(
    params: Mapping[str, Tensor],
    name: str,
    gates: Tensor,
    going_on: Tensor,
    start: Tensor,
    length: int,
) -> Tensor:
    """Segments of `length` steps side by side, with gradients; a first pass finds their starts."""
    with torch.no_grad():
        # [S - 1, ..., B, R]
        first = _in_turn(params, name, gates, going_on, start)[length:-1:length]
    starts = torch.cat([start[None], first])
    steps = len(gates)
    missing = len(starts) * length - steps

    def side_by_side(values: Tensor) -> Tensor:
        """[T, …, B, ·] as segments side by side, the last padded with zeros."""
        padded = (
            torch.cat([values, values.new_zeros(missing, *values.shape[1:])]) if missing else values
        )
        # [length, ..., S·B, ·]
        return padded.view(-1, length, *padded.shape[1:]).movedim(0, -3).flatten(-3, -2)

    began = starts.movedim(0, -3).flatten(-3, -2)
    # [length, ..., S·B, R]
    result = _in_turn(params, name, side_by_side(gates), side_by_side(going_on), began)[1:]
    # [length, ..., S, B, R]
    segments = result.reshape(*result.shape[:-2], len(starts), -1, result.shape[-1])
    return torch.cat([start[None], segments.movedim(-3, 0).flatten(0, 1)[:steps]])
