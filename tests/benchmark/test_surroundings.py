"""The suite runs wherever it is called from."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


def run_in(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", ["envs", "methods", "reports", "results"])
def test_a_folder_of_results_in_the_current_directory_hides_nothing(tmp_path, name):
    """As in an editable install, whose finder comes after the current directory and its folders."""
    (tmp_path / name / "local").mkdir(parents=True)
    spec = find_spec("benchmark")
    code = f"""
import importlib.machinery, sys
site = {str(Path(spec.origin).parents[1])!r}
sys.path[:] = [path for path in sys.path if path != site]

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return importlib.machinery.PathFinder.find_spec(name, [site]) if path is None else None

sys.meta_path.append(Finder)
import benchmark, {name}
print({name}.APB_BENCHMARK_PACKAGE)
"""
    done = run_in(tmp_path, code)
    assert done.stdout.strip() == name, done.stderr


def test_a_slip_of_the_pen_does_not_wait_for_torch(tmp_path):
    code = """
import sys
from benchmark.cli import main
try:
    main(["run", "--suite", "odo"])
except SystemExit as end:
    print(end.code, "torch" in sys.modules)
"""
    assert run_in(tmp_path, code).stdout.split() == ["2", "False"]
