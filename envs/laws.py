"""Drawing training tasks: evenly spread over the law, so that a handful of tasks covers it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.api import FloatArray, Task


def stratified(n: int, generator: np.random.Generator) -> FloatArray:
    """Draw one uniform number from each of n equal strata of [0, 1), in random order.

        uᵢ = (π(i) + εᵢ) / n,   εᵢ ~ U(0, 1),  π a random permutation of 0 … n−1

    Called once per parameter it makes a Latin hypercube: every parameter is stratified, and they
    are paired at random.

    Args:
      n: how many.
      generator: source of the draws.
    Returns:
      [n] numbers in [0, 1).
    """
    return (generator.permutation(n) + generator.random(n)) / n


def union(u: FloatArray, bands: Sequence[tuple[float, float]]) -> FloatArray:
    """Map u ~ U[0, 1) to the uniform law on disjoint intervals laid end to end.

    Args:
      u: [n] numbers in [0, 1).
      bands: (low, high) of each interval, ascending.
    Returns:
      [n] numbers, each in one of the intervals; strata of u stay strata.
    """
    low, high = np.array(bands, np.float64).T
    begins = np.concatenate(([0.0], np.cumsum(high - low)))
    place = u * begins[-1]
    band = np.minimum(np.searchsorted(begins, place, side="right") - 1, len(bands) - 1)
    inside: FloatArray = low[band] + (place - begins[band])
    return inside


def annuli(u: FloatArray, bands: Sequence[tuple[float, float]]) -> FloatArray:
    """Map u ~ U[0, 1) to radii uniform in area over annuli r ∈ [low, high]: r² is uniform.

    Args:
      u: [n] numbers in [0, 1).
      bands: (low, high) of each annulus, ascending; (0, r) is a disc.
    """
    radius: FloatArray = np.sqrt(union(u, [(low**2, high**2) for low, high in bands]))
    return radius


def cycled(n: int, n_kinds: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw `n` of `n_kinds` kinds in random order, repeating none until all have been drawn.

    Returns:
      [n] numbers of kinds; for n = n_kinds a permutation.
    """
    rounds = -(-n // n_kinds)
    return np.concatenate([generator.permutation(n_kinds) for _ in range(rounds)])[:n]


def distance(place: float, bands: Sequence[tuple[float, float]]) -> float:
    """How far a place lies from disjoint intervals, 0 inside one."""
    return min(max(low - place, place - high, 0.0) for low, high in bands)


def beyond(bands: Sequence[tuple[float, float]], shift: float) -> list[float]:
    """The places at a distance from the union of intervals.

    Those in a hole between two of them, if there are any so deep, else the one above all of them.

    Args:
      bands: (low, high) of each interval, ascending.
      shift: the distance, > 0.
    """
    edges = [high + shift for _, high in bands[:-1]] + [low - shift for low, _ in bands[1:]]
    inside = [place for place in edges if np.isclose(distance(place, bands), shift)]
    return list(dict.fromkeys(inside)) or [bands[-1][1] + shift]


def middle(tasks: Sequence[Task], n: int) -> tuple[Task, ...]:
    """The n of some tasks whose parameters lie nearest their mean, in the order of the tasks.

    Distances are Euclidean, in deviations of each parameter.
    """
    if n >= len(tasks):
        return tuple(tasks)
    values = np.array([list(task.params.values()) for task in tasks])
    deviation = values.std(axis=0)
    away = (values - values.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    nearest = np.argsort(np.vecdot(away, away), kind="stable")[:n]
    return tuple(tasks[i] for i in sorted(nearest))
