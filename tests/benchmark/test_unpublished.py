"""`run --unpublished`: what is published is not run again, and its meta-trainings are used."""

import shutil
from dataclasses import replace

import pytest

from benchmark import publish as publishing
from benchmark.publish import publish
from benchmark.suites import BUDGETS, SUITES
from results.publication import Publication
from results.schema import NOT_COMPARED
from results.store import CellKey, Store

SANITY = replace(SUITES["sanity"], families={"smoke": ("point-goal",)})
WORDS = ("run", "--budget", "smoke", "--families", "point-goal", "--store", "store")


@pytest.fixture
def published(sanity, here, monkeypatch):
    """Seed 0 of the suite `sanity`, published as what comes with the program."""
    monkeypatch.setitem(SUITES, "sanity", SANITY)
    monkeypatch.setitem(publishing.BUDGETS, "smoke", replace(BUDGETS["smoke"], published_seeds=2))
    monkeypatch.setattr(publishing, "render", lambda folder, suite, out: None)
    shutil.copytree(sanity, here / "first")
    first = Store(here / "first", create=False)
    for cell in first.plans()[0]["cells"]:
        if cell["slot"]["seed"] == 1:
            (first.root / CellKey(**cell["key"]).folder / "cell.json").unlink()
    publish(first.root, SANITY, here / "shipped", dirty=True, add=True)
    monkeypatch.setattr(Publication.__init__, "__defaults__", (here / "shipped",))
    return here / "shipped"


def slots(store):
    (plan,) = Store(store, create=False).plans()
    return [(cell["slot"]["seed"], cell["slot"]["method"]) for cell in plan["cells"]]


def test_only_what_is_missing_runs_and_joins_what_was_there(cli, published, here, sanity):
    words = (*WORDS, "--suite", "sanity", "--methods", "apb-random,td3", "--unpublished")
    assert "nothing is missing" in cli(*words, "--seeds", "1").out
    assert not (here / "store").exists()
    done = cli(*words, "--seeds", "2")
    assert (done.code, done.err) == (0, "")
    assert slots(here / "store") == [(1, "apb-random"), (1, "td3")]
    told = []
    publish(here / "store", SANITY, published, dirty=True, add=True, tell=told.append)
    assert told == ["2 cells added, 3 kept"]
    rows = Publication(published).read(["sanity"])[0]
    whole = Store(sanity, create=False).read(["sanity"])[0]
    whole = whole[whole["cell_id"].isin(rows["cell_id"])]
    by = ["cell_id", "env_steps", "task_index"]
    ours, theirs = (
        table.drop(columns=list(NOT_COMPARED)).sort_values(by, ignore_index=True)
        for table in (rows, whole)
    )
    assert ours.equals(theirs[ours.columns])


def test_a_published_meta_training_is_not_run_again(cli, published, here):
    words = (*WORDS, "--suite", "id", "--methods", "apb", "--seeds", "1")
    done = cli(*words, "--unpublished")
    assert "meta-trainings taken over from the published results: 1" in done.out
    assert "2 of 2 stages done (1 of them before)" in done.out
    cli(*words, "--store", "alone")
    stores = [Store(here / name, create=False) for name in ("store", "alone")]
    ours, theirs = (store.read(["id"])[0].drop(columns=list(NOT_COMPARED)) for store in stores)
    assert ours.equals(theirs)
    (cell,) = stores[0].plans()[0]["cells"]
    train = CellKey(**cell["train_key"])
    assert stores[0].state(train) == stores[1].state(train) == Publication().state(train)
    assert stores[0].record(train)["commit"] == Publication().record(train)["commit"]
    assert "taken over" not in cli(*words, "--unpublished").out


def test_a_state_that_was_altered_is_refused(cli, published, here):
    state = next(published.glob("sanity/states/*"))
    state.write_bytes(state.read_bytes()[:-1])
    words = (*WORDS, "--suite", "id", "--methods", "apb", "--seeds", "1", "--unpublished")
    assert "altered after it was published" in cli(*words).complaint
