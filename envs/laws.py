"""Drawing training tasks: evenly spread over the law, so that a handful of tasks covers it."""

import numpy as np

from envs.api import FloatArray


def stratified(n: int, generator: np.random.Generator) -> FloatArray:
    """Draw one uniform number from each of n equal strata of [0, 1), in random order.

        uᵢ = (π(i) + εᵢ) / n,   εᵢ ~ U(0, 1),  π a random permutation of 0 … n−1

    Called once per parameter it makes a Latin hypercube: every parameter is stratified, and they are paired at random.

    Args:
      n: how many.
      generator: source of the draws.
    Returns:
      [n] numbers in [0, 1).
    """
    return (generator.permutation(n) + generator.random(n)) / n
