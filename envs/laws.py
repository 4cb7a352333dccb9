"""Drawing training tasks evenly over the law, so that a handful of tasks covers it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.api import FloatArray, Task


def stratified(n: int, generator: np.random.Generator) -> FloatArray:
    """Draw one uniform number from each of n equal strata of [0, 1), in random order.

        uᵢ = (π(i) + εᵢ) / n,   εᵢ ~ U(0, 1),  π a random permutation of 0 … n−1

    Called once per parameter, it makes a Latin hypercube: every parameter is stratified, and the
    strata are paired at random.

    Args:
      n: number of draws.
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
      [n] numbers, each in one of the intervals; strata of u map to strata of the law.
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
      [n] indices of kinds; for n = n_kinds, a permutation.
    """
    rounds = -(-n // n_kinds)
    return np.concatenate([generator.permutation(n_kinds) for _ in range(rounds)])[:n]


def distance(place: float, bands: Sequence[tuple[float, float]]) -> float:
    """Distance of a place from the nearest of disjoint intervals; 0 inside one."""
    return min(max(low - place, place - high, 0.0) for low, high in bands)


def beyond(bands: Sequence[tuple[float, float]], shift: float) -> list[float]:
    """The places at a distance from the union of intervals: those in the holes between the
    intervals, if a hole is deep enough, else the one above all intervals.

    Args:
      bands: (low, high) of each interval, ascending.
      shift: the distance, > 0.
    """
    edges = [high + shift for _, high in bands[:-1]] + [low - shift for low, _ in bands[1:]]
    inside = [place for place in edges if np.isclose(distance(place, bands), shift)]
    return list(dict.fromkeys(inside)) or [bands[-1][1] + shift]


def middle(tasks: Sequence[Task], n: int) -> tuple[Task, ...]:
    """The n tasks whose parameters lie nearest the mean of all, in the order given.

    Distances are Euclidean, with each parameter in units of its standard deviation.
    """
    if n >= len(tasks):
        return tuple(tasks)
    values = np.array([list(task.params.values()) for task in tasks])
    deviation = values.std(axis=0)
    away = (values - values.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    nearest = np.argsort(np.vecdot(away, away), kind="stable")[:n]
    return tuple(tasks[i] for i in sorted(nearest))
