"""One generator, rekeyed by name: reset noise depends on what is reset, not on earlier resets."""

from hashlib import blake2b
from typing import Any

import numpy as np


class NamedGenerator:
    """Gives the same stream for the same name; the previous stream ends when the next begins.

    Making a NumPy generator costs more than resetting a simulation, so one counter-based generator
    takes a new key each time.
    """

    def __init__(self) -> None:
        self._bits: Any = np.random.Philox(key=0)
        self._start = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def __call__(self, name: str) -> np.random.Generator:
        """Return the stream called `name`, from its beginning."""
        key = np.frombuffer(blake2b(name.encode(), digest_size=16).digest(), "<u8")
        self._bits.state = self._start | {"state": {"counter": np.zeros(4, np.uint64), "key": key}}
        return self._generator
