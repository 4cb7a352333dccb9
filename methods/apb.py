"""APB: a shared nonlinear backbone between two linear layers that each task learns for itself.

The policy of task i is π(s) = tanh(ρₜᵢ ψ(ρₕᵢ s)): its own linear layers ρₕᵢ and ρₜᵢ before and
after a backbone ψ that all tasks share. Each task also has its own twin critics ωᵢ. Meta-training
updates all of them, ψ with the gradient aggregated over the sampled tasks. On a test task ψ is
frozen and ρₕ, ρₜ, ω are learned from scratch, so adaptation searches only linear maps around the
shared backbone.

Paper: Park and Lee 2025, "Adaptive Policy Backbone via Shared Network" (arXiv 2509.22310). There is
no public code, and widths, intervals and budgets are not public: the structure is the paper's,
every number in `Config` is ours.

Its ablations are in this module too. Each changes one thing:
- `apb-random`: ψ is random, drawn per seed and test split, and there is no meta-training;
- `apb-pre`, `apb-post`: a task owns only ρₕ, or only ρₜ; the other layer belongs to the shared
  network and is frozen with it;
- `apb-none`: a task owns no layer, so adaptation changes no weight of the actor; this shows what
  meta-training alone is worth;
- `apb-unfrozen`: keeps training the backbone that `apb` meta-trained, one copy per test task,
  together with fresh ρₕ, ρₜ, ω;
- `apb-reset`: redraws ρₕ, ρₜ, ω periodically, as the paper does;
- `apb-evolve`, `apb-evolve-random`: explore with a population of perturbed (ρₕ, ρₜ) around the
  meta-trained backbone, or around a random one.

Differences from the paper, or choices it leaves open:
- the losses are TD3's (twin critics, delayed actor updates, target smoothing), as in the paper's
  action-space protocol; critics are plain networks, one pair per task, in meta-training as in
  adaptation;
- ψ begins with its nonlinearity (`activate_first`), so with depth 1 the actor is TD3's usual one
  with two hidden layers;
- a fresh ρₜ has `head_scale` times torch's default scale, which determines the return before any
  adaptation (b = 0);
- "aggregated" means summed over tasks; with Adam the scale does not matter;
- exploration is Gaussian action noise; the evolutionary search over (ρₕ, ρₜ), the paper's other
  protocol, is `apb-evolve`, whose details are ours (methods/core/evolve.py);
- resets are left to `apb-reset`, because within our budgets they cost more than they gain. A reset
  redraws the task's own layers and ω, restarts their optimisers and targets, and keeps the replay;
  one due in the last tenth of the steps to an evaluation is postponed until after it.

Read on in: methods/core/td3.py, methods/core/adapt.py, methods/core/evolve.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from methods.api import Adapter, Frozen, MakeEnv, Method, Spec, Streams, Trainer
from methods.core.adapt import TD3Adapter, TD3Loop, TD3Trainer, memoryless
from methods.core.evolve import EvolvingAdapter, PopulationConfig
from methods.core.nets import LAYERS, Params, actor, init_actor, init_critics, spread
from methods.core.ranges import check_ranges
from methods.core.td3 import TD3, TD3Config


@dataclass(frozen=True)
class ApbConfig(TD3Config):
    """Settings that APB adds to TD3's; all ours."""

    activate_first: bool = True  # whether a ReLU follows ρₕ
    head_scale: float = 1.0  # scale of a fresh ρₜ, as a multiple of torch's default
    linear_rate: float = 1.0  # learning rate of ρₕ and ρₜ, as a multiple of `learning_rate`

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth < 1:
            raise ValueError(
                f"depth must be at least 1, not {self.depth}: without a layer there is no backbone"
                " to share"
            )
        check_ranges(self, {"head_scale": (0.0, 1000.0), "linear_rate": (1e-6, 1e6)})


