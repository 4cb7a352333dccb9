"""CAVIA: what its own steps move, what fine-tuning moves, and what the context does."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from benchmark.seeding import Streams
from methods.cavia import Cavia, CaviaConfig, CaviaFinetuned, policy, policy_of_all
from methods.core.gradient_steps import MetaObjective, inner_step, leaves, meta_step
from methods.core.trpo import conjugate_gradient, flatten, unflatten

BATCH, OWN, Z = 100, 2, 3
CONFIG = CaviaConfig(hidden=8, episodes=2, own_steps=OWN, context=Z)


@pytest.mark.parametrize("kind", [Cavia, CaviaFinetuned])
def test_own_steps_move_the_context_of_each_task_and_nothing_else(
    kind: Any, meta_trained: Callable[..., Any], point_pool: Callable[..., Any]
) -> None:
    method = meta_trained(kind, CONFIG, 4 * BATCH)
    adapter = method.adapter(point_pool(10**6).make_env, 2, Streams(0, "adapt"))
    assert torch.equal(adapter.state_dict()["params"]["context"], torch.zeros(2, 1, Z))
    for _ in range(OWN):
        adapter.step(BATCH)
    params = adapter.state_dict()["params"]
    assert (params.pop("context") != 0.0).all()
    assert params.keys() == method.theta.keys()
    assert all(
        torch.equal(params[name][n], tensor)
        for name, tensor in method.theta.items()
        for n in range(2)
    )


def test_every_step_on_a_test_task_uses_the_rate_of_meta_training(
    meta_trained: Callable[..., Any], point_pool: Callable[..., Any]
) -> None:
    method = meta_trained(Cavia, replace(CONFIG, inner_rate=0.3), 4 * BATCH)
    adapter, seen = method.adapter(point_pool(10**6).make_env, 2, Streams(0, "adapt")), []
    learn = adapter._learn
    adapter._learn = lambda params, batch, steps: (
        seen.append((params, batch)) or learn(params, batch, steps)
    )
    for _ in range(OWN):
        adapter.step(BATCH)
        params, batch = seen[-1]
        expected = inner_step(
            method.learner, params, leaves({"context": params["context"]}), batch, 0.3
        )
        assert torch.equal(adapter.state_dict()["params"]["context"], expected["context"])


def test_defaults_are_the_official_ones_but_for_the_steps_on_a_test_task() -> None:
    official = {
        "context": 2,
        "gamma": 0.95,
        "lam": 1.0,
        "inner_rate": 1.0,
        "inner_steps": 1,
        "episodes": 20,
    }
    region = {
        "max_kl": 0.01,
        "damping": 1e-5,
        "cg_iterations": 10,
        "fisher_stride": 1,
        "backtracks": 15,
        "backtrack_ratio": 0.8,
    }
    ours = {"hidden": 100, "first_order": False, "stochastic": False, "own_steps": 1}
    assert vars(CaviaConfig()) == {**official, **region, **ours}


def official_kl(new: tuple[torch.Tensor, ...], old: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Mean divergence over steps, then action entries, like the official `weighted_mean`."""
    distributions = [Normal(mean, log_std.exp().expand_as(mean)) for mean, log_std in (new, old)]
    return kl_divergence(*distributions).mean(0).mean()


def test_the_outer_step_goes_as_far_as_the_official_bound_lets_it(
    meta_trained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its quadratic model a full step meets the official bound; the true divergence is near."""
    steps, kls = [], []

    def watched(learner: Any, theta: Any, batches: Any, validation: Any, config: Any) -> Any:
        objective = MetaObjective(learner, theta, batches, validation, config)
        direction = conjugate_gradient(
            objective.fisher(), objective.gradient(), config.cg_iterations
        )
        full = (
            direction
            * (2.0 * config.max_kl / (direction * objective.fisher()(direction)).sum()).sqrt()
        )
        before = objective._now
        pieces = unflatten(
            flatten(list(objective.theta.values())).detach() + 0.1 * full,
            list(objective.theta.values()),
        )
        after = objective._outputs(leaves(dict(zip(theta, pieces, strict=True))))
        kl = [
            official_kl((after[0][n], after[1][0]), (before[0][n], before[1][0])) for n in range(2)
        ]
        kls.append(float(torch.stack(kl).mean().detach()))
        steps.append((config.max_kl, config.damping))
        return meta_step(learner, theta, batches, validation, config)

    monkeypatch.setattr("methods.core.gradient_loop.meta_step", watched)
    meta_trained(Cavia, replace(CONFIG, episodes=10), 20 * BATCH)
    assert steps == [(0.01 * 2, 1e-5 * 2)]  # for the sum over an action's entries, not their mean
    # a tenth of the step, where the quadratic model is accurate
    assert kls[0] == pytest.approx(0.01 * 0.1**2, rel=0.2)


def test_fine_tuning_moves_context_and_weights(
    meta_trained: Callable[..., Any], point_pool: Callable[..., Any]
) -> None:
    method = meta_trained(CaviaFinetuned, CONFIG, 4 * BATCH)
    adapter = method.adapter(point_pool(10**6).make_env, 2, Streams(0, "adapt"))
    for _ in range(OWN):
        adapter.step(BATCH)
    before = adapter.state_dict()["params"]
    adapter.step(BATCH)
    after = adapter.state_dict()["params"]
    assert all((after[name] != tensor).flatten(1).any(1).all() for name, tensor in before.items())


def test_the_first_layer_reads_the_context_beside_the_state() -> None:
    generator = torch.Generator().manual_seed(0)
    theta = {
        name: torch.randn(shape, generator=generator)
        for name, shape in (
            ("pi0.w", (4 + Z, 8)),
            ("pi0.b", (1, 8)),
            ("pi1.w", (8, 8)),
            ("pi1.b", (1, 8)),
        )
    } | {
        "pi2.w": torch.randn(8, 2, generator=generator),
        "pi2.b": torch.zeros(1, 2),
        "log_std": torch.zeros(1, 2),
    }
    obs = torch.randn(2, 5, 4, generator=generator)
    context = torch.randn(2, 1, Z, generator=generator)
    mean, _ = policy(theta, {"context": context}, obs)
    h = torch.relu(obs @ theta["pi0.w"][:4] + context @ theta["pi0.w"][4:] + theta["pi0.b"])
    h = torch.relu(h @ theta["pi1.w"] + theta["pi1.b"])
    torch.testing.assert_close(mean, h @ theta["pi2.w"] + theta["pi2.b"])
    own = {name: tensor.expand(2, *tensor.shape) for name, tensor in theta.items()} | {
        "context": context
    }
    torch.testing.assert_close(policy_of_all(own, obs)[0], mean)


@pytest.mark.parametrize("context", [0, 10_000, np.nan])
def test_an_absurd_context_is_refused(context: float) -> None:
    with pytest.raises(ValueError, match="context must be from 1 to 8192, not"):
        CaviaConfig(context=context)
