"""The steps of gradient-based meta-RL: inner, outer, and those that train further on a task alone.

A policy has shared weights θ and fast weights φ, with a leading axis [N] of tasks. The inner loop
moves φ only, and begins from a `start` that depends on θ: in MAML φ is a copy of all of θ, in CAVIA
a vector of zeros in addition to it. All tasks are one batched computation; each gets its own
gradient because losses are summed over tasks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from logging import getLogger
from typing import NamedTuple

import torch
from torch import Tensor

from methods.core.nets import Params
from methods.core.policy_gradient import Outputs, Samples, mean_kl, reinforce_loss, surrogate
from methods.core.ranges import check_ranges
from methods.core.trpo import FisherProduct, Outcome, TrustRegion, flatten, trpo_step, unflatten

ADAPT = {"stage": "adapt"}  # marks settings that meta-training does not read


@dataclass(frozen=True)
class GradientConfig:
    """Settings that MAML and CAVIA share."""

    # networks
    hidden: int = 100  # units of each of the two hidden layers; official
    # experience
    episodes: int = 20  # horizons of experience in a task's batch; official
    gamma: float = 0.99  # discount γ; official MAML
    lam: float = 1.0  # λ of the advantages; official
    # inner loop
    inner_rate: float = 0.1  # α; official MAML
    inner_steps: int = 1  # gradient steps in meta-training; official
    first_order: bool = False  # whether the meta-gradient treats the inner gradient as constant
    # gradient steps on a test task in the method's own stage; ours: as many as in meta-training
    own_steps: int = field(default=1, metadata=ADAPT)
    # whether evaluated actions are drawn, as in the official code
    stochastic: bool = field(default=False, metadata=ADAPT)
    # outer step
    max_kl: float = 0.01  # δ; official
    damping: float = 1e-5  # added to the diagonal of the Fisher matrix; official
    cg_iterations: int = 10  # official
    # n: the Fisher matrix is averaged over every n-th step of the batches; official: 1
    fisher_stride: int = 1
    backtracks: int = 15  # official
    backtrack_ratio: float = 0.8  # official

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)

    @property
    def region(self) -> TrustRegion:
        """Settings of a trust-region step."""
        return TrustRegion(self.max_kl, self.cg_iterations, self.backtracks, self.backtrack_ratio)


# plausible values; anything outside is rejected as a typo
RANGES: dict[str, tuple[float, float]] = {
    "hidden": (1, 8192),
    "episodes": (1, 10_000),
    "gamma": (0.0, 1.0),
    "lam": (0.0, 1.0),
    "inner_rate": (0.0, 1000.0),
    "inner_steps": (0, 100),
    "own_steps": (0, 10_000),
    "max_kl": (1e-9, 10.0),
    "damping": (0.0, 10.0),
    "cg_iterations": (1, 1000),
    "fisher_stride": (1, 100_000),
    "backtracks": (1, 1000),
    "backtrack_ratio": (1e-3, 0.999),
}


class InnerLoop(NamedTuple):
    """The parts in which the methods differ."""

    start: Callable[[Params, int], Params]  # θ, N → φ [N, …] before the first inner step
    policy: Callable[[Params, Params, Tensor], Outputs]  # θ, φ, obs [N, B, O] → mean and log σ


def inner_step(
    learner: InnerLoop,
    theta: Params,
    phi: Params,
    batch: Samples,
    rate: float,
    differentiable: bool = False,
) -> Params:
    """Make one REINFORCE step of every task.

        φ′ = φ − α ∇_φ L(θ, φ)

    Args:
      theta: shared weights θ.
      phi: fast weights φ [N, …], which must require a gradient.
      batch: experience collected with θ and φ.
      rate: α.
      differentiable: whether the gradient itself can be differentiated; otherwise it is constant
        (first order).
    Returns:
      φ′.
    Source:
      Finn, Abbeel and Levine 2017, algorithm 3, line 6 (arXiv 1703.03400).
    """
    loss = reinforce_loss(learner.policy(theta, phi, batch.obs), batch).sum()
    gradient = torch.autograd.grad(loss, list(phi.values()), create_graph=differentiable)
    return {
        name: tensor - rate * g for (name, tensor), g in zip(phi.items(), gradient, strict=True)
    }


def adapted(
    learner: InnerLoop,
    theta: Params,
    n_tasks: int,
    batches: Sequence[Samples],
    rate: float,
    differentiable: bool = False,
) -> Params:
    """φ of N tasks after an inner step on each of `batches`; θ must require a gradient."""
    phi = learner.start(theta, n_tasks)
    for batch in batches:
        phi = inner_step(learner, theta, phi, batch=batch, rate=rate, differentiable=differentiable)
    return phi


class MetaObjective:
    """The outer problem at θ: the adapted policies' surrogate return, and how far they move.

    Args:
      learner: the method's parts.
      theta: θ.
      batches: the experience of each inner step.
      validation: experience collected with the adapted policies.
      config: settings.
    """

    def __init__(
        self,
        learner: InnerLoop,
        theta: Params,
        batches: Sequence[Samples],
        validation: Samples,
        config: GradientConfig,
    ) -> None:
        self._learner = learner
        self._batches = batches
        self._validation = validation
        self._config = config
        self.theta = leaves(theta)
        self._now = self._outputs(self.theta, differentiable=not config.first_order)
        self._before = (self._now[0].detach(), self._now[1].detach())

    def gradient(self) -> Tensor:
        """The meta-gradient [P] of the surrogate, through the inner steps."""
        gain = surrogate(self._now, self._before, self._validation).mean()
        return flatten(torch.autograd.grad(gain, list(self.theta.values()), retain_graph=True))

    def fisher(self) -> FisherProduct:
        """Fisher products in θ of the adapted policies, over the steps `fisher_stride` keeps."""
        stride = self._config.fisher_stride
        now = self._now
        if stride > 1:
            now = self._outputs(self.theta, not self._config.first_order, stride)
        return FisherProduct(now, list(self.theta.values()), damping=self._config.damping)

    def evaluate(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Surrogate and mean KL of the policies adapted from θ = `vector` [P], over all tasks."""
        pieces = unflatten(vector, list(self.theta.values()))
        outputs = self._outputs(leaves(dict(zip(self.theta, pieces, strict=True))))
        with torch.no_grad():
            gain = surrogate(outputs, self._before, self._validation).mean()
            return gain, mean_kl(self._before, outputs).mean()

    def _outputs(self, theta: Params, differentiable: bool = False, stride: int = 1) -> Outputs:
        batches = [thinned(batch, stride) for batch in self._batches]
        obs = self._validation.obs[:, ::stride]
        phi = adapted(
            self._learner,
            theta,
            len(obs),
            batches=batches,
            rate=self._config.inner_rate,
            differentiable=differentiable,
        )
        return self._learner.policy(theta, phi, obs)


