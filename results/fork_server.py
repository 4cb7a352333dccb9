"""Processes that are ready in a moment: on Linux, forked from one that has imported what they need.

Importing torch takes seconds, which each spawned process would pay anew. The server imports and
does nothing else: it has no threads that a fork would lose, and has computed nothing.
"""

import multiprocessing
import os
import signal
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext
from pathlib import Path

READY = ("benchmark.ready",)  # what processes that run stages need
_ROOT = Path(__file__).parents[1]
# for whoever started the server to decide on; a terminal that closes signals all it has started
HELD = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def fork_context(modules: Sequence[str]) -> BaseContext:
    """How to start processes that need `modules`; the first call in a process says which."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")  # libraries there may not survive a fork
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*modules])
    return context


def prepare(modules: Sequence[str]) -> None:
    """Let the server begin to import, while this process goes on."""
    # whatever is wrong is met again, and told, when a process is to start
    with suppress(OSError), starting():
        if fork_context(modules).get_start_method() == "forkserver":
            forkserver.ensure_running()


@contextmanager
def starting() -> Iterator[None]:
    """Hold `HELD` back for a block that starts processes; those that are forked never hear of them,
    until they unblock them.

    The server takes this program's packages from where they are here, and looks for no others in
    the current folder.
    """
    resource_tracker.ensure_running()  # its start would let signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        with _environment():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment() -> Iterator[None]:
    installed = {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")}
    paths = [] if _ROOT in installed else [str(_ROOT)]
    wanted = {
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update({name: value for name, value in wanted.items() if value})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is not None:
                os.environ[name] = value
            else:
                os.environ.pop(name, None)
