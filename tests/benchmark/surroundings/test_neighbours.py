"""Other people's code beside the suite: packages of the same name, entry points, git."""

import os
import subprocess
import sys

import pytest

from benchmark import provenance


def python_in(folder, *words):
    return subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", ["envs", "methods", "reports", "results"])
def test_packages_of_the_same_name_in_the_current_folder_do_no_harm(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not to be imported')\n")
    done = python_in(tmp_path, "-m", "benchmark", "list")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "cheetah-vel" in done.stdout


def test_files_called_like_modules_that_are_needed_do_no_harm(tmp_path):
    for name in ("random", "statistics", "tempfile", "html", "torch", "packaging", "cycler"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not to be imported')\n")
    (tmp_path / "pandas").mkdir()
    (tmp_path / "pandas/__init__.py").write_text("raise RuntimeError('not to be imported')\n")
    (tmp_path / "my_method.py").write_text("from methods.td3 import Td3\nclass Mine(Td3): ...\n")
    run = ("run", "--suite", "ood", "--budget", "smoke", "--families", "point-goal")
    own = ("--methods", "zero", "--method", "my_method:Mine")
    for words in ((*run, *own), ("report", "--format", "html")):
        done = python_in(tmp_path, "-m", "benchmark", *words)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert (tmp_path / "report/figures").is_dir()


def test_what_runs_before_the_program_moves_no_score(tmp_path, reference, rows_of):
    """A `sitecustomize` that changes torch's and NumPy's settings, as `usercustomize` may."""
    site = tmp_path / "site"  # workers do not look in the current folder
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import numpy, torch\nnumpy.seterr(all='raise')\ntorch.set_default_dtype(torch.float64)\n"
        "torch.set_grad_enabled(False)\n"
    )
    words = ("run", "--suite", "ood", "--budget", "smoke", "--families", "point-goal")
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", *words, "--methods", "td3", "--store", "store"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    usual = rows_of(reference[0])
    usual = usual[(usual["method"] == "td3") & (usual["seed"] == 0)].reset_index(drop=True)
    assert rows_of(tmp_path / "store").equals(usual) and len(usual) > 0


def test_a_backend_that_is_not_there_is_not_needed(tmp_path, reference):
    words = ("report", "--store", str(reference[0]), "--format", "md", "--out", "out")
    done = subprocess.run(  # matplotlib reads the variable when it is imported
        [sys.executable, "-m", "benchmark", *words],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "nonsense"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_script_that_imported_its_own_package_first_is_told_which(tmp_path):
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/__init__.py").write_text("")
    done = python_in(tmp_path, "-c", "import sys; sys.path[0] = '.'; import envs, benchmark")
    assert done.returncode == 1
    assert f"the package 'envs' at {tmp_path / 'envs'} does not belong to" in done.stderr
    assert "import benchmark before it" in done.stderr


def test_a_broken_entry_point_is_named_and_hides_nothing(tmp_path):
    (tmp_path / "other_lab-1.0.dist-info").mkdir()
    (tmp_path / "other_lab-1.0.dist-info/METADATA").write_text("Name: other-lab\nVersion: 1.0\n")
    (tmp_path / "other_lab-1.0.dist-info/entry_points.txt").write_text(
        "[apb_benchmark.methods]\ntheirs = other_lab_is_gone:Method\n"
    )
    listed = python_in(tmp_path, "-m", "benchmark", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert (
        "theirs cannot be used: method other_lab_is_gone:Method of the distribution other-lab:"
        in listed.stdout
    )
    assert "apb v" in listed.stdout
    words = ("run", "--suite", "ood", "--budget", "smoke", "--methods", "theirs")
    refused = python_in(tmp_path, "-m", "benchmark", *words)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "of the distribution other-lab" in refused.stderr


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one commit, which the program takes for its own."""
    file = tmp_path / "benchmark/provenance.py"
    file.parent.mkdir()
    file.write_text("")
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for words in (("init", "-q"), ("add", "-A"), (*who, "commit", "-qm", "first")):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(provenance, "__file__", str(file))
    return tmp_path


def test_a_commit_is_found_within_a_hook_of_another_checkout(checkout, monkeypatch):
    known = provenance.commit()
    assert known is not None
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert (provenance.commit(), provenance.why_unknown()) == (known, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_commit_is_found_in_somebody_elses_checkout(checkout):
    known = provenance.commit()
    for path in (checkout, *checkout.rglob("*")):
        os.chown(path, 12345, 12345)
    refused = subprocess.run(
        ["git", "-C", str(checkout), "status"], capture_output=True, check=False
    )
    assert b"dubious ownership" in refused.stderr
    assert (provenance.commit(), provenance.why_unknown()) == (known, None)


def test_git_is_quoted_where_it_does_not_tell_the_commit(checkout, monkeypatch):
    (checkout / ".git/HEAD").write_text("ref: refs/heads/gone\n")
    assert provenance.commit() is None
    assert "fatal: " in provenance.why_unknown()
    monkeypatch.setenv("PATH", "")
    assert "git" in provenance.why_unknown()
