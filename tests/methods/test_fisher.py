"""Trust-region steps: Fisher products against explicit Hessians, and what a step does."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd.functional import hessian
from torch.distributions import Independent, Normal, kl_divergence

from benchmark.pool import TaskPool
from benchmark.seeding import Streams
from envs.point import PointGoal
from methods import maml
from methods.api import Event, Spec
from methods.cavia import Cavia, CaviaConfig, policy_of_all
from methods.core import gradient_steps
from methods.core.gradient_loop import MetaTrainer
from methods.core.gradient_steps import (
    GradientConfig,
    InnerLoop,
    MetaObjective,
    adapted,
    leaves,
    meta_step,
    task_step,
)
from methods.core.nets import Params, spread
from methods.core.policy_gradient import (
    Samples,
    gaussian_policy,
    init_gaussian_policy,
    mean_kl,
    surrogate,
)
from methods.core.trpo import FisherProduct, flatten, unflatten

N, B, O, A, D, Z = 3, 6, 3, 2, 4, 2
CAVIA = Cavia(Spec(O, A, B), CaviaConfig(context=Z)).learner


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def theta(n_in: int = O) -> Params:
    """Weights at no special point: biases are not zero, standard deviations not one."""
    params = init_gaussian_policy(n_in, A, D, torch.Generator().manual_seed(0), torch.float64)
    return {
        name: tensor + 0.2 * noise(seed, *tensor.shape)
        for seed, (name, tensor) in enumerate(params.items())
    }


def batch(seed: int) -> Samples:
    return Samples(noise(seed, N, B, O), noise(seed + 1, N, B, A), noise(seed + 2, N, B))


def plain(params: Params, obs: Tensor) -> Independent:
    """One task's policy, built from torch's own functions."""
    for name in ("pi0", "pi1"):
        obs = torch.nn.functional.linear(obs, params[f"{name}.w"].T, params[f"{name}.b"][0]).relu()
    mean = torch.nn.functional.linear(obs, params["pi2.w"].T, params["pi2.b"][0])
    return Independent(Normal(mean, params["log_std"].exp().expand_as(mean)), 1)


def adapted_alone(
    method: str, params: Params, seen: list[Samples], n: int, rate: float
) -> Callable[[Tensor], Independent]:
    """The policy of task n after plain gradient steps, differentiable in `params`."""
    fast = (
        dict(params)
        if method == "maml"
        else {"context": torch.zeros(Z, dtype=torch.float64, requires_grad=True)}
    )

    def policy(obs: Tensor) -> Independent:
        if method == "maml":
            return plain(fast, obs)
        return plain(params, torch.cat([obs, fast["context"].expand(len(obs), Z)], 1))

    for data in seen:
        loss = -(policy(data.obs[n]).log_prob(data.action[n]) * data.advantage[n]).mean()
        gradient = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
        fast = {
            name: tensor - rate * g
            for (name, tensor), g in zip(fast.items(), gradient, strict=True)
        }
    return policy


def explicit(kl: Callable[[Params], Tensor], params: Params) -> Tensor:
    """Hessian [P, P] of a divergence at the parameters."""
    like = list(params.values())
    return hessian(
        lambda v: kl(dict(zip(params, unflatten(v, like), strict=True))), flatten(like).detach()
    )


def matrix_of(product: FisherProduct, size: int, *lead: int) -> Tensor:
    """F [*lead, P, P], built column by column."""
    return torch.stack(
        [product(e.expand(*lead, size)) for e in torch.eye(size, dtype=torch.float64)], -1
    )


def divergence(old: Independent, new: Independent) -> Tensor:
    still = Independent(Normal(old.mean.detach(), old.stddev.detach()), 1)
    return kl_divergence(still, new).mean()


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_fisher_of_a_policy_that_tasks_share_is_the_hessian_of_their_mean_divergence(
    damping: float,
) -> None:
    params, obs = leaves(theta()), noise(50, N, B, O)
    expected = explicit(
        lambda new: (
            sum(divergence(plain(params, obs[n]), plain(new, obs[n])) for n in range(N)) / N
        ),
        params,
    )
    fisher = matrix_of(
        FisherProduct(gaussian_policy(params, obs), list(params.values()), damping=damping),
        len(expected),
    )
    torch.testing.assert_close(
        fisher, expected + damping * torch.eye(len(expected)).double(), rtol=0, atol=1e-10
    )
    if not damping:
        # the block of log σ, which all tasks share
        assert expected[-A:, -A:].allclose(2 * torch.eye(A).double())


def test_fisher_of_parameters_of_each_task_is_the_hessian_of_its_own_divergence() -> None:
    params, obs = spread(theta(), N), noise(50, N, B, O)
    params = leaves(
        {name: tensor + 0.1 * noise(60, *tensor.shape) for name, tensor in params.items()}
    )
    size = sum(tensor[0].numel() for tensor in params.values())
    product = FisherProduct(gaussian_policy(params, obs), list(params.values()), (N,), damping=0.1)
    fisher = matrix_of(product, size, N) - 0.1 * torch.eye(size).double()
    for n in range(N):
        own = {name: tensor[n].detach() for name, tensor in params.items()}
        expected = explicit(
            lambda new, n=n, own=own: divergence(plain(own, obs[n]), plain(new, obs[n])), own
        )
        torch.testing.assert_close(fisher[n], expected, rtol=0, atol=1e-10)


def test_parameters_that_reach_no_output_and_a_fixed_deviation_have_nothing_but_damping() -> None:
    params = leaves(theta())
    obs = noise(50, N, B, O)
    idle = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
    mean, log_std = gaussian_policy(params, obs)
    full = FisherProduct((mean, log_std), list(params.values()), damping=0.1)
    product = FisherProduct((mean, log_std.detach()), [*params.values(), idle], damping=0.1)
    vector, still = noise(5, sum(tensor.numel() for tensor in params.values()) + 2), A + 2
    result = product(vector)
    torch.testing.assert_close(result[:-still], full(vector[:-2])[:-A], rtol=0, atol=1e-12)
    torch.testing.assert_close(result[-still:], 0.1 * vector[-still:], rtol=0, atol=1e-15)


def learner_and_theta(method: str) -> tuple[InnerLoop, Params]:
    return (maml.LEARNER, theta()) if method == "maml" else (CAVIA, theta(O + Z))


@pytest.mark.parametrize("method", ["maml", "cavia"])
@pytest.mark.parametrize("inner_steps", [0, 1, 2])
def test_fisher_of_adapted_policies_goes_through_the_inner_steps(
    method: str, inner_steps: int
) -> None:
    (learner, params), seen, validation = (
        learner_and_theta(method),
        [batch(10 * k) for k in range(inner_steps)],
        batch(70),
    )
    config = GradientConfig(inner_rate=0.3, inner_steps=inner_steps, damping=0.0)
    objective = MetaObjective(learner, params, seen, validation, config)
    at = leaves(params)
    before = [adapted_alone(method, at, seen, n, 0.3)(validation.obs[n]) for n in range(N)]

    def kl(new: Params) -> Tensor:
        after = [adapted_alone(method, new, seen, n, 0.3)(validation.obs[n]) for n in range(N)]
        return torch.stack(
            [divergence(one, other) for one, other in zip(before, after, strict=True)]
        ).mean()

    expected = explicit(kl, at)
    fisher = matrix_of(objective.fisher(), len(expected))
    torch.testing.assert_close(fisher, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(fisher, fisher.mT, rtol=0, atol=1e-12)
    assert torch.linalg.eigvalsh(fisher).min() > -1e-10


def test_a_first_order_fisher_takes_the_inner_gradient_for_a_constant() -> None:
    params, seen, validation = theta(), [batch(1)], batch(70)
    config = GradientConfig(inner_rate=0.3, first_order=True, damping=0.0)
    fisher = MetaObjective(maml.LEARNER, params, seen, validation, config).fisher()
    phi = adapted(maml.LEARNER, leaves(params), N, seen, 0.3)
    shifts = [
        {name: (tensor[n] - params[name]).detach() for name, tensor in phi.items()}
        for n in range(N)
    ]

    def shifted(new: Params, n: int) -> Independent:
        return plain(
            {name: tensor + shifts[n][name] for name, tensor in new.items()}, validation.obs[n]
        )

    expected = explicit(
        lambda new: sum(divergence(shifted(params, n), shifted(new, n)) for n in range(N)) / N,
        params,
    )
    torch.testing.assert_close(matrix_of(fisher, len(expected)), expected, rtol=0, atol=1e-10)
    second = MetaObjective(
        maml.LEARNER, params, seen, validation, replace(config, first_order=False)
    ).fisher()
    assert not torch.allclose(matrix_of(second, len(expected)), expected)


@pytest.mark.parametrize("method", ["maml", "cavia"])
def test_a_fisher_with_a_stride_is_that_of_fewer_steps_and_the_rest_is_of_all(method: str) -> None:
    (learner, params), seen, validation = learner_and_theta(method), [batch(1)], batch(70)
    config = GradientConfig(inner_rate=0.3, damping=0.0)
    few = [Samples(*(part[:, [0, 4]] for part in of)) for of in (*seen, validation)]  # 2 of 6 steps
    whole = MetaObjective(learner, params, seen, validation, config)
    strided = MetaObjective(learner, params, seen, validation, replace(config, fisher_stride=4))
    expected = MetaObjective(learner, params, few[:1], few[1], config).fisher()
    size = len(whole.gradient())
    torch.testing.assert_close(
        matrix_of(strided.fisher(), size), matrix_of(expected, size), rtol=0, atol=1e-12
    )
    assert torch.equal(strided.gradient(), whole.gradient())
    at = torch.full((size,), 0.1, dtype=torch.float64)
    assert all(
        torch.equal(*pair) for pair in zip(strided.evaluate(at), whole.evaluate(at), strict=True)
    )


def test_a_task_alone_has_the_stride_too() -> None:
    params, data = spread(theta(), N), batch(70)
    few = Samples(*(part[:, [0, 4]] for part in data))
    strided = task_step(gaussian_policy, params, data, GradientConfig(fisher_stride=4))[1].params
    whole, thin = (
        task_step(gaussian_policy, params, of, GradientConfig())[1].params for of in (data, few)
    )
    assert not torch.allclose(strided, whole)
    assert not torch.allclose(strided, thin)  # its gradient uses all steps


@pytest.mark.parametrize("method", ["maml", "cavia"])
@pytest.mark.parametrize("inner_steps", [0, 1, 2])
def test_an_outer_step_stays_in_the_region_and_raises_the_surrogate(
    method: str, inner_steps: int
) -> None:
    (learner, params), seen, validation = (
        learner_and_theta(method),
        [batch(10 * k) for k in range(inner_steps)],
        batch(70),
    )
    config = GradientConfig(inner_rate=0.3, inner_steps=inner_steps)
    new, outcome = meta_step(learner, params, seen, validation, config)
    before, after = (
        [adapted_alone(method, leaves(at), seen, n, 0.3)(validation.obs[n]) for n in range(N)]
        for at in (params, new)
    )
    kl = (
        torch.stack([divergence(one, other) for one, other in zip(before, after, strict=True)])
        .mean()
        .detach()
    )
    gains = [
        (
            (after[n].log_prob(action) - before[n].log_prob(action)).exp() * advantage - advantage
        ).mean()
        for n, (action, advantage) in enumerate(
            zip(validation.action, validation.advantage, strict=True)
        )
    ]
    assert outcome.accepted
    assert 0 < kl <= config.max_kl + 1e-12
    assert float(kl) == pytest.approx(float(outcome.kl), abs=1e-12)
    assert float(outcome.improvement) == pytest.approx(
        float(torch.stack(gains).mean().detach()), abs=1e-12
    )
    assert outcome.improvement > 0


@pytest.mark.parametrize("method", ["maml", "cavia"])
def test_tasks_that_step_side_by_side_step_as_each_would_alone(method: str) -> None:
    policy = gaussian_policy if method == "maml" else policy_of_all
    data = batch(70)
    config = GradientConfig()
    params = spread(learner_and_theta(method)[1], N)
    if method == "cavia":
        params |= {"context": 0.3 * noise(8, N, 1, Z)}
    together, outcome = task_step(policy, params, data, config)
    now, new = policy(params, data.obs), policy(together, data.obs)
    assert outcome.accepted.all()
    assert (mean_kl(now, new) <= config.max_kl + 1e-12).all()
    assert (surrogate(new, now, data) > surrogate(now, now, data)).all()
    for n in range(N):
        own = {name: tensor[n : n + 1] for name, tensor in params.items()}
        alone = task_step(policy, own, Samples(*(part[n : n + 1] for part in data)), config)[0]
        for name, tensor in alone.items():
            torch.testing.assert_close(together[name][n : n + 1], tensor, rtol=0, atol=1e-9)


@pytest.fixture
def trained(meta_train: Callable[..., Any]) -> Callable[..., tuple[Params, int]]:
    """`(steps, inner_steps)`: point-goal weights after the outer steps, and the number rejected."""
    return partial(train, meta_train)


def train(meta_train: Callable[..., Any], steps: int, inner_steps: int = 1) -> tuple[Params, int]:
    family, config = PointGoal(), GradientConfig(hidden=D, episodes=2, inner_steps=inner_steps)
    fresh = init_gaussian_policy(
        family.observation_size, family.action_size, D, torch.Generator().manual_seed(0)
    )
    budget = steps * N * 2 * family.horizon * (inner_steps + 1)
    draw = partial(family.sample, N, np.random.default_rng(0))
    pool = TaskPool(family, draw(), Streams(0, "train"), pooled=True, allowed=budget, draw=draw)
    kept, rejected = list[Params](), list[int]()

    def trainer(make_env: Any, n_tasks: int, budget: int, streams: Streams) -> MetaTrainer:
        return MetaTrainer(
            maml.LEARNER,
            fresh,
            config,
            streams=streams,
            make_env=make_env,
            horizon=family.horizon,
            n_tasks=n_tasks,
            budget=budget,
            keep=kept.append,
        )

    def tell(event: Event, trainer: MetaTrainer) -> None:
        rejected.append(trainer._rejected)

    told = meta_train(SimpleNamespace(trainer=trainer), pool, N, budget, Streams(0, "method"), tell)
    assert [updates for event, updates, _ in told if event is Event.ITERATION] == list(
        range(1, steps + 1)
    )
    (theta,) = kept
    return theta, rejected[-1]


@pytest.mark.parametrize("inner_steps", [0, 1, 2])
def test_outer_steps_move_the_weights_and_none_is_rejected(
    trained: Callable[..., Any], inner_steps: int
) -> None:
    theta, rejected = trained(2, inner_steps)
    fresh = init_gaussian_policy(
        PointGoal.observation_size, PointGoal.action_size, D, torch.Generator().manual_seed(0)
    )
    assert rejected == 0
    assert all(not torch.equal(theta[name], tensor) for name, tensor in fresh.items())


def test_rejected_outer_steps_are_counted_and_leave_the_weights(
    trained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        gradient_steps, "mean_kl", lambda before, outputs: torch.full((N,), torch.inf)
    )
    theta, rejected = trained(3)
    fresh = init_gaussian_policy(
        PointGoal.observation_size, PointGoal.action_size, D, torch.Generator().manual_seed(0)
    )
    assert rejected == 3
    assert all(torch.equal(theta[name], tensor) for name, tensor in fresh.items())
