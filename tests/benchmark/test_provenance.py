"""The commit that a record names: that of the checkout, and whether its code was changed."""

import subprocess

import pytest

from benchmark import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one commit, which the program takes for its own."""
    for name in ("benchmark/provenance.py", "envs/point.py", "results/published/ood/rows.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("as committed\n")
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for words in (("init", "-q"), ("add", "-A"), (*who, "commit", "-qm", "first")):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "benchmark/provenance.py"))
    return tmp_path


def test_changed_code_is_dirty_and_published_results_are_no_code(checkout):
    head = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert provenance.commit() == head.stdout.strip()
    (checkout / "results/published/ood/rows.csv").write_text("published again\n")
    (checkout / "untracked.txt").write_text("a note\n")
    assert provenance.commit() == head.stdout.strip()
    (checkout / "envs/point.py").write_text("changed\n")
    assert provenance.commit() == f"{head.stdout.strip()}+dirty"


def test_an_installed_package_has_no_commit(checkout):
    subprocess.run(
        ["git", "-C", str(checkout), "rm", "-q", "--cached", "benchmark/provenance.py"], check=True
    )
    assert provenance.commit() is None
