"""Loops of gradient-based meta-RL: outer steps, and adaptation steps on fresh batches."""

from collections.abc import Callable, Mapping
from logging import getLogger
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.api import FloatArray
from methods.api import Event, MakeEnv, Memoryless, Streams
from methods.core.border import array_of, tensor_of
from methods.core.gradient_steps import GradientConfig, InnerLoop, inner_step, leaves, meta_step
from methods.core.nets import Params
from methods.core.policy_gradient import Outputs, Sampler, Samples, copies_of, sampled, samples

# parameters [N, …], batch, steps made so far → parameters
Learn = Callable[[Params, Samples, int], Params]


class MetaTrainer:
    """Outer steps, each on fresh tasks: experience, inner step, experience, …, outer step.

    An outer step takes three calls of `step`. The first ends after the last inner step, because the
    returns collected so far do not score adapted policies; the second collects with the adapted
    policies; the third makes the outer step.

    Args:
      theta: the shared weights θ to begin with.
      budget: environment steps, summed over `n_tasks`.
      keep: called with θ at the end.
    Raises:
      ValueError: if the budget does not allow an outer step.
    """

    def __init__(
        self,
        learner: InnerLoop,
        theta: Params,
        config: GradientConfig,
        streams: Streams,
        make_env: MakeEnv,
        horizon: int,
        n_tasks: int,
        budget: int,
        keep: Callable[[Params], None],
    ) -> None:
        self._cost = outer_steps(config, horizon, n_tasks)
        if budget < self._cost:
            raise ValueError(
                f"one outer step takes {self._cost} environment steps ({n_tasks} tasks ×"
                f" {config.episodes} episodes × {horizon} steps × {config.inner_steps + 1} batches)"
                f" and the budget is {budget}; take fewer episodes or inner_steps"
            )
        self._learner = learner
        self._config = config
        self._keep = keep
        self._n_tasks = n_tasks
        self._generator = streams.torch("actions")
        self._env = make_env(copies_of(config.episodes, horizon))
        self._sampler = Sampler(self._env, config.episodes, self._generator.device)
        # φ belongs to the outer step in progress
        self._theta = theta
        self._phi = Params()
        # batches of that outer step: one before each inner step, and one after the last
        self._seen = list[Samples]()
        self._validation = list[Samples]()
        self.updates = self._rejected = 0

    def step(self, limit: int) -> Event:
        """Make inner steps on fresh tasks, collect the batch after them, or make the outer step."""
        if self._validation:
            self._learn()
            return Event.ITERATION
        if self._phi:
            self._validation = [self._batch(self._theta, self._phi)]
            return Event.NOTHING
        if limit < self._cost:
            self._end()
            return Event.END
        self._env.draw()
        self._adapt()
        return Event.EXPLORED

    def _adapt(self) -> None:
        """Collect a batch before each inner step, and keep φ after the last."""
        theta = leaves(self._theta)
        phi = self._learner.start(theta, self._n_tasks)
        for _ in range(self._config.inner_steps):
            self._seen.append(self._batch(theta, phi))
            phi = inner_step(self._learner, theta, phi, self._seen[-1], self._config.inner_rate)
        self._phi = {name: tensor.detach() for name, tensor in phi.items()}

    def _learn(self) -> None:
        """Make the outer step."""
        (validation,) = self._validation
        self._theta, outcome = meta_step(
            self._learner, self._theta, self._seen, validation, self._config
        )
        self._seen = []
        self._validation = []
        self._phi = {}
        self.updates += 1
        self._rejected += int(not outcome.accepted)
        message = "outer step %d: surrogate %+.4f, KL %.4f"
        getLogger(__name__).info(message, self.updates, outcome.improvement, outcome.kl)

    def _batch(self, theta: Params, phi: Params) -> Samples:
        with torch.no_grad():
            rollout = self._sampler.collect(
                lambda obs: sampled(self._learner.policy(theta, phi, obs), self._generator)
            )
        assert rollout is not None, "without a limit a batch is collected whole"
        return samples(rollout, self._config.gamma, self._config.lam)

    def _end(self) -> None:
        self._keep(self._theta)
        if self._rejected:
            message = "%d of %d outer steps found no better weights within the trust region"
            getLogger(__name__).warning(message, self._rejected, self.updates)

    def state_dict(self) -> dict[str, Any]:
        """θ, and the batches and φ of the outer step in progress."""
        return {
            "theta": {name: tensor.detach().clone() for name, tensor in self._theta.items()},
            "phi": {name: tensor.clone() for name, tensor in self._phi.items()},
            "seen": [batch._asdict() for batch in self._seen],
            "validation": [batch._asdict() for batch in self._validation],
            "generator": self._generator.get_state(),
            "counts": [self.updates, self._rejected],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._theta = dict(state["theta"])
        self._phi = dict(state["phi"])
        self._seen, self._validation = (
            [Samples(**batch) for batch in state[name]] for name in ("seen", "validation")
        )
        self._generator.set_state(state["generator"])
        self.updates, self._rejected = state["counts"]


def outer_steps(config: GradientConfig, horizon: int, n_tasks: int) -> int:
    """Environment steps of one outer step: a batch before each inner step and one at the end."""
    return n_tasks * config.episodes * horizon * (config.inner_steps + 1)


class GradientAdapter:
    """Collects a batch, makes a step on it, and repeats; frozen after the last step.

    Args:
      make_env: makes environments of the test tasks.
      horizon: control steps per episode.
      params: parameters that each task's policy has for itself, [N, …].
      policy: params, obs → mean and log σ.
      learn: makes a step on a batch.
      steps: maximum number of these steps; None for no limit.
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
        self._generator = streams.torch("actions")
        env = make_env(copies_of(config.episodes, horizon))
        self._sampler = Sampler(env, config.episodes, self._generator.device)
        self._params = params
        self._policy = policy
        self._learn = learn
        self._steps = steps
        self._config = config
        self.updates = 0

    @property
    def finished(self) -> bool:
        """Whether there are no more steps to make."""
        return self.updates == self._steps

    def step(self, limit: int) -> None:
        """Continue the batch; when it is complete, make one gradient step of every task."""
        if self.finished:
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
        """The current policy; it acts by its mean or, if `stochastic` is set, by draws."""
        # a shallow copy will do: steps replace tensors and do not change them in place
        params = dict(self._params)
        policy = self._policy
        device = self._generator.device
        draws = torch.Generator(device).manual_seed(int(generator.integers(2**63)))

        def act(obs: FloatArray) -> FloatArray:
            """Actions [N, E, A]: draws where evaluation is stochastic, means otherwise."""
            with torch.no_grad():
                outputs = policy(params, tensor_of(obs, device))
                action = sampled(outputs, draws) if self._config.stochastic else outputs[0]
                return array_of(action.clamp(-1.0, 1.0))  # as the environment would

        return Memoryless(act)

    def state_dict(self) -> dict[str, Any]:
        """Parameters, the batch being collected, and the generator."""
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
