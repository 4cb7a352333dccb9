"""Processes that share the work of a report: ready in a moment, and gone with their parent."""

import gc
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, current_process, parent_process
from threading import Thread
from typing import Any

from results.fork_server import HELD, fork_context, starting


@contextmanager
def processes(jobs: int, modules: Sequence[str]) -> Iterator[Executor | None]:
    """Up to `jobs` processes, the first started at once; killed on an error.

    None for fewer than two, and where they cannot start.

    Args:
      modules: what the work needs, imported once for all processes.
    """
    executor, others = None, {*active_children()}
    try:
        daemonic = current_process().daemon  # which may not start processes
        executor = _started(jobs, modules) if jobs > 1 and not daemonic else None
        yield executor
    except BaseException:
        for process in {*active_children()} - others:
            process.kill()  # one that only begins would not find what it needs of this one
        raise
    finally:
        if executor is not None:
            executor.shutdown(cancel_futures=True)
        executor = None  # lest its semaphores live on with this frame, in a traceback


class _Executor(ProcessPoolExecutor):
    """Starts its processes inside `submit`, so that every call needs `starting`."""

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        with starting(main=False):
            return super().submit(*args, **kwargs)


def _started(jobs: int, modules: Sequence[str]) -> Executor | None:
    executor = None
    try:
        executor = _Executor(jobs, fork_context(modules), initializer=_get_ready)
        executor.submit(int)
    # no semaphores (/dev/shm is missing or read-only), or a module that cannot be imported, which
    # whoever does the work here will be told
    except (OSError, NotImplementedError, EOFError):
        if executor is not None:
            executor.shutdown(wait=False)
        return None
    return executor


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
