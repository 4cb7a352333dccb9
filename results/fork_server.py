"""Processes that start quickly: on Linux, forked from a server that has imported what they need.

Importing torch takes seconds, which every spawned process would spend again. The server only
imports. The threads that importing starts, of memory and linear-algebra libraries, are known to
survive a fork.
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
READY = ("benchmark.ready",)  # modules for processes that run stages
# signals that only the process that started the server acts on; a closing terminal sends them to
# every process started from it
HELD = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_ONE = threading.RLock()  # starting a process changes state that all threads share
UNGUARDED = 171  # exit code of a process in which importing the calling script runs the program


def fork_context(modules: Sequence[str]) -> SpawnContext | ForkServerContext:
    """Return a context for processes that need `modules`; those of a process's first call count."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")  # libraries there may not survive a fork
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*modules])
    try:
        with starting(main=False):
            forkserver.ensure_running()  # it imports while this process goes on
    except OSError:  # e.g. the temporary folder's name is too long for a socket
        return multiprocessing.get_context("spawn")
    return context


def dismiss() -> None:
    """End this process's server, if there is one; call it when nothing more is to be started.

    The server would end by itself, but only after its imports, and would hold standard output open
    until then.
    """
    if pid := getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def starting(*, main: bool) -> Iterator[None]:
    """Block the signals in `HELD` for a block that starts processes; forked ones inherit this and
    get none until they unblock them.

    The server looks for modules where this process does, but not in the current folder.

    Args:
      main: whether the processes import the main module, if it is a file; it may define a method.
    """
    with _ONE:
        resource_tracker.ensure_running()  # started later, it would unblock signals
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        try:
            # if a parent has blocked it, the server would never notice that a process ended
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
    # OpenMP threads spin while they wait for each other, on cores that others may need: beside two
    # busy processes, two threads were 30 times slower than with this short spin, which costs
    # nothing on an idle machine. The variable is read when a process loads OpenMP.
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