@dataclass(frozen=True)
class ApbResetConfig(ApbConfig):
    """Settings that `apb-reset` adds to APB's."""

    # environment steps per test task between resets of ρₕ, ρₜ, ω
    reset_period: int = field(default=30_000, metadata={"stage": "adapt"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, {"reset_period": (1, 10**9)})


@dataclass(frozen=True)
class ApbEvolveConfig(ApbConfig, PopulationConfig):
    """Settings of `apb-evolve`: APB's and the population's."""


class Apb(Method):
    """APB with a meta-trained backbone."""

    version: ClassVar[int] = 2  # 2: the trained state may hold more than the backbone
    meta_trains: ClassVar[bool] = True
    eval_mode: str = "deterministic"
    space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "learning_rate": (3e-4, 1e-3, 2e-3),
        "depth": (1, 2, 3),
        "head_scale": (0.1, 1.0),
        "linear_rate": (0.3, 1.0, 3.0),
        "exploration_noise": (0.1, 0.2, 0.3),
        "tau": (0.005, 0.02),
    }
    Config: ClassVar[type[ApbConfig]] = ApbConfig
    config: ApbConfig
    # layers that each task owns; the others are shared
    own: ClassVar[tuple[str, ...]] = ("rho_h", "rho_t")

    def __init__(self, spec: Spec, config: ApbConfig) -> None:
        self.spec = spec
        self.config = config
        # the backbone ψ and any layer that is not `own`; empty until meta-trained or loaded
        self.shared: Params = {}
        # the training tasks' own layers [n_tasks, …], kept for analysis; no test task sees them
        self.rho: Params = {}

    # Meta-training: every ρₕᵢ, ρₜᵢ, ωᵢ and ψ

    def trainer(self, make_env: MakeEnv, n_tasks: int, budget: int, streams: Streams) -> Trainer:
        """Return a trainer that runs TD3 on `n_tasks` tasks at once, one update per step."""
        env = make_env()
        generator = streams.torch("init")
        pi = self._draw(
            {layer: (n_tasks,) if layer in self.own else () for layer in LAYERS}, generator
        )
        learner = self._learner(pi, {}, self._critics(n_tasks, generator))
        return TD3Trainer(TD3Loop(env, learner, self.config, streams), self._keep)

    def _keep(self, pi: Params) -> None:
        self.rho = {name: tensor for name, tensor in pi.items() if name.startswith(self.own)}
        self.shared = {name: tensor for name, tensor in pi.items() if name not in self.rho}

    # Adaptation: ψ frozen, ρₕ, ρₜ, ω from scratch

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> Adapter:
        """Return an adapter with fresh layers and critics per task around the frozen backbone."""
        return self._adapter(make_env, n_tasks, streams)

    def _adapter(
        self, make_env: MakeEnv, n_tasks: int, streams: Streams, reset_period: int = 0
    ) -> Adapter:
        return TD3Adapter(
            make_env(),
            self._adapting(n_tasks, streams),
            self.config,
            streams=streams,
            fresh=partial(self._fresh, n_tasks),
            reset_period=reset_period,
        )

    def _adapting(self, n_tasks: int, streams: Streams) -> TD3:
        rho, omega = self._fresh(n_tasks, streams.torch("init"))
        return self._learner(rho, self._frozen(streams), omega)

    def _fresh(self, n_tasks: int, generator: torch.Generator) -> tuple[Params, Params]:
        """Draw what a test task starts with, also after a reset: its own layers and its critics."""
        return self._draw(dict.fromkeys(self.own, (n_tasks,)), generator), self._critics(
            n_tasks, generator
        )

    def _frozen(self, streams: Streams) -> Params:
        """Return the actor's parameters that adaptation does not change."""
        return self._meta_trained()

    def _meta_trained(self) -> Params:
        if not self.shared:
            raise RuntimeError(
                "APB has no backbone yet: finish a trainer or call load_state_dict before adapter"
            )
        return self.shared

    def _draw(self, lead: Mapping[str, tuple[int, ...]], generator: torch.Generator) -> Params:
        config, (n_obs, n_act, *_) = self.config, self.spec
        return init_actor(
            n_obs,
            n_act,
            config.hidden,
            depth=config.depth,
            lead=lead,
            generator=generator,
            head_scale=config.head_scale,
        )

    def _critics(self, n_tasks: int, generator: torch.Generator) -> Params:
        return init_critics(
            n_tasks,
            self.spec.observation_size + self.spec.action_size,
            self.config.hidden,
            generator,
        )

    def _learner(self, pi: Params, frozen: Params, omega: Params) -> TD3:
        config = self.config
        linear = [name for name in pi if name.startswith(("rho_h", "rho_t"))]
        rates = dict.fromkeys(linear, config.linear_rate * config.learning_rate)
        return TD3(self._actor(), pi, frozen, omega=omega, config=config, rates=rates)

    def _actor(self) -> partial[Tensor]:
        return partial(actor, depth=self.config.depth, activate_first=self.config.activate_first)

    def state_dict(self) -> dict[str, Any]:
        """Return the shared network, where adaptation starts, and the training tasks' layers."""
        return {"shared": self.shared, "rho": self.rho}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.shared = dict(state["shared"])
        self.rho = dict(state.get("rho", {}))  # published states of version 2 may lack it


