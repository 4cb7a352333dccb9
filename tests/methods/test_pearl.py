"""PEARL: posterior, gradient step against an official port, and what a test task may touch."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark.pool import TaskPool
from benchmark.protocol import adapt
from benchmark.seeding import Streams
from envs.point import PointGoal
from methods.api import Event, Spec
from methods.core.context_adapter import Belief
from methods.core.replay import Batch, TaskReplay
from methods.core.sac import temperature_loss
from methods.pearl import (
    Pearl,
    PearlAgent,
    PearlConfig,
    PearlFinetuned,
    bottleneck,
    infer,
    init,
    witnesses,
)

H, N, O, A, B, C = 50, 3, 4, 2, 6, 5
SPEC = Spec(O, A, H)
CONFIG = PearlConfig(
    hidden=8,
    layers=2,
    encoder_hidden=7,
    batch=B,
    context=C,
    latent=3,
    meta_batch=4,
    visited=2,
    initial_steps=60,
    prior_steps=50,
    posterior_steps=100,
    updates_per_step=0.05,
    learning_rate=1e-2,
)
BUDGET = 2 * 60 + 2 * 2 * 150  # two iterations on two tasks


def rows(seed: int, n_tasks: int, size: int) -> Batch:
    g = torch.Generator().manual_seed(seed)
    return Batch(
        torch.randn(n_tasks, size, O, generator=g),
        torch.rand(n_tasks, size, A, generator=g) * 2 - 1,
        torch.randn(n_tasks, size, generator=g),
        torch.randn(n_tasks, size, O, generator=g),
        (torch.rand(n_tasks, size, generator=g) < 0.3).float(),
    )


def agent_of(
    config: PearlConfig = CONFIG, params: Any = None, lead: tuple[int, ...] = (), spec: Spec = SPEC
) -> PearlAgent:
    params = init(spec, config, torch.Generator().manual_seed(0)) if params is None else params
    for name, tensor in params.items():  # fresh output layers are almost zero
        if name in ("pi2.w", "q2.w", "v2.w", "context3.w"):
            tensor.mul_(30)
    return PearlAgent(params, spec, config, Streams(0, "agent"), lead)


@pytest.fixture
def method(meta_trained: Callable[..., Any]) -> Pearl:
    return meta_trained(Pearl, CONFIG, BUDGET)


# The posterior


def test_a_posterior_is_the_product_of_what_each_witness_says() -> None:
    agent, context = agent_of(), witnesses(rows(1, N, C), False)
    assert context.shape == (N, C, O + A + 1)
    whole = infer(agent.params, context, "fp32")
    for n in range(N):
        precision, weighted = torch.zeros(3), torch.zeros(3)
        for c in range(C):
            alone = infer(agent.params, context[n, c : c + 1], "fp32")
            precision, weighted = precision + 1 / alone.var, weighted + alone.mean / alone.var
        torch.testing.assert_close(whole.var[n], 1 / precision)
        torch.testing.assert_close(whole.mean[n], weighted / precision)


def test_permuting_the_context_leaves_the_posterior_and_adding_to_it_does_not() -> None:
    agent, seen = agent_of(), rows(1, N, C)
    mixed = Batch(*(part[:, torch.tensor([3, 0, 4, 2, 1])] for part in seen))
    fewer = Batch(*(part[:, :-1] for part in seen))
    for part, other, less in zip(
        agent.believe(seen), agent.believe(mixed), agent.believe(fewer), strict=True
    ):
        torch.testing.assert_close(part, other)
        assert not torch.isclose(part, less).any()


@pytest.mark.parametrize(("kind", "reads"), [("reward", False), ("transition", True)])
def test_next_states_are_witnesses_where_dynamics_vary(kind: str, reads: bool) -> None:
    agent, seen = agent_of(spec=Spec(O, A, H, kind)), rows(1, N, C)
    moved = seen._replace(next_obs=seen.next_obs + 1.0)
    assert torch.equal(agent.believe(seen).mean, agent.believe(moved).mean) is not reads


def test_the_bottleneck_is_the_divergence_from_the_prior() -> None:
    belief = Belief(torch.tensor([[0.5, -1.0]]), torch.tensor([[0.25, 2.0]]))
    expected = sum(0.5 * (v + m * m - 1 - np.log(v)) for m, v in ((0.5, 0.25), (-1.0, 2.0)))
    assert float(bottleneck(belief)) == pytest.approx(expected, rel=1e-6)
    assert float(bottleneck(Belief(torch.zeros(1, 3), torch.ones(1, 3)))) == 0.0


# The gradient step


def test_gradient_steps_equal_those_of_a_plain_port_of_the_official_code(ported_pearl: Any) -> None:
    # with the usual values of these settings, Adam would hide errors in their terms
    config = replace(CONFIG, gamma=0.5, regularisation=1.0)
    agent = agent_of(config)
    theirs = ported_pearl(agent.params, config, O, A)
    noise = torch.Generator()
    noise.set_state(agent._latents.get_state())
    for step in range(3):
        batch, context = rows(10 + step, N, B), rows(20 + step, N, C)
        agent.learn(batch, context)
        z_noise = torch.randn(N, 3, generator=noise)
        action_noise = torch.randn(N * B, A, generator=noise)
        flat = [
            torch.cat(
                [
                    part if part.ndim == 3 else part[..., None]
                    for part in (*some[:2], some.reward, *some[3:])
                ],
                -1,
            )
            for some in (batch, context)
        ]
        theirs.step(*flat, z_noise, action_noise)
    for net, module in theirs.nets.items():
        name, ours = (
            ("v", agent.target)
            if net == "target"
            else (net.rstrip("01") if net in ("q0", "q1") else net, agent.params)
        )
        linears = [layer for layer in module if isinstance(layer, torch.nn.Linear)]
        for i, layer in enumerate(linears):
            w, b = (ours[f"{name}{i}.{part}"] for part in "wb")
            if net in ("q0", "q1"):
                w, b = w[int(net[1])], b[int(net[1])]
            torch.testing.assert_close(w, layer.weight.T, rtol=1e-3, atol=2e-5)
            torch.testing.assert_close(b[0], layer.bias, rtol=1e-3, atol=2e-5)


def test_critics_and_bottleneck_teach_the_inference_network_and_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taught: list[set[str]] = []

    def watched(self: PearlAgent, which: int, loss: Tensor, leaves: dict[str, Tensor]) -> None:
        every = {name: leaves.get(name, tensor) for name, tensor in self.params.items()}
        found = torch.autograd.grad(
            loss,
            [t for t in every.values() if t.requires_grad],
            retain_graph=True,
            allow_unused=True,
        )
        needing = [name for name, t in every.items() if t.requires_grad]
        taught.append(
            {
                name[:2]
                for name, g in zip(needing, found, strict=True)
                if g is not None and g.abs().sum() > 0
            }
        )

    monkeypatch.setattr(PearlAgent, "_step", watched)
    for auto in (False, True):
        agent_of(replace(CONFIG, auto_entropy=auto)).learn(rows(1, N, B), rows(2, N, C))
    critics, actors = {"co", "q0", "q1", "q2"}, {"pi", "v0", "v1", "v2"}
    assert taught == [critics, actors, critics, actors | {"lo"}]


def test_the_divergence_is_summed_over_tasks_and_weighted(monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []
    monkeypatch.setattr(
        PearlAgent, "_step", lambda self, which, loss, leaves: losses.append(float(loss.detach()))
    )
    batch, context = rows(1, N, B), rows(2, N, C)
    for weight in (0.0, 0.7):
        agent_of(replace(CONFIG, kl_weight=weight)).learn(batch, context)
    expected = 0.7 * float(bottleneck(agent_of().believe(context)).sum())
    assert losses[2] - losses[0] == pytest.approx(expected, rel=1e-3)


def spread(params: dict[str, Tensor], n: int) -> dict[str, Tensor]:
    axis = {name: 1 if name[0] == "q" else 0 for name in params}
    return {name: torch.stack([tensor] * n, axis[name]) for name, tensor in params.items()}


@pytest.mark.parametrize("auto", [False, True])
def test_tasks_that_learn_alone_learn_what_each_would_learn_by_itself(
    auto: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, auto_entropy=auto)
    batch, context = rows(1, N, B), rows(2, N, C)
    latents, actions = (
        torch.randn(N, *shape, generator=torch.Generator().manual_seed(7))
        for shape in ((3,), (B, A))
    )
    tasks = list(range(N))
    monkeypatch.setattr(
        PearlAgent,
        "_noise",
        lambda self, *shape: (latents if shape[-1] == 3 else actions)[torch.tensor(tasks)].reshape(
            shape
        ),
    )
    params = agent_of(config).params
    together = PearlAgent(spread(params, N), SPEC, config, Streams(0, "agent"), (N,))
    for _ in range(2):
        together.learn(batch, context)
    for n in range(N):
        tasks = [n]
        alone = PearlAgent(params, SPEC, config, Streams(0, "agent"))
        for _ in range(2):
            alone.learn(*(Batch(*(part[n : n + 1] for part in some)) for some in (batch, context)))
        for mine, its in ((together.params, alone.params), (together.target, alone.target)):
            for name, tensor in its.items():
                own = mine[name][:, n] if name[0] == "q" else mine[name][n]
                torch.testing.assert_close(own, tensor, rtol=1e-3, atol=2e-5)


# Meta-training and adaptation


def test_an_iteration_uses_what_it_says_and_learns_in_proportion(
    meta_train: Callable[..., Any],
) -> None:
    method = Pearl(Spec(O, A, H), CONFIG)
    generator = np.random.default_rng(0)
    pool = TaskPool(
        PointGoal(), PointGoal().sample(4, generator), Streams(0), pooled=True, allowed=10**6
    )
    budget = 4 * 60 + 3 * 2 * 150 + 299
    *steps, end = meta_train(method, pool, 4, budget, Streams(0, "m"))
    told = [step for step in steps if step[0] is not Event.NOTHING]
    assert [used for *_, used in told] == [240, 340, 540, 640, 840, 940, 1140]
    assert end == (Event.END, 45, 1140)  # the rest does not suffice for another iteration
    explored = [(updates, event is Event.EXPLORED) for event, updates, _ in told]
    assert explored == [
        (0, True),
        (0, True),
        (15, False),
        (15, True),
        (30, False),
        (30, True),
        (45, False),
    ]
    assert len(set(pool.used.tolist())) > 1 and all(
        (int(used) - 60) % 150 == 0 for used in pool.used
    )


def test_the_second_part_of_a_visit_is_on_the_posterior_but_for_its_first_episode(
    meta_train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    believe = PearlAgent.believe

    def watched(self: PearlAgent, seen: Batch) -> Belief:
        asked.append(seen.reward.shape[1])
        return believe(self, seen)

    monkeypatch.setattr(PearlAgent, "believe", watched)
    pool = TaskPool(
        PointGoal(),
        PointGoal().sample(2, np.random.default_rng(0)),
        Streams(0),
        pooled=True,
        allowed=10**6,
    )
    method = Pearl(SPEC, replace(CONFIG, posterior_steps=150))
    meta_train(method, pool, 2, 120 + 2 * 2 * 200, Streams(0, "m"))
    # once in each iteration for its second and once for its third episode, never for the first
    assert asked == [C] * 4


def test_context_is_what_visits_collected_on_the_prior(
    meta_train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[tuple[int, bool, bool]] = []
    inferred: list[tuple[int, int]] = []
    add, sample_context, learn = TaskReplay.add, TaskReplay.sample_context, PearlAgent.learn
    contexts: list[Batch] = []

    def adding(
        self: TaskReplay, ids: Tensor, batch: Batch, context: bool, more: bool = False
    ) -> None:
        added.append((batch.reward.shape[1], context, more))
        add(self, ids, batch, context, more)

    def sampling(self: TaskReplay, ids: Tensor, size: int, generator: torch.Generator) -> Batch:
        contexts.append(sample_context(self, ids, size, generator))
        return contexts[-1]

    def learning(self: PearlAgent, batch: Batch, context: Batch) -> None:
        inferred.append(context.reward.shape)
        assert context is contexts[-1]
        learn(self, batch, context)

    monkeypatch.setattr(TaskReplay, "add", adding)
    monkeypatch.setattr(TaskReplay, "sample_context", sampling)
    monkeypatch.setattr(PearlAgent, "learn", learning)
    pool = TaskPool(
        PointGoal(),
        PointGoal().sample(2, np.random.default_rng(0)),
        Streams(0),
        pooled=True,
        allowed=10**6,
    )
    meta_train(Pearl(SPEC, CONFIG), pool, 2, BUDGET, Streams(0, "m"))
    explored = [(H, True, False), (60 - H, False, True)]  # a horizon at a time
    assert added == [*explored, *[(50, True, False), (100, False, False)] * 2]
    assert inferred == [(CONFIG.meta_batch, C)] * 30


def test_each_task_keeps_what_was_collected_on_it() -> None:
    family, n_tasks = PointGoal(), 4
    tasks = family.sample(n_tasks, np.random.default_rng(0))
    pool = TaskPool(family, tasks, Streams(0), pooled=True, allowed=10**6)
    trainer = Pearl(SPEC, CONFIG).trainer(pool.make_env, n_tasks, 10**6, Streams(0, "m"))
    while int(pool.used.sum()) < n_tasks * 60 + 6 * 2 * 150:  # six iterations
        trainer.step(10**6)
    replay = trainer.state_dict()["replay"]
    held = replay["added"].tolist()
    assert sum(held) == int(pool.used.sum()) and len(set(held)) > 1  # some were visited more often
    for task, count, rows in zip(tasks, held, replay["data"], strict=True):
        *_, reward, x, y, _, _, _ = rows[:count].double().numpy().T
        angle, radius = task.params["angle"], task.params["radius"]
        away = np.hypot(x - radius * np.cos(angle), y - radius * np.sin(angle))
        np.testing.assert_allclose(reward, -away, atol=1e-5)


def test_the_entropy_that_is_aimed_at_is_minus_the_size_of_an_action(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aims: list[float] = []

    def watched(log_alpha: Tensor, log_prob: Tensor, entropy: float) -> Tensor:
        aims.append(entropy)
        return temperature_loss(log_alpha, log_prob, entropy)

    monkeypatch.setattr("methods.pearl.temperature_loss", watched)
    agent = agent_of(replace(CONFIG, auto_entropy=True))
    agent.learn(rows(1, N, B), rows(2, N, C))
    assert aims == [-A] and float(agent.params["log_alpha"]) != 0.0
    agent_of().learn(rows(1, N, B), rows(2, N, C))
    assert aims == [-A]  # α stays 1


def test_every_test_task_is_tuned_from_a_copy_of_all_weights(
    method: Pearl, point_pool: Callable[..., TaskPool]
) -> None:
    tuned = PearlFinetuned(method.spec, CONFIG)
    tuned.load_state_dict(method.state_dict())
    agent = tuned.adapter(point_pool(10**6, (0, 1, 2)).make_env, 3, Streams(0, "adapt"))._agent
    for name, shared in method.params.items():
        axis = 1 if name.startswith("q") else 0
        assert agent.params[name].shape == (*shared.shape[:axis], 3, *shared.shape[axis:])
        assert all(torch.equal(agent.params[name].select(axis, n), shared) for n in range(3))


def test_no_weight_moves_on_a_test_task_without_fine_tuning(
    method: Pearl, point_pool: Callable[..., TaskPool]
) -> None:
    kept = {name: tensor.clone() for name, tensor in method.params.items()}
    for kind, moves in ((Pearl, False), (PearlFinetuned, True)):
        tuned = kind(method.spec, CONFIG)
        tuned.load_state_dict(method.state_dict())
        adapter = tuned.adapter(point_pool(10**6).make_env, 2, Streams(0, "adapt"))
        before = {name: tensor.clone() for name, tensor in adapter._agent.params.items()}
        for left in range(4 * H, 0, -1):
            adapter.step(left)
        after = adapter._agent.params
        assert all(
            torch.equal(after[name], tensor) is not moves
            for name, tensor in before.items()
            if name != "log_alpha"
        )
        assert (adapter.updates > 0) is moves
    assert all(torch.equal(method.params[name], tensor) for name, tensor in kept.items())


@pytest.mark.parametrize("kind", [Pearl, PearlFinetuned])
def test_nothing_passes_between_test_tasks(kind: Any, method: Pearl) -> None:
    """Task 0 is adapted beside two different tasks in turn, which must make no difference."""
    curves = []
    for other in (1, 5):
        tuned = kind(method.spec, replace(CONFIG, tuned_updates_per_step=0.2))
        tuned.load_state_dict(method.state_dict())
        tasks = [PointGoal().split("ood")[i] for i in (0, other)]
        pool, actions = TaskPool(PointGoal(), tasks, Streams(0, "pool")), []

        def evaluate(policy: Any, actions: list[Any] = actions) -> Any:
            policy.reset(np.ones((2, 4), bool))
            actions.append(
                policy.act(np.linspace(-1, 1, 2 * 4 * O, dtype=np.float32).reshape(2, 4, O))
            )
            return _Nothing()

        adapter = tuned.adapter(pool.make_env, 2, Streams(0, "adapt"))
        list(adapt(adapter, pool, evaluate, Streams(0, "a"), 3 * H))  # type: ignore[arg-type]
        curves.append(np.stack(actions))
    # up to rounding, because stacked products may be summed in another order
    np.testing.assert_allclose(curves[0][:, 0], curves[1][:, 0], rtol=1e-4, atol=1e-6)
    # the other task itself does differ
    assert np.abs(curves[0][2:, 1] - curves[1][2:, 1]).max() > 1e-4


class _Nothing:
    diverged = np.zeros(2, bool)


def test_no_task_parameter_reaches_the_agent(
    method: Pearl, point_pool: Callable[..., TaskPool]
) -> None:
    """A method's environments show no parameters, and its networks have no inputs for any."""
    env = point_pool(10**6).make_env()
    assert not hasattr(env, "params") and not hasattr(env, "tasks")
    assert method.params["pi0.w"].shape == (O + CONFIG.latent, CONFIG.hidden)
    assert method.params["context0.w"].shape[0] == O + A + 1


