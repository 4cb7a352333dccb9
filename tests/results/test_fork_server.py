"""The server that forks workers: whose packages it imports, what it never hears of."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import benchmark
from results.fork_server import HELD, starting

ROOT = Path(benchmark.__file__).parents[1]

ASK = """
    import os, signal, sys
    sys.path.insert(0, {root!r})
    import benchmark
    from results.fork_server import READY, fork_context, prepare, starting

    def tell(connection):
        import torch
        held = signal.pthread_sigmask(signal.SIG_BLOCK, set())
        connection.send((benchmark.__file__, torch.__file__, sorted(held)))

    if __name__ == "__main__":
        prepare(READY)
        here, there = fork_context(READY).Pipe()
        process = fork_context(READY).Process(target=tell, args=(there,))
        with starting():
            process.start()
        print(*here.recv(), sep="\\n")
        process.join()
"""


@pytest.fixture
def told(tmp_path):
    """What a forked process finds, whose parent has the packages at `root` before all others."""

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
    ours, torch, _ = told(copy)
    assert Path(ours) == copy / "benchmark/__init__.py"
    assert Path(torch).parent.name == "torch"  # not the file in the current folder


def test_they_hear_no_signals_until_they_want_to(told):
    assert told(ROOT)[2] == str(sorted(HELD))


def test_what_is_changed_for_the_start_is_put_back(monkeypatch):
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    before, held = dict(os.environ), signal.pthread_sigmask(signal.SIG_BLOCK, set())
    with starting():
        assert os.environ["PYTHONSAFEPATH"] == "1"
        assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) >= HELD
    assert dict(os.environ) == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == held
