"""Standard reinforcement learning: TD3 from scratch on each test task.

Every test task starts from nothing and gets its own actor, twin critics, replay and noise; the tasks run side by side only to
share the hardware. The actor is APB's composition (ρₕ, ψ, ρₜ) with the same widths, all of it trained, so that the comparison
with APB isolates what meta-training and freezing do.

Paper: Fujimoto, van Hoof and Meger 2018, "Addressing Function Approximation Error in Actor-Critic Methods" (arXiv 1802.09477).
Official code: sfujim/TD3.

Differences from the official code:
- warm-up is a number of episodes (5), because 25 000 random steps exceed our adaptation budgets;
- the last layer of the actor is initialised like every other (torch's default), as there; actions are in [−1, 1], so the
  official scaling by the largest action is the identity.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, TypeAlias

import torch

from methods.api import MakeEnv, Spec, Streams, TrainRow
from methods.core.adapt import TD3Adapter
from methods.core.nets import actor, init_actor, init_critics
from methods.core.td3 import TD3, TD3Config


class Td3:
    """TD3 on each test task alone."""

    version: ClassVar[int] = 1
    meta_trains: ClassVar[bool] = False
    eval_mode: ClassVar[str] = "deterministic"
    Config: TypeAlias = TD3Config

    def __init__(self, spec: Spec, config: TD3Config) -> None:
        self.spec, self.config = spec, config

    def meta_train(self, make_env: MakeEnv, n_tasks: int, budget: int, streams: Streams) -> Iterator[TrainRow]:
        """Nothing is learned before the test task is seen."""
        yield from ()

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> TD3Adapter:
        """Fresh networks for each of `n_tasks`, all parameters trained."""
        generator = streams.torch("init")
        return TD3Adapter(make_env(), lambda: self._learner(n_tasks, generator), self.config, streams)

    def _learner(self, n_tasks: int, generator: torch.Generator) -> TD3:
        config, (n_obs, n_act, _) = self.config, self.spec
        pi = init_actor(n_tasks, n_obs, n_act, config.hidden, config.depth, generator, backbone_lead=(n_tasks,))
        omega = init_critics(n_tasks, n_obs + n_act, config.hidden, generator)
        return TD3(partial(actor, depth=config.depth), pi, {}, omega, config)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: there is no meta-trained state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""
