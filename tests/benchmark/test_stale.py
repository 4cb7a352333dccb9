"""Results measured under other circumstances are never reused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.cells import Cell, expand
from benchmark.plugins import load_method, source_digest
from benchmark.stage import Stage, finished, perform
from benchmark.suites import BUDGETS, SUITES
from results.store import Store

TINY = {"hidden": 4, "batch": 2}


@pytest.fixture
def cell() -> Cell:
    cells = expand(
        SUITES["ood"],
        BUDGETS["smoke"],
        {"apb": "methods.apb:Apb"},
        families=["point-goal"],
        seeds=1,
        settings={"apb": TINY},
    )
    return replace(cells[0], train_steps=40, adapt_steps=10)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", create=True)


def run(store: Store, stage: Stage, force: bool = False) -> None:
    assert perform(store, stage, 1, force=force)[0] == "done"


def test_adaptation_is_redone_when_the_state_it_began_from_is_another(cell, store):
    train, adapt = Stage(cell, "train"), Stage(cell, "adapt")
    run(store, train)
    run(store, adapt)
    assert finished(store, train)
    assert finished(store, adapt)
    rows = store.rows(adapt.key)
    other = Stage(replace(cell, seed=1), "train")
    run(store, other)
    store.write(  # as if the state had been corrupt, and came out different
        train.key,
        [],
        state=store.state(other.key),
        log="",
        record={"status": "ok", "env_steps": 40},
        replace=True,
    )
    assert not finished(store, adapt)
    run(store, adapt)
    assert finished(store, adapt)
    assert not np.array_equal(store.rows(adapt.key)["return_mean"], rows["return_mean"])


def test_a_lost_trained_state_is_not_missed_while_nothing_waits_for_it(cell, store):
    train, adapt = Stage(cell, "train"), Stage(cell, "adapt")
    run(store, train)
    run(store, adapt)
    (store.root / train.key.folder / "cell.json").unlink()
    assert not finished(store, train)
    assert finished(store, adapt)


def test_an_edited_plug_in_is_another_method(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = "from methods.bounds import Zero\n\nclass Mine(Zero):\n    pass\n"
    (tmp_path / "edited_plugin.py").write_text(source, encoding="utf-8")
    load_method.cache_clear()
    before = source_digest("edited_plugin:Mine")
    (tmp_path / "edited_plugin.py").write_text(source + "# changed\n", encoding="utf-8")
    assert source_digest("edited_plugin:Mine") != before
    assert source_digest("methods.td3:Td3") == ""


def test_settings_of_adaptation_share_the_trained_state():
    cell = expand(
        SUITES["ood"],
        BUDGETS["smoke"],
        {"apb-reset": "methods.apb:ApbReset"},
        families=["point-goal"],
        seeds=1,
        settings={},
    )[0]
    other = replace(cell, config={**cell.config, "reset_period": 7})
    assert cell.adapt_settings == ("reset_period",)
    assert other.train_id == cell.train_id
    assert other.adapt_key != cell.adapt_key


def test_numbers_of_the_wrong_type_fail_the_stage_and_not_the_worker(cell, store, monkeypatch):
    monkeypatch.setattr("methods.core.adapt.TD3Adapter.updates", property(lambda self: 0.5))
    run(store, Stage(cell, "train"))
    outcome, error = perform(store, Stage(cell, "adapt"), 1)
    assert outcome == "failed"
    assert error
    assert store.status(cell.adapt_key) == "failed"


def test_warnings_of_a_stage_are_in_its_log(cell, store, monkeypatch):
    import logging

    monkeypatch.setattr(
        "methods.core.td3.TD3.update",
        lambda self, *a, **k: logging.getLogger("methods.core.td3").warning("a kernel fell back"),
    )
    run(store, Stage(cell, "train"))
    log = (store.root / cell.train_key.folder / "log.txt").read_text(encoding="utf-8")
    assert "WARNING methods.core.td3: a kernel fell back" in log
