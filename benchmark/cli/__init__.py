"""The command line: parse and dispatch. Heavy imports happen inside the command that needs them."""

import gc
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from benchmark.cli import publishing, reading, running
from benchmark.cli.root import app
from benchmark.exits import exit_code
from results import fork_server
from results.fork_server import UNGUARDED

THREADS_S = 5.0  # seconds that threads have to end after a command

# in the order of the help
for command in (
    *(running.run, running.worker, running.status, running.tune),
    *(reading.report, reading.list_, reading.show),
    *(publishing.publish, publishing.verify, publishing.references, publishing.rates),
):
    app.command(command.__name__.rstrip("_"))(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Processes of the run import the script that calls this, so the call belongs under
    `if __name__ == "__main__":`. Without that they would run the suite anew, so they exit here.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(UNGUARDED)
    if arguments is None:
        gc.set_threshold(100_000, 50, 100)  # imports allocate a lot, and none of it is garbage
    words = sys.argv[1:] if arguments is None else arguments
    verbose = any(word in ("-v", "--verbose") for word in words)
    resumes = bool({"run", "tune", "worker"} & {*words}) or (
        "verify" in words and any(word.split("=")[0] == "--store" for word in words)
    )
    # only films need OpenGL, and they report it themselves if it is missing
    hidden: dict[str, str | None] = {"MPLBACKEND": None}
    if "--videos" not in words:
        hidden["MUJOCO_GL"] = "disable"
    with _environment(hidden):
        code = exit_code(
            lambda: app(args=arguments, prog_name="python -m benchmark", standalone_mode=False),
            verbose,
            resumes,
        )
    if arguments is None:
        try:  # before the server ends: without it, processes of a pool would seem gone
            _leave_threads(code)
        finally:
            fork_server.dismiss()
        gc.freeze()  # Python's search for garbage at its end would take a second
    sys.exit(code)


def _leave_threads(code: int) -> None:
    """Exit at once if a plug-in has left threads running; Python would wait for them for ever."""
    deadline = time.monotonic() + THREADS_S
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join(max(0.0, deadline - time.monotonic()))  # our own are about to end
            if thread.is_alive():
                fork_server.dismiss()
                for stream in (sys.stdout, sys.stderr):
                    with suppress(OSError):
                        stream.flush()
                os._exit(code)


@contextmanager
def _environment(instead: Mapping[str, str | None]) -> Iterator[None]:
    """Set or unset environment variables for a block.

    If they name an OpenGL or a backend that is not there, MuJoCo or matplotlib fails to import.
    Figures are files, and need no backend. (Without its variable, MuJoCo looks for glfw, in a
    process whose output it evaluates; hence a value that disables OpenGL.)
    """
    before = {name: os.environ.get(name) for name in instead}
    _set(instead)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    """Set environment variables, or unset those that are None."""
    for name, value in variables.items():
        if value is not None:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)
