"""Limits of the machine: cores, threads, OpenGL, locks, folders with odd names."""

import errno
import fcntl
import json
import os
import resource
import subprocess
import sys
from math import inf

import pytest

from benchmark.arguments import choose_jobs
from benchmark.cores import available_cores, cpu_quota
from results.files import StoreError
from results.store import Store

SMOKE = ("run", "--suite", "ood", "--budget", "smoke", "--families", "point-goal")


def benchmark_in(folder, *words, **variables):
    """Run the command line in another process."""
    command = [sys.executable, "-m", "benchmark", *words]
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)


@pytest.fixture
def system(tmp_path):
    """Write files of Linux's control groups below a folder; in names, `__` stands for `/`."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("CPU", "cpu.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def test_a_container_without_a_limit_has_all_cores(system, tmp_path):
    assert cpu_quota(tmp_path) == inf
    assert cpu_quota(system(proc__self__cgroup="0::/\n")) == inf
    assert cpu_quota(system(sys__fs__cgroup__CPUmax="max 100000\n")) == inf


def test_the_tightest_limit_of_a_group_and_those_above_counts(system):
    system(proc__self__cgroup="0::/user/one\n", sys__fs__cgroup__CPUmax="max 100000\n")
    assert cpu_quota(system(sys__fs__cgroup__user__CPUmax="150000 100000\n")) == 1.5
    assert cpu_quota(system(sys__fs__cgroup__user__one__CPUmax="100000 50000\n")) == 1.5
    assert cpu_quota(system(sys__fs__cgroup__user__one__CPUmax="20000 100000\n")) == 0.2


def test_groups_of_the_first_version_count_too(system):
    group = "sys__fs__cgroup__cpu__docker__CPUcfs"
    system(proc__self__cgroup="4:memory:/docker\n3:cpu,cpuacct:/docker\n")
    system(**{f"{group}_quota_us": "-1\n", f"{group}_period_us": "100000\n"})
    assert cpu_quota(system()) == inf
    assert cpu_quota(system(**{f"{group}_quota_us": "300000\n"})) == 3


@pytest.mark.parametrize(("quota", "cores"), [(inf, 3), (2.5, 2), (0.2, 1)])
def test_cores_are_those_that_the_limit_leaves(monkeypatch, quota, cores):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    monkeypatch.setattr("benchmark.cores.cpu_quota", lambda: quota)
    assert available_cores() == cores


def test_omp_num_threads_is_the_most_that_a_worker_takes(monkeypatch):
    monkeypatch.setattr("benchmark.arguments.available_cores", lambda: 8)
    for given, threads in (("1", 1), ("3,2", 3), ("99", 4), ("", 4), ("0", 4), ("many", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert choose_jobs(2) == (2, threads)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert choose_jobs(None) == (8, 1)


@pytest.mark.parametrize("backend", ["nonsense", "egl", "osmesa"])
def test_what_draws_nothing_needs_no_opengl(tmp_path, backend):
    (tmp_path / "OpenGL").mkdir()  # takes the place of PyOpenGL, which would load the library
    (tmp_path / "OpenGL/__init__.py").write_text("raise AttributeError('no library')\n")
    done = benchmark_in(tmp_path, *SMOKE, "--methods", "zero", MUJOCO_GL=backend)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    def none(descriptor, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(StoreError, match=r"no file locks \(Function not implemented\).*local disk"):
        Store(tmp_path / "store", create=True)


def test_figures_are_drawn_without_shared_memory(cli, smoke, here, monkeypatch):
    assert smoke("--methods", "zero,random").code == 0
    cli("report", "--store", "store", "--out", "with")

    def missing(*args, **kwargs):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")  # there is no /dev/shm

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", missing)
    done = cli("report", "--store", "store", "--out", "without")
    assert (done.code, done.err) == (0, "")
    names = [
        {path.name for path in (here / out / "figures").iterdir()} for out in ("with", "without")
    ]
    assert names[0] == names[1] != set()


def test_a_folder_whose_name_is_no_text_can_be_pasted(tmp_path):
    name = os.fsdecode(b"caf\xe9 store")
    done = benchmark_in(tmp_path, *SMOKE, "--methods", "zero", "--store", name)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"next: python -m benchmark report --store 'caf\xe9 store'\n" in done.stdout
    report = benchmark_in(tmp_path, "report", "--store", name, "--out", os.fsdecode(b"\xff"))
    assert (report.returncode, report.stderr) == (0, b"")
    assert (tmp_path / os.fsdecode(b"\xff") / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("damage", ["cut", "gone", "nonsense", "pipe"])
def test_store_json_is_healed_by_the_cells_beside_it(cli, smoke, here, damage):
    assert smoke("--methods", "zero").code == 0
    path = here / "store/store.json"
    sound = path.read_bytes()
    path.unlink()
    if damage == "pipe":
        os.mkfifo(path)
    elif damage != "gone":
        path.write_bytes({"cut": sound[:9], "nonsense": b"[1, 2]"}[damage])
    assert "zero" in cli("show", "--store", "store").out
    again = smoke("--methods", "zero")
    assert "1 of 1 stages done (1 of them earlier)" in again.out
    assert json.loads(path.read_bytes()) == json.loads(sound)


def test_store_json_of_no_cells_says_what_to_do(here, smoke):
    (here / "store").mkdir()
    (here / "store/store.json").write_text("{")
    assert "no cells are there: restore it, delete it" in smoke("--methods", "zero").complaint


def test_published_is_a_word_and_a_folder_of_that_name_has_a_path(
    cli, smoke, here, published_sanity, monkeypatch, no_figures
):
    monkeypatch.setattr("results.publication.PUBLISHED", published_sanity)
    assert smoke("--methods", "zero").code == 0
    (here / "store").rename(here / "published")
    ours = cli("report", "--store", "./published", "--format", "md")
    theirs = cli("report", "--store", "published", "--format", "md", "--out", "theirs")
    assert (ours.code, theirs.code) == (0, 0)
    pages = [(here / out / "report.md").read_text() for out in ("report", "theirs")]
    assert ["## Families of sanity" in page for page in pages] == [False, True]


def test_a_deleted_working_folder_is_one_line(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    code = (
        "import os; os.rmdir(os.getcwd()); from benchmark.cli import main; main(['run', '--suite',"
        " 'ood', '--methods', 'zero', '--budget', 'smoke'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=gone, capture_output=True, check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1), done.stderr


@pytest.mark.parametrize("words", [("run", "--suite"), ("status", "--store")])
def test_what_is_no_text_is_shown_escaped(cli, here, words):
    refused = cli(*words, "o\x1b[31mod")
    assert (refused.code, "\x1b" in refused.err) == (2, False)
    assert r"\x1b[31mod" in refused.err


def test_a_duration_is_written_in_ascii(smoke):
    assert "is not a duration" in smoke("--time-limit", "٥s").complaint


def test_a_time_limit_ends_verify_with_a_code_of_its_own(cli, published_sanity):
    words = ("--published", published_sanity, "--cells", "sanity/point-goal/td3")
    done = cli("verify", "--level", "2", "--time-limit", "1s", "--budget", "smoke", *words)
    assert (done.code, done.err) == (3, "")
    assert "time limit reached after" in done.out
    assert done.out.endswith("checks; run it again with --store to be able to continue\n")


def limited(kind, size):
    """Return a function by which a new process limits its own resources."""
    return lambda: resource.setrlimit(kind, (size, size))


@pytest.mark.parametrize(
    ("kind", "size", "complaint"),
    [
        (resource.RLIMIT_FSIZE, 4096, "file exceeds the size limit: raise it (ulimit -f)"),
        pytest.param(
            resource.RLIMIT_AS,
            400 * 2**20,
            "memory is full: end other programs, or raise the limit",
            marks=pytest.mark.skipif(
                sys.platform == "darwin", reason="macOS does not enforce RLIMIT_AS"
            ),
        ),
    ],
)
def test_a_limit_of_the_shell_is_named(tmp_path, kind, size, complaint):
    command = [sys.executable, "-m", "benchmark", *SMOKE, "--methods", "zero"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # each OpenBLAS thread takes much memory
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=limited(kind, size),
    )
    assert done.returncode == 4, done.stderr
    assert done.stderr.startswith("error: ")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
