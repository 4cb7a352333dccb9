"""Callers of the program: scripts, threads, pools of processes, parents with signals blocked."""

import errno
import os
import signal
import socket
import subprocess
import sys

import pytest

RUN = ["run", "--suite", "ood", "--budget", "smoke", "--families", "point-goal"]
RUN += ["--methods", "zero", "--store", "store"]
REPORT = ["report", "--store", "store", "--format", "md"]
CALL = "from benchmark.cli import main\nmain({words})\n"


def python_in(folder, *words, **options):
    """Run another process of this Python; fail if it hangs."""
    options = {"capture_output": True, "text": True, "check": False, "timeout": 120} | options
    return subprocess.run([sys.executable, *words], cwd=folder, **options)


@pytest.fixture
def store(cli, here):
    """A store with a finished run, in the current folder."""
    assert cli(*RUN).code == 0
    return here


def test_a_script_may_come_from_standard_input(tmp_path):
    for words in (RUN, REPORT):
        done = python_in(tmp_path, "-", input=CALL.format(words=words))
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert (tmp_path / "report/report.md").is_file()


def test_a_script_that_its_workers_would_run_again_is_told_so(tmp_path):
    (tmp_path / "script.py").write_text(CALL.format(words=RUN))
    done = python_in(tmp_path, "script.py")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: every worker process imports the script")
    assert 'under `if __name__ == "__main__":`' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_script_that_only_reports_need_not_be_guarded(store):
    (store / "script.py").write_text(CALL.format(words=REPORT))
    done = python_in(store, "script.py")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_a_method_may_stand_in_the_script(tmp_path):
    own = [*RUN, "--method", "__main__:Mine"]
    script = tmp_path / "script.py"
    script.write_text(
        "from benchmark.cli import main\nfrom methods.bounds import Zero\n"
        f"class Mine(Zero): ...\nif __name__ == '__main__':\n    main({own})\n"
    )
    for n_before in (0, 1):  # after the script is edited, its method counts as another
        done = python_in(tmp_path, "script.py")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert f"2 of 2 stages done ({n_before} of them earlier)" in done.stdout
        script.write_text(f"{script.read_text()}# edited\n")


def test_a_thread_may_run_a_command(tmp_path):
    done = python_in(
        tmp_path,
        "-c",
        "import threading\nfrom benchmark.cli import main\n"
        f"thread = threading.Thread(target=main, args=({RUN},))\nthread.start()\nthread.join()",
    )
    assert done.stderr == ""
    assert "1 of 1 stages done" in done.stdout


def test_a_daemonic_process_can_report_but_not_run(store):
    (store / "script.py").write_text(
        "import multiprocessing\nfrom benchmark.cli import main\n"
        "def code(words):\n"
        "    try: main(words)\n"
        "    except SystemExit as end: return end.code\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.Pool(1) as pool:\n"
        f"        print('codes', pool.map(code, {[REPORT, [*RUN, '--seeds', '2']]}))\n"
    )
    done = python_in(store, "script.py")
    assert "codes [0, 2]" in done.stdout
    assert done.stderr.startswith("error: a run starts processes, which a daemonic process")
    assert done.stderr.count("\n") == 1


def test_signals_that_the_parent_has_blocked_keep_no_worker_from_ending(tmp_path):
    everything = set(signal.valid_signals())
    done = python_in(
        tmp_path,
        *("-m", "benchmark", *RUN),
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, everything),
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_what_prints_when_python_starts_does_no_harm(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('hello from', __name__)\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop("MUJOCO_GL", None)
    done = python_in(tmp_path, "-m", "benchmark", *RUN, env=environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.startswith("hello from sitecustomize\n")


@pytest.mark.parametrize("words", [["list"], ["status", "--store", "store"]])
@pytest.mark.parametrize("pipe", [os.pipe, socket.socketpair])
def test_a_closed_output_has_a_code_of_its_own(store, words, pipe):
    ours, theirs = pipe()
    command = [sys.executable, "-m", "benchmark", *words]
    process = subprocess.Popen(command, cwd=store, stdout=theirs, stderr=subprocess.PIPE)
    for end in (ours, theirs):
        os.close(end) if isinstance(end, int) else end.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 128 + signal.SIGPIPE


def test_a_broken_pipe_that_is_not_the_output_is_a_defect(cli, monkeypatch):
    def broken(*args, **kwargs):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("benchmark.status.tell", broken)
    done = cli("status", "--store", "store")
    assert done.code == 70
    assert "BrokenPipeError" in done.err
