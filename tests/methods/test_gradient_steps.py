"""Inner and outer steps of MAML and CAVIA against loops over tasks and finite differences."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from methods import cavia
from methods.api import Spec
from methods.core import gradient_steps
from methods.core.gradient_steps import (
    GradientConfig,
    InnerLoop,
    MetaObjective,
    adapted,
    inner_step,
    leaves,
    meta_step,
    task_step,
)
from methods.core.nets import Params
from methods.core.policy_gradient import (
    Outputs,
    Samples,
    gaussian_policy,
    init_gaussian_policy,
    surrogate,
)
from methods.core.trpo import Outcome, Product, TrustRegion, flatten, trpo_step
from methods.maml import LEARNER

N, B, O, A, D, Z, RATE = 3, 9, 3, 2, 5, 2, 0.1
CAVIA = cavia.Cavia(Spec(O, A, 10), cavia.CaviaConfig(context=Z)).learner


class Problem(NamedTuple):
    name: str
    learner: InnerLoop
    theta: Params
    policy: Callable[[Params, Tensor], Outputs]  # takes a task's own parameters


@pytest.fixture(params=["maml", "cavia"])
def problem(request: pytest.FixtureRequest) -> Problem:
    inputs = O if request.param == "maml" else O + Z
    theta = init_gaussian_policy(inputs, A, D, torch.Generator().manual_seed(0), torch.float64)
    theta = {
        name: tensor + 0.2 * noise(k, *tensor.shape)
        for k, (name, tensor) in enumerate(theta.items())
    }
    rest = (
        (LEARNER, theta, gaussian_policy)
        if request.param == "maml"
        else (CAVIA, theta, cavia.policy_of_all)
    )
    return Problem(request.param, *rest)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(seed: int) -> Samples:
    return Samples(noise(seed, N, B, O), noise(seed + 1, N, B, A), noise(seed + 2, N, B))


def batches(inner_steps: int) -> list[Samples]:
    """One batch for each inner step, and the outer step's."""
    return [batch(10 * k) for k in range(inner_steps + 1)]


def objective(problem: Problem, inner_steps: int, first_order: bool = False) -> MetaObjective:
    *seen, validation = batches(inner_steps)
    config = GradientConfig(inner_rate=RATE, first_order=first_order)
    return MetaObjective(problem.learner, problem.theta, seen, validation, config)


# Naive counterparts: one task, plain layers, torch's own Gaussian


def naive_log_prob(theta: Params, phi: Params, samples: Samples, n: int) -> Tensor:
    params, x = theta | phi, samples.obs[n]
    if "context" in phi:
        x = torch.cat([x, phi["context"].expand(B, Z)], 1)
    for layer in ("pi0", "pi1"):
        x = torch.relu(x @ params[f"{layer}.w"] + params[f"{layer}.b"])
    mean = x @ params["pi2.w"] + params["pi2.b"]
    return Normal(mean, params["log_std"].exp()).log_prob(samples.action[n]).sum(1)


def naive_adapted(problem: Problem, theta: Params, seen: list[Samples], n: int) -> Params:
    phi = (
        dict(theta)
        if problem.name == "maml"
        else {"context": torch.zeros(1, Z, dtype=torch.float64, requires_grad=True)}
    )
    for samples in seen:
        loss = -(naive_log_prob(theta, phi, samples, n) * samples.advantage[n]).mean()
        gradient = torch.autograd.grad(loss, list(phi.values()), create_graph=True)
        phi = {name: phi[name] - RATE * g for name, g in zip(phi, gradient, strict=True)}
    return phi


