"""CAVIA: a policy with a few context parameters, which alone learn a task.

The policy sees the state and a context φᵢ beside it, at its first layer. φᵢ is zero before a task;
on a batch of its experience one gradient step of REINFORCE moves φᵢ, and nothing else. The shared
weights θ move so that the policies with adapted contexts earn more: by TRPO, whose gradient goes
through the inner step. So adaptation is a search in a space of a few numbers, and θ is never in
danger.

Paper: Zintgraf, Shiarlis, Kurin, Hofmann and Whiteson 2019, "Fast Context Adaptation via
Meta-Learning" (arXiv 1810.03642). Official code: lmzintgraf/cavia, `rl` (at 91f093a or later, which
put in a nonlinearity that was missing). Settings are the defaults of its arguments unless a comment
says otherwise; they are for its 2D navigation, and for locomotion it gives none: there,
desk and paper have a larger context and rate.

`cavia+ft` goes on after its own steps: TRPO on context and weights, on the test task alone, on
batches of the same size, with the outer step's settings; `cavia+td3`: TD3 instead,
from its policy.

Differences from the official code:
- the Fisher-vector product of the outer step is a product with Jᵀ M J, where the official one
  differentiates the divergence twice (the same matrix);
- the trust region bounds KL(old ‖ new), as TRPO's paper has it; there it is KL(new ‖ old). As
  there, its bound and its damping are per entry of the action, over which that code averages the
  divergence;
- a batch is as many steps as its episodes have at most: one that ends early makes room for another,
  and one that the end of the batch cuts off is bootstrapped from the baseline, and left out of its
  fit. There, each of so many episodes runs to its end;
- losses and divergences are means over the steps of a task's batch; there, means over its episodes
  of the mean of each, in which a short one weighs as much as a long one;
- the baseline predicts the batch that it was fitted to, in the outer step too, where the official
  one predicts the experience of the adapted policies from what it learned before adaptation; and it
  clips observations to ±10 and counts time from 0, as rllab's, where the official one clips nothing
  and counts from 1;
- a test task is adapted to by as many gradient steps as meta-training made, one (official: five, as
  in `cavia-5`);
- where `fisher_stride` is not 1, as at desk, the Fisher matrix is that of one in so many steps;
- test batches are as large as training ones (official: 40 episodes);
- training tasks are stratified over their law, and they and the outer steps are as many as the
  budget says (official: 20 drawn at random, 500 times);
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
    context: int = 2  # context parameters, Z
    gamma: float = 0.95
    inner_rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.context <= 8192:
            raise ValueError(f"context must be from 1 to 8192, not {self.context}")


def policy(theta: Params, phi: Params, obs: Tensor) -> Outputs:
    """The policy of θ, for the state with the task's context beside it."""
    context = phi["context"].expand(*obs.shape[:-1], -1)  # [N, 1, Z] → [N, B, Z]
    return gaussian_policy(theta, torch.cat([obs, context], -1))


def policy_of_all(params: Params, obs: Tensor) -> Outputs:
    """The same, for weights and context in one tree, each task with its own."""
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
        # the divergence of all entries of an action, which `trpo` takes, is so many times their
        # mean
        self._outer = replace(
            config,
            max_kl=spec.action_size * config.max_kl,
            damping=spec.action_size * config.damping,
        )
        self.theta: Params = {}  # empty until meta-trained or loaded

    def _start(self, theta: Params, n_tasks: int) -> Params:
        """φ = 0 for each task: [N, 1, Z]."""
        like = theta["log_std"]
        shape = n_tasks, 1, self.config.context
        context = torch.zeros(shape, dtype=like.dtype, device=like.device)
        return {"context": context.requires_grad_()}

    # Meta-training

    def least_budget(self, n_tasks: int) -> int:
        """Environment steps of one outer step."""
        return outer_steps(self.config, self.spec.horizon, n_tasks)

    def trainer(self, make_env: MakeEnv, n_tasks: int, budget: int, streams: Streams) -> Trainer:
        """Outer steps on `n_tasks` fresh tasks each, while `budget` (steps over tasks) allows.

        Raises:
          ValueError: if they do not allow one.
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
        """Context zero on each of `n_tasks`, and a gradient step of it after each batch.

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
        """θ."""
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
        """CAVIA's own steps, then TRPO on each task for as long as there is budget."""
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
        """CAVIA's own steps, then TD3 from its policy."""
        own = super().adapter(make_env, n_tasks, streams)
        return TD3StageAdapter(own, make_env, self.spec, self.config.td3_config(), streams)
