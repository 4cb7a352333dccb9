"""Processes that are ready in a moment: on Linux, forked from one that has imported what they need.

Importing torch takes seconds, which each spawned process would pay anew. The server imports and
does nothing else. The threads that this starts, of libraries for memory and linear algebra, are
known to survive a fork.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from types import ModuleType

_ROOT = str(Path(__file__).parents[1])
READY = ("benchmark.ready",)  # what processes that run stages need
# for whoever started the server to decide on; a terminal that closes signals all it has started
HELD = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_ONE = threading.RLock()  # threads that start processes change what belongs to all of them
UNGUARDED = 171  # exit code of a process whose import of the calling script calls the program again


def fork_context(modules: Sequence[str]) -> SpawnContext | ForkServerContext:
    """How to start processes that need `modules`; the first call in a process says which."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")  # libraries there may not survive a fork
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*modules])
    try:
        with starting(main=False):
            forkserver.ensure_running()  # it begins to import, while this process goes on
    except OSError:  # such as a folder for temporary files whose name is too long for a socket
        return multiprocessing.get_context("spawn")
    return context


def dismiss() -> None:
    """End the server of this process, if there is one: nothing more is to be started.

    It would end by itself, but not before it has imported all, and holds standard output until
    then.
    """
    if pid := getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def starting(*, main: bool) -> Iterator[None]:
    """Hold `HELD` back for a block that starts processes; those that are forked never hear of them,
    until they unblock them.

    The server looks for modules where this process does, but not in the current folder.

    Args:
      main: whether they import the main module, which may define a method, if it is a file.
    """
    with _ONE:
        resource_tracker.ensure_running()  # its start would let signals through again
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        try:
            # a parent may have blocked it, and the server would never hear of a process that ends
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            with _environment(), nullcontext() if main and has_file() else _no_main_module():
                yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def has_file() -> bool:
    """Whether the main module is one that others can import, not standard input or a notebook."""
    main = sys.modules["__main__"]
    return bool(main.__spec__) or os.path.isfile(getattr(main, "__file__", None) or "")


@contextmanager
def _no_main_module() -> Iterator[None]:
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _environment() -> Iterator[None]:
    try:
        here = os.getcwd()
    except OSError:  # it was deleted
        here = ""
    places = [
        place for place in sys.path if place == _ROOT or (os.path.isabs(place) and place != here)
    ]
    if _ROOT not in places:
        places.insert(0, _ROOT)
    wanted = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(places)}
    # Threads of OpenMP spin while they wait for each other, on cores that others may need: two
    # threads beside two busy processes were 30 times slower than with so short a spin, which costs
    # nothing on an idle machine. Read when a process loads OpenMP.
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & {*os.environ}:
        wanted["GOMP_SPINCOUNT"] = "1000"
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is not None:
                os.environ[name] = value
            else:
                os.environ.pop(name, None)
