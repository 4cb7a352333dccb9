"""A cross-entropy search for a good policy for each task, by trial alone: it shows, without a
learner, that a task can be done.

It searches N tasks at once, with a population of E simulations each. It knows what no method may
know, so it is not a baseline.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from envs.api import FloatArray, Task, TaskFamily
from envs.batch import BatchEnv

# share of the initial deviation added to later ones, falling to 0 at the end, so that the search
# does not freeze early
EXTRA_NOISE = 0.3
FREQUENCY = 0.03  # cycles per control step of a gait with θ₀ = 0: 1.9 Hz for hopper and walker


class Policy(Protocol):
    """Maps parameters of about unit size to actions."""

    @property
    def size(self) -> int:
        """Number of parameters P."""
        ...

    def __call__(self, theta: FloatArray, obs: FloatArray, t: int) -> FloatArray:
        """Actions [N, E, A] for parameters [N, E, P] and obs [N, E, O], t steps after the reset."""
        ...


@dataclass(frozen=True)
class Knots:
    """Open loop: `count` actions, each held for `hold` control steps, the last until the end."""

    action_size: int
    count: int
    hold: int

    @property
    def size(self) -> int:
        """P = count·A."""
        return self.count * self.action_size

    def __call__(self, theta: FloatArray, obs: FloatArray, t: int) -> FloatArray:
        """The action of the knot at t."""
        begin = min(t // self.hold, self.count - 1) * self.action_size
        return theta[..., begin : begin + self.action_size]


@dataclass(frozen=True)
class Gait:
    """A sine per actuator, all at one frequency, with linear feedback:

        a = c + A·sin(2π f t + φ) + K o,   f = 0.03·2^θ₀ per control step

    where c, A, φ (in units of π) and K (in units of `gain`) follow θ₀ in the parameters.
    """

    observation_size: int
    action_size: int
    gain: float

    @property
    def size(self) -> int:
        """P = 1 + 3A + A·O."""
        return 1 + self.action_size * (3 + self.observation_size)

    def __call__(self, theta: FloatArray, obs: FloatArray, t: int) -> FloatArray:
        """The gait's action at t."""
        n = self.action_size
        offset, amplitude, phase = np.moveaxis(
            theta[..., 1 : 1 + 3 * n].reshape(*theta.shape[:-1], 3, n), -2, 0
        )
        feedback = self.gain * theta[..., 1 + 3 * n :].reshape(
            *theta.shape[:-1], n, self.observation_size
        )
        cycles = FREQUENCY * 2 ** theta[..., :1] * t
        action: FloatArray = (
            offset + amplitude * np.sin(np.pi * (2 * cycles + phase)) + np.matvec(feedback, obs)
        )
        return action


class Outcome(NamedTuple):
    """The outcome of one episode of every simulation."""

    returns: FloatArray  # [N, E] sum of rewards until the end
    lengths: FloatArray  # [N, E] control steps until the end


class Found(NamedTuple):
    """The search's result."""

    theta: FloatArray  # [N, P] parameters
    outcome: Outcome  # [N, E] of these parameters, from fresh resets


def rollout(env: BatchEnv, policy: Policy, theta: FloatArray, steps: int) -> Outcome:
    """Run each simulation's first episode under its parameters [N, E, P], for at most `steps`."""
    obs = env.reset()
    returns, lengths = np.zeros((2, env.n_tasks, env.copies))
    running = np.ones((env.n_tasks, env.copies), bool)
    for t in range(steps):
        step = env.step(policy(theta, obs, t))
        returns += running * step.reward
        lengths += running
        ended = step.terminated | step.truncated
        running &= ~ended
        if not running.any():
            break
        obs = env.reset(ended) if ended.any() else step.obs
    return Outcome(returns, lengths)


def search(
    family: TaskFamily,
    tasks: Sequence[Task],
    policy: Policy,
    generator: np.random.Generator,
    *,
    population: int = 64,
    elites: int = 8,
    iterations: int = 10,
    width: float = 1.0,
    start: FloatArray | None = None,
    steps: int | None = None,
    score: Callable[[Outcome], FloatArray] = lambda outcome: outcome.returns,
    threads: int = 1,
) -> Found:
    """Search for parameters of a policy for each task by the cross-entropy method.

        θ ~ N(μ, σ²),   μ ← mean of the elites,
        σ ← deviation of the elites + 0.3·w·(1 − i / iterations)

    starting at μ = 0 or `start` and σ = w; one of the population is μ itself. The last elites, with
    μ in place of the least of them, get the same number of fresh episodes each: the best on average
    is the result, and is evaluated once more on fresh episodes.

    Args:
      family, tasks: N tasks of one family.
      policy: what the parameters mean.
      generator: source of the population and of the resets.
      population: E simulations of each task, a multiple of `elites`.
      elites: how many of them are kept.
      iterations: generations, each of one episode per simulation.
      width: w, the deviation to begin with.
      start: [N, P] μ to begin with, zero if None.
      steps: control steps of an episode, the family's horizon if None.
      score: what to maximise, [N, E].
      threads: number of simulator threads.
    Raises:
      ValueError: if the population is not a positive multiple of the elites, or there are no
        iterations.
    Source:
      Szita & Lőrincz 2006, "Learning Tetris using the noisy cross-entropy method"; the noise
      schedule and the final trials are ours.
    """
    if iterations < 1 or elites < 1 or population < elites or population % elites:
        got = f"{population}, {elites} and {iterations}"
        raise ValueError(
            f"the population must be a multiple of the elites, and iterations at least 1, got {got}"
        )
    env = BatchEnv(family, tasks, population, threads, seed=int(generator.integers(2**63)))
    shape = len(tasks), population, policy.size
    steps = family.horizon if steps is None else steps
    deviation = np.full((len(tasks), 1, policy.size), width)
    mean = np.zeros_like(deviation) if start is None else start[:, None]
    for i in range(1, iterations + 1):
        theta = mean + deviation * generator.standard_normal(shape)
        theta[:, :1] = mean
        best = np.argsort(score(rollout(env, policy, theta, steps)), axis=1)[:, -elites:]
        kept = np.take_along_axis(theta, best[..., None], axis=1)  # [N, elites, P], the least first
        mean = kept.mean(axis=1, keepdims=True)
        deviation = kept.std(axis=1, keepdims=True) + EXTRA_NOISE * width * (1 - i / iterations)
    kept[:, :1] = mean
    trials = score(rollout(env, policy, np.repeat(kept, population // elites, axis=1), steps))
    winner = trials.reshape(len(tasks), elites, -1).mean(axis=2).argmax(axis=1)
    theta = kept[np.arange(len(tasks)), winner]  # [N, P]
    return Found(theta, rollout(env, policy, np.broadcast_to(theta[:, None], shape), steps))