def meta_step(
    learner: InnerLoop,
    theta: Params,
    batches: Sequence[Samples],
    validation: Samples,
    config: GradientConfig,
) -> tuple[Params, Outcome]:
    """Make a trust-region step of θ to raise the returns of the policies adapted from it.

    Returns:
      The new θ and the outcome of the step.
    Source:
      Finn, Abbeel and Levine 2017, algorithm 3, line 8 and section 5.3.
    """
    objective = MetaObjective(learner, theta, batches, validation, config)
    old = list(objective.theta.values())
    outcome = trpo_step(
        flatten(old).detach(),
        objective.gradient(),
        objective.fisher(),
        objective.evaluate,
        config.region,
    )
    return dict(zip(theta, unflatten(outcome.params, old), strict=True)), outcome


def task_step(
    policy: Callable[[Params, Tensor], Outputs],
    params: Params,
    batch: Samples,
    config: GradientConfig,
) -> tuple[Params, Outcome]:
    """Make a separate trust-region step for every task: plain TRPO, side by side.

    Args:
      policy: params, obs → outputs.
      params: [N, …].
      batch: experience collected with them.
      config: settings.
    """
    trained = leaves(params)
    lead = (len(batch.obs),)
    like = list(trained.values())
    now = policy(trained, batch.obs)
    before = (now[0].detach(), now[1].detach())
    gradient = torch.autograd.grad(surrogate(now, before, batch).sum(), like, retain_graph=True)

    def evaluate(vector: Tensor) -> tuple[Tensor, Tensor]:
        """Surrogate and mean KL [N] at the parameters `vector` [N, P]."""
        with torch.no_grad():
            outputs = policy(
                dict(zip(trained, unflatten(vector, like, lead), strict=True)), batch.obs
            )
            return surrogate(outputs, before, batch), mean_kl(before, outputs)

    seen = (
        now if config.fisher_stride == 1 else policy(trained, batch.obs[:, :: config.fisher_stride])
    )
    fisher = FisherProduct(seen, like, lead, config.damping)
    outcome = trpo_step(
        flatten(like, lead).detach(), flatten(gradient, lead), fisher, evaluate, config.region
    )
    if rejected := int((~outcome.accepted).sum()):
        getLogger(__name__).warning(
            "no better weights within the trust region on %d of %d tasks", rejected, *lead
        )
    return dict(zip(trained, unflatten(outcome.params, like, lead), strict=True)), outcome


def thinned(batch: Samples, stride: int) -> Samples:
    """Every `stride`-th step of a batch."""
    return Samples(*(part[:, ::stride] for part in batch))


def leaves(params: Mapping[str, Tensor]) -> Params:
    """The same values, detached, as leaves that gradients can be taken of."""
    return {name: tensor.detach().requires_grad_() for name, tensor in params.items()}
