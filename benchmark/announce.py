"""Who is at a stage, and how far: written beside the cell-to-be, for those who ask for the status.

A claim is a lock, which the kernel frees when its process dies. What is written here says more, and
stays when a process dies, so that a lost stage can be told from one that waits. Nothing depends on
it: where it cannot be written, a stage goes on without.
"""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from benchmark.kept import Kept
from results.store import CellKey, Store, StoreError

EVERY_S = 5.0  # between two reports


class Announcer:
    """Passes on what a stage tells, and writes down how far it is.

    Args:
      key: of the cell, which this process has claimed.
      stage: what it is called.
      steps: that it may use.
      tell: what it is passed on to, as `stage.perform` calls it.
    """

    def __init__(
        self,
        store: Store,
        key: CellKey,
        stage: str,
        steps: int,
        tell: Callable[[str, Any], None] = lambda kind, value: None,
    ) -> None:
        self._store = store
        self._key = key
        self._tell = tell
        self._next = 0.0
        self._said: dict[str, Any] = {
            "stage": stage,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": time.time(),
            "steps": steps,
            "used": 0,
            "began_at": 0,  # steps that earlier processes did
            "saved": None,
        }
        self.write()

    def __call__(self, kind: str, value: Any) -> None:
        """As `perform`'s `tell`."""
        self._tell(kind, value)
        if kind == "used":
            self._said["used"] = value
            if time.monotonic() < self._next:
                return
        elif kind in ("kept", "resumed") and isinstance(value, Kept):
            self._said["saved"] = value.env_steps
            if kind == "resumed":
                self._said |= {"used": value.env_steps, "began_at": value.env_steps}
        else:
            return
        self.write()

    def begin(self, host: str, pid: int) -> None:
        """A process has taken it up, perhaps elsewhere."""
        self._said |= {"host": host, "pid": pid, "since": time.time()}
        self.write()

    def write(self) -> None:
        """Write down how far it is."""
        self._next = time.monotonic() + EVERY_S
        with suppress(StoreError):
            self._store.announce(self._key, {**self._said, "at": time.time()})

    def withdraw(self) -> None:
        """Nobody is at the stage any more."""
        withdraw(self._store, self._key)


def withdraw(store: Store, key: CellKey) -> None:
    """Remove what was said of a stage, if that can be."""
    with suppress(StoreError):
        store.announce(key, None)