def test_a_method_goes_on_from_its_state_and_refuses_without_one(
    method: Pearl, point_pool: Callable[..., TaskPool]
) -> None:
    fresh = Pearl(method.spec, CONFIG)
    with pytest.raises(
        RuntimeError, match="finish a trainer or call load_state_dict before adapter"
    ):
        fresh.adapter(point_pool(0).make_env, 2, Streams(0))
    fresh.load_state_dict(method.state_dict())
    assert all(torch.equal(fresh.params[name], tensor) for name, tensor in method.params.items())


def test_a_frozen_agent_does_not_learn_on() -> None:
    agent = agent_of()
    frozen, obs, z = agent.frozen(), torch.ones(N, 1, O), torch.ones(N, 1, 3)
    before = agent.mean(obs, z)
    agent.learn(rows(1, N, B), rows(2, N, C))
    assert torch.equal(frozen.mean(obs, z), before) and not torch.equal(agent.mean(obs, z), before)


def test_bfloat16_reaches_learning_and_inference() -> None:
    exact, rough = (
        agent_of(replace(CONFIG, precision=precision)) for precision in ("fp32", "bf16")
    )
    assert not torch.equal(exact.believe(rows(2, N, C)).mean, rough.believe(rows(2, N, C)).mean)
    for agent in (exact, rough):
        agent.learn(rows(1, N, B), rows(2, N, C))
    assert all(
        not torch.equal(exact.params[name], rough.params[name])
        for name in ("context0.w", "q0.w", "pi0.w", "v0.w")
    )
    torch.testing.assert_close(
        rough.believe(rows(2, N, C)).mean, exact.believe(rows(2, N, C)).mean, rtol=0.1, atol=0.05
    )


def test_an_agent_goes_on_from_its_state() -> None:
    one, other = agent_of(), agent_of()
    one.learn(rows(1, N, B), rows(2, N, C))
    other.load_state_dict(one.state_dict())
    for agent in (one, other):
        agent.learn(rows(3, N, B), rows(4, N, C))
    assert one.updates == other.updates == 2
    assert all(torch.equal(other.params[name], tensor) for name, tensor in one.params.items())
    assert torch.equal(
        one.act(torch.zeros(N, 1, O), torch.zeros(N, 1, 3)),
        other.act(torch.zeros(N, 1, O), torch.zeros(N, 1, 3)),
    )


def test_a_budget_too_small_is_refused_with_its_numbers(meta_trained: Callable[..., Any]) -> None:
    with pytest.raises(
        ValueError, match=r"60 steps of each of 2 tasks and one iteration take 420 .* budget is 419"
    ):
        meta_trained(Pearl, CONFIG, 419)


@pytest.mark.parametrize(
    "setting",
    [
        {"latent": 0},
        {"visited": 0},
        {"replay": 100},
        {"kl_weight": -1.0},
        {"updates_per_step": float("nan")},
    ],
)
def test_absurd_settings_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        replace(CONFIG, **setting)
