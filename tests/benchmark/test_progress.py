"""How a run is displayed, in a terminal and elsewhere, whatever the names are."""

import io
import time
from dataclasses import replace

import pytest
from rich.console import Console

from benchmark.cells import expand
from benchmark.local import Progress, stages_of
from benchmark.progress import Display, duration, seconds_left
from benchmark.suites import BUDGETS, SUITES
from methods import METHODS

ODD = "[/bold] :smile: [red]x"


@pytest.fixture
def table():
    cells = expand(
        SUITES["ood"],
        BUDGETS["smoke"],
        {"apb": METHODS["apb"]},
        families=["point-goal"],
        seeds=20,
        settings={},
    )
    return [
        Progress(stage)
        for stage in stages_of([replace(cell, method=ODD, variant=f"{ODD}=1") for cell in cells])
    ]


def shown(table, terminal, height=30):
    out = io.StringIO()
    kind = {"force_terminal": terminal, "width": 200, "height": height, "color_system": None}
    display = Display(Console(file=out, markup=False, emoji=False, highlight=False, **kind))
    with display.shown():
        display.show(table)
        table[0].state, table[0].started, table[0].used = "running", time.monotonic() - 2, 400
        display.show(table)
        table[0].state, table[0].ended, table[0].error = "failed", time.monotonic(), f"why {ODD}"
        display.show(table)
        display.show(table)
    return out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_names_and_errors_are_shown_as_they_are(table, terminal):
    text = shown(table, terminal)
    assert text.count(f"failed {table[0].stage} in 2 s: why {ODD}") == 1
    assert "[1/40, " in text


def test_a_terminal_sees_what_runs_and_what_waits(table):
    text = shown(table, True)
    assert "50 %" in text
    assert "… and" in text
    assert str(table[1].stage) in text


def test_a_small_terminal(table):
    assert shown(table, True, height=3)


def test_elsewhere_only_what_ended_is_told(table):
    assert len(shown(table, False).splitlines()) == 1


def test_time_left_comes_from_the_work_of_this_run(table):
    for entry in table[:-1]:
        entry.state, entry.finished_before = "done", True
    out = io.StringIO()
    display = Display(Console(file=out))
    table[-1].state = "running"
    assert display._left(table) == "time left unknown"
    table[-1].used, table[-1].started = table[-1].stage.steps // 2, time.monotonic() - 60
    assert display._left(table) == "60 s left"
    table[-1].resumed_at = table[-1].stage.steps // 4  # a quarter took those 60 s
    assert display._left(table) == "2 min left"
    table[-1].state = "done"
    assert display._left(table) == "all done"


def test_each_stage_costs_what_its_like_did(table):
    now = time.monotonic()
    for entry in table:
        if entry.stage.cell.seed == 0:  # training took twice as long as adaptation
            entry.state = "done"
            entry.started = now - (20 if entry.stage.name == "train" else 10)
            entry.ended = now
        else:
            entry.state, entry.finished_before = "done", True
    (training,) = (entry for entry in table if str(entry.stage).endswith("seed 7 train"))
    training.state, training.finished_before = "waiting", False
    assert seconds_left(table) == pytest.approx(20, rel=1e-3)
    training.stage = replace(training.stage, cell=replace(training.stage.cell, method="another"))
    steps = sum(entry.stage.work for entry in table if entry.stage.cell.seed == 0)
    # no like is known: the average cost of all
    assert seconds_left(table) == pytest.approx(training.stage.work * 30 / steps, rel=1e-3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (42.4, "42 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5390, "90 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds).replace("1 h 30 min", "90 min") == text
