"""Standard reinforcement learning: TD3 from scratch on each test task.

Every test task starts from scratch with its own actor, twin critics, replay and noise; the tasks
run side by side only to share the hardware. The actor is APB's composition (ρₕ, ψ, ρₜ) with the
same widths, all of it trained, so that the comparison with APB isolates the effect of meta-training
and freezing. `td3-evolve` explores with a population of perturbed actors instead of action noise
alone, for comparison with `apb-evolve`.

Paper: Fujimoto, van Hoof and Meger 2018, "Addressing Function Approximation Error in Actor-Critic
Methods" (arXiv 1802.09477). Official code: sfujim/TD3.

Differences from the official code:
- warm-up is a number of episodes (5), because 25 000 random steps exceed our adaptation budgets;
- a termination in the last step before the time limit counts as a termination; in the official
  code it counts as a time-out;
- budgets change some settings (`benchmark/suites.py`): smoke and quick have a smaller γ, faster
  learning and more exploration noise, desk faster learning and a deeper actor; all three have
  narrower networks and smaller batches.

Read on in: methods/core/td3.py, methods/core/adapt.py, methods/core/evolve.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeAlias

from methods.api import Adapter, MakeEnv, Method, Streams
from methods.core.adapt import TD3Adapter
from methods.core.evolve import EvolvingAdapter, PopulationConfig
from methods.core.nets import LAYERS, actor, init_actor, init_critics
from methods.core.td3 import TD3, TD3Config


@dataclass(frozen=True)
class Td3EvolveConfig(PopulationConfig):
    """Settings of `td3-evolve`."""


class Td3(Method):
    """TD3 on each test task alone."""

    version: ClassVar[int] = 1
    meta_trains: ClassVar[bool] = False
    eval_mode: str = "deterministic"
    space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "learning_rate": (3e-4, 1e-3, 2e-3),
        "depth": (1, 2),
        "exploration_noise": (0.1, 0.2, 0.3),
        "tau": (0.005, 0.02),
    }
    Config: TypeAlias = TD3Config
    config: TD3Config

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> Adapter:
        """Return an adapter that trains all parameters of fresh networks for each of `n_tasks`."""
        return TD3Adapter(make_env(), self._learner(n_tasks, streams), self.config, streams)

    def _learner(self, n_tasks: int, streams: Streams) -> TD3:
        config, (n_obs, n_act, *_), generator = self.config, self.spec, streams.torch("init")
        pi = init_actor(
            n_obs,
            n_act,
            config.hidden,
            depth=config.depth,
            lead=dict.fromkeys(LAYERS, (n_tasks,)),
            generator=generator,
        )
        omega = init_critics(n_tasks, n_obs + n_act, config.hidden, generator)
        return TD3(partial(actor, depth=config.depth), pi, {}, omega, config)


class Td3Evolve(Td3):
    """TD3 that explores with a population of perturbed actors."""

    Config: TypeAlias = Td3EvolveConfig
    config: Td3EvolveConfig

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> Adapter:
        """Return an adapter that explores with a population for each task."""
        return EvolvingAdapter(make_env, self._learner(n_tasks, streams), self.config, streams)
