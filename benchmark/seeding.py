"""One root seed, many named random generators.

A stream is keyed by its name, not by the order of asking, so adding one never shifts another.
"""

import hashlib

import numpy as np
import torch


class Streams:
    """Named generators below a root seed and a path of names.

    The entropy of stream `name` is SHA-256 of "seed/path…/name"; NumPy and torch generators of one name differ.
    """

    def __init__(self, seed: int, *path: str) -> None:
        self._seed, self._path = seed, path

    def child(self, name: str) -> "Streams":
        """The streams below `name`."""
        return Streams(self._seed, *self._path, name)

    def integer(self, name: str) -> int:
        """A 63-bit seed for the purpose `name`, for what takes an integer."""
        return self._entropy(f"int:{name}") >> 1

    def numpy(self, name: str) -> np.random.Generator:
        """A fresh NumPy generator for the purpose `name`."""
        return np.random.default_rng(self._entropy(f"numpy:{name}"))

    def torch(self, name: str) -> torch.Generator:
        """A fresh CPU torch generator for the purpose `name`."""
        return torch.Generator().manual_seed(self._entropy(f"torch:{name}") >> 1)

    def _entropy(self, name: str) -> int:
        key = "/".join([str(self._seed), *self._path, name])
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
