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

THREADS_S = 5.0  # for threads to end, once a command has ended

# in the order of the help
for command in (
    *(running.run, running.worker, running.status, running.tune),
    *(reading.report, reading.list_, reading.show),
    *(publishing.publish, publishing.verify, publishing.references, publishing.rates),
):
    app.command(command.__name__.rstrip("_"))(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Processes of the run import the script that calls this, so that the call belongs under
    `if __name__ == "__main__":`. Without, they would run the suite anew, and end here instead.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(UNGUARDED)
    if arguments is None:
        gc.set_threshold(100_000, 50, 100)  # what imports make is a lot, and no garbage
    words = sys.argv[1:] if arguments is None else arguments
    verbose = any(word in ("-v", "--verbose") for word in words)
    resumes = bool({"run", "tune", "worker"} & {*words}) or (
        "verify" in words and any(word.split("=")[0] == "--store" for word in words)
    )
    # only films are drawn, and they say what they miss
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
        try:  # first: without the server, processes of a pool would seem gone
            _leave_threads(code)
        finally:
            fork_server.dismiss()
        gc.freeze()  # to search for garbage before Python ends takes a second
    sys.exit(code)


def _leave_threads(code: int) -> None:
    """End at once where a plug-in has left threads, for which Python would wait for ever."""
    deadline = time.monotonic() + THREADS_S
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join(max(0.0, deadline - time.monotonic()))  # ours are about to end
            if thread.is_alive():
                fork_server.dismiss()
                for stream in (sys.stdout, sys.stderr):
                    with suppress(OSError):
                        stream.flush()
                os._exit(code)


@contextmanager
def _environment(instead: Mapping[str, str | None]) -> Iterator[None]:
    """Hide variables that would end an import of MuJoCo or matplotlib where they name what is not
    there: an OpenGL, or a backend. Figures are files, and need no backend. (Without the variable,
    MuJoCo looks for glfw, in a process whose output it evaluates.)
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
