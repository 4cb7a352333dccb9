"""TD3 after another method: its stages and their order, and cloning against a naive loop."""

from typing import Any

import numpy as np
import pytest
import torch

from benchmark.pool import TaskPool
from benchmark.seeding import Streams
from envs.api import Step
from envs.point import PointGoal
from methods.api import Spec
from methods.cavia import CaviaTD3
from methods.core.nets import actor
from methods.core.td3 import TD3Config
from methods.core.td3_stage import TD3StageAdapter, TD3StageConfig, cloning_loss
from methods.maml import Maml, MamlConfig, MamlTD3, MamlTD3Config
from methods.pearl import PearlTD3
from methods.rl2 import Rl2TD3
from methods.varibad import VaribadTD3

FAMILY = PointGoal()
TASKS = FAMILY.split("id")[:3]
SPEC = Spec(FAMILY.observation_size, FAMILY.action_size, FAMILY.horizon)
H = FAMILY.horizon
STAGE: dict[str, Any] = {
    "hidden": 32,
    "batch": 32,
    "warmup_episodes": 4,
    "learning_rate": 2e-3,
    "gamma": 0.9,
    "exploration_noise": 0.3,
    "tau": 0.02,
}
PREFIXED = {f"td3_{name}": value for name, value in STAGE.items()}
OF_MAML: dict[str, Any] = {"hidden": 8, "episodes": 2}


