"""Trust-region steps: conjugate gradients against direct solves, and what a step accepts."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from methods.core.trpo import TrustRegion, conjugate_gradient, dot, trpo_step

N = 3


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def positive(seed: int, *lead: int, size: int = 7) -> Tensor:
    root = noise(seed, *lead, size, size)
    return root @ root.mT + 0.5 * torch.eye(size, dtype=torch.float64)


def times(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda v: (matrix @ v[..., None]).squeeze(-1)


# Conjugate gradients


@pytest.mark.parametrize("lead", [(), (4,), (2, 3)])
def test_conjugate_gradients_equal_a_direct_solve(lead: tuple[int, ...]) -> None:
    matrix, b = positive(1, *lead), noise(2, *lead, 7)
    x = conjugate_gradient(times(matrix), b, iterations=12, tolerance=1e-24)
    torch.testing.assert_close(x, torch.linalg.solve(matrix, b), rtol=0, atol=1e-9)


def test_the_number_of_products_is_bounded_and_no_more_than_needed() -> None:
    matrix, b, calls = positive(1), noise(2, 7), []

    def product(v: Tensor) -> Tensor:
        calls.append(v)
        return times(matrix)(v)

    conjugate_gradient(product, b, iterations=3)
    assert len(calls) == 3
    assert torch.equal(
        conjugate_gradient(product, torch.zeros(7).double()), torch.zeros(7).double()
    )
    assert len(calls) == 3


def test_a_converged_axis_stays_and_each_is_as_it_is_alone() -> None:
    eye = torch.eye(7, dtype=torch.float64)
    matrix, b = torch.stack([2.0 * eye, positive(1), positive(2)]), noise(3, 3, 7)
    b[2] = 0.0
    x = conjugate_gradient(times(matrix), b, iterations=12, tolerance=1e-20)
    assert torch.equal(x[0], b[0] / 2)  # solved after the first product; the others go on
    assert torch.equal(x[2], torch.zeros(7).double())
    torch.testing.assert_close(
        x[1], conjugate_gradient(times(matrix[1]), b[1], 12, 1e-20), rtol=0, atol=1e-10
    )


# The step

REGION = TrustRegion(max_kl=0.02)


def full_step(f: Tensor, g: Tensor) -> Tensor:
    natural = torch.linalg.solve(f, g)
    return natural * torch.sqrt(2 * REGION.max_kl / dot(natural, g))[..., None]


def test_on_a_quadratic_the_full_step_is_the_furthest_in_the_region() -> None:
    f, g, start, tried = positive(1, N), noise(2, N, 7), noise(3, N, 7), []

    def evaluate(x: Tensor) -> tuple[Tensor, Tensor]:
        tried.append(x)
        return dot(g, x), 0.5 * dot(x - start, times(f)(x - start))

    outcome = trpo_step(start, g, times(f), evaluate, REGION._replace(cg_iterations=12))
    torch.testing.assert_close(
        evaluate(tried[1])[1], torch.full((N,), REGION.max_kl).double(), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(tried[1], start + full_step(f, g), rtol=0, atol=1e-9)
    assert outcome.accepted.all()
    assert (outcome.improvement > 0).all()
    assert (outcome.kl <= REGION.max_kl).all()


def scripted(
    start: Tensor, full: Tensor, good_from: list[int], ratio: float = 0.8
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Axis i is outside the region before try good_from[i]; smaller steps raise the surrogate."""

    def evaluate(x: Tensor) -> tuple[Tensor, Tensor]:
        scale = (x - start).norm(dim=-1) / full.norm(dim=-1)
        limit = ratio ** (torch.tensor(good_from).double() - 0.5)
        return torch.where(scale > 0, 10.0 - scale, 0.0), torch.where(scale < limit, 0.0, 0.5)

    return evaluate


def test_each_axis_takes_its_first_acceptable_try_whatever_becomes_of_the_others() -> None:
    f, g, start = positive(1, 4), noise(2, 4, 7), noise(3, 4, 7)
    full, region = full_step(f, g), REGION._replace(cg_iterations=12)
    outcome = trpo_step(start, g, times(f), scripted(start, full, [0, 3, 99, 14]), region)
    assert outcome.accepted.tolist() == [True, True, False, True]
    for i, k in [(0, 0), (1, 3), (3, 14)]:
        torch.testing.assert_close(
            outcome.params[i], start[i] + 0.8**k * full[i], rtol=0, atol=1e-9
        )
        assert float(outcome.improvement[i]) == pytest.approx(10 - 0.8**k, abs=1e-6)
    assert torch.equal(outcome.params[2], start[2])
    assert outcome.kl.tolist() == [0.0, 0.0, 0.5, 0.0]


NAN = float("nan")
FAILURES = {
    "worse": (-1.0, 0.0),
    "no better": (0.0, 0.0),
    "too far": (1.0, 0.021),
    "lost": (NAN, 0.0),
    "lost KL": (1.0, NAN),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("lead", [(), (3,)])
def test_a_step_that_cannot_be_is_rejected_and_moves_no_bit(
    failure: str, lead: tuple[int, ...]
) -> None:
    f, g, start, (gain, kl) = (
        positive(1, *lead),
        noise(2, *lead, 7),
        noise(3, *lead, 7),
        FAILURES[failure],
    )

    def evaluate(x: Tensor) -> tuple[Tensor, Tensor]:
        same = (x == start).all(-1)
        return torch.where(same, 0.0, gain), torch.where(same, 0.0, kl)

    outcome = trpo_step(start, g, times(f), evaluate, REGION)
    assert torch.equal(outcome.params, start)
    assert outcome.accepted.shape == lead
    assert not outcome.accepted.any()


@pytest.mark.parametrize("gradient", [0.0, NAN])
def test_an_axis_without_a_direction_is_rejected_and_the_others_step(gradient: float) -> None:
    f, slope, start = positive(1, N), noise(2, N, 7), noise(3, N, 7)
    g = slope.clone()
    g[1] = gradient

    def evaluate(x: Tensor) -> tuple[Tensor, Tensor]:
        # 0.4 in place of ½ keeps off the bound, where rounding would decide
        return dot(slope, x), 0.4 * dot(x - start, times(f)(x - start))

    outcome = trpo_step(start, g, times(f), evaluate, REGION)
    assert outcome.accepted.tolist() == [True, False, True]
    assert torch.equal(outcome.params[1], start[1])
    alone = trpo_step(
        start[0], g[0], times(f[0]), lambda x: tuple(v[0] for v in evaluate(x.expand(N, 7))), REGION
    )
    torch.testing.assert_close(outcome.params[0], alone.params, rtol=0, atol=1e-12)
