"""Imports the program once, and forks a process for every command line that it is asked to run.

Importing torch takes seconds, which every `python -m benchmark`, and the fork server of every run,
would otherwise spend again. Requests come over a socket from the fixture `forked`, each with three
pipes: standard output, standard error, and one for the pid at the start and the exit code at the
end.
"""

import gc
import json
import os
import random
import runpy
import signal
import socket
import struct
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from multiprocessing import util
from pathlib import Path

HERE = str(Path(__file__).resolve().parent)
ON_FORK_SERVER = "from multiprocessing.forkserver import main"
NUMBER = struct.Struct("i")


def serve(ours: socket.socket) -> list[str]:
    """Fork a process for each command; return its words, in the forked process only."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes in `attend`
    while True:
        data, pipes, *_ = socket.recv_fds(ours, 2**20, 3)
        if not data:
            sys.exit(0)
        if os.fork():
            for pipe in pipes:
                os.close(pipe)
            continue
        ours.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        attend(pipes)
        return begin(json.loads(data), pipes)


def attend(pipes: list[int]) -> None:
    """Fork the program and report how it ended; return in the program only."""
    if not (pid := os.fork()):
        return
    for pipe in pipes[:2]:
        os.close(pipe)
    _, status = os.waitpid(pid, 0)
    os.write(pipes[2], NUMBER.pack(os.waitstatus_to_exitcode(status)))
    os._exit(0)


def begin(asked: dict, pipes: list[int]) -> list[str]:
    """Put this process into the state of a fresh `python -m benchmark` in its own session."""
    os.setsid()
    out, err, told = pipes
    nothing = os.open(os.devnull, os.O_RDONLY)
    for stream, place in ((nothing, 0), (out, 1), (err, 2)):
        os.dup2(stream, place)
        os.close(stream)
    # open them as Python opens pipes; the streams opened at start-up believe that they can seek
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    sys.path.append(asked["folder"])  # at the end, where `benchmark` moves it
    sys.argv[:] = ["benchmark", *asked["words"]]
    tempfile.tempdir = None
    random.seed()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    util.spawnv_passfds = fork_the_server
    os.write(told, NUMBER.pack(os.getpid()))
    os.close(told)
    return asked["words"]


_spawn = util.spawnv_passfds


def fork_the_server(path: str, words: list[str], kept: list[int]) -> int:
    """Start a fork server by forking, since what it would import is already imported here."""
    if not words[-1].startswith(ON_FORK_SERVER):
        return int(_spawn(path, words, kept))
    if pid := os.fork():
        return pid
    try:
        # as in a newly started program: what is not passed on is closed
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in kept:
                with suppress(OSError):  # that of the listing itself is closed already
                    os.close(int(name))
        exec(words[-1], {"__name__": "__main__"})
    finally:
        os._exit(1)


if __name__ == "__main__":
    sys.path[:] = [place for place in sys.path if place != HERE]
    for module in ("benchmark.ready", "reports.page.page"):
        import_module(module)
    gc.freeze()
    words = serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("benchmark", run_name="__main__", alter_sys=True)
