"""Processes that share the work of a report: ready in a moment, and gone with their parent."""

import gc
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import parent_process
from threading import Thread

from results.fork_server import HELD, fork_context, starting


@contextmanager
def processes(jobs: int, modules: Sequence[str]) -> Iterator[Executor | None]:
    """`jobs` processes, started at once; None for fewer than two, and where they cannot start.

    On an error nothing is waited for.

    Args:
      modules: what the work needs, imported once for all processes.
    """
    executor = None
    try:
        if jobs > 1:
            executor = ProcessPoolExecutor(jobs, fork_context(modules), initializer=_get_ready)
            with starting():
                executor.submit(int)
    # no semaphores (/dev/shm is missing or read-only), or a module that cannot be imported, which
    # whoever does the work here will be told
    except (OSError, NotImplementedError, EOFError):
        if executor is not None:
            executor.shutdown(wait=False)
            executor = None
    if executor is None:
        yield None
        return
    try:
        with executor:
            try:
                yield executor
            except BaseException:
                executor.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        executor = None  # lest its semaphores live on with this frame, in a traceback


def _get_ready() -> None:
    """Make this process end when its parent is gone, however the parent ended.

    What it has imported lives as long, so that no search for garbage need walk it.
    """

    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD - {signal.SIGINT})

    def watch() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()
    gc.freeze()
