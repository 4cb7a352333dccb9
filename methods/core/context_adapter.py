"""Adaptation by a latent context z, drawn at the start of an episode and kept until its end."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from envs.api import BoolArray, Env, FloatArray, Step
from methods.core.border import array_of, tensor_of
from methods.core.replay import Batch, Replay

Act = Callable[[Tensor, Tensor], Tensor]  # obs [N, E, O] and z [N, E, Z] → action [N, E, A]


class Belief(NamedTuple):
    """A diagonal Gaussian over z."""

    mean: Tensor  # [..., Z]
    var: Tensor  # [..., Z]

    def draw(self, noise: Tensor) -> Tensor:
        """z = μ + σ ε, for ε [..., Z] ~ N(0, I)."""
        return self.mean + self.var.sqrt() * noise


def prior(n_tasks: int, latent: int, device: torch.device) -> Belief:
    """N(0, I) for each of N tasks."""
    mean = torch.zeros(n_tasks, latent, device=device)
    return Belief(mean, torch.ones_like(mean))


class Episodes:
    """Episodes of N tasks side by side, one copy of each; each episode has its own z, from the
    prior in a task's first `explore` episodes and from a posterior in later ones.

    Args:
      env: with E = 1.
      latent: Z.
      explore: number of episodes of a task whose z is from the prior.
      generator: source of z.
    """

    def __init__(self, env: Env, latent: int, explore: float, generator: torch.Generator) -> None:
        self.env = env
        self.explore = explore
        self._latent = latent
        self._generator = generator
        self._device = device = generator.device
        # number of episodes of each task that have ended
        self.ended = torch.zeros(env.n_tasks, dtype=torch.int64, device=device)
        # [N, 1] whether the next step begins a new episode
        self._over = torch.ones(env.n_tasks, 1, dtype=torch.bool, device=device)
        self._obs = torch.zeros(0, device=device)
        self._z = torch.zeros(env.n_tasks, 1, latent, device=device)

    @property
    def explored(self) -> Tensor:
        """[N] whether the z of a task's next episode is drawn from the posterior."""
        return self.ended >= self.explore

    def step(self, act: Act, believe: Callable[[], Belief]) -> Batch:
        """Take a control step: transitions [N, 1, …]; new posterior episodes call `believe`."""
        # drawn in every step, so that no task's z depends on when another's episode ends
        shape = self.env.n_tasks, self._latent
        noise = torch.randn(shape, generator=self._generator, device=self._device)
        if self._over.any():
            begins = self._over[:, 0]
            informed = self._over[:, 0] & self.explored
            z = (
                torch.where(informed[:, None], believe().draw(noise), noise)
                if informed.any()
                else noise
            )
            self._z = torch.where(begins[:, None, None], z[:, None], self._z)
            self._obs = tensor_of(self.env.reset(array_of(self._over)), self._device)
        obs = self._obs
        action = act(self._obs, self._z)
        next_obs, reward, terminated, truncated = (
            tensor_of(part, self._device) for part in self.env.step(array_of(action))
        )
        self._over = terminated | truncated
        self.ended = self.ended + self._over[:, 0]
        self._obs = next_obs
        return Batch(obs, action, reward, next_obs, terminated.to(torch.float32))

    def collect(self, steps: int, act: Act, believe: Callable[[], Belief]) -> Batch:
        """Take `steps` control steps of every task: transitions [N, steps, …]."""
        return Batch(
            *(
                torch.cat(column, 1)
                for column in zip(*(self.step(act, believe) for _ in range(steps)), strict=True)
            )
        )

    def state_dict(self) -> dict[str, Any]:
        """The progress of the episodes; the harness keeps the environment's own state."""
        where = {"ended": self.ended, "over": self._over, "obs": self._obs, "z": self._z}
        return {
            **{name: tensor.clone() for name, tensor in where.items()},
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.ended, self._over, self._obs, self._z = (
            state[name].clone() for name in ("ended", "over", "obs", "z")
        )
        self._generator.set_state(state["generator"])


class ContextAgent(Protocol):
    """Acts on a state and z, and infers z from transitions."""

    def act(self, obs: Tensor, z: Tensor) -> Tensor:
        """An action drawn from the policy."""
        ...

    def mean(self, obs: Tensor, z: Tensor) -> Tensor:
        """The action without noise."""
        ...

    def believe(self, seen: Batch) -> Belief:
        """The posterior given transitions [N, C, …]."""
        ...

    def learn(self, batch: Batch, context: Batch) -> None:
        """Make a gradient step on transitions [N, B, …], z inferred from others [N, C, …]."""
        ...

    def frozen(self) -> "ContextAgent":
        """A copy that learning does not change; only its `mean` is used."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes: weights, optimisers, generators."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


class ContextPolicy:
    """Acts without noise, with a separate z in each episode.

    Args:
      belief: [N, Z] the distribution from which the episodes' z are drawn.
    """

    def __init__(self, agent: ContextAgent, belief: Belief, generator: torch.Generator) -> None:
        self._agent = agent
        self._belief = belief
        self._generator = generator
        self._device = generator.device
        self._z = torch.zeros(0, device=self._device)

    def reset(self, mask: BoolArray) -> None:
        """Draw a z for each episode that begins; the others keep theirs."""
        mean, var = (part[:, None] for part in self._belief)
        shape = *mask.shape, mean.shape[-1]
        noise = torch.randn(shape, generator=self._generator, device=self._device)
        z = Belief(mean, var).draw(noise)
        going_on = self._z if self._z.shape == z.shape else z
        self._z = torch.where(tensor_of(mask, self._device)[..., None], z, going_on)

    def act(self, obs: FloatArray) -> FloatArray:
        """As `methods.api.Policy.act`."""
        return array_of(self._agent.mean(tensor_of(obs, self._device), self._z))

    def observe(self, step: Step) -> None:
        """Do nothing: what is seen within an episode does not change its z."""


class ContextAdapter:
    """Explores each test task for `explore` episodes on the prior, then infers z from them.

    With `learning`, it continues on the posterior and learns from everything collected.

    Args:
      env: one copy of each test task.
      agent: acts, infers, learns.
      latent: Z.
      updates_per_step: gradient steps of each task per environment step of it after the
        exploration, if `learning`.
      batch, context: numbers of transitions of each task that a gradient step learns from and
        infers z from.
      replay: transitions kept of each task, if `learning`.
      generators: one for z, one for draws from the replay.
      explore: the number of episodes on the prior.
    """

    def __init__(
        self,
        env: Env,
        agent: ContextAgent,
        latent: int,
        generators: tuple[torch.Generator, torch.Generator],
        learning: bool = False,
        updates_per_step: float = 0.0,
        batch: int = 0,
        context: int = 0,
        replay: int = 0,
        explore: int = 2,
    ) -> None:
        self._agent = agent
        self._latent = latent
        self._learning = learning
        self._ratio = updates_per_step
        self._batch = batch
        self._context = context
        self._own = explore * env.horizon
        self._episodes = Episodes(env, latent, explore, generators[0])
        self._generator = generators[1]
        capacity = max(replay, self._own) if learning else self._own
        self._device = device = generators[1].device
        sizes = env.observation_size, env.action_size
        self._replay = Replay(env.n_tasks, capacity, *sizes, device)
        self._steps = 0
        self.updates = 0
        # seed of the random subsets that z is inferred from
        self._subsets = int(torch.randint(2**62, (), generator=generators[1], device=device))

    @property
    def finished(self) -> bool:
        """Whether the exploration is over and there is no `learning`."""
        return self._steps >= self._own and not self._learning

    def step(self, limit: int) -> None:
        """Explore for one step; later, with `learning`, step on the posterior and learn."""
        if self.finished:
            return
        exploring = self._steps < self._own
        self._replay.add(
            self._episodes.step(self._agent.mean if exploring else self._agent.act, self._believe)
        )
        self._steps += 1
        while self.updates < int((self._steps - self._own) * self._ratio):
            batch = self._replay.sample(self._batch, self._generator)
            self._agent.learn(batch, self._replay.sample(self._context, self._generator))
            self.updates += 1

    def _believe(self) -> Belief:
        # seeded by the step, so that no task's subset depends on when another's episode ends
        return self._agent.believe(
            self._seen(torch.Generator(self._device).manual_seed(self._subsets + self._steps))
        )

    def _seen(self, generator: torch.Generator) -> Batch:
        """Data for the posterior: all of it, or a random subset as large as the exploration."""
        shape = self._episodes.env.n_tasks, len(self._replay)
        if len(self._replay) <= self._own:
            return self._replay.at(torch.arange(shape[1], device=self._device).expand(shape))
        order = torch.rand(shape, generator=generator, device=self._device)
        return self._replay.at(order.topk(self._own).indices)

    def policy(self, generator: np.random.Generator) -> ContextPolicy:
        """The present agent with its belief about each task: the prior until exploration ends."""
        drawn = torch.Generator(self._device).manual_seed(int(generator.integers(2**62)))
        explored = self._episodes.explored[:, None]
        belief = prior(self._episodes.env.n_tasks, self._latent, self._device)
        if explored.any():
            informed = self._agent.believe(self._seen(drawn))
            belief = Belief(
                *(
                    torch.where(explored, after, before)
                    for after, before in zip(informed, belief, strict=True)
                )
            )
        return ContextPolicy(self._agent.frozen(), belief, drawn)

    def state_dict(self) -> dict[str, Any]:
        """The episodes, their transitions, and the agent."""
        return {
            "episodes": self._episodes.state_dict(),
            "replay": self._replay.state_dict(),
            "generator": self._generator.get_state(),
            "subsets": self._subsets,
            "steps": self._steps,
            "updates": self.updates,
            "agent": self._agent.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._episodes.load_state_dict(state["episodes"])
        self._replay.load_state_dict(state["replay"])
        self._generator.set_state(state["generator"])
        self._subsets = state["subsets"]
        self._steps = state["steps"]
        self.updates = state["updates"]
        self._agent.load_state_dict(state["agent"])
