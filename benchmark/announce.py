"""Announces who runs a stage and how far it is, in the cell's folder, for the command `status`.

A claim is a lock, which the kernel frees when its process dies. An announcement says more and
outlives the process, so that a lost stage can be told from a waiting one. Nothing depends on it: if
it cannot be written, the stage goes on without it.
"""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from benchmark.kept import Kept
from results.store import CellKey, Store, StoreError

EVERY_S = 5.0  # between two announcements


class Announcer:
    """Passes on the progress events of a stage, and announces how far it is.

    Args:
      key: the stage's key; this process holds the claim.
      stage: the stage's name.
      steps: environment steps that the stage may use.
      tell: callback that events are passed on to, as in `stage.perform`.
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
            "began_at": 0,  # steps done by earlier processes
            "saved": None,
        }
        self.write()

    def __call__(self, kind: str, value: Any) -> None:
        """Handle an event, as the `tell` of `stage.perform`."""
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
        """Announce that a process, perhaps on another host, has begun to run the stage."""
        self._said |= {"host": host, "pid": pid, "since": time.time()}
        self.write()

    def write(self) -> None:
        """Write the announcement, if that is possible."""
        self._next = time.monotonic() + EVERY_S
        with suppress(StoreError):
            self._store.announce(self._key, {**self._said, "at": time.time()})

    def withdraw(self) -> None:
        """Remove the announcement: the stage is no longer being run."""
        withdraw(self._store, self._key)


def withdraw(store: Store, key: CellKey) -> None:
    """Remove the announcement of a stage, if that is possible."""
    with suppress(StoreError):
        store.announce(key, None)
