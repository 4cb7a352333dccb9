"""Any family whose observations also hold the task's parameters, for policies that are told their
task: what they cannot do is not for want of finding out.
"""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from envs.api import FloatArray, TaskFamily

_DRAWN = 1_000  # tasks of the law, to tell how its parameters lie
_UNTOLD = {"permutation"}  # a number of an order, whose size says nothing


class Told:
    """The family `base`, with the parameters p of each task behind its observation o.

        o′ = (o, (p − m) / d)

    m and d are mean and standard deviation of each parameter in the training law, d = 1 for one
    that does not vary. The parameters stand in alphabetical order. A reward scale is not among
    them, as training tasks have none, nor is the number of a permutation.
    """

    def __init__(self, base: TaskFamily) -> None:
        self.base = base
        drawn = base.sample(_DRAWN, np.random.default_rng(0))
        self._names = sorted(drawn[0].params.keys() - _UNTOLD)
        values = np.array([[task.params[name] for name in self._names] for task in drawn])
        deviation = values.std(axis=0)
        self._mean, self._deviation = values.mean(axis=0), np.where(deviation > 0, deviation, 1.0)
        self.observation_size = base.observation_size + len(self._names)

    def __getattr__(self, name: str) -> Any:  # everything else is the base's
        if name == "base":  # a copy that is being made has none yet
            raise AttributeError(name)
        return getattr(self.base, name)

    def observe(
        self, qpos: FloatArray, qvel: FloatArray, params: Mapping[str, FloatArray]
    ) -> FloatArray:
        """The base's observation and the parameters [S, O + P]."""
        values = np.stack([params[name] for name in self._names], axis=1)
        told = (values - self._mean) / self._deviation
        obs = self.base.observe(qpos, qvel, params)
        return np.concatenate((obs, told), axis=1, dtype=np.float32)


def told(family: TaskFamily) -> TaskFamily:
    """`Told` of a family, for the type checker a family as any other."""
    return cast(TaskFamily, Told(family))
