"""Trials of several episodes in a scripted environment: outputs, memory, and what ends what."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.api import BoolArray, FloatArray, Step
from methods.core.trials import (
    Choice,
    Moment,
    TrialBatch,
    TrialRunner,
    Trials,
    known_of,
    trial_advantages,
)

CPU = torch.device("cpu")

N, E, H, K = 3, 2, 4, 2
T = K * H


class ScriptedEnv:
    """Observes task, copy, episode and clock; episodes end by script or at the horizon."""

    n_tasks, copies, observation_size, action_size, horizon = N, E, 4, 1, H

    def __init__(self, falls: BoolArray) -> None:
        self._falls, self.steps = falls, 0
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
        terminated, self._clock = self._falls[self.steps], self._clock + 1
        self.steps, truncated = self.steps + 1, (self._clock == H) & ~terminated
        self._over = terminated | truncated
        return Step(self._obs(), action[..., 0] + 1, terminated, truncated)

    def _obs(self) -> FloatArray:
        return np.stack([*np.indices((N, E)), self._episode, self._clock], -1).astype(np.float32)


class Counting:
    """Remembers how many steps it has seen, and the last next observation's episode and clock."""

    memory_size = 3

    def act(self, obs: Tensor, memory: Tensor) -> Choice:
        zero = torch.zeros(obs.shape[:2])
        return Choice(0.1 * memory[..., :1], zero, self.value(obs, memory))

    def value(self, obs: Tensor, memory: Tensor) -> Tensor:
        return 100 * obs[..., 2] + 10 * obs[..., 3] + memory[..., 0]

    def remember(self, memory: Tensor, moment: Moment) -> Tensor:
        return torch.cat([memory[..., :1] + 1, moment.next_obs[..., 2:]], -1)


def scripted(rate: float) -> ScriptedEnv:
    return ScriptedEnv(np.random.default_rng(1).random((10 * T, N, E)) < rate)


def batch_of(rate: float) -> TrialBatch:
    return TrialBatch(TrialRunner(scripted(rate), K, CPU), Counting.memory_size, T)


def collected(batch: TrialBatch, steps: int | None = None) -> Trials:
    while (trials := batch.collect(Counting(), steps)) is None:
        pass
    return trials


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_a_trial_ends_with_its_last_episode_and_memory_ends_with_it(rate: float) -> None:
    trials = collected(batch_of(rate))
    moments = trials.moments
    over = moments.terminated | moments.truncated
    for n, e in np.ndindex(N, E):
        ended, seen = 0, 0
        for t in range(T):
            assert int(trials.memory[t, n, e, 0]) == seen  # memory spans episodes, not trials
            ended, seen = ended + int(over[t, n, e]), seen + 1
            assert bool(moments.trial_ended[t, n, e]) is (ended == K)
            if ended == K:
                ended = seen = 0
    assert bool(moments.terminated.any()) is (rate > 0)
    if not rate:
        assert moments.trial_ended[-1].all() and moments.trial_ended.sum() == N * E


def test_what_a_step_led_to_is_no_reset_state_and_what_follows_is() -> None:
    moments = collected(batch_of(0.3)).moments
    over = moments.terminated | moments.truncated
    assert torch.equal(moments.next_obs[..., 3], moments.obs[..., 3] + 1)
    assert torch.equal(moments.next_obs[..., 2], moments.obs[..., 2])
    assert torch.equal(
        moments.obs[1:, ..., 3], torch.where(over[:-1], 0.0, moments.next_obs[:-1, ..., 3])
    )
    assert torch.equal(moments.obs[1:, ..., 2], moments.obs[:-1, ..., 2] + over[:-1])


