"""Time to plan 10 000 cells, to report their status, and to claim the next one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from benchmark import run
from benchmark.commands import _left
from benchmark.local import stages_of
from benchmark.planning import Request, plan_of
from benchmark.plugins import registered_methods
from benchmark.status import status_of
from benchmark.suites import BUDGETS, SUITES
from results.store import Store

METHODS = ("apb", "td3", "maml", "zero", "pearl")
FAMILIES = ("point-goal", "point-rand", "cheetah-vel", "hopper-rand")
SEEDS = 500
LIMIT_S = 2.0  # for each of the three
SMALL = 10  # how many times smaller the other store is, to tell whether a step is quadratic


def planned(root: Path, seeds: int) -> tuple[Store, float]:
    """A store with a plan of 20 cells per seed, and the seconds that planning took."""
    store = Store(root, create=True)
    began = perf_counter()
    methods = {name: registered_methods()[name] for name in METHODS}
    request = Request(SUITES["ood"], BUDGETS["smoke"], methods, FAMILIES, seeds, {})
    cells = request.cells()
    store.write_plan(plan_of(request.suite, methods, cells, request))
    took = perf_counter() - began
    for stage in stages_of(cells)[::20]:  # some are done
        row = replace(run.failed_row(stage.cell, stage.name, ""), status="ok", error=None)
        record = {"status": "ok", "stage": str(stage), "seconds": 3.0, "built_on": None}
        state = b"" if stage.name == "train" else None
        store.write(stage.key, [row], state=state, log="", record=record)
    return store, took


def claimed(store: Store) -> None:
    """List the stages that are left and claim the first, as a worker does when it begins."""
    first = _left(store, None, set(), None)[0]
    with store.claim(first.key) as mine:
        assert mine


@pytest.fixture(scope="module")
def measured(tmp_path_factory: Any) -> dict[str, tuple[float, float]]:
    """Seconds of each step, in a store and in one that is `SMALL` times smaller."""
    found = {}
    stores = [planned(tmp_path_factory.mktemp("store"), seeds) for seeds in (SEEDS, SEEDS // SMALL)]
    found["planning"] = (stores[0][1], stores[1][1])
    for name, act in (("status", status_of), ("claiming", claimed)):
        times = []
        for store, _ in stores:
            began = perf_counter()
            act(store)
            times.append(perf_counter() - began)
        found[name] = (times[0], times[1])
    return found


@pytest.mark.parametrize("what", ["planning", "status", "claiming"])
def test_ten_thousand_cells(
    benchmark: Any, measured: dict[str, tuple[float, float]], judge: Callable[..., None], what: str
) -> None:
    large, small = measured[what]
    benchmark.pedantic(lambda: None)  # a placeholder: `measured` holds the times
    judge(
        LIMIT_S / large,
        f"{what} of 10 000 cells in {large:.2f} s",
        f"{LIMIT_S:.0f} s",
        goal=1.0,
        guard=0.6,
    )
    assert large < 2 * SMALL * small, f"{large:.2f} s and, of a tenth, {small:.2f} s"
