"""Processes that share the work of a report: they start quickly and end with their parent."""

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
    """Provide up to `jobs` processes; the first starts at once, and an error kills all of them.

    Yields None if `jobs` is below two or processes cannot start.

    Args:
      modules: those the work needs, imported once for all processes.
    """
    executor, others = None, {*active_children()}
    try:
        daemonic = current_process().daemon  # daemonic processes may not start others
        executor = _started(jobs, modules) if jobs > 1 and not daemonic else None
        yield executor
    except BaseException:
        for process in {*active_children()} - others:
            process.kill()  # one still starting would not find what it needs in its parent
        raise
    finally:
        if executor is not None:
            executor.shutdown(cancel_futures=True)
        executor = None  # else a traceback that holds this frame would keep its semaphores


class _Executor(ProcessPoolExecutor):
    """An executor that wraps `submit` in `starting`, because every call may start a process."""

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        with starting(main=False):
            return super().submit(*args, **kwargs)


def _started(jobs: int, modules: Sequence[str]) -> Executor | None:
    executor = None
    try:
        executor = _Executor(jobs, fork_context(modules), initializer=_get_ready)
        executor.submit(int)
    # no semaphores (/dev/shm is missing or read-only), or a module that cannot be imported; the
    # latter is reported where the work is done instead
    except (OSError, NotImplementedError, EOFError):
        if executor is not None:
            executor.shutdown(wait=False)
        return None
    return executor


def _get_ready() -> None:
    """Make this process end when its parent is gone, however the parent ended.

    What it has imported stays until the end, so garbage collection is told to skip it.
    """

    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD - {signal.SIGINT})

    def watch() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()
    gc.freeze()
