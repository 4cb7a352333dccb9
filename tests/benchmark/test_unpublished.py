"""`run --unpublished`: what is published is not run again, and its meta-trainings are used."""

import shutil
from dataclasses import replace

import pytest

from benchmark import publish as publishing
from benchmark import unpublished
from benchmark.cells import expand
from benchmark.publish import publish
from benchmark.suites import BUDGETS, SUITES
from methods import METHODS
from results.publication import Publication
from results.schema import NOT_COMPARED
from results.store import CellKey, Store

SANITY = replace(SUITES["sanity"], families={"smoke": ("point-goal",)})
WORDS = ("run", "--budget", "smoke", "--families", "point-goal", "--store", "store")


@pytest.fixture
def published(sanity, here, monkeypatch):
    """Seed 0 of the suite `sanity`, published in place of what ships with the program."""
    monkeypatch.setitem(SUITES, "sanity", SANITY)
    monkeypatch.setitem(publishing.BUDGETS, "smoke", replace(BUDGETS["smoke"], published_seeds=2))
    monkeypatch.setattr(publishing, "render", lambda folder, suite, out: None)
    shutil.copytree(sanity, here / "first")
    first = Store(here / "first", create=False)
    for cell in first.plans()[0]["cells"]:
        if cell["slot"]["seed"] == 1:
            (first.root / CellKey(**cell["key"]).folder / "cell.json").unlink()
    publish(first.root, SANITY, here / "shipped", dirty=True, add=True)
    monkeypatch.setattr("results.publication.PUBLISHED", here / "shipped")
    return here / "shipped"


def slots(store):
    (plan,) = Store(store, create=False).plans()
    return [(cell["slot"]["seed"], cell["slot"]["method"]) for cell in plan["cells"]]


def test_only_what_is_missing_runs_and_joins_what_was_there(cli, published, here, sanity):
    words = (*WORDS, "--suite", "sanity", "--methods", "apb-random,td3", "--unpublished")
    assert "seeds 0 to 0 are published" in cli(*words, "--seeds", "1").out
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
    assert "2 of 2 stages done (1 of them earlier)" in done.out
    cli(*words, "--store", "alone")
    stores = [Store(here / name, create=False) for name in ("store", "alone")]
    assert stores[0].measures().equals(stores[1].measures()) and len(stores[0].measures()) > 0
    ours, theirs = (store.read(["id"])[0].drop(columns=list(NOT_COMPARED)) for store in stores)
    assert ours.equals(theirs)
    (cell,) = stores[0].plans()[0]["cells"]
    train = CellKey(**cell["train_key"])
    assert stores[0].state(train) == stores[1].state(train) == Publication(published).state(train)
    taken, run = (store.record(train)["finished"] for store in stores)
    assert taken == Publication(published).record(train)["finished"] != run
    assert "taken over" not in cli(*words, "--unpublished").out


@pytest.mark.parametrize("name", ["rows.csv", "training.csv", "states"])
def test_what_was_altered_is_refused(cli, published, name):
    path = published / "sanity" / name
    if name == "states":
        path = next(path.iterdir())
    path.write_bytes(path.read_bytes()[:-1])
    words = (*WORDS, "--suite", "id", "--methods", "apb", "--seeds", "1", "--unpublished")
    assert "altered after it was published" in cli(*words).complaint


def test_what_could_not_be_added_is_not_run(cli, published, here, monkeypatch):
    words = (*WORDS, "--suite", "sanity", "--methods", "td3", "--unpublished")
    assert "leave one of them out" in cli(*words, "--force").complaint
    assert (
        "--published is for --unpublished" in cli(*words[:-1], "--published", published).complaint
    )
    ours = unpublished.provenance()
    monkeypatch.setattr(unpublished, "provenance", lambda: {**ours, "python": "3.99"})
    assert "was published with python" in cli(*words).complaint
    assert not (here / "store").exists()


def test_where_nothing_is_published_everything_is_missing(cli, here):
    words = (*WORDS, "--suite", "sanity", "--methods", "td3", "--unpublished")
    (here / "none").mkdir()
    done = cli(*words, "--published", here / "none")
    assert (done.code, slots(here / "store")) == (0, [(0, "td3")])


def test_another_version_of_the_suite_is_missing_whole(published, monkeypatch):
    cells = expand(
        SANITY,
        BUDGETS["smoke"],
        {"td3": METHODS["td3"]},
        families=["point-goal"],
        seeds=1,
        settings={},
    )
    assert unpublished.missing(cells, Publication(published)) == []
    later = [replace(cell, suite_version=cell.suite_version + 1) for cell in cells]
    assert unpublished.missing(later, Publication(published)) == later
