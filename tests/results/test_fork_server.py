"""The server that forks workers: whose packages it imports, and which signals it holds back."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

import benchmark
from reports.processes import processes
from results.fork_server import HELD, starting

ROOT = Path(benchmark.__file__).parents[1]

ASK = """
    import os, signal, sys
    sys.path.insert(0, {root!r})
    import benchmark
    from results.fork_server import READY, fork_context, starting

    def tell(connection):
        import torch
        held = signal.pthread_sigmask(signal.SIG_BLOCK, set())
        server = open(f"/proc/{{os.getppid()}}/environ", "rb").read()
        short = b"GOMP_SPINCOUNT=1000" in server.split(bytes(1))
        connection.send((benchmark.__file__, torch.__file__, sorted(held), short))

    if __name__ == "__main__":
        here, there = fork_context(READY).Pipe()
        process = fork_context(READY).Process(target=tell, args=(there,))
        with starting(main=True):
            process.start()
        print(*here.recv(), sep="\\n")
        process.join()
"""


@pytest.fixture
def told(tmp_path):
    """What a forked process finds if its parent puts the packages at `root` before all others."""

    def told(root):
        (tmp_path / "ask.py").write_text(textwrap.dedent(ASK.format(root=str(root))))
        (tmp_path / "torch.py").write_text("raise SystemExit('the wrong one')")
        command = [sys.executable, "-P", str(tmp_path / "ask.py")]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return told


def test_processes_have_the_packages_of_their_parent_whatever_is_installed(told, tmp_path):
    copy = tmp_path / "checkout"
    for package in ("benchmark", "envs", "methods", "reports", "results"):
        ignored = shutil.ignore_patterns("__pycache__", "published", "local", "tuning")
        shutil.copytree(ROOT / package, copy / package, ignore=ignored)
    ours, torch, *_ = told(copy)
    assert Path(ours) == copy / "benchmark/__init__.py"
    assert Path(torch).parent.name == "torch"  # not the file in the current folder


def test_they_hear_no_signals_until_they_want_to_and_their_threads_spin_for_a_short_while(told):
    every = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    assert told(ROOT)[2:] == [str(sorted(every)), "True"]


DISMISS = """
    import os, sys, time
    sys.path.insert(0, {root!r})
    from multiprocessing import forkserver
    from results.fork_server import READY, dismiss, fork_context

    if __name__ == "__main__":
        dismiss()  # there is none yet
        fork_context(READY)
        server, ended = forkserver._forkserver._forkserver_pid, (0, 0)
        dismiss()
        until = time.monotonic() + 10
        while not ended[0] and time.monotonic() < until:
            ended = os.waitpid(server, os.WNOHANG)
            time.sleep(0.01)
        print(ended[0] == server, os.waitstatus_to_exitcode(ended[1]))
"""


def test_a_server_that_is_dismissed_ends_at_once_though_it_holds_signals_back(tmp_path):
    """Otherwise it would import for seconds and keep a command's output open until then."""
    (tmp_path / "dismiss.py").write_text(textwrap.dedent(DISMISS.format(root=str(ROOT))))
    command = [sys.executable, "-P", str(tmp_path / "dismiss.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == (f"True {-signal.SIGKILL}\n", "")


def test_where_the_server_cannot_have_a_socket_they_start_without_it(told, tmp_path, monkeypatch):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    assert Path(told(ROOT)[0]) == ROOT / "benchmark/__init__.py"


def test_a_report_goes_on_to_its_end_when_a_process_of_its_dies():
    def work():
        with processes(3, ["json"]) as pool:
            pids = {pool.submit(os.getpid).result() for _ in range(20)}
            os.kill(min(pids), signal.SIGKILL)
            for _ in range(100):
                pool.submit(time.sleep, 0.05).result()

    began = time.monotonic()
    with pytest.raises(BrokenProcessPool):
        work()
    assert time.monotonic() - began < 60


def test_a_server_looks_where_its_parent_does_but_not_in_the_current_folder(tmp_path, monkeypatch):
    """`python -m` puts that folder first; a user's file `torch.py` in it must not be imported."""
    monkeypatch.chdir(tmp_path)
    places = [os.getcwd(), "", "below", "/elsewhere"]
    monkeypatch.setattr(sys, "path", [*places, *sys.path])
    known = [place for place in sys.path[len(places) :] if os.path.isabs(place)]
    with starting(main=True):
        found = os.environ["PYTHONPATH"].split(os.pathsep)
    assert [place for place in found if place != str(ROOT)] == [
        place for place in ["/elsewhere", *known] if place not in (str(ROOT), os.getcwd())
    ]
    assert str(ROOT) in found


def test_what_is_changed_for_the_start_is_put_back(monkeypatch):
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    before, held = dict(os.environ), signal.pthread_sigmask(signal.SIG_BLOCK, set())
    with starting(main=True):
        assert os.environ["PYTHONSAFEPATH"] == "1"
        assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) >= HELD
    assert dict(os.environ) == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == held