def test_the_next_value_is_of_the_next_state_and_at_a_trials_end_of_what_the_step_led_to() -> None:
    trials = collected(batch_of(0.3))
    moments, agent = trials.moments, Counting()
    for t in range(T - 1):
        inside = agent.value(moments.obs[t + 1], trials.memory[t + 1])
        after = agent.value(
            moments.next_obs[t], agent.remember(trials.memory[t], moments_at(moments, t))
        )
        assert torch.equal(trials.next_value[t], torch.where(moments.trial_ended[t], after, inside))
    assert moments.trial_ended[:-1].any()


def moments_at(moments: Moment, t: int) -> Moment:
    return Moment(*(part[t] for part in moments))


def test_advantages_go_on_across_episodes_and_stop_with_the_trial() -> None:
    trials, gamma, lam = collected(batch_of(0.3)), 0.9, 0.8
    moments, value = trials.moments, trials.choices.value
    advantage, returns = trial_advantages(trials, moments.reward, gamma, lam)
    for n, e in np.ndindex(N, E):
        total = 0.0
        for t in reversed(range(T)):
            ended, fell = bool(moments.trial_ended[t, n, e]), bool(moments.terminated[t, n, e])
            beyond = 0.0 if ended and fell else float(trials.next_value[t, n, e])
            delta = float(moments.reward[t, n, e]) + gamma * beyond - float(value[t, n, e])
            total = delta + gamma * lam * (0.0 if ended else total)
            assert float(advantage[t, n, e]) == pytest.approx(total, rel=1e-4, abs=1e-3)
    torch.testing.assert_close(returns, advantage + value)


@pytest.mark.parametrize("episodes", [0, 1, 2])
def test_what_is_known_is_the_memory_after_the_first_episodes_of_the_first_trial(
    episodes: int,
) -> None:
    batch = batch_of(0.3)
    agent = Counting()
    for done in range(T):
        expected = []
        rows = list(batch._rows)
        for n in range(N):
            ended, steps = 0, 0
            for row in rows:
                moment = Moment(*row[:7])
                if ended < episodes:
                    steps += 1
                ended += int(moment.terminated[n, 0] | moment.truncated[n, 0])
                if moment.trial_ended[n, 0]:
                    ended = 10**6
            expected.append(steps)
        known = batch.known(episodes)
        if episodes < K:  # after all K, the end of the trial has emptied the memory
            assert known[:, 0].tolist() == expected, done
        batch.collect(agent, 1)


def test_a_complete_batch_knows_the_same() -> None:
    one, other = batch_of(0.3), batch_of(0.3)
    one.collect(Counting(), T - 1)
    trials = collected(other)
    assert torch.equal(known_of(trials.moments, trials.memory, K - 1), one.known(K - 1))


def test_calls_of_any_length_give_the_batch_of_one_call_and_the_next_begins_with_trials() -> None:
    one, other = batch_of(0.3), batch_of(0.3)
    for _ in range(2):
        whole, pieces = collected(one), collected(other, 3)
        for left, right in zip(whole, pieces, strict=True):
            parts = zip(left, right, strict=True) if isinstance(left, tuple) else [(left, right)]
            assert all(torch.equal(a, b) for a, b in parts)
        assert torch.equal(whole.memory[0], torch.zeros(N, E, 3))
        assert torch.equal(whole.moments.obs[0, ..., 3], torch.zeros(N, E))


@pytest.mark.parametrize("stop", [1, 5, T - 1])
def test_a_batch_goes_on_from_its_state(stop: int) -> None:
    env = scripted(0.3)
    one = TrialBatch(TrialRunner(env, K, CPU), 3, T)
    assert one.collect(Counting(), stop) is None
    other = TrialBatch(TrialRunner(deepcopy(env), K, CPU), 3, T)
    state = one.state_dict()
    first = collected(one)
    other.load_state_dict(state)  # after `one` went on, because a state is a copy
    second = collected(other)
    assert torch.equal(first.moments.obs, second.moments.obs) and torch.equal(
        first.memory, second.memory
    )
    assert torch.equal(first.next_value, second.next_value)