class Wave:
    """A policy with a memory: its action depends on how long ago the episode began."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls
        self.age = np.zeros((len(TASKS), 1))

    def reset(self, mask: Any) -> None:
        self.age[mask] = 0
        self.calls += ["reset"] * bool(mask.any())

    def act(self, obs: Any) -> Any:
        self.calls.append("act")
        angle = np.stack([self.age, self.age + 1.0], -1) / 10
        return (0.9 * np.sin(angle)).astype(np.float32)

    def observe(self, step: Step) -> None:
        self.age += 1
        self.calls.append("observe")


class Aimless:
    """An own stage that takes a given number of steps and learns nothing."""

    updates = 7

    def __init__(self, env: Any, steps: int) -> None:
        self.env, self.left = env, steps
        self.calls: list[str] = []

    @property
    def finished(self) -> bool:
        return self.left == 0

    def step(self, limit: int) -> None:
        self.env.reset()
        self.env.step(np.zeros((len(TASKS), 1, 2), np.float32))
        self.left -= 1

    def policy(self, generator: np.random.Generator) -> Wave:
        return Wave(self.calls)

    def state_dict(self) -> dict[str, Any]:
        return {"left": self.left}

    def load_state_dict(self, state: Any) -> None:
        self.left = state["left"]


def pool(steps: int = 100_000) -> TaskPool:
    return TaskPool(FAMILY, TASKS, Streams(0, "test"), allowed=steps)


def after(own_steps: int = 3, **changes: Any) -> tuple[TD3StageAdapter, Aimless, TaskPool]:
    tasks = pool()
    own = Aimless(tasks.make_env(), own_steps)
    config = TD3Config(**{**STAGE, **changes})
    return TD3StageAdapter(own, tasks.make_env, SPEC, config, Streams(1, "adapt")), own, tasks


def drive(adapter: Any, tasks: TaskPool, steps: int) -> None:
    """Adapt until each task has had `steps`, with a checkpoint at every horizon."""
    while (used := int(tasks.used[0])) < steps:
        adapter.step(min(H - used % H, steps - used))


def score(adapter: Any) -> float:
    """The mean return of an episode of each task with the current policy, without noise."""
    env = TaskPool(FAMILY, TASKS, Streams(9, "test"), allowed=H).make_env()
    policy = adapter.policy(np.random.default_rng(0))
    obs, total = env.reset(), 0.0
    policy.reset(np.ones((len(TASKS), 1), bool))
    for _ in range(H):
        step = env.step(policy.act(obs))
        policy.observe(step)
        obs = step.obs
        total += float(step.reward.mean())
    return total


class TestStages:
    def test_own_stage_warm_up_and_td3_follow_each_other_and_all_steps_count(self) -> None:
        adapter, own, tasks = after(own_steps=H)
        drive(adapter, tasks, H)
        assert own.finished and adapter.loop.collector.steps == 0 and adapter.updates == 7
        drive(adapter, tasks, H + 4 * H)
        assert tasks.used.tolist() == [5 * H] * 3 and not adapter.loop.collector.warming_up
        assert adapter.updates == 7 + 4 * H
        drive(adapter, tasks, 6 * H)
        assert adapter.updates == 7 + 5 * H and len(adapter.loop.collector.replay) == 5 * H

    def test_the_own_policy_lives_through_whole_episodes(self) -> None:
        adapter, own, tasks = after(own_steps=1)
        own.step(1)
        own.calls.clear()
        for _ in range(4):
            adapter.step(H)
        assert own.calls == (["reset"] + ["act", "observe"] * H) * 4
        assert tasks.used.tolist() == [1 + 4 * H] * 3

    def test_a_checkpoint_within_an_episode_cuts_it_off(self) -> None:
        adapter, own, _ = after(own_steps=0)
        adapter.step(20)
        adapter.step(H)
        assert own.calls == ["reset"] + ["act", "observe"] * 20 + ["reset"] + ["act", "observe"] * H
        replay = adapter.loop.collector.replay
        start = replay.at(torch.tensor([[20]] * 3)).obs
        assert (start[..., :2].abs() <= 0.05).all()  # the start of a new episode

    def test_the_policy_is_the_methods_own_until_the_warm_up_is_over(self) -> None:
        adapter, _, tasks = after()
        generator = np.random.default_rng(0)
        for steps in (0, 3, 3 + H):
            drive(adapter, tasks, steps)
            assert isinstance(adapter.policy(generator), Wave)
        drive(adapter, tasks, 3 + 4 * H)
        obs = np.random.default_rng(1).normal(size=(3, 2, 4)).astype(np.float32)
        pi = adapter.loop.learner.pi
        expected = actor(pi, torch.from_numpy(obs), depth=1)
        np.testing.assert_array_equal(adapter.policy(generator).act(obs), expected.numpy())

    def test_what_is_executed_has_noise_and_what_is_cloned_has_none(self) -> None:
        adapter, _, tasks = after(own_steps=0)
        drive(adapter, tasks, 2 * H)
        wave = 0.9 * np.sin(np.stack([np.arange(H), np.arange(H) + 1.0], -1) / 10)
        cloned = adapter._cloned[:, : 2 * H].reshape(3, 2, H, 2)
        np.testing.assert_allclose(cloned, np.broadcast_to(wave, cloned.shape), rtol=1e-6)
        taken = adapter.loop.collector.replay.at(torch.arange(2 * H).expand(3, -1)).action
        noise = (taken - adapter._cloned[:, : 2 * H])[(taken.abs() < 1.0)]
        assert 0.2 < float(noise.std()) < 0.35

    @pytest.mark.parametrize("at", [1, H, 3 + 2 * H, 3 + 4 * H, 3 + 5 * H + 7])
    def test_it_goes_on_from_a_saved_state(self, at: int) -> None:
        whole, _, tasks = after()
        drive(whole, tasks, at)
        again, _, others = after()
        state = whole.state_dict(), tasks.state_dict()
        drive(whole, tasks, 3 + 6 * H)
        again.load_state_dict(state[0])
        others.load_state_dict(state[1])
        drive(again, others, 3 + 6 * H)
        pi = again.loop.learner.pi
        assert all(torch.equal(pi[name], tensor) for name, tensor in whole.loop.learner.pi.items())


class TestCloning:
    def test_the_loss_is_that_of_a_naive_loop(self) -> None:
        adapter, *_ = after()
        pi = {name: tensor.double() for name, tensor in adapter.loop.learner.pi.items()}
        generator = torch.Generator().manual_seed(0)
        obs = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
        action = torch.randn(3, 5, 2, generator=generator, dtype=torch.float64)
        expected = 0.0
        for n in range(3):
            own = {name: tensor[n] for name, tensor in pi.items()}
            for s, a in zip(obs[n], action[n], strict=True):
                expected += float((actor(own, s[None], depth=1)[0] - a).pow(2).sum()) / 5
        loss = cloning_loss(pi, obs, action, lambda tree, s: actor(tree, s, depth=1))
        assert float(loss) == pytest.approx(expected, rel=1e-12)

    def test_each_step_is_adams_on_the_batch_that_the_critics_learn_from(self) -> None:
        adapter, _, tasks = after(own_steps=0)
        drive(adapter, tasks, H)
        twin, *_ = after(own_steps=0)
        twin.load_state_dict(adapter.state_dict())
        index = twin.loop.draw()
        leaves = {n: t.clone().requires_grad_() for n, t in twin.loop.learner.pi.items()}
        adam = torch.optim.Adam(list(leaves.values()), STAGE["learning_rate"])
        adam.load_state_dict(twin.state_dict()["adam"])
        obs = twin.loop.collector.replay.at(index).obs
        wanted = torch.stack([twin._cloned[n, index[n]] for n in range(3)])
        (actor(leaves, obs, depth=1) - wanted).square().sum(-1).mean(-1).sum().backward()
        adam.step()
        adapter._learn()
        for name, tensor in adapter.loop.learner.pi.items():
            torch.testing.assert_close(tensor, leaves[name].detach())

    def test_the_actor_comes_near_the_policy_where_it_was(self, meta_trained: Any) -> None:
        trained = meta_trained(Maml, MamlConfig(**OF_MAML, inner_rate=0.1), 20_000)
        method = MamlTD3(SPEC, MamlTD3Config(**OF_MAML, **PREFIXED))
        method.load_state_dict(trained.state_dict())
        tasks = pool()
        adapter = method.adapter(tasks.make_env, 3, Streams(1, "adapt"))
        fresh = {n: t.clone() for n, t in adapter.loop.learner.pi.items()}
        drive(adapter, tasks, 2 * H + 4 * H)
        seen = adapter.loop.collector.replay.at(torch.arange(4 * H).expand(3, -1)).obs
        wanted = torch.from_numpy(adapter.own.policy(np.random.default_rng(0)).act(seen.numpy()))

        def error(pi: Any) -> float:
            return float((actor(pi, seen, depth=1) - wanted).square().mean().sqrt())

        cloned, before = error(adapter.loop.learner.pi), error(fresh)
        assert cloned < 0.1 and cloned < before / 5, (cloned, before)

    def test_the_own_stage_is_the_methods_alone(self, meta_trained: Any) -> None:
        trained = meta_trained(Maml, MamlConfig(**OF_MAML), 2_000)
        method = MamlTD3(SPEC, MamlTD3Config(**OF_MAML, **PREFIXED))
        method.load_state_dict(trained.state_dict())
        pools = pool(), pool()
        alone, both = (
            of.adapter(tasks.make_env, 3, Streams(1, "adapt"))
            for of, tasks in zip((trained, method), pools, strict=True)
        )
        drive(alone, pools[0], 2 * H)
        drive(both, pools[1], 2 * H)
        obs = np.random.default_rng(1).normal(size=(3, 2, 4)).astype(np.float32)
        one, other = (a.policy(np.random.default_rng(0)).act(obs) for a in (alone, both))
        assert alone.updates == both.updates == 1
        np.testing.assert_array_equal(one, other)


@pytest.mark.learning
def test_it_begins_where_the_policy_is_and_gets_further(monkeypatch: Any) -> None:
    """The cloned policy goes half the way to the goal, and TD3 finds the rest."""
    adapter, own, tasks = after(own_steps=0)
    goals = [
        np.array([np.cos(t.params["angle"]), np.sin(t.params["angle"])]) * t.params["radius"]
        for t in TASKS
    ]

    class Halfway(Wave):
        def act(self, obs: Any) -> Any:
            wanted = 0.5 * np.array(goals)[:, None] - obs[..., :2]
            return np.clip(3 * wanted - obs[..., 2:], -1, 1).astype(np.float32)

    monkeypatch.setattr(own, "policy", lambda generator: Halfway([]))
    drive(adapter, tasks, 4 * H)
    replay = adapter.loop.collector.replay
    halfway = float(replay.at(torch.arange(4 * H).expand(3, -1)).reward.sum(1).mean()) / 4
    cloned = score(adapter)
    drive(adapter, tasks, 50 * H)
    assert halfway - 3.0 < cloned < halfway + 8.0 and score(adapter) > halfway + 10.0


class TestSettings:
    @pytest.mark.parametrize("method", [MamlTD3, CaviaTD3, PearlTD3, VaribadTD3, Rl2TD3])
    def test_they_are_those_of_the_method_and_of_td3(self, method: Any) -> None:
        parent = method.__mro__[1]
        assert method.trained_by and method.version == parent.version
        config = method.Config(td3_gamma=0.5, td3_hidden=8)
        assert config.td3_config() == TD3Config(gamma=0.5, hidden=8)
        assert parent.Config() == parent.Config(
            **{n: getattr(config, n) for n in parent.Config.__dataclass_fields__}
        )

    def test_defaults_are_td3s(self) -> None:
        assert TD3StageConfig.td3_config(MamlTD3Config()) == TD3Config()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"td3_warmup_episodes": 0}, "td3_warmup_episodes must be at least 1"),
            ({"td3_batch": 0}, "td3_batch"),
            ({"td3_precision": "fp8"}, "td3_precision must be"),
            ({"episodes": 0}, "episodes"),
        ],
    )
    def test_bad_ones_are_refused(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            MamlTD3Config(**changes)

    def test_a_replay_that_does_not_hold_the_warm_up_is_refused(self) -> None:
        with pytest.raises(ValueError, match="td3_replay must hold at least the 200 steps"):
            after(replay=100)
