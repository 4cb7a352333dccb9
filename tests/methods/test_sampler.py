"""Batches from a scripted environment: what they hold, and that stopping changes nothing."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.api import BoolArray, FloatArray, Step
from methods.core.policy_gradient import Rollout, Sampler, copies_of

CPU = torch.device("cpu")

T, N, E, O, A, H = 12, 3, 2, 4, 2, 6


class ScriptedEnv:
    """Observes task, copy, episode and clock; episodes end by script or at the horizon."""

    n_tasks, copies, observation_size, action_size, horizon = N, E, O, A, H

    def __init__(self, terminated: BoolArray) -> None:
        self._script, self.steps = terminated, 0
        self._episode = np.zeros((N, E))
        self._clock = np.zeros((N, E))
        self._over = np.ones((N, E), bool)

    def reset(self, mask: BoolArray | None = None) -> FloatArray:
        mask = np.ones((N, E), bool) if mask is None else mask
        self._episode = self._episode + mask
        self._clock = np.where(mask, 0, self._clock)
        self._over = self._over & ~mask
        return self._obs()

    def step(self, action: FloatArray) -> Step:
        assert not self._over.any(), "an ended episode was not reset"
        terminated, self._clock = self._script[self.steps], self._clock + 1
        self.steps, truncated = self.steps + 1, self._clock == H
        self._over = terminated | truncated
        return Step(self._obs(), action.sum(-1), terminated, truncated)

    def _obs(self) -> FloatArray:
        return np.stack([*np.indices((N, E)), self._episode, self._clock], -1).astype(np.float32)


def scripted(rate: float = 0.15) -> ScriptedEnv:
    return ScriptedEnv(np.random.default_rng(0).random((10 * T, N, E)) < rate)


def actor(seed: int = 0) -> Callable[[Tensor], Tensor]:
    """Actions that depend on the observations and on how often they were asked for."""
    generator = torch.Generator().manual_seed(seed)
    return lambda obs: obs[..., :A] + torch.randn(*obs.shape[:-1], A, generator=generator)


def collected(
    sampler: Sampler, act: Callable[[Tensor], Tensor], limit: int | None = None
) -> Rollout:
    while (rollout := sampler.collect(act, limit)) is None:
        pass
    return rollout


def equal(one: Rollout, other: Rollout) -> bool:
    return all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


def test_a_batch_is_its_episodes_times_the_horizon() -> None:
    env = scripted()
    rollout = collected(Sampler(env, 2 * E, CPU), actor())
    assert env.steps == 2 * H == T
    assert rollout.obs.shape == (T, N, E, O)
    assert rollout.action.shape == (T, N, E, A)
    assert rollout.last_obs.shape == (N, E, O)
    assert all(
        part.shape == (T, N, E)
        for part in (rollout.reward, rollout.terminated, rollout.truncated, rollout.time)
    )


def test_where_an_episode_ends_the_next_begins_at_time_0() -> None:
    rollout = collected(Sampler(scripted(), 2 * E, CPU), actor())
    ended = rollout.terminated | rollout.truncated
    assert rollout.terminated.any()
    assert rollout.truncated.any()
    assert torch.equal(rollout.obs[0, ..., 2], torch.ones(N, E))
    assert torch.equal(rollout.obs[1:, ..., 2], 1 + ended[:-1].float().cumsum(0))
    assert torch.equal(rollout.time, rollout.obs[..., 3])  # the environment's own clock
    assert torch.equal(rollout.time[1:], torch.where(ended[:-1], 0.0, rollout.time[:-1] + 1))
    assert torch.equal(rollout.reward, rollout.action.sum(-1))


def test_the_last_observation_is_what_the_last_step_led_to_not_what_a_reset_put_there() -> None:
    rollout = collected(
        Sampler(scripted(rate=0.0), E, CPU), actor()
    )  # all episodes are truncated at the end of the batch
    assert rollout.truncated[-1].all()
    assert torch.equal(rollout.last_obs[..., 3], torch.full((N, E), float(H)))


def test_the_next_batch_begins_with_a_reset() -> None:
    sampler, act = Sampler(scripted(), 2 * E, CPU), actor()
    first, second = collected(sampler, act), collected(sampler, act)
    assert torch.equal(second.time[0], torch.zeros(N, E))
    assert (second.obs[0, ..., 2] > first.obs[-1, ..., 2]).all()


@pytest.mark.parametrize("limit", [E, E + 1, 5 * E, 7 * E, 1000])
def test_calls_of_any_limit_give_the_batch_of_one_call_and_keep_the_limit(limit: int) -> None:
    env = scripted()
    sampler, act, rollout, calls = Sampler(env, 2 * E, CPU), actor(), None, 0
    while rollout is None:
        before, calls = env.steps, calls + 1
        rollout = sampler.collect(act, limit)
        assert 0 < (env.steps - before) * E <= limit
    assert calls == -(-T // (limit // E))
    assert equal(rollout, collected(Sampler(scripted(), 2 * E, CPU), actor()))


def test_a_limit_below_one_step_of_all_copies_takes_none() -> None:
    env = scripted()
    sampler, act = Sampler(env, 2 * E, CPU), actor()
    assert sampler.collect(act, E - 1) is None
    assert env.steps == 0
    assert equal(collected(sampler, act), collected(Sampler(scripted(), 2 * E, CPU), actor()))


@pytest.mark.parametrize("stop", range(1, T))
def test_state_round_trip_in_mid_batch_goes_on_as_if_never_stopped(stop: int) -> None:
    one, act = Sampler(scripted(), 2 * E, CPU), actor()
    assert one.collect(act, stop * E) is None
    other, act_2 = Sampler(deepcopy(one.env), 2 * E, CPU), actor()
    for _ in range(stop):
        act_2(torch.zeros(N, E, O))
    state = one.state_dict()
    first = collected(one, act)
    other.load_state_dict(state)  # after `one` went on, because a state is a copy
    assert equal(collected(other, act_2), first)


def test_copies_divide_episodes_and_horizon() -> None:
    for episodes, horizon in [(20, 200), (20, 50), (7, 100), (40, 30), (1, 1000)]:
        copies = copies_of(episodes, horizon)
        assert episodes % copies == horizon % copies == 0
        assert all(episodes % more or horizon % more for more in range(copies + 1, horizon + 1))
