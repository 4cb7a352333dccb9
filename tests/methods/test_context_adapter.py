"""Adaptation by a latent: when it is drawn, from what, and what of a task it may depend on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.pool import TaskPool
from benchmark.protocol import Evaluator
from benchmark.seeding import Streams
from envs.api import Step
from envs.hopper import HopperRand
from envs.point import PointGoal
from methods.core.context_adapter import Belief, ContextAdapter, Episodes
from methods.core.replay import Batch

H, N, Z = 50, 2, 3


class Watcher:
    """Records its calls; believes with certainty that z is 100 plus the number of transitions."""

    def __init__(self, n_act: int = 2) -> None:
        self.acted: list[tuple[str, Tensor]] = []
        self.contexts: list[Batch] = []
        self.learned: list[tuple[Batch, Batch]] = []
        self._n_act = n_act

    def _action(self, kind: str, obs: Tensor, z: Tensor) -> Tensor:
        self.acted.append((kind, z.clone()))
        return 0.1 * torch.ones(*obs.shape[:2], self._n_act)

    def act(self, obs: Tensor, z: Tensor) -> Tensor:
        return self._action("drawn", obs, z)

    def mean(self, obs: Tensor, z: Tensor) -> Tensor:
        return self._action("mean", obs, z)

    def believe(self, seen: Batch) -> Belief:
        self.contexts.append(seen)
        n_tasks, count = seen.reward.shape
        return Belief(torch.full((n_tasks, Z), 100.0 + count), torch.zeros(n_tasks, Z))

    def learn(self, batch: Batch, context: Batch) -> None:
        self.learned.append((batch, context))

    def frozen(self) -> "Watcher":
        return self

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        pass


def generators(seed: int = 0) -> tuple[torch.Generator, torch.Generator]:
    return torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)


def adapter_of(pool: TaskPool, agent: Any, **settings: Any) -> ContextAdapter:
    return ContextAdapter(pool.make_env(), agent, Z, generators(), **settings)


def go(adapter: ContextAdapter, steps: int) -> None:
    """Adapt for `steps` environment steps of each task."""
    for left in range(steps, 0, -1):
        adapter.step(left)


def test_z_is_constant_within_an_episode_and_another_in_the_next(
    point_pool: Callable[..., TaskPool],
) -> None:
    agent = Watcher()
    episodes = Episodes(point_pool(10**6).make_env(), Z, 2, generators()[0])
    seen = episodes.collect(
        3 * H + 10, agent.act, lambda: Belief(torch.full((N, Z), 7.0), torch.full((N, Z), 4.0))
    )
    assert seen.obs.shape == (N, 3 * H + 10, 4) and seen.reward.shape == (N, 3 * H + 10)
    z = torch.stack([told[:, 0] for _, told in agent.acted])  # [T, N, Z]
    starts = [0, H, 2 * H, 3 * H]
    for start in starts:
        assert (z[start : start + H] == z[start]).all()
    assert len({float(z[start, n, 0]) for start in starts for n in range(N)}) == len(starts) * N
    noise = torch.stack(
        [torch.randn(N, Z, generator=g) for g in [generators()[0]] for _ in range(3 * H + 1)]
    )
    torch.testing.assert_close(z[H], noise[H])  # the prior
    torch.testing.assert_close(z[2 * H], 7.0 + 2.0 * noise[2 * H])  # the posterior
    assert episodes.ended.tolist() == [3, 3]


def test_an_episode_that_ends_early_makes_its_own_task_draw_and_no_other() -> None:
    family = HopperRand()
    tasks = family.split("ood")[:6]
    env = TaskPool(family, tasks, Streams(0), allowed=10**6).make_env()
    agent, ends = Watcher(3), []
    episodes = Episodes(env, Z, np.inf, generators()[0])
    for _ in range(120):
        episodes.step(agent.act, lambda: Belief(torch.zeros(6, Z), torch.ones(6, Z)))
        ends.append(episodes._over[:, 0].clone())
    z = torch.stack([told[:, 0] for _, told in agent.acted])
    moved = (z[1:] != z[:-1]).any(-1)
    assert torch.equal(moved, torch.stack(ends)[:-1]) and moved.any() and not moved.all(1).any()


def test_transitions_are_what_happened(point_pool: Callable[..., TaskPool]) -> None:
    episodes = Episodes(point_pool(10**6).make_env(), Z, 2, generators()[0])
    seen = episodes.collect(
        2 * H, Watcher().act, lambda: Belief(torch.zeros(N, Z), torch.ones(N, Z))
    )
    inside = [t for t in range(2 * H - 1) if (t + 1) % H]
    assert torch.equal(seen.next_obs[:, inside], seen.obs[:, [t + 1 for t in inside]])
    assert not torch.equal(seen.next_obs[:, H - 1], seen.obs[:, H])  # a reset lies between
    assert not seen.terminated.any()  # the time limit ended the episodes


def test_falls_end_an_exploration_task_by_task_and_tasks_do_not_notice_each_other() -> None:
    """A hopper's posterior, its z and its data do not depend on when other hoppers fall."""
    family, told = HopperRand(), []
    for others in ((1, 2), (9, 14)):
        tasks = [family.split("ood")[i] for i in (0, *others)]
        pool, agent = TaskPool(family, tasks, Streams(0), allowed=10**6), Watcher(3)
        adapter = adapter_of(
            pool, agent, learning=True, updates_per_step=0.1, batch=4, context=4, replay=5000
        )
        unequal = False
        for _ in range(60):
            go(adapter, 3)
            explored = adapter._episodes.ended >= 2
            belief = adapter.policy(np.random.default_rng(0))._belief
            assert torch.equal(belief.mean[:, 0] > 50, explored) and torch.equal(
                adapter._episodes.explored, explored
            )
            unequal |= bool(explored.any() and not explored.all())
        go(adapter, 900)
        assert unequal and len(agent.contexts[-1].reward[0]) == 2 * family.horizon
        told.append(
            (
                torch.stack([z[0] for _, z in agent.acted]),
                adapter._subsets,
                adapter._generator.get_state(),
            )
        )
    assert torch.equal(told[0][0], told[1][0])
    assert told[0][1] == told[1][1] and torch.equal(told[0][2], told[1][2])


