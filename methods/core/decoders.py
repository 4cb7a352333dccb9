"""Decoders: what a latent variable says of a step, each input of which has an embedding that no other network shares."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from methods.core.nets import Params, init_linear, linear, mlp


def init_decoder(
    name: str,
    n_latent: int,
    inputs: Sequence[tuple[str, int, int]],
    hidden: int,
    n_out: int,
    generator: torch.Generator,
) -> Params:
    """Fresh weights: an embedding of each kind of input, and two hidden layers, the second of half as many units.

    Args:
      name: begins the names of all its layers.
      inputs: of each its kind, entries, and units of the embedding; inputs of one kind share an embedding.
      hidden: units of the first hidden layer.
    """
    params, half = Params(), max(1, hidden // 2)
    for kind, (size, embedding) in {kind: sizes for kind, *sizes in inputs}.items():
        params |= init_linear(f"{name}_{kind}", (), size, embedding, generator)
    n_in = n_latent + sum(embedding for *_, embedding in inputs)
    for layer, (rows, columns) in enumerate(((n_in, hidden), (hidden, half), (half, n_out))):
        params |= init_linear(f"{name}{layer}", (), rows, columns, generator)
    return params


def decode(params: Mapping[str, Tensor], name: str, latent: Tensor, inputs: Sequence[tuple[str, Tensor]]) -> Tensor:
    """What is predicted [..., B, ·] from latents [..., B, Z] and inputs [..., B, ·], with ReLUs behind all but the last."""
    told = [linear(params, f"{name}_{kind}", value).relu() for kind, value in inputs]
    return mlp(params, (f"{name}0", f"{name}1", f"{name}2"), torch.cat([latent, *told], -1))
