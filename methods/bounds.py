"""Bounds that learn nothing: what any method must beat.

`random` acts uniformly in [−1, 1]ᴬ; `zero` holds every actuator at 0, which for a legged robot is
standing still.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from methods.api import Adapter, Frozen, MakeEnv, Memoryless, Method, Policy, Streams


class Zero(Method):
    """The zero-action bound: a = 0."""

    version: ClassVar[int] = 1
    meta_trains: ClassVar[bool] = False
    eval_mode: str = "deterministic"

    @dataclass(frozen=True)
    class Config:
        """No settings."""

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> Adapter:
        """Return an adapter that uses no steps."""
        return Frozen(self.policy)

    def policy(self, generator: np.random.Generator) -> Policy:
        """Return a policy of zero actions."""
        return Memoryless(lambda obs: np.zeros((*obs.shape[:2], self.spec.action_size), np.float32))


class Random(Zero):
    """The uniform-action bound: a ~ U(−1, 1)ᴬ."""

    eval_mode: str = "stochastic"

    def policy(self, generator: np.random.Generator) -> Policy:
        """Return a policy of uniformly random actions."""
        size = self.spec.action_size
        return Memoryless(
            lambda obs: generator.uniform(-1.0, 1.0, (*obs.shape[:2], size)).astype(np.float32)
        )
