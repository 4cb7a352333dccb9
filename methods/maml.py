"""MAML: initial weights from which one policy-gradient step on a task makes a policy for it.

All tasks start from the same weights θ. One REINFORCE gradient step on a batch of a task's
experience gives φᵢ = θ − α ∇Lᵢ(θ), and φᵢ collects another batch. θ is updated by TRPO, with the
gradient taken through the inner step, to increase the return of the φᵢ. On a test task the same
inner step adapts θ, and any further steps use fresh batches.

Paper: Finn, Abbeel and Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks" (arXiv 1703.03400). Official code: cbfinn/maml_rl (rllab, TensorFlow). Settings are those
of the official code unless a comment says otherwise.

After its own steps, `maml+ft` continues with TRPO on the test task alone, with batches of the same
size and the outer step's settings; `maml+td3` continues with TD3 instead, starting from its policy.

Differences from the official code:
- the Fisher-vector product of the outer step is exact (a product with Jᵀ M J), where the official
  one is a finite difference;
- in both, an episode that ends early makes room for another within the batch. Here one cut off by
  the end of the batch counts: it is bootstrapped from the baseline and left out of the baseline's
  fit. In the official code a batch goes on until complete episodes add up to its size: the last one
  is completed or, with one process, those under way are discarded;
- adaptation to a test task makes as many gradient steps as meta-training, one (official: three;
  `maml-5` makes five);
- where `fisher_stride` is not 1, as at desk, the Fisher matrix uses only one in `fisher_stride`
  steps;
- training tasks are stratified over the training law, and the budget sets their number and that of
  the outer steps (official: 40 tasks drawn at random, 800 outer steps);
- evaluated policies act by their mean, unless `stochastic`.

Read on in: methods/core/gradient_steps.py, methods/core/policy_gradient.py, methods/core/trpo.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

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
from methods.core.nets import Params
from methods.core.policy_gradient import Outputs, Samples, gaussian_policy, init_gaussian_policy
from methods.core.td3_stage import OwnStage, TD3StageAdapter, TD3StageConfig


@dataclass(frozen=True)
class MamlConfig(GradientConfig):
    """Settings of MAML."""

    # step size after the first step on a test task, as a multiple of α; official: half
    later_rate: float = field(default=0.5, metadata=ADAPT)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.later_rate <= 1000.0:
            raise ValueError(f"later_rate must be from 0 to 1000, not {self.later_rate}")


def start(theta: Params, n_tasks: int) -> Params:
    """Return φ = θ for each task: [N, …]."""
    return {name: tensor.expand(n_tasks, *tensor.shape) for name, tensor in theta.items()}


def policy(theta: Params, phi: Params, obs: Tensor) -> Outputs:
    """Return the outputs of the policy φ; θ enters only as the start of φ."""
    return gaussian_policy(phi, obs)


LEARNER = InnerLoop(start, policy)


class Maml(Method):
    """MAML with a REINFORCE inner step and a TRPO outer step."""

    version: ClassVar[int] = 2  # 2: one gradient step on a test task, not three
    meta_trains: ClassVar[bool] = True
    on_policy: ClassVar[bool] = True
    eval_mode: str = "deterministic"
    space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "inner_rate": (0.03, 0.1, 0.3),
        "max_kl": (0.01, 0.02),
        "gamma": (0.95, 0.99),
        "episodes": (5, 10, 20),
    }
    Config: ClassVar[type[MamlConfig]] = MamlConfig
    config: MamlConfig

    def __init__(self, spec: Spec, config: MamlConfig) -> None:
        self.spec = spec
        self.config = config
        self.eval_mode = "stochastic" if config.stochastic else self.eval_mode
        self.theta: Params = {}  # empty until meta-trained or loaded

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
        theta = init_gaussian_policy(n_obs, n_act, self.config.hidden, streams.torch("init"))
        return MetaTrainer(
            LEARNER,
            theta,
            self.config,
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
        """Return an adapter: θ for each of `n_tasks`, and a gradient step after each batch.

        Raises:
          RuntimeError: if there is no meta-trained θ.
        """
        return self._adapter(make_env, n_tasks, streams, self.config.own_steps)

    def _adapter(
        self, make_env: MakeEnv, n_tasks: int, streams: Streams, steps: int | None
    ) -> GradientAdapter:
        if not self.theta:
            raise RuntimeError(
                "MAML has no weights yet: finish a trainer or call load_state_dict before adapter"
            )
        phi = start(self.theta, n_tasks)
        horizon = self.spec.horizon
        return GradientAdapter(
            make_env,
            horizon,
            phi,
            policy=gaussian_policy,
            learn=self._learn,
            steps=steps,
            config=self.config,
            streams=streams,
        )

    def _learn(self, phi: Params, batch: Samples, steps: int) -> Params:
        rate = self.config.inner_rate * (self.config.later_rate if steps else 1.0)
        return inner_step(LEARNER, {}, leaves(phi), batch, rate)

    def state_dict(self) -> dict[str, Any]:
        """Return θ."""
        return {"theta": self.theta}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.theta = dict(state["theta"])


@dataclass(frozen=True)
class MamlFiveConfig(MamlConfig):
    """Settings of `maml-5`."""

    own_steps: int = field(default=5, metadata=ADAPT)


class MamlFive(Maml):
    """MAML that makes five gradient steps on a test task, though it was trained for fewer."""

    trained_by: ClassVar[str] = "maml"
    Config: ClassVar[type[MamlConfig]] = MamlFiveConfig


class MamlFinetuned(Maml):
    """MAML whose learner goes on training on the test task."""

    trained_by: ClassVar[str] = "maml"

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> GradientAdapter:
        """Return an adapter: MAML's own steps, then TRPO on each task while budget remains."""
        return self._adapter(make_env, n_tasks, streams, None)

    def _learn(self, phi: Params, batch: Samples, steps: int) -> Params:
        if steps < self.config.own_steps:
            return super()._learn(phi, batch, steps)
        return task_step(gaussian_policy, phi, batch, self.config)[0]


@dataclass(frozen=True)
class MamlTD3Config(TD3StageConfig, MamlConfig):
    """Settings of `maml+td3`."""


class MamlTD3(Maml):
    """MAML with TD3 on the test task afterwards."""

    trained_by: ClassVar[str] = "maml"
    Config: ClassVar[type[MamlConfig]] = MamlTD3Config
    config: MamlTD3Config

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> TD3StageAdapter:
        """Return an adapter: MAML's own steps, then TD3 from its policy."""
        own = super().adapter(make_env, n_tasks, streams)
        return TD3StageAdapter(own, make_env, self.spec, self.config.td3_config(), streams)
