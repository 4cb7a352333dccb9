"""A store that a run could have left → the report's files: whole, reproducible, safe to open."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import reports
from reports import ReportError
from reports.page.page import _joined
from reports.page.page import write_report as write_pages
from reports.parts.provenance import shortfalls
from results.store import Store, StoreError


def write_report(store, out, suites=None, **more):
    """The Markdown page, which has all of the HTML page that follows from the store's rows.

    With `jobs=0` no figures are drawn; they take most of the time.
    """
    (page,) = write_pages(store, out, suites, ["md"], **more)
    return page


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def report(tmp_path_factory, fill):
    """The report of a store with a failed and a missing cell."""
    root = tmp_path_factory.mktemp("report")
    fill(root / "store", ended={("td3", 1): "failed", ("maml", 1): "missing"})
    return write_report(root / "store", root / "out")


def test_the_page_answers_with_its_seeds(report):
    page = report.read_text(encoding="utf-8")
    assert "Who adapts out of distribution?" in page
    # the line of an axis that is not exact says nothing of exactness
    assert "**Shift axis radius**, after 200 steps: " in page
    exact, others, last = page.split("#### Split ood, budget quick\n\n")[1].split("\n\n")[:3]
    assert exact == (
        "On shift axes of exact linear images (point-goal angle), **apb** ends highest (return"
        " −28.5), ahead of td3 (−39.0) and maml (−63.2)."
    )
    assert others.startswith("On other shift axes (point-goal radius), **apb** ends highest")
    assert "scores show that methods learn, not who wins. Fewer than five seeds" in last
    assert last.endswith("6 of 8 cells are done, 1 failed.")
    (angle,) = [line for line in page.splitlines() if line.startswith("**Shift axis angle (exact")]
    assert "Gained over b = 0 in every seed: apb (+26.0), td3 (+26.0) and maml (+11.8)." in angle
    assert "Highest mean returns among learning methods: apb (−28.5), then td3 (−39.0)." in angle
    assert angle.endswith(
        "Seeds per method: 1 to 2; a claim of significance needs at least 5 per method."
    )


def test_the_page_shows_what_is_not_finished_and_what_it_rests_on(report):
    page = report.read_text(encoding="utf-8")
    assert "unfinished (1 of 2 seeds, 1 failed)" in page and "unfinished (1 of 2 seeds)" in page
    assert (
        r"- td3, point-goal, split ood, budget quick, seed 1: failed (loss is \| not finite)"
        in page
    )
    assert "- maml, point-goal, split ood, budget quick, seed 1: missing" in page
    assert "| ood | 1 | 16 | 12 | 2 | 2 |" in page
    assert "| point-goal | quick | 1+ab | 0, 50, 100, 200 |" in page
    assert "| apb | 1 | c0ffee | – |" in page


def test_every_link_is_there_and_nothing_else_is(report):
    links = re.findall(r"\]\((?!https://)([^)]+)\)", report.read_text(encoding="utf-8"))
    written = set(contents(report.parent)) - {"report.md"}
    assert set(links) <= written
    assert {name for name in written if not name.endswith("-seeds.csv")} == set(links)


def test_figures_are_pdf_too_where_asked_for(tmp_path, fill):
    write_pages(
        fill(tmp_path / "store", splits=("ood",)), tmp_path / "out", formats=["latex"], pdf=True
    )
    kinds = {
        kind: {path.stem for path in (tmp_path / "out" / "figures").glob(f"*.{kind}")}
        for kind in ("svg", "pdf")
    }
    assert kinds["svg"] == kinds["pdf"] and len(kinds["pdf"]) > 3


def test_the_points_are_the_scores(report, returned):
    points = pd.read_csv(
        report.parent / "data/ood_quick_point-goal_ood-curves.csv", keep_default_na=False
    )
    last = points[
        (points["axis"] == "angle") & (points["method"] == "apb") & (points["env_steps"] == 200)
    ].iloc[0]
    levels = [returned("apb", shift, seed, 200) for shift in (0.2, 0.8) for seed in (0, 1)]
    np.testing.assert_allclose(float(last["mean"]), np.mean(levels))
    assert set(points["axis"]) == {"angle", "radius"} and last["interval"] == "min–max"


def test_what_is_lost_outside_the_distribution_is_paired_by_seed(report, returned):
    table = pd.read_csv(
        report.parent / "data/generalisation-gaps.csv", keep_default_na=False
    ).set_index(["axis", "method"])
    outside = np.mean([returned("apb", shift, 0, 200) for shift in (0.2, 0.8)])
    np.testing.assert_allclose(
        float(table.loc[("angle", "apb"), "gap"]), returned("apb", 0.0, 0, 200) - outside
    )
    assert table.loc[("angle", "td3"), "n_seeds"] == 1  # one of two failed
    page = report.read_text(encoding="utf-8")
    gaps = page.split("## Generalisation gap")[1].split("\n## ")[0]
    assert (
        "| apb | 5.00 ± 0.00 | – | 2 |"
        in gaps.split("### point-goal, shift axis radius, budget quick")[1]
    )


def test_one_split_has_no_gap(tmp_path, fill):
    store = fill(tmp_path / "store", splits=("ood",))
    page = write_report(store, tmp_path / "out", jobs=0).read_text(encoding="utf-8")
    assert "Generalisation gap" not in page


def test_the_score_against_shift_is_there_where_levels_are(report, returned):
    points = pd.read_csv(
        report.parent / "data/ood_quick_point-goal_ood_against_shift.csv", keep_default_na=False
    )
    assert set(points["axis"]) == {"angle"}
    last = (
        points[(points["method"] == "apb") & (points["moment"] == "last")]
        .set_index("level")["mean"]
        .astype(float)
    )
    np.testing.assert_allclose(last, [returned("apb", shift, 0.5, 200) for shift in (0.2, 0.8)])
    assert not (report.parent / "data/ood_quick_point-goal_id_against_shift.csv").exists()


def test_variants_stand_side_by_side_and_old_plans_read(tmp_path, fill):
    fill(tmp_path / "store", methods=("apb", "td3", "apb-random"), splits=("ood",))
    opened = Store(tmp_path / "store", create=False)
    (plan,) = opened.plans()
    for cell in plan["cells"]:
        del cell["isomorphic_axes"]  # as in older plans
    opened.write_plan(plan)
    page = write_report(tmp_path / "store", tmp_path / "out").read_text(encoding="utf-8")
    assert (
        "##### Variants of apb: shift axis angle\n" in page
        and "##### Variants of apb: shift axis radius\n" in page
    )
    assert "Variants of td3" not in page and "exact linear images of training tasks)" not in page
    points = pd.read_csv(
        tmp_path / "out/data/ood_quick_point-goal_ood_angle_variants_apb.csv", keep_default_na=False
    )
    assert points[["method", "at"]].to_numpy().tolist() == [
        [m, b] for m in ("apb", "apb-random") for b in (0, 100, 200)
    ]


def test_the_same_store_gives_the_same_bytes(report, tmp_path):
    again = write_report(report.parent.parent / "store", tmp_path / "other")
    assert contents(again.parent) == contents(report.parent)


def test_processes_draw_what_one_draws(report, tmp_path):
    write_pages(report.parent.parent / "store", tmp_path / "other", formats=["md"], jobs=2)
    assert contents(tmp_path / "other") == contents(report.parent)


def test_hostile_names(tmp_path, fill, hostile):
    out = write_report(fill(tmp_path / "store", methods=("apb", hostile)), tmp_path / "out")
    page = out.read_text(encoding="utf-8")
    assert (
        "<script" not in page
        and "\n# [x]" not in page
        and "](http:" not in page.replace("\\](http:", "")
    )
    tables = [block for block in page.split("\n\n") if block.startswith("| ")]
    assert all(
        len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1
        for block in tables
    )
    assert {path.name for path in tmp_path.iterdir()} == {"store", "out"}
    assert hostile in set(
        pd.read_csv(io.BytesIO(contents(out.parent)["data/ood_quick_point-goal_id-curves.csv"]))[
            "method"
        ]
    )


def test_only_failures_make_a_page_without_figures(tmp_path, fill):
    store = fill(
        tmp_path / "store", methods=("td3",), ended={("td3", 0): "failed", ("td3", 1): "missing"}
    )
    page = write_report(store, tmp_path / "out").read_text(encoding="utf-8")
    assert "Nothing is finished yet, so there is no answer." in page
    assert "| td3 | unfinished (0 of 2 seeds, 1 failed) |" in page
    assert not list((tmp_path / "out" / "figures").glob("*_ood.svg"))


def test_suites_are_chosen_in_order(tmp_path, fill):
    store = tmp_path / "store"
    for suite in ("a", "b"):
        fill(store, methods=("apb",), seeds=1, splits=("ood",), suite=suite)
    page = write_report(store, tmp_path / "out", ["b", "a"], jobs=0).read_text(encoding="utf-8")
    headings = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert headings == [
        "At a glance",
        "How to read this",
        "Families of b",
        "Families of a",
        "Claims of the paper",
        "All families together",
        "Claims, test by test",
        "Provenance",
    ]
    page = write_report(store, tmp_path / "one", ["a"], jobs=0).read_text(encoding="utf-8")
    assert "## Families of b" not in page and "| b |" not in page


def test_a_page_begins_with_what_readers_come_for(tmp_path, fill):
    for suite in ("ablation", "id", "ood"):
        fill(tmp_path / "store", methods=("apb",), seeds=1, splits=("ood",), suite=suite)
    page = write_report(tmp_path / "store", tmp_path / "out").read_text(encoding="utf-8")
    assert re.findall("## Families of (.*)", page) == ["ood", "id", "ablation"]


@pytest.mark.parametrize("suites", [None, ["ood"]])
def test_no_results(tmp_path, suites):
    with pytest.raises(StoreError, match="run a suite first"):
        write_report(tmp_path / "none", tmp_path / "out", suites)
    Store(tmp_path / "empty", create=True)
    with pytest.raises(ReportError, match="no suite yet; run one first"):
        write_report(tmp_path / "empty", tmp_path / "out", suites)
    assert not (tmp_path / "out").exists()


def test_an_unknown_suite_is_named_with_those_there_are(tmp_path, fill):
    store = fill(tmp_path / "store", methods=("apb",), seeds=1)
    with pytest.raises(ReportError, match="no suite 'gap'; it has ood"):
        write_report(store, tmp_path / "out", ["gap"])


def test_what_is_missing_and_what_is_left_over_is_told(tmp_path, fill):
    told = []
    store = fill(
        tmp_path / "store",
        methods=("apb", "td3"),
        ended={("td3", 0): "failed", ("td3", 1): "missing"},
    )
    write_report(store, tmp_path / "out", tell=told.append)
    assert told == [
        "suite ood: 4 of 8 cells are done (2 failed, 2 missing); run it again to continue"
    ]
    told.clear()
    less = fill(tmp_path / "less", methods=("apb",), splits=("id",))
    write_report(less, tmp_path / "fresh", tell=told.append)
    assert told == []
    write_report(less, tmp_path / "out", tell=told.append)
    out, fresh = (
        {
            path.relative_to(tmp_path / name)
            for kind in ("figures/*.svg", "data/*.csv")
            for path in (tmp_path / name).glob(kind)
        }
        for name in ("out", "fresh")
    )
    (line,) = told
    assert (
        f"also holds {len(out - fresh)} figures and tables of an earlier report" in line
        and out - fresh
    )


def test_an_unwritable_place_is_an_error_with_a_way_out(tmp_path, fill):
    store = fill(tmp_path / "store", methods=("apb",), seeds=1)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        ReportError, match=r"cannot write the report to .*choose another folder with --out"
    ):
        write_report(store, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_an_interrupted_report_leaves_whole_files(tmp_path, monkeypatch, fill):
    store = fill(tmp_path / "store", methods=("apb",), seeds=1)
    before = contents(write_report(store, tmp_path / "out").parent)
    fsync, calls = os.fsync, iter(range(100))

    def full(descriptor):
        if next(calls) == 3:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReportError, match="No space left on device"):
        write_report(store, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_reports_need_no_simulator_and_no_learner(tmp_path):
    code = (
        "import sys, reports\nassert not {'pandas', 'matplotlib', 'numpy'} & set(sys.modules),"
        " 'import reports is not light'\nimport reports.page.page,"
        " results.store\nprint(sorted({'torch', 'mujoco', 'gymnasium', 'envs', 'methods',"
        " 'benchmark'} & set(sys.modules)))\n"
    )
    path = {**os.environ, "PYTHONPATH": str(Path(reports.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_what_cannot_be_read_is_told_before_any_page():
    lines = [
        ("done", "done", "a"),
        ("done", "corrupt", "b"),
        ("done", "corrupt", "b"),
        ("missing", "missing", "c"),
        ("done", None, None),
    ]
    cells = pd.DataFrame(lines, columns=["status", "train_status", "train_id"]).assign(suite="ood")
    assert list(shortfalls(cells)) == [
        "suite ood: 4 of 5 cells are done (1 missing); run it again to continue",
        "suite ood: meta-trainings of finished cells that cannot be read: 1; run it again to"
        " repeat them",
    ]
    told = "suite ood: 1 of 2 cells are done (1 missing); `run --unpublished` runs what is missing"
    assert next(shortfalls(cells.iloc[[2, 3]], published="--unpublished")) == told
    assert list(shortfalls(cells.iloc[[0, 4]])) == []


def test_measures_of_what_both_have_are_the_reports_own():
    """Measures of guests join; another machine's for a stage in both would count twice."""

    def cells_of(*names):
        return pd.DataFrame(
            {"suite": "s", "adapt_id": names, "train_id": [f"t-{n}" for n in names]}
        )

    def measures_of(value, *stages):
        return pd.DataFrame({"cell_id": stages, "name": "n", "value": value})

    class Others:
        def measures(self, suites):
            assert suites == ["s"]
            return measures_of(2.0, "a", "b", "t-a", "t-b")

    rows = pd.DataFrame({"cell_id": ["a"]})
    ours = rows, cells_of("a"), measures_of(1.0, "a", "t-a")
    guests = pd.DataFrame({"cell_id": ["b"]}), cells_of("b")
    found = _joined(ours, guests, Others())
    assert found[0]["cell_id"].tolist() == ["a", "b"]
    told = found[2].set_index("cell_id")["value"].to_dict()
    assert len(found[2]) == 4 and told == {"a": 1.0, "t-a": 1.0, "b": 2.0, "t-b": 2.0}