class ApbRandom(Apb):
    """APB whose backbone stays as it was drawn: what is left when meta-training is taken away."""

    version: ClassVar[int] = 1
    meta_trains: ClassVar[bool] = False

    def _frozen(self, streams: Streams) -> Params:
        return self._draw({"psi": ()}, streams.torch("backbone"))


class ApbPre(Apb):
    """APB with a layer before the backbone only; the one after it is shared and frozen."""

    own: ClassVar[tuple[str, ...]] = ("rho_h",)


class ApbPost(Apb):
    """APB with a layer after the backbone only; the one before it is shared and frozen."""

    own: ClassVar[tuple[str, ...]] = ("rho_t",)


class ApbNone(Apb):
    """APB with only shared layers: one task-blind actor that adaptation leaves unchanged."""

    own: ClassVar[tuple[str, ...]] = ()

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> Adapter:
        """Return an adapter that uses the meta-trained actor unchanged on every task."""
        act = partial(self._actor(), self._meta_trained())
        return Frozen(lambda generator: memoryless(act, streams.device))


class ApbUnfrozen(Apb):
    """APB that keeps training its meta-trained backbone on the test task, a copy per task."""

    trained_by: ClassVar[str] = "apb"

    def _fresh(self, n_tasks: int, generator: torch.Generator) -> tuple[Params, Params]:
        rho, omega = super()._fresh(n_tasks, generator)
        return rho | spread(self._meta_trained(), n_tasks), omega

    def _frozen(self, streams: Streams) -> Params:
        return {}


class ApbReset(Apb):
    """APB that draws the task's own parameters anew from time to time."""

    trained_by: ClassVar[str] = "apb"
    Config: ClassVar[type[ApbResetConfig]] = ApbResetConfig
    config: ApbResetConfig

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> Adapter:
        """Return APB's adapter, with periodic resets."""
        return self._adapter(make_env, n_tasks, streams, self.config.reset_period)


class ApbEvolve(Apb):
    """APB that explores with a population of perturbed linear layers."""

    version: ClassVar[int] = 1
    trained_by: ClassVar[str] = "apb"
    Config: ClassVar[type[ApbEvolveConfig]] = ApbEvolveConfig
    config: ApbEvolveConfig

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> Adapter:
        """Return an adapter that explores with a population for each task."""
        return EvolvingAdapter(make_env, self._adapting(n_tasks, streams), self.config, streams)


class ApbEvolveRandom(ApbEvolve, ApbRandom):
    """APB that explores with a population, around a random backbone that is never trained."""

    trained_by: ClassVar[str] = ""
    meta_trains: ClassVar[bool] = False
