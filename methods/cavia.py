"""CAVIA: a policy with a few context parameters, the only ones that adapt to a task.

The policy takes the state and a context φᵢ as inputs of its first layer. φᵢ is zero before a task;
one REINFORCE gradient step on a batch of the task's experience updates φᵢ, and nothing else. The
shared weights θ are updated by TRPO, with the gradient taken through the inner step, to increase
the return of the policies with adapted contexts. Adaptation is thus a search over a few numbers,
and cannot damage θ.

Paper: Zintgraf, Shiarlis, Kurin, Hofmann and Whiteson 2019, "Fast Context Adaptation via
Meta-Learning" (arXiv 1810.03642). Official code: lmzintgraf/cavia, `rl` (at 91f093a or later, which
added a missing nonlinearity). Settings are the defaults of its arguments unless a comment says
otherwise; those are for its 2D navigation, and it gives none for locomotion, for which desk and
paper use a larger context and inner rate.

After its own steps, `cavia+ft` continues with TRPO on context and weights, on the test task alone,
with batches of the same size and the outer step's settings; `cavia+td3` continues with TD3 instead,
starting from its policy.

Differences from the official code:
- the Fisher-vector product of the outer step is a product with Jᵀ M J, where the official one
  differentiates the divergence twice (the same matrix);
- the trust region bounds KL(old ‖ new), as in TRPO's paper; the official code bounds KL(new ‖ old).
  As there, bound and damping are per entry of the action, over which that code averages the
  divergence;
- a batch has as many steps as its episodes have at most: an episode that ends early makes room for
  another, and one cut off by the end of the batch is bootstrapped from the baseline and left out of
  the baseline's fit. In the official code each of a fixed number of episodes runs to its end;
- losses and divergences are means over the steps of a task's batch; the official code averages each
  episode first and then the episodes, so that a short one weighs as much as a long one;
- the baseline predicts the batch that it was fitted to, in the outer step too, where the official
  code predicts the experience of the adapted policies with a baseline fitted before adaptation; and
  it clips observations to ±10 and counts time from 0, as rllab's does, where the official one clips
  nothing and counts from 1;
- adaptation to a test task makes as many gradient steps as meta-training, one (official: five, as
  in `cavia-5`);
- where `fisher_stride` is not 1, as at desk, the Fisher matrix uses only one in `fisher_stride`
  steps;
- test batches are as large as training batches (official: 40 episodes);
- training tasks are stratified over the training law, and the budget sets their number and that of
  the outer steps (official: 20 tasks drawn at random, 500 outer steps);
- evaluated policies act by their mean, unless `stochastic`.

Read on in: methods/core/gradient_steps.py, methods/core/policy_gradient.py, methods/core/trpo.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from methods.api import MakeEnv, Method, Spec, Streams, Trainer
from methods.core.gradient_loop import GradientAdapter, MetaTrainer, outer_steps
from methods.core.gradient_steps import (
    ADAPT,
    GradientConfig,
    InnerLoop,
    inner_step,
    leaves,
    task_step,
)
from methods.core.nets import Params, spread
from methods.core.policy_gradient import Outputs, Samples, gaussian_policy, init_gaussian_policy
from methods.core.td3_stage import OwnStage, TD3StageAdapter, TD3StageConfig


@dataclass(frozen=True)
class CaviaConfig(GradientConfig):
    """Settings of CAVIA."""

    # official, for 2D navigation
    context: int = 2  # number of context parameters, Z
    gamma: float = 0.95
    inner_rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.context <= 8192:
            raise ValueError(f"context must be from 1 to 8192, not {self.context}")


def policy(theta: Params, phi: Params, obs: Tensor) -> Outputs:
    """Return the outputs of the policy θ for states with the task's context φ appended."""
    context = phi["context"].expand(*obs.shape[:-1], -1)  # [N, 1, Z] → [N, B, Z]
    return gaussian_policy(theta, torch.cat([obs, context], -1))


def policy_of_all(params: Params, obs: Tensor) -> Outputs:
    """Return the same for one tree `params` of weights and context, each task having its own."""
    return policy(params, params, obs)


