"""Bounds that learn nothing: what any method must beat.

`random` acts uniformly in [−1, 1]ᴬ; `zero` holds every actuator at 0, which for a legged robot is standing still.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from envs.api import BoolArray, FloatArray, Step
from methods.api import Adapter, MakeEnv, Policy, Spec, Streams, TrainRow


class ZeroPolicy:
    """a = 0."""

    def __init__(self, action_size: int) -> None:
        self._action_size = action_size

    def reset(self, mask: BoolArray) -> None:
        """Nothing to forget."""

    def act(self, obs: FloatArray) -> FloatArray:
        """Zeros [N, E, A]."""
        return np.zeros((*obs.shape[:2], self._action_size), np.float32)

    def observe(self, step: Step) -> None:
        """Nothing to remember."""


class RandomPolicy(ZeroPolicy):
    """a ~ U(−1, 1)ᴬ."""

    def __init__(self, action_size: int, generator: np.random.Generator) -> None:
        super().__init__(action_size)
        self._generator = generator

    def act(self, obs: FloatArray) -> FloatArray:
        """Uniform actions [N, E, A]."""
        return self._generator.uniform(-1.0, 1.0, (*obs.shape[:2], self._action_size)).astype(np.float32)


class Idle:
    """An adapter that uses no steps."""

    updates = 0

    def __init__(self, method: "Zero") -> None:
        self._method = method

    def step(self, limit: int) -> None:
        """Adapt in no way."""

    def policy(self, generator: np.random.Generator) -> Policy:
        """The bound's policy."""
        return self._method.policy(generator)

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing."""


class Zero:
    """The zero-action bound."""

    version: ClassVar[int] = 1
    meta_trains: ClassVar[bool] = False
    eval_mode: ClassVar[str] = "deterministic"

    @dataclass(frozen=True)
    class Config:
        """No settings."""

    def __init__(self, spec: Spec, config: Any) -> None:
        self.spec, self.config = spec, config

    def policy(self, generator: np.random.Generator) -> Policy:
        """Zero actions."""
        return ZeroPolicy(self.spec.action_size)

    def meta_train(self, make_env: MakeEnv, n_tasks: int, budget: int, streams: Streams) -> Iterator[TrainRow]:
        """Learn nothing."""
        yield from ()

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> Adapter:
        """An adapter that uses no steps."""
        return Idle(self)

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing."""


class Random(Zero):
    """The uniform-action bound."""

    eval_mode: ClassVar[str] = "stochastic"

    def policy(self, generator: np.random.Generator) -> Policy:
        """Uniform actions."""
        return RandomPolicy(self.spec.action_size, generator)
