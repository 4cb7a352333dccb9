"""Exploration in parameter space: TD3 on the experience of a population of perturbed actors.

For each task, P actors act side by side: the learner's own, with action noise, and P − 1 without
it, whose parameters differ from the learner's by δₚ ~ N(0, diag σ²). All their transitions go into
one replay, and the learner makes one gradient step per environment step of the task, as TD3 does.
The perturbed actors move along with the learner's. After an episode the best are recombined,

    π ← π + Σᵢ λᵢ δᵢ,   σ² ← Σᵢ λᵢ δᵢ² + (f σ₀)²,   λᵢ ∝ log((K + 1) / i),  i = 1 … K

over the K = max(1, ⌊P / 2⌋) with the highest returns, the best first, and new δ are drawn. σ₀ is
given in units of 1/√I, torch's scale for a layer of I inputs, and f keeps σ from vanishing. With
P = 1 this is TD3.

Sources: Pourchot and Sigaud 2019, "CEM-RL" (arXiv 1810.01222), for the recombination and the
weights; Plappert et al. 2018, "Parameter Space Noise for Exploration" (arXiv 1706.01905), for
perturbing the actor that learns. APB's paper leaves the details open, and these are ours: CEM-RL
gives half of the population their own gradient steps, and lets the floor of σ decay.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from math import log
from typing import Any

import numpy as np
import torch
from torch import Tensor

from methods.api import MakeEnv, Memoryless, Streams
from methods.core.adapt import Collector, memoryless
from methods.core.border import tensor_of
from methods.core.nets import Params
from methods.core.ranges import check_ranges
from methods.core.td3 import TD3, TD3Config


@dataclass(frozen=True)
class PopulationConfig(TD3Config):
    """Settings of the population, in addition to TD3's; all ours."""

    population: int = field(default=5, metadata={"stage": "adapt"})  # actors of each task, P
    # σ₀, in units of 1/√I
    param_noise: float = field(default=0.1, metadata={"stage": "adapt"})
    # f, as a share of σ₀
    noise_floor: float = field(default=0.1, metadata={"stage": "adapt"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(
            self,
            {"population": (1, 1000), "param_noise": (0.0, 100.0), "noise_floor": (0.0, 1.0)},
        )


class Population:
    """The perturbations δ [N, P, …] of the actors of N tasks, and their recombination.

    The first of each task stays 0: it belongs to the learner's own actor.

    Args:
      pi: the learner's actor, every tensor with a leading axis [N].
      generator: source of the draws.
    """

    def __init__(self, pi: Params, config: PopulationConfig, generator: torch.Generator) -> None:
        self._size = config.population
        self._generator = generator
        self._least = {
            name: torch.full_like(tensor, (config.param_noise / _inputs(pi, name) ** 0.5) ** 2)
            for name, tensor in pi.items()
        }
        self.variance = {name: tensor.clone() for name, tensor in self._least.items()}
        for tensor in self._least.values():
            tensor.mul_(config.noise_floor**2)
        self.delta: Params = {}
        self.draw()

    def draw(self) -> None:
        """Draw new perturbations for all actors but the first."""
        for name, variance in self.variance.items():
            n_tasks, *sizes = variance.shape
            noise = torch.empty(n_tasks, self._size, *sizes, device=variance.device)
            noise.normal_(generator=self._generator)
            noise[:, 0] = 0.0
            self.delta[name] = noise * variance.sqrt()[:, None]

    def actors(self, pi: Params) -> Params:
        """The parameters [N, P, …] of all actors."""
        return {name: tensor[:, None] + self.delta[name] for name, tensor in pi.items()}

    def recombine(self, pi: Params, returns: Tensor) -> None:
        """Recombine `pi` and the variances from each task's elites, by returns [N, P]."""
        n_elites = max(1, self._size // 2)
        weights = torch.tensor(
            [log((n_elites + 1) / i) for i in range(1, n_elites + 1)], device=returns.device
        )
        weights = (weights / weights.sum()).to(torch.float32)
        elites = returns.argsort(dim=1, descending=True, stable=True)[:, :n_elites]
        tasks = torch.arange(len(elites), device=returns.device)[:, None]
        for name, tensor in pi.items():
            best = self.delta[name][tasks, elites]  # [N, K, …]
            tensor += torch.einsum("k,nk...->n...", weights, best)
            spread = torch.einsum("k,nk...->n...", weights, best.square())
            self.variance[name] = spread + self._least[name]

    def state_dict(self) -> dict[str, Any]:
        """Perturbations and variances."""
        return {"delta": dict(self.delta), "variance": dict(self.variance)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.delta = dict(state["delta"])
        self.variance = dict(state["variance"])


class EvolvingAdapter:
    """Adaptation by TD3 with a `Population`.

    Args:
      make_env: makes `population` copies of each test task.
      learner: begins with fresh task parameters, all of which are perturbed.
      streams: named generators, of which those of `TD3Loop` and "population" are used.
    """

    def __init__(
        self, make_env: MakeEnv, learner: TD3, config: PopulationConfig, streams: Streams
    ) -> None:
        self._make_env = make_env
        env = make_env(copies=config.population)
        self.learner = learner
        self._config = config
        warmup = config.warmup_episodes * env.horizon
        self.collector = Collector(
            env, config.exploration_noise, warmup, config.replay, streams, noisy=1
        )
        self._replay_generator = streams.torch("replay")
        self._noise_generator = streams.torch("target-noise")
        self._population_generator = streams.torch("population")
        self.population = Population(learner.pi, config, self._population_generator)
        self._device = self._population_generator.device
        lead = env.n_tasks, env.copies
        # of each actor's first episode since the draw: its return, and 1 while it runs, else 0
        self._returns = torch.zeros(lead, device=self._device)
        self._running = torch.ones(lead, device=self._device)
        self._time = 0  # steps since the draw
        # whether this population has acted ever since its draw, so that its returns count
        self._judged = not self.collector.warming_up

    @property
    def updates(self) -> int:
        """Critic updates so far, per task."""
        return self.learner.updates

    def step(self, limit: int) -> None:
        """Step every actor once, update as many times, and recombine after a horizon.

        If fewer steps are left than there are actors, the learner's own actor takes them, each as
        the first step of a separate episode.
        """
        warming_up = self.collector.warming_up
        if limit < self._config.population:
            self.collector.step_apart(self._make_env(copies=limit), self.learner.act)
            if not warming_up:
                self._update(limit)
            return
        step = self.collector.step(self._act)
        self._returns += self._running * tensor_of(step.reward, self._device)
        self._running *= tensor_of(~(step.terminated | step.truncated), self._device)
        if not warming_up:
            self._update(self._config.population)
        self._time += 1
        if self._time == self.collector.env.horizon:
            self._recombine()

    def _act(self, obs: Tensor) -> Tensor:
        """Actions [N, P, A] of each actor for its own obs [N, P, O]."""
        actors = self.population.actors(self.learner.pi) | self.learner.frozen
        return self.learner.actor(actors, obs[..., None, :])[..., 0, :]

    def _recombine(self) -> None:
        """Draw a new population around the elites of this one; its episodes begin together."""
        if self._config.population > 1:
            self.collector.begin_anew()
            if self._judged:
                self.population.recombine(self.learner.pi, self._returns)
        self.population.draw()
        self._judged = not self.collector.warming_up
        self._returns.zero_()
        self._running.fill_(1.0)
        self._time = 0

    def _update(self, times: int) -> None:
        for _ in range(times):
            batch = self.collector.replay.sample(self._config.batch, self._replay_generator)
            noise = torch.empty_like(batch.action).normal_(
                0.0, self._config.policy_noise, generator=self._noise_generator
            )
            self.learner.update(batch, noise)

    def policy(self, generator: np.random.Generator) -> Memoryless:
        """The learner's deterministic actor, with a copy of its parameters; it draws nothing."""
        learner = self.learner
        params = {name: tensor.clone() for name, tensor in (learner.pi | learner.frozen).items()}
        return memoryless(partial(learner.actor, params), self._device)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the frozen parameters, which belong to the method."""
        return {
            "learner": self.learner.state_dict(),
            "collector": self.collector.state_dict(),
            "population": self.population.state_dict(),
            "episode": {"returns": self._returns.clone(), "running": self._running.clone()},
            "time": self._time,
            "judged": self._judged,
            "generators": [generator.get_state() for generator in self._generators()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.learner.load_state_dict(state["learner"])
        self.collector.load_state_dict(state["collector"])
        self.population.load_state_dict(state["population"])
        self._returns.copy_(state["episode"]["returns"])
        self._running.copy_(state["episode"]["running"])
        self._time = state["time"]
        self._judged = state["judged"]
        for generator, saved in zip(self._generators(), state["generators"], strict=True):
            generator.set_state(saved)

    def _generators(self) -> tuple[torch.Generator, ...]:
        return self._replay_generator, self._noise_generator, self._population_generator


def _inputs(pi: Params, name: str) -> int:
    """Number of inputs, I, of the layer that a tensor belongs to."""
    return pi[f"{name.rpartition('.')[0]}.w"].shape[-2]
