"""The life of a worker process of the local executor."""

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

TERMINATED = 128 + signal.SIGTERM  # exit code of a worker that was asked to end
TELL_EVERY_S = 0.2  # between two reports of progress


class Stop:
    """Whether this process was asked to end, by SIGTERM.

    Between two stages, and until a stage begins to ask, there is nothing to save, and the process
    ends at once.
    """

    def __init__(self) -> None:
        self.asked = self.heeded = False
        signal.signal(signal.SIGTERM, self._hear)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal is gone: the runner will ask

    def _hear(self, number: int, frame: Any) -> None:
        self.asked = True
        if not self.heeded:
            os._exit(TERMINATED)

    def __call__(self) -> bool:
        """Ask; from now on to `forget` the stage will be saved."""
        self.heeded = True
        return self.asked

    def forget(self) -> None:
        """The stage is over."""
        self.heeded = False
        if self.asked:
            os._exit(TERMINATED)


def serve(
    connection: Connection, store: Store, means: Means, environment: Mapping[str, str]
) -> None:
    """A worker's life, with the executor's environment variables: stages in, progress and outcomes
    out.
    """
    stop = Stop()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD - {signal.SIGINT})
    os.environ.clear()
    os.environ.update(environment)
    store.root = store.root.absolute()  # a plug-in may go to another folder
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
            """Pass on what is told, steps only now and then."""
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
    """Tell the executor; if it is gone, exit, so that the broken pipe does not fail the stage."""
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
            mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, at its largest
            mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
