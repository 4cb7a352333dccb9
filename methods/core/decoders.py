"""Decoders: what a latent variable says of a step, each input of which has an embedding that no other network shares."""

from collections.abc import Mapping

import torch
from torch import Tensor

from methods.core.nets import Params, init_linear, linear, mlp


def init_decoder(
    name: str, n_latent: int, inputs: Mapping[str, tuple[int, int]], hidden: int, n_out: int, generator: torch.Generator
) -> Params:
    """Fresh weights: an embedding of each input, and two hidden layers, the second of half as many units.

    Args:
      name: begins the names of all its layers.
      inputs: kind → entries and units of the embedding.
      hidden: units of the first hidden layer.
    """
    params, half = Params(), max(1, hidden // 2)
    for kind, (size, embedding) in inputs.items():
        params |= init_linear(f"{name}_{kind}", (), size, embedding, generator)
    n_in = n_latent + sum(embedding for _, embedding in inputs.values())
    for layer, (rows, columns) in enumerate(((n_in, hidden), (hidden, half), (half, n_out))):
        params |= init_linear(f"{name}{layer}", (), rows, columns, generator)
    return params


def decode(params: Mapping[str, Tensor], name: str, latent: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """What is predicted [..., B, ·] from latents [..., B, Z] and inputs [..., B, ·], with ReLUs behind all but the last."""
    told = [linear(params, f"{name}_{kind}", value).relu() for kind, value in inputs.items()]
    return mlp(params, (f"{name}0", f"{name}1", f"{name}2"), torch.cat([latent, *told], -1))
