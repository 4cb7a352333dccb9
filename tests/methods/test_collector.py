"""The transitions that TD3-type methods store are what happened in the environment."""

from typing import cast

import numpy as np
import torch
from torch import Tensor

from benchmark.seeding import Streams
from envs.api import Env, FloatArray, Step
from envs.batch import BatchEnv
from envs.hopper import HopperRand
from methods.core.adapt import Collector

N, STEPS = 3, 60


class Recorder:
    """An environment that remembers what went in and what came out."""

    def __init__(self, env: BatchEnv) -> None:
        self.env, self.actions, self.before = env, list[FloatArray](), list[FloatArray]()
        self.steps = list[Step]()
        self.n_tasks, self.copies, self.horizon = env.n_tasks, env.copies, env.horizon
        self.observation_size, self.action_size = env.observation_size, env.action_size
        self.obs = np.zeros(0, np.float32)

    def reset(self, mask: np.ndarray | None = None) -> FloatArray:
        self.obs = self.env.reset(mask).copy()
        return self.obs

    def step(self, action: FloatArray) -> Step:
        self.actions.append(action.copy())
        self.before.append(self.obs)
        step = self.env.step(action)
        self.steps.append(Step(*(np.array(part) for part in step)))
        self.obs = self.steps[-1].obs
        return step


def test_replay_holds_clipped_actions_rewards_where_they_led_and_falls() -> None:
    family = HopperRand()
    tasks = family.sample(N, np.random.default_rng(0))
    env = Recorder(BatchEnv(family, tasks, 1, 1, seed=0))
    recorded = cast(Env, env)  # it has all that the collector uses
    collector = Collector(recorded, noise=2.0, warmup=0, capacity=1000, streams=Streams(0))

    def act(obs: Tensor) -> Tensor:
        return torch.full((*obs.shape[:2], env.action_size), 0.5)

    for _ in range(STEPS):
        collector.step(act)
    data = collector.replay.state_dict()["data"]
    sizes = [env.observation_size, env.action_size, 1, env.observation_size, 1]
    kept = [part.numpy() for part in torch.split(data, sizes, -1)]
    happened = (
        np.stack(env.before),
        np.stack(env.actions),
        np.stack([step.reward for step in env.steps])[..., None],
        np.stack([step.obs for step in env.steps]),
        np.stack([step.terminated for step in env.steps])[..., None],
    )
    for ours, theirs in zip(kept, happened, strict=True):
        np.testing.assert_array_equal(ours, theirs[:, :, 0].swapaxes(0, 1).astype(np.float32))
    assert np.abs(kept[1]).max() == 1.0 and 0 < (np.abs(kept[1]) < 1).mean() < 1
    assert kept[4].sum() > 0  # it fell, and the state it fell into was stored
