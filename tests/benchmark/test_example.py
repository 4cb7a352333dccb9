"""The example method that methods/README.md shows: a plug-in like any other, and it learns."""

import ast
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import methods
from benchmark import run
from benchmark.cells import expand
from benchmark.suites import BUDGETS, SUITES
from results.schema import to_frame

EXAMPLE = Path(__file__).with_name("example_method.py")
README = Path(methods.__file__).parent / "README.md"


@pytest.fixture
def cell(here, monkeypatch):
    shutil.copy(EXAMPLE, here)
    monkeypatch.syspath_prepend(here)
    method = {"hill-climbing": "example_method:HillClimbing"}
    return expand(
        SUITES["ood"], BUDGETS["smoke"], method, families=["point-goal"], seeds=1, settings={}
    )[0]


def test_its_curve_rises(cell):
    longer = replace(cell, adapt_steps=3000)
    rows = to_frame(run.rows_of(run.Adaptation(longer, longer.build(), None)))
    curve = rows.groupby("env_steps")["return_mean"].mean()
    assert curve.index.tolist() == [0, 50, 100, 250, 500, 1000, 2500, 3000]
    assert curve[3000] > curve[0] + 20
    assert (curve.diff().dropna() > -10).all()
    assert rows["updates"].max() == 3000 // 50


def test_it_ran_from_the_command_line(reference, rows_of):
    store, result = reference
    assert (result.code, result.err) == (0, "")
    rows = rows_of(store)
    rows = rows[rows["method"] == "hill-climbing"]
    assert set(rows["seed"]) == {0, 1}
    assert set(rows["status"]) == {"ok"}
    curve = rows.groupby("env_steps")["return_mean"].mean()
    assert curve[200] > curve[0]


def test_its_settings_can_be_set(cell, cli, monkeypatch):
    monkeypatch.setattr(
        "benchmark.commands.LocalExecutor.run",
        lambda self, stages, show: print(stages[-1], stages[-1].cell.config),
    )
    monkeypatch.setattr("benchmark.commands._conclude", lambda *arguments: 0)
    words = (
        "--method",
        "example_method:HillClimbing",
        "--set",
        "hill-climbing.noise=0.1",
        "--families",
        "point-goal",
    )
    result = cli(
        "run", "--suite", "ood", "--methods", "zero", "--seeds", "1", "--store", "store", *words
    )
    assert "hill-climbing [noise=0.1] point-goal/ood seed 0 adapt {'noise': 0.1}" in result.out


def test_it_runs_alone_and_the_way_to_compare_it_is_told(cell, cli):
    words = (
        "--suite",
        "ood",
        "--methods",
        "none",
        "--method",
        "example_method:HillClimbing",
        "--families",
        "point-goal",
    )
    quick = cli("run", *words, "--seeds", "1", "--store", "store")
    assert quick.code == 0 and "1 of 1 stages done" in quick.out
    assert "next: python -m benchmark report --store store --compare published" in quick.out
    assert (
        "the published methods have 10 seeds each; run with --seeds 10 to tell yours apart from"
        " them" in quick.out
    )
    # nothing is published at smoke
    smoke = cli("run", *words, "--budget", "smoke", "--store", "smoke")
    assert smoke.out.splitlines()[-1] == "next: python -m benchmark report --store smoke"


def test_it_needs_nothing_but_public_libraries():
    tree = list(ast.walk(ast.parse(EXAMPLE.read_text(encoding="utf-8"))))
    names = {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in tree if isinstance(node, ast.ImportFrom)}
    assert names <= {"dataclasses", "methods.api", "numpy", "torch"}


def test_the_readme_shows_it():
    assert EXAMPLE.read_text(encoding="utf-8").strip() in README.read_text(encoding="utf-8")
