"""The loops of gradient-based meta-RL: meta-training by outer steps, and adaptation by gradient steps on fresh batches."""

from collections.abc import Callable, Iterator, Mapping
from logging import getLogger
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.api import FloatArray
from methods.api import MakeEnv, Memoryless, Streams, TrainRow
from methods.core.gradient_steps import GradientConfig, Learner, inner_step, leaves, meta_step
from methods.core.nets import Params
from methods.core.policy_gradient import Outputs, Sampler, Samples, copies_of, sampled, samples

Learn = Callable[[Params, Samples, int], Params]  # parameters [N, …], batch, steps made so far → parameters


class MetaLoop:
    """Outer steps, each on fresh tasks: experience, inner step, experience, …, outer step.

    Attributes:
      theta: the shared weights θ.
      rejected: outer steps that found no better weights within the trust region.
    """

    def __init__(self, learner: Learner, theta: Params, config: GradientConfig, streams: Streams) -> None:
        self.theta, self.rejected = theta, 0
        self._learner, self._config, self._generator = learner, config, streams.torch("actions")

    def run(self, make_env: MakeEnv, horizon: int, n_tasks: int, budget: int) -> Iterator[TrainRow]:
        """As many outer steps as `budget` environment steps, summed over `n_tasks`, allow.

        Raises:
          ValueError: if they do not allow one.
        """
        episodes, steps = self._config.episodes, outer_steps(self._config, horizon, n_tasks)
        if budget < steps:
            raise ValueError(
                f"one outer step takes {steps} environment steps ({n_tasks} tasks × {episodes} episodes × {horizon} steps × "
                f"{self._config.inner_steps + 1} batches) and the budget is {budget}; take fewer episodes or inner_steps"
            )
        env, log = make_env(copies_of(episodes, horizon)), getLogger(__name__)
        sampler = Sampler(env, episodes)
        for iteration in range(1, budget // steps + 1):
            env.draw()
            theta = leaves(self.theta)
            seen, phi = self._adapt(sampler, theta, n_tasks)
            yield TrainRow(iteration - 1, explored=True)
            validation = self._batch(sampler, theta, phi)
            self.theta, outcome = meta_step(self._learner, self.theta, seen, validation, self._config)
            self.rejected += int(not outcome.accepted)
            log.info("outer step %d: surrogate %+.4f, KL %.4f", iteration, outcome.improvement, outcome.kl)
            yield TrainRow(iteration)
        if self.rejected:
            log.warning("%d of %d outer steps found no better weights within the trust region", self.rejected, iteration)

    def _adapt(self, sampler: Sampler, theta: Params, n_tasks: int) -> tuple[list[Samples], Params]:
        """A batch before each inner step, and φ after the last."""
        seen, phi = list[Samples](), self._learner.start(theta, n_tasks)
        for _ in range(self._config.inner_steps):
            seen.append(self._batch(sampler, theta, phi))
            phi = inner_step(self._learner, theta, phi, seen[-1], self._config.inner_rate)
        return seen, phi

    def _batch(self, sampler: Sampler, theta: Params, phi: Params) -> Samples:
        with torch.no_grad():
            rollout = sampler.collect(lambda obs: sampled(self._learner.policy(theta, phi, obs), self._generator))
        assert rollout is not None, "without a limit a batch is collected whole"
        return samples(rollout, self._config.gamma, self._config.lam)


def outer_steps(config: GradientConfig, horizon: int, n_tasks: int) -> int:
    """Environment steps of one outer step: a batch before each inner step and one after the last."""
    return n_tasks * config.episodes * horizon * (config.inner_steps + 1)


class GradientAdapter:
    """Collects a batch, makes a step, and again; frozen when there are no more steps to make.

    Args:
      make_env: of the test tasks.
      horizon: control steps per episode.
      params: what the policy of each task has for itself [N, …].
      policy: params, obs → mean and log σ.
      learn: a step on a batch; at most `steps` of them, None for no end.
    """

    def __init__(
        self,
        make_env: MakeEnv,
        horizon: int,
        params: Params,
        policy: Callable[[Params, Tensor], Outputs],
        learn: Learn,
        steps: int | None,
        config: GradientConfig,
        streams: Streams,
    ) -> None:
        self._sampler = Sampler(make_env(copies_of(config.episodes, horizon)), config.episodes)
        self._params, self._policy, self._learn, self._steps, self._config = params, policy, learn, steps, config
        self._generator = streams.torch("actions")
        self.updates = 0

    def step(self, limit: int) -> None:
        """Go on with the batch; when it is complete, one gradient step of every task."""
        if self.updates == self._steps:
            return
        rollout = self._sampler.collect(self._act, limit)
        if rollout is not None:
            batch = samples(rollout, self._config.gamma, self._config.lam)
            learned = self._learn(self._params, batch, self.updates)
            self._params = {name: tensor.detach() for name, tensor in learned.items()}
            self.updates += 1

    def _act(self, obs: Tensor) -> Tensor:
        with torch.no_grad():
            return sampled(self._policy(self._params, obs), self._generator)

    def policy(self, generator: np.random.Generator) -> Memoryless:
        """The current policy, of means or, if so set, drawn."""
        params, policy = dict(self._params), self._policy  # steps replace tensors, they do not change them
        draws = torch.Generator().manual_seed(int(generator.integers(2**63)))

        def act(obs: FloatArray) -> FloatArray:
            with torch.no_grad():
                outputs = policy(params, torch.from_numpy(obs))
                action = sampled(outputs, draws) if self._config.stochastic else outputs[0]
                return action.clamp(-1.0, 1.0).numpy()  # as the environment would

        return Memoryless(act)

    def state_dict(self) -> dict[str, Any]:
        """Parameters, the batch that is being collected, and the generator."""
        return {
            "params": {name: tensor.clone() for name, tensor in self._params.items()},
            "sampler": self._sampler.state_dict(),
            "generator": self._generator.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._params = dict(state["params"])
        self._sampler.load_state_dict(state["sampler"])
        self._generator.set_state(state["generator"])
        self.updates = state["updates"]
