"""A worker process of the local executor."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection, wait
from typing import Any

from benchmark.executors import Means
from benchmark.isolation import settle
from benchmark.stage import perform
from results.fork_server import HELD
from results.store import Store, StoreError

TERMINATED = 128 + signal.SIGTERM  # exit code of a worker that SIGTERM ended
TELL_EVERY_S = 0.2  # between two reports of progress


class Stop:
    """Tells a stage whether SIGTERM has asked this process to end.

    Between stages, and until a stage first asks, there is nothing to save, so SIGTERM ends the
    process at once.
    """

    def __init__(self) -> None:
        self.asked = self.heeded = False
        signal.signal(signal.SIGTERM, self._hear)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal closed: the executor will ask

    def _hear(self, number: int, frame: Any) -> None:
        self.asked = True
        if not self.heeded:
            os._exit(TERMINATED)

    def __call__(self) -> bool:
        """Return whether to stop; until `forget`, SIGTERM no longer ends the process at once."""
        self.heeded = True
        return self.asked

    def forget(self) -> None:
        """Note that the stage is over; end the process if it was asked to."""
        self.heeded = False
        if self.asked:
            os._exit(TERMINATED)


def serve(
    connection: Connection, store: Store, means: Means, environment: Mapping[str, str]
) -> None:
    """Run stages from `connection`, with the executor's environment variables; send back progress
    and outcomes.
    """
    stop = Stop()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD - {signal.SIGINT})
    os.environ.clear()
    os.environ.update(environment)
    store.root = store.root.absolute()  # a plug-in may change the working folder
    import torch

    threading.Thread(target=_die_with_parent, daemon=True).start()
    keep_memory()
    settle()
    torch.set_num_threads(means.threads)
    while True:
        try:
            stage, force = connection.recv()
        except (EOFError, OSError):  # the executor has gone
            return
        told = 0.0

        def tell(kind: str, value: Any) -> None:
            """Pass on a progress event; steps at most every `TELL_EVERY_S`."""
            nonlocal told
            now = time.monotonic()
            if kind == "used" and now - told <= TELL_EVERY_S:
                return
            told = now
            _send(connection, (kind, value))

        try:
            _send(
                connection,
                perform(
                    store,
                    stage,
                    means.threads,
                    tell=tell,
                    force=force,
                    stop=stop,
                    save_every_s=means.save_every_s,
                    device=means.device,
                ),
            )
        except StoreError as error:
            _send(connection, ("store", error))
        stop.forget()


def _send(connection: Connection, message: tuple[str, Any]) -> None:
    """Send to the executor; if it is gone, exit, lest the broken pipe fail the stage."""
    try:
        connection.send(message)
    except OSError:
        os._exit(1)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def keep_memory() -> None:
    """Make glibc reuse large blocks: page faults on fresh ones cost a fifth of an update."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, at its maximum
            mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
