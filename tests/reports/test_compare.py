"""Another store beside this one: its own arms join; shared ones are overlaid and tested."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from reports import ReportError
from reports.page.compare import beside
from reports.page.own_method import ABOVE, ALIKE, BELOW, against_others
from reports.page.page import write_report
from results.store import Store


@pytest.fixture
def stores(tmp_path, fill):
    """A store of two methods and two seeds; one of four methods, six seeds and a second suite."""
    mine = fill(tmp_path / "mine", methods=("apb", "zero"))
    theirs = fill(tmp_path / "theirs", methods=("apb", "zero", "td3", "maml"), seeds=6)
    fill(tmp_path / "theirs", suite="other", methods=("apb",), seeds=1)
    return mine, theirs


def page_of(tmp_path, mine, theirs, jobs=0):
    """The page; with no `jobs` it has no figures, which would take most of the time."""
    (page,) = write_report(mine, tmp_path / "out", formats=["md"], compare=theirs, jobs=jobs)
    return page.read_text(encoding="utf-8")


def test_what_only_the_other_has_joins_every_table(tmp_path, stores):
    page = page_of(tmp_path, *stores)
    assert "Taken from " in page and "not run here: td3 and maml." in page
    answer = page.split("\n## At a glance\n")[1].split("\n## ")[0]
    assert "| td3 |" in answer and "| maml |" in answer
    curves = pd.read_csv(
        tmp_path / "out/data/ood_quick_point-goal_ood-curves.csv", keep_default_na=False
    )
    seeds = curves[curves["env_steps"] == 0].groupby("method")["n_seeds"].max().to_dict()
    assert seeds == {"apb": 2, "zero": 2, "td3": 6, "maml": 6}  # ours are not mixed with theirs
    training = pd.read_csv(
        tmp_path / "out/data/ood_quick_point-goal_meta-training-seeds.csv", keep_default_na=False
    )
    assert not training.duplicated(["method", "seed", "env_steps"]).any()
    origin = pd.read_csv(tmp_path / "out/data/cells.csv", keep_default_na=False)
    assert {"td3", "maml"} <= set(origin["method"])


def test_published_results_with_seeds_still_to_come_are_compared(tmp_path, fill):
    """Those seeds are not planned yet, so nothing says where their numbers would come from."""
    fill(tmp_path / "mine", suite="id", methods=("zero",))
    page_of(tmp_path, Path("published"), tmp_path / "mine")
    origin = pd.read_csv(tmp_path / "out/data/cells.csv", keep_default_na=False)
    assert len(origin) and (origin["id"] != "").all()


def test_a_meta_training_that_both_have_counts_once(stores):
    """As when a method that only the other store has adapts what one here meta-trains."""
    mine, (rows, cells) = (Store(place, create=False).read(["ood"]) for place in stores)
    trained = cells[cells["method"] == "apb"].set_index(["split", "seed"])["train_id"]
    guests = cells["method"] == "maml"
    places = cells.loc[guests, ["split", "seed"]].itertuples(index=False, name=None)
    cells.loc[guests, "train_id"] = [trained[place] for place in places]
    joined = pd.concat([mine[0], beside(mine, (rows, cells), "x").only_there[0]])
    curves = joined[joined["stage"] == "train"]
    shared = {*mine[1]["train_id"].dropna()} & {*trained}
    assert shared and shared < {*curves["cell_id"]}
    assert not curves.duplicated(["cell_id", "env_steps"]).any()


def test_what_both_have_is_compared(tmp_path, stores):
    page = page_of(tmp_path, *stores, jobs=1)
    assert "scores differ by more than chance" in page
    found = pd.read_csv(tmp_path / "out/data/comparison.csv", keep_default_na=False)
    assert set(found["method"]) == {"apb", "zero"} and set(found["suite"]) == {"ood"}
    assert found["n_seeds"].tolist() == [2] * len(found) and found["n_known"].tolist() == [6] * len(
        found
    )
    assert found["difference"].astype(float).tolist() == pytest.approx(
        [-2.0] * 6
    )  # seeds 0 and 1 against 0 to 5; each seed returns 1 more than the one before
    drawn = re.findall(r"\]\((figures/ood_quick_point-goal_[^)]*compared[^)]*\.svg)\)", page)
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
    assert found.left_out == [
        "Left out: ood, quick, point-goal, id: measured with other versions of family, suite or"
        " protocol"
    ]
    assert {
        split for _, cells in (found.only_there, found.in_both) for split in cells["split"]
    } == {"ood"}


def test_nothing_in_common_is_an_error(tmp_path, fill, stores):
    other = fill(tmp_path / "third", suite="third")
    with pytest.raises(ReportError, match="has none of the suites of this report, only third"):
        write_report(stores[0], tmp_path / "out", compare=other)


def test_a_store_beside_itself_is_refused_and_a_copy_is_said_to_be_one(tmp_path, stores):
    with pytest.raises(ReportError, match="these are the report's own results"):
        page_of(tmp_path, stores[0], stores[0])
    shutil.copytree(stores[0], tmp_path / "copy")
    page = page_of(tmp_path, stores[0], tmp_path / "copy")
    assert "Taken from" not in page and "0 of 6 scores differ" in page
    # two seeds against two can reach p = 1/3, and 14 against two 1/120
    assert (
        "6 have too few seeds for a certain answer: with 6 tests, Holm's first step needs p ≤"
        " 0.0083," in page
    )
    assert (
        " which 2 seeds here against 2 there cannot reach; 14 seeds here would suffice.\n" in page
    )
    assert "8 of 8 compared cells are the same in both" in page


def test_nothing_to_compare_with_names_the_option(tmp_path, stores):
    with pytest.raises(ReportError, match=r"--compare: .*no results there"):
        page_of(tmp_path, stores[0], tmp_path / "none")


def test_a_method_that_was_not_measured_alike_is_named(stores):
    mine, (rows, cells) = (Store(place, create=False).read(["ood"]) for place in stores)
    newer, other = rows.copy(), rows.copy()
    newer.loc[newer["method"] == "apb", "method_version"] = 2
    other.loc[other["method"] == "zero", "config_hash"] = "beef"
    said = beside(mine, (newer, cells), "x").remarks
    assert said[0] == "apb was measured differently there: here at version 1, there at 2"
    assert (
        "zero was measured differently there: here with other settings"
        in beside(mine, (other, cells), "x").remarks
    )
    assert not any(
        "measured differently" in remark for remark in beside(mine, (rows, cells), "x").remarks
    )


def test_a_method_of_ones_own_is_tested_against_all_others(tmp_path, fill, returned):
    mine = fill(tmp_path / "mine", methods=("apb",), seeds=6)
    theirs = fill(tmp_path / "theirs", methods=("td3", "maml"), seeds=6)
    page = page_of(tmp_path, mine, theirs)
    assert "It is better than td3 and maml." in page and "No method has scores in both." not in page
    assert "### apb: point-goal, split ood, shift axis angle (ood, quick)" in page
    # for the split ood and its axis angle
    assert page.count("The tasks of this axis are exact linear images of training tasks.") == 1
    found = pd.read_csv(tmp_path / "out/data/comparison-own.csv", keep_default_na=False)
    assert set(found["method"]) == {"apb"} and set(found["other"]) == {"td3", "maml"}
    one = found[(found["other"] == "td3") & (found["axis"] == "radius")].iloc[0]
    seeds = range(6)
    a, b = ([returned(name, 0.5, seed, 200) for seed in seeds] for name in ("apb", "td3"))
    assert one["mean"] == pytest.approx(sum(a) / 6) and one["other_mean"] == pytest.approx(
        sum(b) / 6
    )
    assert one["difference"] == pytest.approx(10) and one["p"] == pytest.approx(2 / 924)
    assert one["p_holm"] == pytest.approx(6 * 2 / 924)  # 6 tests: two other methods on three axes
    few = page_of(tmp_path, fill(tmp_path / "few", methods=("apb",)), theirs)
    assert (
        "For 2 of 2 there are too few seeds to detect any difference; run it with more (--seeds)."
        in few
    )


def test_own_scores_that_are_worse_or_alike_are_called_so():
    def scores(**means):
        return pd.DataFrame(
            {
                "suite": "s",
                "budget": "b",
                "family": "f",
                "split": "ood",
                "axis": "a",
                "method": name,
                "variant": "",
            }
            | {"seed": seed, "env_steps": 100, "return_mean": mean + seed}
            for name, mean in means.items()
            for seed in range(8)
        )

    found = against_others(scores(mine=0.0), scores(far=50.0, near=0.5, low=-50.0))
    assert found["other"].tolist() == ["far", "near", "low"] and found["verdict"].tolist() == [
        BELOW,
        ALIKE,
        ABOVE,
    ]
    assert found["difference"].tolist() == [-50.0, -0.5, 50.0]


def test_the_verdict_comes_first_and_to_the_left(tmp_path, stores):
    head = (
        "| method | verdict | here | there (lowest to highest seed) | difference | p (Holm) | least"
        " effect | detectable |"
    )
    assert (
        f"{head} seeds |\n| --- | :--- |{' ---: |' * 7}\n| apb | too few seeds to tell |"
        in page_of(tmp_path, *stores)
    )


def test_own_methods_guests_and_twins_at_once(tmp_path, fill):
    mine = fill(tmp_path / "mine", methods=("apb", "zero"), seeds=6)
    page = page_of(tmp_path, mine, fill(tmp_path / "theirs", methods=("zero", "td3"), seeds=6))
    assert "It is better than td3 and zero." in page and "3 of 6 scores differ" not in page
    found = pd.read_csv(tmp_path / "out/data/comparison-own.csv", keep_default_na=False)
    assert found.groupby(["split", "axis"])["other"].agg(list).tolist() == [["td3", "zero"]] * 3
    assert set(pd.read_csv(tmp_path / "out/data/comparison.csv")["method"]) == {"zero"}