@pytest.mark.parametrize("inner_steps", [1, 2])
def test_adaptation_and_meta_gradient_equal_a_naive_loop_over_tasks(
    problem: Problem, inner_steps: int
) -> None:
    *seen, validation = batches(inner_steps)
    theta, gain = leaves(problem.theta), torch.zeros((), dtype=torch.float64)
    ours = adapted(problem.learner, leaves(problem.theta), N, seen, RATE)
    for n in range(N):
        phi = naive_adapted(problem, theta, seen, n)
        for name in phi.keys() | ours.keys():
            torch.testing.assert_close(ours[name][n], phi[name], rtol=1e-10, atol=1e-12)
        now = naive_log_prob(theta, phi, validation, n)
        gain = gain + ((now - now.detach()).exp() * validation.advantage[n]).mean() / N
    expected = flatten(torch.autograd.grad(gain, list(theta.values())))
    torch.testing.assert_close(
        objective(problem, inner_steps).gradient(), expected, rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("inner_steps", [0, 1, 2])
def test_the_meta_gradient_is_the_slope_of_the_whole_map(
    problem: Problem, inner_steps: int
) -> None:
    whole, at, width = objective(problem, inner_steps), flatten(list(problem.theta.values())), 1e-6
    shifts = width * torch.eye(len(at), dtype=torch.float64)
    slopes = [
        (whole.evaluate(at + shift)[0] - whole.evaluate(at - shift)[0]) / (2 * width)
        for shift in shifts
    ]
    torch.testing.assert_close(whole.gradient(), torch.stack(slopes), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("inner_steps", [1, 2])
def test_a_first_order_meta_gradient_is_the_gradient_at_the_adapted_parameters(
    problem: Problem, inner_steps: int
) -> None:
    *seen, validation = batches(inner_steps)
    theta = leaves(problem.theta)
    end = adapted(problem.learner, theta, N, seen, RATE)
    phi = {
        name: tensor + (end[name] - tensor).detach()
        for name, tensor in problem.learner.start(theta, N).items()
    }
    outputs = problem.learner.policy(theta, phi, validation.obs)
    gain = surrogate(outputs, (outputs[0].detach(), outputs[1].detach()), validation).mean()
    expected = flatten(torch.autograd.grad(gain, list(theta.values())))
    first, second = (objective(problem, inner_steps, order).gradient() for order in (True, False))
    torch.testing.assert_close(first, expected, rtol=1e-10, atol=1e-12)
    assert (first - second).norm() > 1e-2 * second.norm()


# One inner step


def test_maml_starts_from_theta_and_moves_all_of_it() -> None:
    theta = init_gaussian_policy(O, A, D, torch.Generator().manual_seed(0), torch.float64)
    phi = LEARNER.start(leaves(theta), N)
    assert all(
        torch.equal(tensor[n], theta[name]) for name, tensor in phi.items() for n in range(N)
    )
    moved = inner_step(LEARNER, {}, phi, batch(0), RATE)
    assert moved.keys() == theta.keys()
    assert all((moved[name] != phi[name]).flatten(1).any(1).all() for name in theta)


def test_cavia_starts_from_zero_and_moves_a_context_of_each_task_only() -> None:
    theta = init_gaussian_policy(O + Z, A, D, torch.Generator().manual_seed(0), torch.float64)
    before = {name: tensor.clone() for name, tensor in theta.items()}
    phi = CAVIA.start(theta, N)
    assert phi.keys() == {"context"}
    assert torch.equal(phi["context"], torch.zeros(N, 1, Z, dtype=torch.float64))
    moved = inner_step(CAVIA, theta, phi, batch(0), RATE)
    assert moved.keys() == {"context"}
    assert len(moved["context"].unique(dim=0)) == N
    assert all(torch.equal(theta[name], before[name]) for name in before)


def test_a_rate_of_zero_changes_nothing(problem: Problem) -> None:
    phi = problem.learner.start(leaves(problem.theta), N)
    moved = inner_step(problem.learner, problem.theta, phi, batch(0), 0.0)
    assert all(torch.equal(moved[name], phi[name]) for name in phi)


@pytest.mark.parametrize("differentiable", [True, False])
def test_the_inner_gradient_is_a_constant_unless_it_is_to_be_differentiated(
    problem: Problem, differentiable: bool
) -> None:
    phi = leaves(problem.learner.start(problem.theta, N))
    moved = inner_step(
        problem.learner,
        problem.theta,
        phi,
        batch=batch(0),
        rate=RATE,
        differentiable=differentiable,
    )
    slopes = torch.autograd.grad(sum(tensor.sum() for tensor in moved.values()), list(phi.values()))
    constant = all(torch.equal(slope, torch.ones_like(slope)) for slope in slopes)
    assert constant is not differentiable


# Trust-region steps


@pytest.mark.parametrize("outer", [True, False])
def test_the_settings_of_the_region_reach_the_step(
    problem: Problem, outer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, TrustRegion]] = []

    def watched(
        params: Tensor, gradient: Tensor, product: Product, evaluate: Any, region: TrustRegion
    ) -> Outcome:
        seen.append((product(torch.ones_like(params)), region))
        return trpo_step(params, gradient, product, evaluate, region)

    monkeypatch.setattr(gradient_steps, "trpo_step", watched)
    params = {name: tensor.expand(N, *tensor.shape) for name, tensor in problem.theta.items()}
    params |= problem.learner.start(problem.theta, N)
    for damping in (0.0, 0.25):
        config = GradientConfig(
            inner_rate=RATE,
            damping=damping,
            max_kl=0.02,
            cg_iterations=7,
            backtracks=9,
            backtrack_ratio=0.6,
        )
        if outer:
            meta_step(problem.learner, problem.theta, [batch(0)], batch(10), config)
        else:
            task_step(problem.policy, params, batch(0), config)
        assert seen[-1][1] == TrustRegion(
            max_kl=0.02, cg_iterations=7, backtracks=9, backtrack_ratio=0.6
        )
    torch.testing.assert_close(
        seen[1][0] - seen[0][0], torch.full_like(seen[0][0], 0.25), rtol=0, atol=1e-12
    )