def test_the_posterior_is_the_prior_until_two_episodes_are_complete(
    point_pool: Callable[..., TaskPool],
) -> None:
    pool, agent = point_pool(10**6), Watcher()
    adapter = adapter_of(pool, agent)
    believed = {}
    for used in (0, 10, H, H + 20, 2 * H, 2 * H):
        if used > pool.used.max():
            go(adapter, used - int(pool.used.max()))
        policy = adapter.policy(np.random.default_rng(0))
        believed[used] = policy._belief
    for used in (0, 10, H, H + 20):
        assert (believed[used].mean == 0).all() and (believed[used].var == 1).all()
    assert (believed[2 * H].mean == 100 + 2 * H).all() and (believed[2 * H].var == 0).all()
    go(adapter, 1000)
    assert pool.used.tolist() == [2 * H] * N and adapter.updates == 0  # it stops after two episodes
    assert {kind for kind, _ in agent.acted} == {"mean"}


def test_training_on_uses_the_posterior_at_most_as_many_transitions_and_all_of_the_replay(
    point_pool: Callable[..., TaskPool],
) -> None:
    pool, agent = point_pool(10**6), Watcher()
    adapter = adapter_of(
        pool, agent, learning=True, updates_per_step=0.4, batch=8, context=5, replay=1000
    )
    go(adapter, 2 * H)
    assert adapter.updates == 0 and not agent.learned
    go(adapter, 3 * H + 1)
    assert (
        adapter.updates == len(agent.learned) == int(0.4 * (3 * H + 1))
        and pool.used.tolist() == [5 * H + 1] * N
    )
    assert [kind for kind, _ in agent.acted] == ["mean"] * 2 * H + ["drawn"] * (3 * H + 1)
    assert all((z == 100 + 2 * H).all() for _, z in agent.acted[2 * H :])
    assert [c.reward.shape for c in agent.contexts] == [(N, 2 * H)] * 4
    later = agent.contexts[-1]
    assert all(len(rows.unique(dim=0)) == 2 * H for rows in later.obs)  # a subset without repeats
    held = adapter._replay.at(torch.arange(5 * H).expand(N, -1))
    for n in range(N):
        assert set(later.reward[n].tolist()) <= set(held.reward[n].tolist())
        assert not set(later.reward[n].tolist()) <= set(held.reward[n, : 2 * H].tolist())
    assert agent.learned[-1][0].reward.shape == (N, 8) and agent.learned[-1][1].reward.shape == (
        N,
        5,
    )


def test_each_evaluated_episode_draws_a_z_of_its_own_and_keeps_it(
    point_pool: Callable[..., TaskPool],
) -> None:
    agent, tasks = Watcher(), PointGoal().split("ood")[:N]
    adapter = adapter_of(point_pool(10**6), agent)
    go(adapter, 10)
    agent.acted.clear()
    Evaluator(PointGoal(), tasks, Streams(0))(adapter.policy(np.random.default_rng(0)))
    z = torch.stack([told for _, told in agent.acted])  # [T, N, E, Z]
    assert z.shape[0] == H and (z == z[0]).all()
    assert {kind for kind, _ in agent.acted} == {"mean"}
    assert len(z[0].reshape(-1, Z).unique(dim=0)) == N * 10
    agent.acted.clear()
    Evaluator(PointGoal(), tasks, Streams(0))(adapter.policy(np.random.default_rng(0)))
    assert torch.equal(agent.acted[0][1], z[0])  # drawn from the harness's generator


def test_a_policy_draws_anew_only_where_an_episode_begins(
    point_pool: Callable[..., TaskPool],
) -> None:
    policy = adapter_of(point_pool(10**6), Watcher()).policy(np.random.default_rng(0))
    policy.reset(np.ones((N, 3), bool))
    first = policy._z.clone()
    policy.reset(np.array([[True, False, False], [False, False, True]]))
    moved = (policy._z != first).any(-1)
    assert moved.tolist() == [[True, False, False], [False, False, True]]
    policy.observe(Step(*(np.zeros(1) for _ in range(4))))


def test_a_restart_goes_on_as_if_never_stopped(point_pool: Callable[..., TaskPool]) -> None:
    settings = {"learning": True, "updates_per_step": 0.1, "batch": 8, "context": 5, "replay": 1000}
    one_pool, agent = point_pool(10**6), Watcher()
    one = adapter_of(one_pool, agent, **settings)
    go(one, 2 * H + 20)
    state = one.state_dict()
    other_pool, other_agent = point_pool(10**6), Watcher()
    other = adapter_of(other_pool, other_agent, **settings)
    other._episodes.env._env.reset()
    other._episodes.env._env.load_state_dict(one._episodes.env._env.state_dict())
    other.load_state_dict(state)
    for adapter in (one, other):
        go(adapter, 2 * H)
    assert one.updates == other.updates == int(0.1 * (2 * H + 20))
    for left, right in zip(agent.learned[-1], other_agent.learned[-1], strict=True):
        for a, b in zip(left, right, strict=True):
            assert torch.equal(a, b)
    assert torch.equal(agent.acted[-1][1], other_agent.acted[-1][1])
