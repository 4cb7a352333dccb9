"""One root seed, many named random generators.

A stream is keyed by its name, not by the order of requests, so adding one never shifts another.
"""

import hashlib
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


class Streams:
    """Named generators below a root seed and a path of names.

    The entropy of stream `name` is SHA-256 of "seed/path…/name"; NumPy and torch generators of the
    same name differ, and so do the draws of a torch generator on another kind of device.

    Args:
      device: device of the torch generators, and of the learner that draws from them.
    """

    def __init__(self, seed: int, *path: str, device: str = "cpu") -> None:
        self._seed = seed
        self._path = path
        self.device = torch.device(device)
        self._given: list[np.random.Generator | torch.Generator] = []

    def child(self, name: str) -> "Streams":
        """The streams below `name`."""
        return Streams(self._seed, *self._path, name, device=str(self.device))

    def integer(self, name: str) -> int:
        """A 63-bit seed for the purpose `name`, for APIs that take an integer."""
        return self._entropy(f"int:{name}") >> 1

    def numpy(self, name: str) -> np.random.Generator:
        """A fresh NumPy generator for the purpose `name`."""
        generator = np.random.default_rng(self._entropy(f"numpy:{name}"))
        self._given.append(generator)
        return generator

    def torch(self, name: str) -> torch.Generator:
        """A fresh torch generator for the purpose `name`."""
        generator = torch.Generator(self.device)
        generator.manual_seed(self._entropy(f"torch:{name}") >> 1)
        self._given.append(generator)
        return generator

    def state_dict(self) -> dict[str, Any]:
        """States of the generators given out so far, in the order of requests."""
        torch_or_numpy = (
            g.get_state() if isinstance(g, torch.Generator) else g.bit_generator.state
            for g in self._given
        )
        return {"generators": list(torch_or_numpy)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the generators given out so far; ignore any later ones, whose owners are gone."""
        for generator, saved in zip(self._given, state["generators"], strict=False):
            if isinstance(generator, torch.Generator):
                generator.set_state(saved)
            else:
                generator.bit_generator.state = saved

    def _entropy(self, name: str) -> int:
        key = "/".join([str(self._seed), *self._path, name])
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def seed_globals(streams: Streams) -> None:
    """Seed the global generators of Python, NumPy and torch, from which a method may draw unasked.

    A plain `torch.nn.Linear` does. Our methods draw from none of them.
    """
    random.seed(streams.integer("global python"))
    np.random.seed(streams.integer("global numpy") % 2**32)
    torch.manual_seed(streams.integer("global torch"))


def globals_state() -> dict[str, Any]:
    """States of the global generators."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": torch.get_rng_state(),
    }


def load_globals_state(state: Mapping[str, Any]) -> None:
    """Restore what `globals_state` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
