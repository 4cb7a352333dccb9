"""The life of a worker process of the local executor."""

import ctypes
import multiprocessing
import os
import sys
import threading
import time
from multiprocessing.connection import Connection, wait
from typing import Any

from benchmark.work import perform
from results.store import Store, StoreError

TELL_EVERY_S = 0.2  # between signs of progress


def serve(connection: Connection, store: Store, threads: int) -> None:
    """A worker's life: stages in, progress and outcomes out."""
    import torch

    threading.Thread(target=_die_with_parent, daemon=True).start()
    keep_memory()
    torch.set_num_threads(threads)
    while True:
        try:
            stage, force = connection.recv()
        except (EOFError, OSError):  # the executor has gone
            return
        told = 0.0

        def tell(used: int) -> None:
            nonlocal told
            if (now := time.monotonic()) - told > TELL_EVERY_S:
                told = now
                _send(connection, ("used", used))

        try:
            _send(connection, perform(store, stage, threads, tell, force))
        except StoreError as error:
            _send(connection, ("store", str(error)))


def _send(connection: Connection, message: tuple[str, Any]) -> None:
    """Tell the executor; if it has gone, leave at once, before the stage takes the broken pipe for a failure of its own."""
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
    """Ask glibc to reuse large blocks instead of returning them to the system, whose page faults cost a fifth of an update."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, at its largest
            mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
