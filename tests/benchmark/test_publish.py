"""From a real smoke store to published results: whole, the same every time, and refused where it is not fit to be shown."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark import publish as publishing
from benchmark.choices import InputError
from benchmark.plugins import load_method
from benchmark.publish import publish
from benchmark.suites import BUDGETS, SUITES
from methods import METHODS
from results.publication import Publication
from results.store import Store

SANITY = SUITES["sanity"]


@pytest.fixture(autouse=True)
def _two_seeds_will_do(monkeypatch):
    monkeypatch.setitem(publishing.BUDGETS, "smoke", replace(BUDGETS["smoke"], published_seeds=2))


@pytest.fixture
def store(sanity, tmp_path):
    """A copy to be spoiled."""
    shutil.copytree(sanity, tmp_path / "store")
    return tmp_path / "store"


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_publishing_twice_gives_the_same_bytes(sanity, tmp_path):
    one = publish(sanity, SANITY, tmp_path / "one", dirty=True)
    two = publish(sanity, SANITY, tmp_path / "two", dirty=True)
    assert contents(one) == contents(two)
    again = publish(sanity, SANITY, tmp_path / "one", dirty=True)  # in its own place
    assert contents(again) == contents(two)
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["sanity"]


def test_what_is_published_is_all_that_was_measured(sanity, tmp_path):
    folder = publish(sanity, SANITY, tmp_path, dirty=True)
    published = Publication(tmp_path)
    assert published.altered("sanity") == []
    (rows, cells), (known, _) = published.read(), Store(sanity, create=False).read()
    assert len(rows) == len(known) and len(cells) == 6
    manifest = published.manifest("sanity")
    assert manifest["methods"]["apb"]["version"] == 2 and manifest["budgets"] == ["smoke"]
    assert manifest["ran_on"]["torch"] == [torch.__version__] and manifest["ran_on"]["mujoco_threads"]
    page = (folder / "report/report.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert links and all((folder / "report" / link).is_file() for link in links)
    assert not list(folder.rglob("*.pdf"))
    (state,) = (folder / "checkpoints").iterdir()  # of the one method that meta-trains, and one seed
    assert torch.load(state, weights_only=True)


def test_a_failure_leaves_what_was_published_before(sanity, tmp_path, monkeypatch):
    folder = publish(sanity, SANITY, tmp_path, dirty=True)
    before = contents(tmp_path)
    monkeypatch.setattr(publishing, "render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publish(sanity, SANITY, tmp_path, dirty=True)
    assert contents(tmp_path) == before and folder.is_dir()


def refused(store, **changes):
    with pytest.raises(InputError) as error:
        publish(store, SANITY, **{"out": store.parent / "out", "dirty": True, **changes})
    assert not (store.parent / "out").exists()
    return str(error.value)


def test_what_is_not_sanity_is_refused(store):
    next((store / "adapt").glob("*/*/cell.json")).unlink()
    assert "1 of 6 cells are not done, such as " in refused(store)


def test_too_few_seeds_are_refused(store, monkeypatch):
    monkeypatch.setitem(publishing.BUDGETS, "smoke", replace(BUDGETS["smoke"], published_seeds=3))
    assert "has 2 seeds and budget smoke asks for 3: run with --seeds" in refused(store)
    monkeypatch.setitem(publishing.BUDGETS, "smoke", replace(BUDGETS["smoke"], published_seeds=0))
    assert "budget smoke is not for publishing" in refused(store)


def test_other_versions_are_refused(store, monkeypatch):
    monkeypatch.setattr(load_method(METHODS["td3"]), "version", 99)
    assert re.search(r"td3 was measured at version \d+, and is at 99 now", refused(store))
    monkeypatch.undo()
    monkeypatch.setitem(publishing.BUDGETS, "smoke", replace(BUDGETS["smoke"], published_seeds=2))
    monkeypatch.setitem(publishing.SUITES, "sanity", replace(SANITY, version=7))
    assert "it was planned for version 1 of the suite" in refused(store)


def test_a_method_that_others_do_not_have_is_refused(reference, monkeypatch):
    with pytest.raises(InputError, match="hill-climbing is a method of somebody's own"):
        publish(reference[0], SUITES["ood"], Path("out"), dirty=True)


def test_cells_of_several_machines_software_are_refused(store, monkeypatch):
    record, seen = Store.record, []

    def other(self, key):
        seen.append(key)
        return record(self, key) | ({"packages": {"torch": "1.0"}} if len(seen) == 1 else {})

    monkeypatch.setattr(Store, "record", other)
    assert "its cells ran with several versions (packages: " in refused(store)


@pytest.mark.parametrize(
    ("commit", "complaint"),
    [(None, "ran outside a checkout"), ("ab12+dirty", "on changes that were not committed (ab12+dirty)")],
)
def test_code_that_nobody_has_is_refused_unless_told(store, monkeypatch, commit, complaint):
    record = Store.record
    monkeypatch.setattr(Store, "record", lambda self, key: record(self, key) | {"commit": commit})
    assert complaint in refused(store, dirty=False)
    assert publish(store, SANITY, store.parent / "out", dirty=True).is_dir()


def test_an_installed_package_is_no_target(store, monkeypatch):
    monkeypatch.setattr(publishing, "PUBLISHED", store.parent / "site-packages/results/published")
    assert "belongs to an installed package" in refused(store, out=None)


def test_bad_input_is_one_line(cli, sanity):
    assert "unknown suite 'oood'" in cli("publish", "--suite", "oood").complaint
    assert "no results" in cli("publish", "--suite", "ood").complaint
    assert "no results of suite ood" in cli("publish", "--suite", "ood", "--store", sanity).complaint
