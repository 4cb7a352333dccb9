"""Any family with the task's parameters added to the observations, for policies that are told their
task: what such a policy cannot do is not for lack of identifying the task.
"""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from envs.api import FloatArray, TaskFamily

_DRAWN = 1_000  # tasks drawn from the law, for the mean and deviation of its parameters
_UNTOLD = {"permutation"}  # the number of an order; its size carries no information


class Told:
    """The family `base`, with the parameters p of each task appended to its observation o.

        o′ = (o, (p − m) / d)

    m and d are the mean and standard deviation of each parameter in the training law; d = 1 for a
    parameter that does not vary. The parameters are in alphabetical order. The reward scale is not
    among them, because training tasks have none, nor is the number of a permutation.
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
        if name == "base":  # a copy that is still being made has no base yet
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
    """Return `Told` of a family, typed as a `TaskFamily`."""
    return cast(TaskFamily, Told(family))
