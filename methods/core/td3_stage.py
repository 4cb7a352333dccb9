"""TD3 on a test task, starting where another method's adaptation ends.

Learners need different amounts of experience: from what is one batch for TRPO or PPO, TD3 makes
thousands of updates. To separate the worth of a method's adapted policy as a starting point from
the speed of the method's own learner, the same TD3 continues from every method:

1. the method's own stage, unchanged;
2. a warm-up, in which the method's policy acts, with TD3's acting noise. After every step TD3's
   critics make an update, and its actor, the same as in `td3`, a step of behaviour cloning on

   Lₙ(π) = mean over a batch of ‖π(s) − a‖²,   a: the method's action without the noise;
3. TD3 as in `td3`.

Until the warm-up ends the method's policy is evaluated, afterwards the actor. A policy with a
memory cannot be cloned completely: the actor sees only the state.

Sources: TD3, Fujimoto, van Hoof and Meger 2018 (arXiv 1802.09477). The warm-up and the cloning are
ours.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from methods.api import Adapter, MakeEnv, Policy, Spec, Streams
from methods.core.adapt import TD3Loop
from methods.core.border import array_of, tensor_of
from methods.core.nets import LAYERS, Params, actor, init_actor, init_critics
from methods.core.td3 import TD3, Actor, TD3Config, gradient_of

ADAPT = {"stage": "adapt"}


@dataclass(frozen=True)
class TD3StageConfig:
    """Settings of TD3 in this stage, in addition to a method's own; the defaults are TD3's."""

    td3_hidden: int = field(default=TD3Config.hidden, metadata=ADAPT)
    td3_depth: int = field(default=TD3Config.depth, metadata=ADAPT)
    td3_batch: int = field(default=TD3Config.batch, metadata=ADAPT)
    td3_learning_rate: float = field(default=TD3Config.learning_rate, metadata=ADAPT)
    td3_gamma: float = field(default=TD3Config.gamma, metadata=ADAPT)
    td3_tau: float = field(default=TD3Config.tau, metadata=ADAPT)
    td3_policy_noise: float = field(default=TD3Config.policy_noise, metadata=ADAPT)
    td3_noise_clip: float = field(default=TD3Config.noise_clip, metadata=ADAPT)
    td3_policy_delay: int = field(default=TD3Config.policy_delay, metadata=ADAPT)
    td3_exploration_noise: float = field(default=TD3Config.exploration_noise, metadata=ADAPT)
    td3_warmup_episodes: int = field(default=TD3Config.warmup_episodes, metadata=ADAPT)
    td3_replay: int = field(default=TD3Config.replay, metadata=ADAPT)
    td3_precision: str = field(default=TD3Config.precision, metadata=ADAPT)
    td3_compile: bool = field(default=TD3Config.compile, metadata=ADAPT)

    def __post_init__(self) -> None:
        self.td3_config()
        # this calls the method's Config; mypy, which sees this class alone, takes it for `object`
        super().__post_init__()  # type: ignore[misc]

    def td3_config(self) -> TD3Config:
        """The settings of TD3.

        Raises:
          ValueError: if one is out of its range, or there is no warm-up to clone from.
        """
        if self.td3_warmup_episodes < 1:
            raise ValueError(
                "td3_warmup_episodes must be at least 1, as the actor is cloned in the warm-up"
            )
        try:
            return TD3Config(
                **{known.name: getattr(self, f"td3_{known.name}") for known in fields(TD3Config)}
            )
        except ValueError as error:
            raise ValueError(f"td3_{error}") from None


class OwnStage(Adapter, Protocol):
    """An adapter that says when it has finished."""

    @property
    def finished(self) -> bool:
        """Whether its next step would use no environment steps."""
        ...


def cloning_loss(pi: Params, obs: Tensor, action: Tensor, actor: Actor) -> Tensor:
    """Σₙ mean ‖π(s) − a‖², for s = obs [N, B, O] and a = action [N, B, A]."""
    return (actor(pi, obs) - action).square().sum(-1).mean(-1).sum()


class Prefixed:
    """Streams under prefixed names, so that no other user of the same streams gets these draws."""

    def __init__(self, streams: Streams, prefix: str) -> None:
        self._streams = streams
        self._prefix = prefix

    @property
    def device(self) -> torch.device:
        """As `Streams.device`."""
        return self._streams.device

    def numpy(self, name: str) -> np.random.Generator:
        """As `Streams.numpy`."""
        return self._streams.numpy(self._prefix + name)

    def torch(self, name: str) -> torch.Generator:
        """As `Streams.torch`."""
        return self._streams.torch(self._prefix + name)


class TD3StageAdapter:
    """A method's own stage, a warm-up with its policy, and TD3.

    Args:
      own: the method's own stage.
      make_env: makes environments of the test tasks.
      spec: what is known of the family.
      config: settings of TD3.
      streams: named generators; their names are prefixed with "td3-".
    Raises:
      ValueError: if a task's replay does not hold the warm-up.
    """

    def __init__(
        self, own: OwnStage, make_env: MakeEnv, spec: Spec, config: TD3Config, streams: Streams
    ) -> None:
        streams = Prefixed(streams, "td3-")
        env = make_env()
        n_obs, n_act, horizon, *_ = spec
        warmup = config.warmup_episodes * horizon
        if config.replay < warmup:
            raise ValueError(
                f"td3_replay must hold at least the {warmup} steps of a task's warm-up"
            )
        generator = streams.torch("init")
        lead = dict.fromkeys(LAYERS, (env.n_tasks,))
        sizes = n_obs, n_act, config.hidden
        pi = init_actor(*sizes, depth=config.depth, lead=lead, generator=generator)
        omega = init_critics(env.n_tasks, n_obs + n_act, config.hidden, generator)
        act = partial(actor, depth=config.depth)
        self.own = own
        self.loop = TD3Loop(
            env, TD3(act, pi, {}, omega, config), config, streams, trained_actor=True
        )
        self._horizon = horizon
        self._generator = streams.torch("warm-up")
        # the method's action a at each step of the warm-up
        self._cloned = torch.zeros(env.n_tasks, warmup, n_act, device=generator.device)
        self._cloning = gradient_of(partial(cloning_loss, actor=act), config.compile)
        self._adam = torch.optim.Adam(
            list(self.loop.learner.pi.values()), config.learning_rate, fused=True
        )

    @property
    def updates(self) -> int:
        """Optimiser steps so far, per task: the method's own and those of TD3's critics."""
        return self.own.updates + self.loop.learner.updates

    @property
    def finished(self) -> bool:
        """Never: TD3 goes on as long as there is budget."""
        return False

    def step(self, limit: int) -> None:
        """Continue the present stage; in the warm-up, by at most an episode's length."""
        if not self.own.finished:
            self.own.step(limit)
        elif self.loop.collector.warming_up:
            self._warm_up(min(limit, self._horizon))
        else:
            self.loop.step()

    def _warm_up(self, steps: int) -> None:
        """Run new episodes of every task with the method's policy, and learn after every step."""
        collector = self.loop.collector
        device = self._generator.device
        seed = int(torch.randint(2**62, (), generator=self._generator, device=device))
        policy = self.own.policy(np.random.default_rng(seed))
        collector.begin_anew()
        begins = np.ones((collector.env.n_tasks, 1), bool)
        for _ in range(min(steps, collector.warmup - collector.steps)):
            policy.reset(begins)
            step = collector.step(partial(self._act, policy))
            policy.observe(step)
            begins = step.terminated | step.truncated
            self._learn()

    def _act(self, policy: Policy, obs: Tensor) -> Tensor:
        """Return the method's action, and keep it for cloning."""
        action = tensor_of(policy.act(array_of(obs)), obs.device)
        self._cloned[:, self.loop.collector.steps] = action[:, 0]
        return action

    def _learn(self) -> None:
        """Update the critics, and make the actor's step towards the method's actions."""
        index = self.loop.draw()
        batch = self.loop.collector.replay.at(index)
        self.loop.learn(batch, actor_waits=True)
        action = self._cloned.gather(1, index[..., None].expand(-1, -1, self._cloned.shape[-1]))
        pi = self.loop.learner.pi
        gradient = self._cloning(pi, batch.obs, action)
        for name, tensor in pi.items():
            tensor.grad = gradient[name]
        self._adam.step()

    def policy(self, generator: np.random.Generator) -> Policy:
        """The method's own policy until the warm-up is over, then TD3's."""
        if not self.own.finished or self.loop.collector.warming_up:
            return self.own.policy(generator)
        return self.loop.policy()

    def state_dict(self) -> dict[str, Any]:
        """The method's own stage, TD3, and the actions to clone."""
        return {
            "own": self.own.state_dict(),
            "loop": self.loop.state_dict(),
            "cloned": self._cloned[:, : self.loop.collector.steps].clone(),
            "adam": deepcopy(self._adam.state_dict()),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.own.load_state_dict(state["own"])
        self.loop.load_state_dict(state["loop"])
        self._cloned[:, : state["cloned"].shape[1]] = state["cloned"]
        self._adam.load_state_dict(state["adam"])
        self._generator.set_state(state["generator"])
