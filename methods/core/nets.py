"""Networks as functions of a flat parameter tree, over any leading axes.

A layer `name` is two tensors, `name.w` [..., I, O] and `name.b` [..., 1, O]. Leading axes of the
parameters are networks side by side (tasks, twin critics, seeds); a layer without them is shared by
all rows of its input and costs one matrix product.
"""

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

Params: TypeAlias = dict[str, Tensor]

LAYERS = ("rho_h", "rho_t", "psi")  # parts of an actor, in the order in which they are drawn


def init_linear(
    name: str,
    lead: tuple[int, ...],
    n_in: int,
    n_out: int,
    generator: torch.Generator,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Params:
    """Fresh weights and biases of a layer, each U(−s/√I, s/√I); s = 1 is torch's own default.

    Args:
      name: the layer's name in the tree.
      lead: leading axes; () for a shared layer.
      n_in: I. n_out: O.
      generator: source of the draws, which are made in float32 whatever `dtype` is.
      scale: s.
    """
    bound = scale / n_in**0.5

    def draw(rows: int) -> Tensor:
        w = torch.empty(*lead, rows, n_out, device=generator.device)
        return w.uniform_(-bound, bound, generator=generator).to(dtype)

    return {f"{name}.w": draw(n_in), f"{name}.b": draw(1)}


def linear(params: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """x · W + b, with leading axes of `x` [..., B, I] and the layer broadcast: [..., B, O]."""
    w = params[f"{name}.w"]
    b = params[f"{name}.b"]
    if w.ndim == 2:
        return torch.addmm(b, x.reshape(-1, x.shape[-1]), w).view(*x.shape[:-1], w.shape[-1])
    if x.ndim > w.ndim:  # broadcasting the layer would copy its weights
        y = linear(params, name, x.movedim(0, -3).flatten(-3, -2))  # [T, N, B, I] → [N, T·B, O]
        return y.view(*y.shape[:-2], len(x), x.shape[-2], y.shape[-1]).movedim(-3, 0)
    lead = w.shape[:-2]
    if x.shape[:-2] != lead:  # asking torch takes longer than the product of small layers
        lead = torch.broadcast_shapes(x.shape[:-2], lead)  # type: ignore[no-untyped-call]
    flat = [t.expand(*lead, *t.shape[-2:]).reshape(-1, *t.shape[-2:]) for t in (b, x, w)]
    return torch.baddbmm(*flat).view(*lead, x.shape[-2], w.shape[-1])


def mlp(params: Mapping[str, Tensor], names: tuple[str, ...], x: Tensor) -> Tensor:
    """Apply the layers `names` in turn, with a ReLU between them and none after the last."""
    for name in names[:-1]:
        x = linear(params, name, x).relu()
    return linear(params, names[-1], x)


def init_critics(
    n_tasks: int,
    n_in: int,
    hidden: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> Params:
    """Twin critics ω for each task: leading axes [2, N], two hidden layers."""
    lead = (2, n_tasks)
    return {
        **init_linear("q0", lead, n_in, hidden, generator, dtype=dtype),
        **init_linear("q1", lead, hidden, hidden, generator, dtype=dtype),
        **init_linear("q2", lead, hidden, 1, generator, dtype=dtype),
    }


def critics(params: Mapping[str, Tensor], obs: Tensor, action: Tensor) -> Tensor:
    """Q(s, a), [..., N, B], of critics [..., N] for obs [N, B, O] and action [N, B, A]."""
    return mlp(params, ("q0", "q1", "q2"), torch.cat([obs, action], -1)).squeeze(-1)


def init_actor(
    n_obs: int,
    n_act: int,
    hidden: int,
    depth: int,
    lead: Mapping[str, tuple[int, ...]],
    generator: torch.Generator,
    head_scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Params:
    """Fresh parts of an actor: linear layers ρₕ and ρₜ around a backbone ψ of `depth` layers.

    Args:
      n_obs: O. n_act: A.
      hidden: D.
      lead: leading axes of each of `LAYERS` that is to be drawn: (N,) for one per task, () for a
        shared one.
      generator: source of the draws.
      head_scale: scale of ρₜ, in units of torch's default.
    """
    params: Params = {}
    if "rho_h" in lead:
        params |= init_linear("rho_h", lead["rho_h"], n_obs, hidden, generator, dtype=dtype)
    if "rho_t" in lead:
        params |= init_linear(
            "rho_t",
            lead["rho_t"],
            hidden,
            n_out=n_act,
            generator=generator,
            scale=head_scale,
            dtype=dtype,
        )
    for layer in range(depth if "psi" in lead else 0):
        params |= init_linear(f"psi{layer}", lead["psi"], hidden, hidden, generator, dtype=dtype)
    return params


def spread(params: Mapping[str, Tensor], n_tasks: int) -> Params:
    """A copy of shared layers for each of N tasks: leading axis [N]."""
    return {
        name: tensor.detach().expand(n_tasks, *tensor.shape).clone()
        for name, tensor in params.items()
    }


def actor(
    params: Mapping[str, Tensor], obs: Tensor, depth: int, activate_first: bool = True
) -> Tensor:
    """π(s) = tanh(ρₜ ψ(ρₕ s)) in (−1, 1), for obs [N, B, O]: [N, B, A].

    ψ(h) applies σ(W h + b) `depth` times, σ the ReLU, after a first σ(h) if `activate_first`; in
    that case the whole is, at depth 1, the usual actor of two hidden layers.
    """
    h = linear(params, "rho_h", obs)
    if activate_first:
        h = h.relu()
    for layer in range(depth):
        h = linear(params, f"psi{layer}", h).relu()
    return linear(params, "rho_t", h).tanh()
