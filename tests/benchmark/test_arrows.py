"""Imports point one way, light packages stay light, foreign packages of our names are detected."""

import ast
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import __version__

PACKAGES = ("benchmark", "envs", "methods", "reports", "results")
HEAVY = {"torch", "mujoco", "gymnasium", "pandas", "matplotlib", "pyarrow"}
METHOD_LIBRARIES = {"methods.api", "methods.core"}
SHELVES = ("reports.text", "reports.files", "reports.ReportError")
WINGS = {  # parts of `reports`, and what each may import
    "reports.stats": (*SHELVES, "reports.stats"),
    "reports.parts": (*SHELVES, "reports.stats", "reports.parts"),
    "reports.page": ("reports",),
}


def package(name):
    return Path(importlib.util.find_spec(name).origin).parent


def modules():
    """Yield each of our modules: (dotted name, file)."""
    for name in PACKAGES:
        for path in sorted(package(name).rglob("*.py")):
            parts = path.relative_to(package(name).parent).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path):
    """Yield every module that a file imports anywhere; `from a.b import c` counts as a.b.c."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module, *places):
    return any(module == place or module.startswith(f"{place}.") for place in places)


def allowed(importer, imported):
    """Whether one of our modules may import another."""
    top = importer.split(".")[0]
    if top in ("envs", "results"):
        return within(imported, top)
    if top == "reports":
        return within(imported, *WINGS.get(".".join(importer.split(".")[:2]), SHELVES)) or within(
            imported, "results"
        )
    if within(importer, "methods.core"):
        return within(imported, "envs.api", *METHOD_LIBRARIES)
    if top == "methods":
        return within(imported, "envs.api", importer, *METHOD_LIBRARIES)
    return True


ARROWS = [
    (importer, imported)
    for importer, path in modules()
    for imported in imports(path)
    if imported.split(".")[0] in PACKAGES
]


def test_imports_point_one_way():
    assert len(ARROWS) > 50
    assert not [arrow for arrow in ARROWS if not allowed(*arrow)]


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("envs.batch", "methods.api"),
        ("results.store", "benchmark.cells"),
        ("reports.page.page", "envs.api.Task"),
        ("reports.stats.scores", "reports.parts.drawing.canvas"),
        ("reports.parts.curves", "reports.page.output.Output"),
        ("reports.text", "reports.stats.scores.ARM"),
        ("methods.apb", "envs.batch.BatchEnv"),
        ("methods.apb", "methods.td3.Td3"),
        ("methods.core.adapt", "methods.apb.Apb"),
        ("methods.core.td3", "results.schema.Row"),
    ],
)
def test_the_rule_would_notice(importer, imported):
    assert not allowed(importer, imported)


def loaded_by(statement, folder):
    """Return the top-level modules that a fresh interpreter has loaded after a statement."""
    script = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_alone_is_light(name, tmp_path):
    assert not loaded_by(f"import {name}", tmp_path) & HEAVY


def test_a_report_needs_no_learner_and_no_simulator(tmp_path):
    assert not loaded_by("import reports.page.page", tmp_path) & {"torch", "mujoco", "gymnasium"}


@pytest.mark.parametrize("content", ["", 'APB_BENCHMARK_PACKAGE = "other"'])
def test_an_intruder_is_named(content, tmp_path):
    """Another distribution installs its package `envs` over ours."""
    shutil.copytree(package("benchmark"), tmp_path / "benchmark")
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/__init__.py").write_text(content)
    command = [sys.executable, "-m", "benchmark", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: the package 'envs' at")
    assert str(tmp_path / "envs") in last
    assert "virtual environment of its own" in last


def test_a_folder_that_is_no_package_is_no_intruder(tmp_path):
    """Results may lie in ./results, which Python would take for a namespace package."""
    (tmp_path / "results/local").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"apb-benchmark {__version__}\n", "")
