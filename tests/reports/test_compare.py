"""Another store beside this one: its own arms join, those of both are laid over each other and tested."""

import re

import pandas as pd
import pytest

from reports import ReportError
from reports.compare import beside
from reports.page import write_report
from results.store import Store


@pytest.fixture
def stores(tmp_path, fill):
    """A store of two methods and two seeds, and another of four methods, six seeds and another suite."""
    mine = fill(tmp_path / "mine", methods=("apb", "zero"))
    theirs = fill(tmp_path / "theirs", methods=("apb", "zero", "td3", "maml"), seeds=6)
    fill(tmp_path / "theirs", suite="other", methods=("apb",), seeds=1)
    return mine, theirs


def page_of(tmp_path, mine, theirs, **more):
    (page,) = write_report(mine, tmp_path / "out", formats=["md"], compare=theirs, **more)
    return page.read_text(encoding="utf-8")


def test_what_only_the_other_has_joins_every_table(tmp_path, stores):
    page = page_of(tmp_path, *stores)
    assert "Taken from " in page and "not run here: td3 and maml." in page
    answer = page.split("\n## ood\n")[1].split("###")[0]
    assert "td3" in answer and "maml" in answer
    curves = pd.read_csv(tmp_path / "out/data/ood_quick_point-goal_ood-curves.csv", keep_default_na=False)
    seeds = curves[curves["env_steps"] == 0].groupby("method")["n_seeds"].max().to_dict()
    assert seeds == {"apb": 2, "zero": 2, "td3": 6, "maml": 6}  # ours are not mixed with theirs
    training = pd.read_csv(tmp_path / "out/data/ood_quick_point-goal_meta-training-seeds.csv", keep_default_na=False)
    assert not training.duplicated(["method", "seed", "env_steps"]).any()
    origin = pd.read_csv(tmp_path / "out/data/cells.csv", keep_default_na=False)
    assert {"td3", "maml"} <= set(origin["method"])


def test_what_both_have_is_compared(tmp_path, stores):
    page = page_of(tmp_path, *stores)
    assert "scores differ by more than chance" in page
    found = pd.read_csv(tmp_path / "out/data/comparison.csv", keep_default_na=False)
    assert set(found["method"]) == {"apb", "zero"} and set(found["suite"]) == {"ood"}
    assert found["n_seeds"].tolist() == [2] * len(found) and found["n_known"].tolist() == [6] * len(found)
    assert found["difference"].astype(float).tolist() == pytest.approx(
        [-2.0] * 6
    )  # seeds 0, 1 against 0 … 5, each one higher than the one before
    drawn = re.findall(r"\]\((figures/ood_quick_point-goal_[^)]*compared[^)]*\.png)\)", page)
    assert len(drawn) == 3 and all((tmp_path / "out" / name).exists() for name in drawn)


def test_the_html_page_holds_it_all(tmp_path, stores):
    (page,) = write_report(stores[0], tmp_path / "out", formats=["html"], compare=stores[1])
    text = page.read_text(encoding="utf-8")
    assert "Compared with" in text and "figures/" not in text


def test_other_versions_are_left_out_and_said(stores):
    mine, theirs = (Store(place, create=False).read(["ood"]) for place in stores)
    moved = theirs[0].copy()
    moved.loc[moved["split"] == "id", "family_version"] = "2+cd"
    found = beside(mine, (moved, theirs[1]), "x")
    assert found.left_out == ["ood, quick, point-goal, id: measured with other versions of family, suite or protocol"]
    assert {split for _, cells in (found.guests, found.twins) for split in cells["split"]} == {"ood"}


def test_nothing_in_common_is_an_error(tmp_path, fill, stores):
    other = fill(tmp_path / "third", suite="third")
    with pytest.raises(ReportError, match="has none of the suites of this report, only third"):
        write_report(stores[0], tmp_path / "out", compare=other)


def test_a_store_beside_itself_is_the_same(tmp_path, stores):
    page = page_of(tmp_path, stores[0], stores[0])
    assert "Taken from" not in page and "0 of 6 scores differ" in page
    # two seeds against two reach p = 1/3, 14 against two 1/120
    assert "6 could not have been told apart, whatever their distance: of 6 tests together the first needs p ≤ 0.0083," in page
    assert " which 2 seeds here against 2 there cannot reach; 14 seeds here could.\n" in page


def test_the_verdict_comes_first_and_to_the_left(tmp_path, stores):
    head = "| method | verdict | here | there (lowest to highest seed) | difference | p (Holm) | least effect | detectable |"
    assert f"{head} seeds |\n| --- | :--- |{' ---: |' * 7}\n| apb | too few seeds to tell |" in page_of(tmp_path, *stores)
