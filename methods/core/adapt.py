"""TD3-type meta-training and adaptation: explore, replay, one update per step and task."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.api import Env, FloatArray, Step
from methods.api import Event, Memoryless, Streams
from methods.core.border import array_of, tensor_of
from methods.core.nets import Params
from methods.core.replay import Batch, Replay
from methods.core.td3 import TD3, TD3Config


class Collector:
    """Steps an environment with Gaussian action noise, after a warm-up.

    Args:
      env: E copies of each of N tasks.
      noise: std of the acting noise, in action units.
      warmup: length of the warm-up in environment steps per task, summed over its copies.
      capacity: transitions kept per task.
      blind: whether the warm-up's actions are uniform random ones instead of the policy's.
      noisy: number of copies of each task, from the first on, that act with noise; None for all.
    """

    def __init__(
        self,
        env: Env,
        noise: float,
        warmup: int,
        capacity: int,
        streams: Streams,
        blind: bool = True,
        noisy: int | None = None,
    ) -> None:
        self.env = env
        self.noisy = noisy
        self.noise = noise
        self.warmup = warmup
        self.blind = blind
        self.steps = 0
        self._generator = streams.torch("exploration")
        self._device = self._generator.device
        sizes = env.observation_size, env.action_size
        self.replay = Replay(env.n_tasks, capacity, *sizes, self._device)
        self._obs: FloatArray | None = None  # [N, E, O], None before the first episode

    @property
    def warming_up(self) -> bool:
        """Whether the next step belongs to the warm-up."""
        return self.steps < self.warmup

    def step(self, act: Callable[[Tensor], Tensor]) -> Step:
        """Step every copy once with the policy `act`: obs [N, E, O] → action [N, E, A]."""
        if self._obs is None:
            self._obs = self.env.reset()
        step = self._step(self.env, self._obs, act)
        ended = step.terminated | step.truncated
        self._obs = self.env.reset(ended) if ended.any() else step.obs
        return step

    def begin_anew(self) -> None:
        """Abandon the episodes in progress; the next step begins new ones."""
        self._obs = None

    def step_apart(self, env: Env, act: Callable[[Tensor], Tensor]) -> None:
        """Make the first step of an episode in every copy of another environment."""
        self._step(env, env.reset(), act)

    def _step(self, env: Env, seen: FloatArray, act: Callable[[Tensor], Tensor]) -> Step:
        obs = tensor_of(seen, self._device)
        action = self._explore(obs, act)
        step = env.step(array_of(action))
        reward, next_obs, terminated = (
            tensor_of(part, self._device) for part in (step.reward, step.obs, step.terminated)
        )
        self.replay.add(Batch(obs, action, reward, next_obs, terminated.to(torch.float32)))
        self.steps += env.copies
        return step

    def _explore(self, obs: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
        shape = (*obs.shape[:2], self.env.action_size)
        if self.blind and self.warming_up:
            blind = torch.empty(shape, device=self._device)
            return blind.uniform_(-1.0, 1.0, generator=self._generator)
        noise = torch.empty(shape, device=self._device)
        noise.normal_(0.0, self.noise, generator=self._generator)
        if self.noisy is not None:
            noise[:, self.noisy :] = 0.0
        return (act(obs).to(torch.float32) + noise).clamp_(-1.0, 1.0)

    def state_dict(self) -> dict[str, Any]:
        """Replay, counter, generator, observation; the harness keeps the environment's state."""
        return {
            "replay": self.replay.state_dict(),
            "steps": self.steps,
            "generator": self._generator.get_state(),
            "obs": None if self._obs is None else np.array(self._obs),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.replay.load_state_dict(state["replay"])
        self.steps = state["steps"]
        self._generator.set_state(state["generator"])
        self._obs = state["obs"]


class TD3Loop:
    """The interaction loop of TD3: warm-up, then an update after every environment step.

    Args:
      env: one copy of each task.
      learner: the learner to update.
      config: batch, noise and warm-up.
      streams: named generators, of which "exploration", "replay" and "target-noise" are used.
      trained_actor: whether the actor is worth keeping. If so, it acts in the warm-up itself, while
        only its critics learn, because fresh critics would ruin it. Otherwise the warm-up's actions
        are uniform random ones and nothing learns.
    """

    def __init__(
        self,
        env: Env,
        learner: TD3,
        config: TD3Config,
        streams: Streams,
        trained_actor: bool = False,
    ) -> None:
        self.learner = learner
        self._config = config
        self._trained_actor = trained_actor
        warmup = config.warmup_episodes * env.horizon
        self.collector = Collector(
            env, config.exploration_noise, warmup, config.replay, streams, blind=not trained_actor
        )
        self._replay_generator = streams.torch("replay")
        self._noise_generator = streams.torch("target-noise")

    def step(self) -> None:
        """Step every task once and update; in the warm-up, only a trained actor's critics learn."""
        warming_up = self.collector.warming_up
        self.collector.step(self.learner.act)
        if self._trained_actor or not warming_up:
            self.learn(self.collector.replay.at(self.draw()), actor_waits=warming_up)

    def draw(self) -> Tensor:
        """Draw the positions [N, B] in the replay of the transitions for an update."""
        return self.collector.replay.draw(self._config.batch, self._replay_generator)

    def learn(self, batch: Batch, actor_waits: bool = False) -> None:
        """Update on transitions [N, B, …], but not the actor if `actor_waits`."""
        noise = torch.empty_like(batch.action).normal_(
            0.0, self._config.policy_noise, generator=self._noise_generator
        )
        self.learner.update(batch, noise, actor_waits)

    def policy(self) -> Memoryless:
        """The current deterministic policy, from a copy of its parameters; it draws nothing."""
        learner = self.learner
        params = {name: tensor.clone() for name, tensor in (learner.pi | learner.frozen).items()}
        return memoryless(partial(learner.actor, params), self._noise_generator.device)

    def state_dict(self) -> dict[str, Any]:
        """Learner, experience and generators."""
        return {
            "learner": self.learner.state_dict(),
            "collector": self.collector.state_dict(),
            "generators": [self._replay_generator.get_state(), self._noise_generator.get_state()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.learner.load_state_dict(state["learner"])
        self.collector.load_state_dict(state["collector"])
        for generator, saved in zip(
            (self._replay_generator, self._noise_generator), state["generators"], strict=True
        ):
            generator.set_state(saved)


def memoryless(act: Callable[[Tensor], Tensor], device: torch.device) -> Memoryless:
    """Wrap an actor on a device, obs [N, E, O] → action [N, E, A], as a policy for the harness."""
    return Memoryless(lambda obs: array_of(act(tensor_of(obs, device))))


class TD3Trainer:
    """Meta-training by `TD3Loop`; an iteration is one horizon of every task.

    Args:
      loop: the loop on the training tasks.
      keep: called with the actor's parameters at the end.
    """

    def __init__(self, loop: TD3Loop, keep: Callable[[Params], None]) -> None:
        self._loop = loop
        self._keep = keep

    @property
    def updates(self) -> int:
        """Critic updates so far, per task."""
        return self._loop.learner.updates

    def step(self, limit: int) -> Event:
        """Make one environment step of every task and the update after it."""
        env = self._loop.collector.env
        if limit < env.n_tasks:
            self._keep({name: tensor.clone() for name, tensor in self._loop.learner.pi.items()})
            return Event.END
        self._loop.step()
        return Event.NOTHING if self._loop.collector.steps % env.horizon else Event.ITERATION

    def state_dict(self) -> dict[str, Any]:
        """The loop's state."""
        return self._loop.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._loop.load_state_dict(state)


class TD3Adapter:
    """Adaptation by `TD3Loop`, with periodic resets of the task's own parameters.

    Args:
      env: one copy of each test task.
      learner: holds the parameters that adaptation begins with.
      config: settings.
      fresh: draws task parameters (π, ω) for a reset from a generator.
      reset_period: environment steps per task between resets, 0 for none. Replay is kept. A reset
        that falls in the last 10 % of the steps before a checkpoint waits until after it, so that
        no evaluation sees a policy that was just reset.
      trained_actor: as in `TD3Loop`.
    """

    def __init__(
        self,
        env: Env,
        learner: TD3,
        config: TD3Config,
        streams: Streams,
        fresh: Callable[[torch.Generator], tuple[Params, Params]] | None = None,
        reset_period: int = 0,
        trained_actor: bool = False,
    ) -> None:
        self._fresh = fresh
        self._period = reset_period
        self._resets = 0
        self._generator = streams.torch("reset")
        self.loop = TD3Loop(env, learner, config, streams, trained_actor)

    @property
    def learner(self) -> TD3:
        """The loop's learner."""
        return self.loop.learner

    @property
    def updates(self) -> int:
        """Critic updates so far, per task, over all resets."""
        return self.learner.updates

    def step(self, limit: int) -> None:
        """Step every task once and update; the next evaluation is `limit` steps away."""
        if self._reset_due(self.loop.collector.steps + limit):
            self._reset()
        self.loop.step()

    def _reset_due(self, checkpoint: int) -> bool:
        steps = self.loop.collector.steps
        due = self._period > 0 and steps // self._period > self._resets
        return due and checkpoint - steps > 0.1 * checkpoint

    def _reset(self) -> None:
        assert self._fresh is not None, "a reset period needs something to reset to"
        self._resets = self.loop.collector.steps // self._period
        self.loop.learner.restart(*self._fresh(self._generator))

    def policy(self, generator: np.random.Generator) -> Memoryless:
        """The current deterministic policy; it draws nothing."""
        return self.loop.policy()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the frozen parameters, which belong to the method."""
        return {
            "loop": self.loop.state_dict(),
            "resets": self._resets,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.loop.load_state_dict(state["loop"])
        self._resets = state["resets"]
        self._generator.set_state(state["generator"])
