"""APB: a shared nonlinear backbone between two linear layers that each task learns for itself.

The policy of task i is π(s) = tanh(ρₜᵢ ψ(ρₕᵢ s)): a linear layer ρₕᵢ before and one ρₜᵢ after a backbone ψ that all tasks
share, with twin critics ωᵢ of its own. Meta-training moves everything, ψ on the gradient aggregated over the sampled tasks. On
a test task ψ is frozen and ρₕ, ρₜ, ω are learned from scratch, so that adaptation searches only linear maps around what was
shared.

Paper: Park and Lee 2025, "Adaptive Policy Backbone via Shared Network" (arXiv 2509.22310). There is no public code, and widths,
intervals and budgets are not public: the structure is the paper's, every number in `Config` is ours.

Differences from the paper, or choices it leaves open:
- the losses are TD3's (twin critics, delayed and smoothed), as in the paper's action-space protocol; critics are plain and
  belong to the task, in meta-training as in adaptation;
- ψ begins with its nonlinearity (`activate_first`), so that with depth 1 the actor is TD3's usual one of two hidden layers;
- a fresh ρₜ has `head_scale` times torch's default scale, which decides the return before any adaptation (b = 0);
- "aggregated" is the sum over tasks; Adam makes the scale immaterial;
- exploration is Gaussian action noise; the evolutionary search over (ρₕ, ρₜ) is not implemented;
- a periodic reset draws ρₕ, ρₜ, ω and their optimisers and targets anew, keeps replay, and waits where it would fall in the
  last tenth before an evaluation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from methods.api import MakeEnv, Spec, Streams, TrainRow
from methods.core.adapt import TD3Adapter, TD3Loop
from methods.core.nets import Params, actor, init_actor, init_backbone, init_critics
from methods.core.td3 import TD3, TD3Config


@dataclass(frozen=True)
class ApbConfig(TD3Config):
    """Settings of APB beside TD3's; all ours."""

    activate_first: bool = True  # whether a ReLU follows ρₕ
    head_scale: float = 1.0  # scale of a fresh ρₜ, in units of torch's default
    # environment steps of a test task between resets of ρₕ, ρₜ, ω; 0 for none
    reset_period: int = field(default=0, metadata={"stage": "adapt"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth < 1:
            raise ValueError(f"depth must be at least 1, not {self.depth}: without a layer there is no backbone to share")
        if not 0.0 <= self.head_scale <= 1000.0 or not 0 <= self.reset_period <= 10**9:
            raise ValueError("head_scale must be from 0 to 1000 and reset_period from 0 to 1000000000")


class Apb:
    """APB with a meta-trained backbone."""

    version: ClassVar[int] = 1
    meta_trains: ClassVar[bool] = True
    eval_mode: ClassVar[str] = "deterministic"
    Config: ClassVar[type[ApbConfig]] = ApbConfig

    def __init__(self, spec: Spec, config: ApbConfig) -> None:
        self.spec, self.config = spec, config
        self.psi: Params = {}  # the backbone; empty until meta-trained or loaded

    # Meta-training: every ρₕᵢ, ρₜᵢ, ωᵢ and ψ

    def meta_train(self, make_env: MakeEnv, n_tasks: int, budget: int, streams: Streams) -> Iterator[TrainRow]:
        """TD3 on `n_tasks` tasks at once, one update per step, `budget` environment steps summed over them."""
        env, generator = make_env(), streams.torch("init")
        config, (n_obs, n_act, horizon) = self.config, self.spec
        pi = init_actor(n_tasks, n_obs, n_act, config.hidden, config.depth, generator, config.head_scale)
        omega = init_critics(n_tasks, n_obs + n_act, config.hidden, generator)
        loop = TD3Loop(env, TD3(self._actor(), pi, {}, omega, config), config, streams)
        for step in range(1, budget // n_tasks + 1):
            loop.step()
            if step % horizon == 0:
                yield TrainRow(loop.learner.updates)
        self.psi = backbone(loop.learner.pi)

    # Adaptation: ψ frozen, ρₕ, ρₜ, ω from scratch

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> TD3Adapter:
        """Fresh linear layers and critics for each of `n_tasks` around the frozen backbone."""
        rho, omega = self._fresh(n_tasks, streams.torch("init"))
        learner = TD3(self._actor(), rho, self._backbone(streams), omega, self.config)
        fresh = partial(self._fresh, n_tasks)
        return TD3Adapter(make_env(), learner, self.config, streams, fresh, self.config.reset_period)

    def _fresh(self, n_tasks: int, generator: torch.Generator) -> tuple[Params, Params]:
        config, (n_obs, n_act, _) = self.config, self.spec
        rho = init_actor(n_tasks, n_obs, n_act, config.hidden, 0, generator, config.head_scale)  # no backbone: it is given
        return rho, init_critics(n_tasks, n_obs + n_act, config.hidden, generator)

    def _backbone(self, streams: Streams) -> Params:
        if not self.psi:
            raise RuntimeError("APB has no backbone yet: run meta_train or load_state_dict before adapter")
        return self.psi

    def _actor(self) -> partial[Tensor]:
        return partial(actor, depth=self.config.depth, activate_first=self.config.activate_first)

    def state_dict(self) -> dict[str, Any]:
        """The backbone: nothing else of meta-training reaches a test task."""
        return {"psi": self.psi}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.psi = dict(state["psi"])


class ApbRandom(Apb):
    """APB whose backbone stays as it was drawn: what is left when meta-training is taken away."""

    meta_trains: ClassVar[bool] = False

    def _backbone(self, streams: Streams) -> Params:
        return init_backbone((), self.config.hidden, self.config.depth, streams.torch("backbone"))


def backbone(params: Params) -> Params:
    """A frozen copy of ψ's tensors out of an actor's."""
    return {name: tensor.detach().clone() for name, tensor in params.items() if name.startswith("psi")}
