"""Any family with the entries of observation and action in another order: isomorphic tasks, for
which there is a theoretical bound.

`load_family("permuted-<id>")` gives the permuted version of any registered family.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.api import AND, BoolArray, FloatArray, Task, TaskFamily
from envs.levels import SHIFT, shift_tasks
from envs.sealed import is_sealed, sealed_tasks

PREFIX = "permuted-"
VERSION = 1  # of the numbering of permutations; the hundreds of a permuted family's version


def permutation(k: int, what: str, size: int) -> tuple[int, ...]:
    """The k-th permutation of `size` entries of `what` ("observation" or "action"); 0 is identity.

    The entries are sorted by the SHA-256 of "k/what/entry", which does not depend on the version of
    any library.
    """
    if k == 0:
        return tuple(range(size))
    return tuple(
        sorted(range(size), key=lambda entry: sha256(f"{k}/{what}/{entry}".encode()).digest())
    )


class Permuted:
    """The family `base`, with observations o and actions a permuted in a fixed way for each task.

        o′ᵢ = o at p(i),   a′ᵢ = a at q(i)

    Entry i of the policy's observation is entry p(i) of the base's, and entry i of its action
    drives entry q(i) of the base's action. So a policy π of the base task becomes
    π′(o′) = Q π(P⁻¹ o′), with o′ = P o and a′ = Q a. This is the case of Theorem 1 of the APB paper
    (https://arxiv.org/abs/2509.22310): MDPs that are isomorphic under permutations.

    The task parameter `permutation` is a whole number k that names p and q, 0 for the identity. The
    training law and the split `id` are the base's, k = 0; the split `ood` is the base's `id` split,
    each task seen through its own k = 1 + index, shift 1.

    `kind`, like everything else, is the base's: in training, only what varies in the base varies.
    """

    isomorphic = frozenset({"permutation"})

    def __init__(self, base: TaskFamily) -> None:
        self.base = base
        self.id = PREFIX + base.id
        self.version = 100 * VERSION + base.version
        self.kind = base.kind
        self.horizon = base.horizon
        self.frame_skip = base.frame_skip
        self.observation_size = base.observation_size
        self.action_size = base.action_size
        self.law_size = base.law_size
        self.shift_axes = (*base.shift_axes, "permutation")

    def xml(self) -> Path:
        """The base's MJCF file."""
        return self.base.xml()

    def split(self, name: str) -> tuple[Task, ...]:
        """The base's `id` tasks, unpermuted (`id`) or permuted (`ood`); `shift` or sealed tasks.

        Raises:
          ValueError: if there is no such split.
        """
        if is_sealed(name):
            return sealed_tasks(self, name)
        if name == SHIFT:
            return shift_tasks(self)
        if name not in self.splits():
            raise ValueError(
                f"family {self.id} has no split {name!r}; it has {', '.join(self.splits())}"
            )
        tasks = self.base.split("id")
        if name == "id":
            return tuple(self._seen_through(0, task) for task in tasks)
        seen = (self._seen_through(1 + task.index, task) for task in tasks)
        return tuple(
            replace(task, split=name, shift=1.0, shift_axis="permutation") for task in seen
        )

    def splits(self) -> tuple[str, ...]:
        """Names of the test splits."""
        return "id", "ood"

    def sample(self, n: int, generator: np.random.Generator) -> tuple[Task, ...]:
        """`n` training tasks of the base, unpermuted."""
        return tuple(self._seen_through(0, task) for task in self.base.sample(n, generator))

    def at_shift(self, axis: str, shift: float, generator: np.random.Generator) -> Task:
        """A base task at a shift; on "permutation", the only distance is 1 and k is drawn."""
        others = AND.join(name for name in axis.split(AND) if name != "permutation")
        if not others and shift != 1.0:
            raise ValueError(f"a permutation is at distance 1 from the law, not {shift}")
        (task,) = self.base.sample(1, generator)
        if others:
            task = self.base.at_shift(others, shift, generator)
        k = 0 if others == axis else int(generator.integers(1, 2**31))
        found = self._seen_through(k, task)
        return replace(found, split="shift", index=0, shift=shift, shift_axis=axis)

    def model_fields(
        self, nominal: Mapping[str, FloatArray], params: Mapping[str, FloatArray]
    ) -> dict[str, FloatArray]:
        """The base's: a permutation does not affect the physics."""
        return self.base.model_fields(nominal, params)

    def reset_noise(self, generator: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """The base's offsets from the model's initial state."""
        return self.base.reset_noise(generator)

    def control(self, action: FloatArray, params: Mapping[str, FloatArray]) -> FloatArray:
        """The base's control, with the action's entries put back in the base's order [S, A]."""
        places = _places(params["permutation"].tobytes(), "action", self.action_size, True)
        return self.base.control(action.take(places), params)

    def observe(
        self, qpos: FloatArray, qvel: FloatArray, params: Mapping[str, FloatArray]
    ) -> FloatArray:
        """The base's observation, permuted [S, O]."""
        places = _places(
            params["permutation"].tobytes(), "observation", self.observation_size, False
        )
        return self.base.observe(qpos, qvel, params).take(places)

    def reward(
        self,
        before: FloatArray,
        qpos: FloatArray,
        qvel: FloatArray,
        action: FloatArray,
        params: Mapping[str, FloatArray],
    ) -> FloatArray:
        """The base's reward; `action` is already in the base's order."""
        return self.base.reward(before, qpos, qvel, action, params)

    def terminated(self, qpos: FloatArray, qvel: FloatArray) -> BoolArray:
        """The base's."""
        return self.base.terminated(qpos, qvel)

    def _seen_through(self, k: int, task: Task) -> Task:
        return replace(task, family=self.id, params={**task.params, "permutation": k})


# an environment asks for the same ones at every step, until it gets other tasks
@lru_cache(maxsize=64)
def _places(kinds: bytes, what: str, size: int, inverse: bool) -> NDArray[np.int64]:
    """Indices [S, size] in the flattened array that the entries are taken from; `take` with these
    is faster than along an axis.

    Args:
      kinds: float64 numbers k [S] of the permutations.
      what: "observation" or "action".
      size: number of entries of each.
      inverse: whether to undo the permutations.
    """
    numbers = np.frombuffer(kinds, np.float64)
    if not ((numbers >= 0) & (numbers % 1 == 0)).all():
        raise ValueError(
            f"a permutation must be a whole number of at least 0, got {numbers.tolist()}"
        )
    order = np.array([permutation(int(k), what, size) for k in numbers], np.int64)
    places: NDArray[np.int64] = (
        np.argsort(order, axis=1) if inverse else order
    ) + size * np.arange(len(order))[:, None]
    places.flags.writeable = False  # all callers share the cached array
    return places
