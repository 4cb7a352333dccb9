"""Publishing a real smoke store: whole, reproducible, and refused where it is not fit to show."""

import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmark import publish as publishing
from benchmark import publishable, states
from benchmark.additions import Parts, _built_on_another, of_today
from benchmark.arguments import InputError
from benchmark.plugins import load_method
from benchmark.publish import publish
from benchmark.suites import BUDGETS, SUITES, TD3
from methods import METHODS
from reports.page.cover import _seeds, write_cover
from results.files import seal, unseal
from results.publication import Publication
from results.store import CellKey, Store, StoreError

SANITY = replace(SUITES["sanity"], families={"smoke": ("point-goal",)})


@pytest.fixture(autouse=True)
def _two_seeds_will_do(monkeypatch):
    monkeypatch.setitem(publishing.BUDGETS, "smoke", replace(BUDGETS["smoke"], published_seeds=2))


@pytest.fixture
def store(sanity, tmp_path):
    """A copy of the store `sanity`, which a test may spoil."""
    shutil.copytree(sanity, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def published(published_sanity, tmp_path):
    """The suite's folder in a copy of `published_sanity`, which a test may overwrite and spoil."""
    shutil.copytree(published_sanity, tmp_path / "out")
    return tmp_path / "out/sanity"


@pytest.fixture
def unrendered(monkeypatch):
    """Publish without a report, which takes seconds."""
    monkeypatch.setattr(publishing, "render", lambda folder, suite, out: None)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_publishing_twice_gives_the_same_bytes(sanity, published_sanity, tmp_path):
    once = contents(published_sanity / "sanity")
    assert contents(publish(sanity, SANITY, tmp_path / "out", dirty=True)) == once
    again = publish(sanity, SANITY, tmp_path / "out", dirty=True)  # over itself
    assert contents(again) == once
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sanity"]


def test_what_is_published_is_all_that_was_measured(sanity, published_sanity):
    folder, publication = published_sanity / "sanity", Publication(published_sanity)
    assert publication.altered("sanity") == []
    (rows, cells), (known, _) = publication.read(), Store(sanity, create=False).read()
    assert len(rows) == len(known) and len(cells) == 6
    manifest = publication.manifest("sanity")
    assert manifest["methods"]["apb"]["version"] == 2 and manifest["budgets"] == ["smoke"]
    assert (
        manifest["ran_on"]["torch"] == [torch.__version__] and manifest["ran_on"]["mujoco_threads"]
    )
    page = (folder / "report.md").read_text()
    assert re.findall(r"\]\(([^)]+)\)", page) == ["overview.svg"] and "| apb |" in page
    assert (folder / "overview.svg").read_text().count('class="curve"') > 1
    scores = pd.read_csv(folder / "scores.csv")
    last = rows[
        (rows["method"] == "td3") & (rows["shift_axis"] == "radius") & (rows["env_steps"] == 200)
    ]
    mean = last.groupby(["seed", "shift"])["return_mean"].mean().groupby("seed").mean().mean()
    line = scores[
        (scores["method"] == "td3") & (scores["axis"] == "radius") & (scores["env_steps"] == 200)
    ]
    assert line["mean"].item() == pytest.approx(mean, rel=1e-12) and line["n_seeds"].item() == 2
    (state,) = (folder / "states").iterdir()  # of the one method that meta-trains, for one seed
    assert states.from_bytes(state.read_bytes())


@pytest.mark.usefixtures("unrendered")
def test_what_a_killed_publication_left_is_taken_up_and_swept(sanity, tmp_path):
    folder = publish(sanity, SANITY, tmp_path, dirty=True)
    before = contents(folder)
    (tmp_path / ".sanity.x1y2").mkdir()
    shutil.copy(folder / "manifest.json", tmp_path / ".sanity.x1y2")  # as if killed before the end
    assert Publication(tmp_path).suites == ["sanity"]  # it is not read
    folder.rename(tmp_path / ".sanity.old")  # as if killed in the middle of the exchange
    assert contents(publish(sanity, SANITY, tmp_path, dirty=True)) == before
    assert [path.name for path in tmp_path.iterdir()] == ["sanity"]


def test_where_training_takes_long_the_states_of_every_seed_are_published(
    sanity, tmp_path, unrendered, monkeypatch
):
    monkeypatch.setattr(publishing, "STATES_OF_ALL", ("smoke",))
    folder = publish(sanity, SANITY, tmp_path / "out", dirty=True)
    kept = {path.stem for path in (folder / "states").iterdir()}
    cells = Publication(tmp_path / "out").read()[1].dropna(subset="train_id")
    assert kept == set(cells["train_id"]) and len(kept) == 2 == cells["seed"].nunique()


@pytest.mark.usefixtures("unrendered")
def test_an_exchange_that_fails_puts_the_old_one_back(sanity, tmp_path, monkeypatch):
    folder = publish(sanity, SANITY, tmp_path, dirty=True)
    before, rename = contents(folder), Path.rename

    def full(self, target):
        if self.name.startswith(".sanity.") and not self.name.endswith(".old"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(StoreError, match="disk or the quota is full"):
        publish(sanity, SANITY, tmp_path, dirty=True)
    assert contents(tmp_path) == {f"sanity/{name}": data for name, data in before.items()}


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize("link", [False, True])
def test_other_peoples_files_stay(sanity, tmp_path, link):
    theirs = tmp_path / ("theirs" if link else "out/sanity")
    theirs.mkdir(parents=True)
    (theirs / "thesis.txt").write_text("precious")
    if link:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/sanity").symlink_to(theirs)
    with pytest.raises(InputError, match="exists and is not a published suite; move it"):
        publish(sanity, SANITY, tmp_path / "out", dirty=True)
    assert (theirs / "thesis.txt").read_text() == "precious"


def test_a_failure_leaves_what_was_published_before(sanity, published, monkeypatch):
    before = contents(published.parent)
    monkeypatch.setattr(publishing, "render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publish(sanity, SANITY, published.parent, dirty=True)
    assert contents(published.parent) == before and published.is_dir()


def refused(store, **changes):
    with pytest.raises(InputError) as error:
        publish(store, SANITY, **{"out": store.parent / "out", "dirty": True, **changes})
    assert not (store.parent / "out").exists()
    return str(error.value)


def test_what_is_not_finished_is_refused(store):
    next((store / "adapt").glob("*/*/cell.json")).unlink()
    assert "1 of 6 cells are not done, such as " in refused(store)


def test_too_few_seeds_are_refused(store, monkeypatch):
    monkeypatch.setitem(publishing.BUDGETS, "smoke", replace(BUDGETS["smoke"], published_seeds=3))
    assert "has 2 seeds and budget smoke asks for 3: run with --seeds 3" in refused(store)
    monkeypatch.setitem(publishing.BUDGETS, "smoke", replace(BUDGETS["smoke"], published_seeds=0))
    assert "budget smoke is not for publishing" in refused(store)


def test_the_method_with_the_fewest_seeds_decides(store):
    path = store / "suite-sanity.json"
    plan = unseal(path.read_bytes())
    td3 = next(c for c in plan["cells"] if c["slot"]["method"] == "td3" and c["slot"]["seed"] == 1)
    plan["cells"].remove(td3)
    path.write_bytes(seal(plan))
    assert "td3 has 1 seed and budget smoke asks for 2: run with --seeds 2" in refused(store)


def test_a_part_of_the_suite_is_refused(store, monkeypatch):
    whole = replace(
        SANITY, families={"smoke": ("point-goal", "point-rand")}, methods=(*SANITY.methods, "zero")
    )
    with pytest.raises(
        InputError,
        match=(
            "budget smoke lacks 5 of the suite's combinations of family, split and method, such as"
            " point-goal ood zero; point-rand ood apb"
        ),
    ):
        publish(store, whole, store.parent / "out", dirty=True)


def test_other_versions_are_refused(store, monkeypatch):
    monkeypatch.setattr(load_method(METHODS["td3"]), "version", 99)
    assert re.search(r"td3 was measured at version \d+ and is now at version 99", refused(store))
    monkeypatch.undo()
    monkeypatch.setitem(publishing.BUDGETS, "smoke", replace(BUDGETS["smoke"], published_seeds=2))
    monkeypatch.setitem(publishable.SUITES, "sanity", replace(SANITY, version=7))
    assert "it was planned for version 1 of the suite" in refused(store)


def test_a_method_that_others_do_not_have_is_refused(reference, monkeypatch):
    with pytest.raises(InputError, match="hill-climbing is not a registered method"):
        publish(reference[0], SUITES["ood"], Path("out"), dirty=True)


def test_cells_of_several_machines_software_are_refused(store, monkeypatch):
    record, seen = Store.record, []

    def other(self, key):
        seen.append(key)
        return record(self, key) | ({"packages": {"torch": "1.0"}} if len(seen) == 1 else {})

    monkeypatch.setattr(Store, "record", other)
    assert "its cells ran with several versions (packages: " in refused(store)


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize(
    ("commit", "complaint"),
    [
        (None, "outside a checkout"),
        ("ab12+dirty", "on changes that were not committed (ab12+dirty)"),
    ],
)
def test_code_that_nobody_has_is_refused_unless_told(store, monkeypatch, commit, complaint):
    record = Store.record
    monkeypatch.setattr(publishable, "provenance", lambda: {"commit": "c0ffee"})
    monkeypatch.setattr(Store, "record", lambda self, key: record(self, key) | {"commit": commit})
    assert complaint in refused(store, dirty=False)
    assert publish(store, SANITY, store.parent / "out", dirty=True).is_dir()


def test_an_installed_package_is_no_target(store, monkeypatch):
    monkeypatch.setattr(publishing, "PUBLISHED", store.parent / "site-packages/results/published")
    for out in (None, publishing.PUBLISHED):
        assert "belongs to an installed package" in refused(store, out=out)


def test_bad_input_is_one_line(cli, sanity):
    assert "unknown suite 'oood'" in cli("publish", "--suite", "oood").complaint
    assert "no results" in cli("publish", "--suite", "ood", "--out", "out").complaint
    assert (
        "no results of suite ood"
        in cli("publish", "--suite", "ood", "--store", sanity, "--out", "out").complaint
    )


def test_a_report_is_rendered_anew_from_the_rows_alone(published, tmp_path, cli):
    folder, before = published, contents(published)
    (folder / "report.md").write_text("of an older layout")
    (folder / "report").mkdir()
    (folder / "report" / "figure.png").write_bytes(b"old")
    done = cli("publish", "--rerender", "--out", tmp_path / "out")
    assert done.code == 0 and done.out.split() == [str(folder)] and contents(folder) == before
    folder.rename(folder.with_name(".sanity.old"))  # as if killed in the middle of the exchange
    assert cli("publish", "--rerender", "--out", tmp_path / "out").code == 0
    assert contents(folder) == before
    (folder / "NOTES.md").write_text("mine")
    done = cli("publish", "--rerender", "--out", tmp_path / "out")
    assert "NOTES.md; restore it, or move away what you added" in done.complaint
    (folder / "NOTES.md").unlink()
    (folder / "rows.csv").write_bytes(before["rows.csv"] + b"1\n")
    assert (
        "altered after it was published: rows.csv; restore it, or"
        in cli("publish", "--rerender", "--out", tmp_path / "out", "--suite", "sanity").complaint
    )
    assert (folder / "report.md").read_bytes() == before["report.md"]


def test_rows_of_another_protocol_are_not_rendered_as_of_today(published, monkeypatch):
    monkeypatch.setattr(publishing, "PROTOCOL_VERSION", 99)
    with pytest.raises(
        StoreError, match="published at protocol version 1, but the protocol is at version 99 now"
    ):
        publishing.rerender([], published.parent)


def test_what_rerendering_does_not_take_is_refused(cli, tmp_path):
    assert (
        "--rerender takes what is published already"
        in cli("publish", "--rerender", "--add").complaint
    )
    assert "name what is published with --suite, or give --rerender" in cli("publish").complaint
    assert (
        "nothing is published there"
        in cli("publish", "--rerender", "--out", tmp_path / "none").complaint
    )


class TestAdding:
    """`--add`: what a store has finished joins what is published, cell by cell."""

    @pytest.fixture
    def parts(self, sanity, tmp_path, monkeypatch, unrendered):
        """A folder in which only seed 0 of `sanity` is published."""
        monkeypatch.setitem(SUITES, "sanity", SANITY)
        shutil.copytree(sanity, tmp_path / "first")
        first = Store(tmp_path / "first", create=False)
        for key in [key for key, seed in seeds_of(first) if seed == 1]:
            (first.root / key.folder / "cell.json").unlink()
        publish(first.root, SANITY, tmp_path / "out", dirty=True, add=True)
        return tmp_path / "out"

    def test_seed_by_seed_gives_the_same_bytes_as_at_once(self, sanity, parts, tmp_path):
        assert len(Publication(parts).read()[1]) == 3
        told = []
        folder = publish(sanity, SANITY, parts, dirty=True, add=True, tell=told.append)
        assert told == ["3 cells added, 3 kept"]
        assert contents(folder) == contents(publish(sanity, SANITY, tmp_path / "whole", dirty=True))
        again = publish(sanity, SANITY, parts, dirty=True, add=True, tell=told.append)
        assert told[1:] == ["0 cells added, 6 kept"] and contents(again) == contents(
            tmp_path / "whole/sanity"
        )

    def test_what_was_published_stays_where_a_store_has_the_same_cell(self, parts, store):
        before = contents(parts / "sanity")["rows.csv"]
        cell = Store(store, create=False)
        key = next(key for key, seed in seeds_of(cell) if seed == 0)
        assert cell.record(key)["commit"] != "c0ffee"
        publish(store, SANITY, parts, dirty=True, add=True)
        after = contents(parts / "sanity")["rows.csv"]
        assert set(before.splitlines()) < set(after.splitlines())

    def test_what_the_code_would_not_run_any_more_is_left_out_and_said(
        self, sanity, parts, monkeypatch
    ):
        smoke = BUDGETS["smoke"]
        settings = {**smoke.settings, TD3: {**smoke.settings[TD3], "batch": 15}}
        other = replace(smoke, published_seeds=2, settings=settings)
        monkeypatch.setitem(BUDGETS, "smoke", other)
        told = []
        with pytest.raises(InputError, match="no cell is finished"):
            publish(sanity, SANITY, parts, dirty=True, add=True, tell=told.append)
        why = "6 of the store left out, because today's code would run them differently"
        assert told == [
            f"0 cells added, 0 kept; {why}; 3 published ones left out, because today's code runs"
            " them differently"
        ]

    def test_cells_of_an_earlier_version_of_the_suite_are_not_of_today(self, sanity, monkeypatch):
        monkeypatch.setitem(SUITES, "sanity", SANITY)
        _, cells = Store(sanity, create=False).read(["sanity"])
        assert of_today(cells).all()
        monkeypatch.setitem(SUITES, "sanity", replace(SANITY, version=SANITY.version + 1))
        assert not of_today(cells).any()

    @pytest.mark.parametrize("told", [True, False])
    def test_what_began_from_another_trained_state_is_left_out(self, told):
        """A stage has one id wherever it runs, but not the same weights to the last bit."""

        def parts(cells, built_on, state=b""):
            table = pd.DataFrame(cells, columns=["adapt_id", "train_id"])
            records = {name: {"built_on": built_on} if built_on else {} for name, _ in cells}
            return Parts(*[table] * 3, plan={}, records=records, state=lambda key: state)

        ours, theirs = (hashlib.sha256(state).hexdigest() for state in (b"ours", b"theirs"))
        kept = parts([("a", "t"), ("z", None)], theirs if told else None, b"theirs")
        fresh = [("b", "t"), ("c", "other"), ("d", None)]
        assert list(_built_on_another(parts(fresh, ours), kept)) == [True, False, False]
        assert list(_built_on_another(parts(fresh, theirs), kept)) == [False] * 3

    def test_other_software_is_refused(self, parts, store, monkeypatch):
        record = Store.record
        monkeypatch.setattr(
            Store, "record", lambda self, key: record(self, key) | {"packages": {"torch": "1.0"}}
        )
        with pytest.raises(InputError, match="its cells ran with several versions"):
            publish(store, SANITY, parts, dirty=True, add=True)

    def test_a_line_with_too_few_seeds_says_so(self, sanity, parts, tmp_path, cli, no_figures):
        told = cli("report", "--store", parts, "--out", tmp_path / "report", "--format", "md")
        assert "suite sanity: 3 of 6 cells are done (3 missing)" in told.out
        page = (tmp_path / "report/report.md").read_text()
        assert page.count("unfinished (1 of 2 seeds)") >= 3
        assert "- apb, point-goal, split ood, budget smoke, seed 1: missing" in page
        publish(sanity, SANITY, parts, dirty=True, add=True)
        told = cli("report", "--store", parts, "--out", tmp_path / "report", "--format", "md")
        assert "missing" not in told.out
        assert "unfinished (" not in (tmp_path / "report/report.md").read_text()

    def test_from_the_command_line(self, cli, sanity, parts):
        done = cli(
            "publish", "--suite", "sanity", "--store", sanity, "--out", parts, "--add", "--dirty"
        )
        assert done.code == 0 and "3 cells added, 3 kept" in done.out


def seeds_of(store):
    """The keys of the adapt stages of a store's cells, each with its seed."""
    (plan,) = store.plans()
    return [(CellKey(**cell["key"]), cell["slot"]["seed"]) for cell in plan["cells"]]


@pytest.mark.parametrize(
    ("seeds", "few", "drawn"),
    [(1, (), "smoke"), (3, (), "desk"), (3, ("apb",), "desk"), (3, ("apb", "apb-random"), "smoke")],
)
def test_the_figure_is_of_the_largest_budget_with_three_seeds_of_most_learners(
    published_sanity, tmp_path, seeds, few, drawn
):
    class WithDesk(Publication):
        """The results at smoke; at desk, seed 0 of them for `seeds` seeds, one seed of `few`."""

        def read(self, suites=None):
            rows, cells = super().read(suites)
            tables = []
            for table in (rows, cells):
                first = table[table["seed"] == 0]
                lines = [first.assign(budget="desk", seed=seed) for seed in range(seeds)]
                desk = pd.concat(lines, ignore_index=True)
                kept = ~desk["method"].isin(few) | (desk["seed"] == 0)
                tables.append(pd.concat([table, desk[kept]], ignore_index=True))
            return tables

    path = tmp_path / "overview.svg"
    write_cover(WithDesk(published_sanity), "sanity", ["smoke", "desk"], path)
    text = path.read_text(encoding="utf-8")
    assert f"(budget {drawn})" in text
    legend = {*re.findall(r">(apb|apb-random)<", text)}
    assert legend == {"apb", "apb-random"} - ({*few} if drawn == "desk" else set())


def test_a_method_has_for_the_figure_the_seeds_of_the_family_that_has_fewest():
    places = [("f", "apb", 3), ("h", "apb", 1), ("f", "td3", 2), ("h", "td3", 4)]
    lines = [
        {"family": family, "method": method, "seed": seed}
        for family, method, n in places
        for seed in range(n)
    ]
    rows = pd.DataFrame(lines).assign(variant="", budget="desk", stage="adapt", status="ok")
    failed = rows[rows["method"] == "apb"].assign(seed=9, status="failed")
    rows = pd.concat([rows, failed, rows.assign(budget="quick", seed=7)])
    assert _seeds(rows, "desk").to_dict() == {("apb", ""): 1, ("td3", ""): 2}