class Cavia(Method):
    """CAVIA with a REINFORCE inner step and a TRPO outer step."""

    # 2: the official trust region; one gradient step on a test task, not five
    version: ClassVar[int] = 2
    meta_trains: ClassVar[bool] = True
    on_policy: ClassVar[bool] = True
    eval_mode: str = "deterministic"
    space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "inner_rate": (0.3, 1.0, 3.0, 10.0),
        "max_kl": (0.01, 0.02),
        "gamma": (0.95, 0.99),
        "episodes": (5, 10, 20),
        "context": (2, 5, 50),
    }
    Config: ClassVar[type[CaviaConfig]] = CaviaConfig
    config: CaviaConfig

    def __init__(self, spec: Spec, config: CaviaConfig) -> None:
        self.spec = spec
        self.config = config
        self.eval_mode = "stochastic" if config.stochastic else self.eval_mode
        self.learner = InnerLoop(self._start, policy)
        # `trpo` takes the divergence summed over the entries of an action, the official code their
        # mean
        self._outer = replace(
            config,
            max_kl=spec.action_size * config.max_kl,
            damping=spec.action_size * config.damping,
        )
        self.theta: Params = {}  # empty until meta-trained or loaded

    def _start(self, theta: Params, n_tasks: int) -> Params:
        """Return φ = 0 for each task: [N, 1, Z]."""
        like = theta["log_std"]
        shape = n_tasks, 1, self.config.context
        context = torch.zeros(shape, dtype=like.dtype, device=like.device)
        return {"context": context.requires_grad_()}

    # Meta-training

    def least_budget(self, n_tasks: int) -> int:
        """Return the environment steps of one outer step, summed over tasks."""
        return outer_steps(self.config, self.spec.horizon, n_tasks)

    def trainer(self, make_env: MakeEnv, n_tasks: int, budget: int, streams: Streams) -> Trainer:
        """Return a trainer of outer steps on `n_tasks` fresh tasks each, within `budget` steps.

        Raises:
          ValueError: if `budget`, summed over tasks, does not allow one outer step.
        """
        n_obs, n_act, horizon, *_ = self.spec
        theta = init_gaussian_policy(
            n_obs + self.config.context, n_act, self.config.hidden, streams.torch("init")
        )
        return MetaTrainer(
            self.learner,
            theta,
            self._outer,
            streams=streams,
            make_env=make_env,
            horizon=horizon,
            n_tasks=n_tasks,
            budget=budget,
            keep=self._keep,
        )

    def _keep(self, theta: Params) -> None:
        self.theta = theta

    # Adaptation

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> OwnStage:
        """Return an adapter: context zero for each of `n_tasks`, a gradient step of it per batch.

        Raises:
          RuntimeError: if there is no meta-trained θ.
        """
        return self._adapter(make_env, n_tasks, streams, self.config.own_steps)

    def _adapter(
        self, make_env: MakeEnv, n_tasks: int, streams: Streams, steps: int | None
    ) -> GradientAdapter:
        if not self.theta:
            raise RuntimeError(
                "CAVIA has no weights yet: finish a trainer or call load_state_dict before adapter"
            )
        params = {
            name: tensor.detach() for name, tensor in self._start(self.theta, n_tasks).items()
        }
        params |= spread(self.theta, n_tasks)
        return GradientAdapter(
            make_env,
            self.spec.horizon,
            params,
            policy=policy_of_all,
            learn=self._learn,
            steps=steps,
            config=self.config,
            streams=streams,
        )

    def _learn(self, params: Params, batch: Samples, steps: int) -> Params:
        phi = leaves({"context": params["context"]})
        return params | inner_step(self.learner, params, phi, batch, self.config.inner_rate)

    def state_dict(self) -> dict[str, Any]:
        """Return θ."""
        return {"theta": self.theta}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.theta = dict(state["theta"])


@dataclass(frozen=True)
class CaviaFiveConfig(CaviaConfig):
    """Settings of `cavia-5`."""

    own_steps: int = field(default=5, metadata=ADAPT)


class CaviaFive(Cavia):
    """CAVIA that makes five gradient steps on a test task, though it was trained for fewer."""

    trained_by: ClassVar[str] = "cavia"
    Config: ClassVar[type[CaviaConfig]] = CaviaFiveConfig


class CaviaFinetuned(Cavia):
    """CAVIA whose learner goes on training on the test task."""

    trained_by: ClassVar[str] = "cavia"

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> GradientAdapter:
        """Return an adapter: CAVIA's own steps, then TRPO on each task while budget remains."""
        return self._adapter(make_env, n_tasks, streams, None)

    def _learn(self, params: Params, batch: Samples, steps: int) -> Params:
        if steps < self.config.own_steps:
            return super()._learn(params, batch, steps)
        return task_step(policy_of_all, params, batch, self._outer)[0]


@dataclass(frozen=True)
class CaviaTD3Config(TD3StageConfig, CaviaConfig):
    """Settings of `cavia+td3`."""


class CaviaTD3(Cavia):
    """CAVIA with TD3 on the test task afterwards."""

    trained_by: ClassVar[str] = "cavia"
    Config: ClassVar[type[CaviaConfig]] = CaviaTD3Config
    config: CaviaTD3Config

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> TD3StageAdapter:
        """Return an adapter: CAVIA's own steps, then TD3 from its policy."""
        own = super().adapter(make_env, n_tasks, streams)
        return TD3StageAdapter(own, make_env, self.spec, self.config.td3_config(), streams)
