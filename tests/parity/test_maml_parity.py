"""MAML's adapted parameters and meta-gradient match learn2learn's, which loops over the tasks."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from methods.core.gradient_steps import GradientConfig, MetaObjective, adapted, leaves
from methods.core.nets import Params
from methods.core.policy_gradient import Samples, init_gaussian_policy
from methods.maml import LEARNER

N, B, O, A, D, RATE = 3, 11, 4, 2, 8, 0.3


@pytest.fixture(params=[1, 2], ids=["one inner step", "two inner steps"])
def batches(request: pytest.FixtureRequest) -> list[Samples]:
    """One batch for each inner step, and one for after them."""
    generator = torch.Generator().manual_seed(1)
    shapes = ((N, B, O), (N, B, A), (N, B))
    return [
        Samples(*(draw(generator, *shape) for shape in shapes)) for _ in range(request.param + 1)
    ]


@pytest.fixture
def theta() -> Params:
    generator = torch.Generator().manual_seed(0)
    params = init_gaussian_policy(O, A, D, generator, torch.float64)
    # moves biases and log σ off their initial values too
    return {name: tensor + 0.1 * draw(generator, *tensor.shape) for name, tensor in params.items()}


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def log_prob(module: Any, obs: Tensor, action: Tensor) -> Tensor:
    mean, log_std = module(obs)
    return Normal(mean, log_std.exp()).log_prob(action).sum(-1)


def peer(maml: Any, batches: list[Samples]) -> list[Any]:
    """learn2learn's learners, one for each task, adapted to all batches but the last."""
    learners = [maml.clone() for _ in range(N)]
    for n, learner in enumerate(learners):
        for batch in batches[:-1]:
            learner.adapt(
                -(log_prob(learner, batch.obs[n], batch.action[n]) * batch.advantage[n]).mean()
            )
    return learners


def assert_same(ours: Params, theirs: Params) -> None:
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("first_order", [True, False])
def test_adapted_parameters_are_learn2learns(
    their_maml: Any,
    twin: Callable[[Params], Any],
    theta: Params,
    batches: list[Samples],
    first_order: bool,
) -> None:
    ours = adapted(LEARNER, leaves(theta), N, batches[:-1], RATE, differentiable=not first_order)
    learners = peer(their_maml(twin(theta), RATE, first_order), batches)
    for n, learner in enumerate(learners):
        assert_same(
            {name: tensor[n] for name, tensor in ours.items()},
            learner.module.named(learner.module.parameters()),
        )
    assert not torch.allclose(ours["pi0.w"][0], theta["pi0.w"], atol=1e-3)


@pytest.mark.parametrize("first_order", [True, False])
def test_the_meta_gradient_is_learn2learns(
    their_maml: Any,
    twin: Callable[[Params], Any],
    theta: Params,
    batches: list[Samples],
    first_order: bool,
) -> None:
    *seen, validation = batches
    config = GradientConfig(inner_rate=RATE, first_order=first_order)
    ours = MetaObjective(LEARNER, theta, seen, validation, config).gradient()

    maml = their_maml(twin(theta), RATE, first_order)
    for n, learner in enumerate(peer(maml, batches)):
        now = log_prob(learner, validation.obs[n], validation.action[n])
        (((now - now.detach()).exp() * validation.advantage[n]).mean() / N).backward()
    theirs = maml.module.named([parameter.grad for parameter in maml.module.parameters()])
    pieces = ours.split([tensor.numel() for tensor in theta.values()])
    assert_same(
        {name: piece.view_as(theta[name]) for name, piece in zip(theta, pieces, strict=True)},
        theirs,
    )
