"""Edited files, broken statistics and moved scores are detected; honest results pass."""

import json
import shutil
from dataclasses import replace

import mujoco
import numpy as np
import pandas as pd
import pytest
import torch

from benchmark import states
from benchmark.cells import expand
from benchmark.plugins import load_method
from benchmark.publish import REPORT, SCORES
from benchmark.stage import Stage, perform
from benchmark.suites import BUDGETS, SUITES
from benchmark.verify import fingerprints
from benchmark.verify import fresh_seeds as fresh
from benchmark.verify import published as checks_module
from benchmark.verify.command import Asked
from benchmark.verify.command import verify as look
from benchmark.verify.published import first_difference
from envs import FAMILIES, cheetah
from methods import METHODS
from reports.stats import scores
from results.files import StoreError
from results.publication import MANIFEST, PUBLISHED, Publication
from results.publishing import write_manifest
from results.store import Store

BROKEN = "sanity: the report follows from the rows"
FORM = "sanity: tables are as `publish` writes them"


@pytest.fixture
def published(published_sanity, here):
    """A copy of the suite `sanity` at smoke, published from two seeds, which a test may spoil."""
    shutil.copytree(published_sanity, here / "published")
    return here / "published"


@pytest.fixture
def same_tables(monkeypatch, published_sanity):
    """Take the published report for the one that follows from the rows, for tests that change no
    table. That it does follow is tested once; rendering takes time.
    """

    def copied(folder, suite, out, cover):
        for name in (REPORT, SCORES):
            shutil.copy(published_sanity / suite / name, out / name)

    monkeypatch.setattr(checks_module, "render", copied)


@pytest.fixture
def verify(cli, published):
    """Verify `published`; return (exit code, checks by name)."""

    def verify(*words):
        done = cli("verify", "--published", published, "--json", *words)
        found = json.loads(done.out)
        assert found["passed"] is (done.code == 0)
        return done.code, {check["name"]: check for check in found["checks"]}

    return verify


def failed(checks):
    return [name for name, check in checks.items() if check["outcome"] == "failed"]


def leaves(tree):
    """The tensors in nested dicts."""
    if torch.is_tensor(tree):
        return [tree]
    return (
        [leaf for branch in tree.values() for leaf in leaves(branch)]
        if isinstance(tree, dict)
        else []
    )


def seal_again(folder):
    """Write checksums that fit the edited files, as a cunning editor would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    write_manifest(
        folder, {name: value for name, value in manifest.items() if name not in ("sha256", "files")}
    )


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_what_is_untouched_passes(verify):
    code, checks = verify()
    assert (
        code == 0
        and {check["outcome"] for check in checks.values()} == {"passed"}
        and len(checks) == 5
    )


def test_an_edited_row_is_found(verify, published):
    path = published / "sanity/rows.csv"
    line = path.read_text().splitlines()[-1].split(",")
    edit(path, ",".join(line), ",".join([*line[:4], "0.0", *line[5:]]))
    code, checks = verify()
    assert (
        code == 1
        and "sanity: files are as published" in failed(checks)
        and BROKEN in failed(checks)
    )
    seal_again(published / "sanity")
    code, checks = verify()
    assert code == 1 and failed(checks) == [BROKEN]  # the report does not follow from the rows


def test_an_edited_report_is_found(verify, published, same_tables):
    page = published / "sanity/report.md"
    first = next(
        line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| apb |")
    )
    number = first.split("|")[3].split("±")[0].strip()
    edit(page, number, number[:-1] + ("1" if number[-1] != "1" else "2"))
    seal_again(published / "sanity")
    code, checks = verify()
    assert (
        code == 1 and failed(checks) == [BROKEN] and "report.md: line" in checks[BROKEN]["detail"]
    )


def test_a_score_edited_by_less_than_the_report_shows_is_found(verify, published, same_tables):
    path = published / "sanity/scores.csv"
    line = next(line for line in path.read_text().splitlines() if ",apb,," in line).split(",")
    edit(path, ",".join(line), ",".join([*line[:8], str(float(line[8]) + 1e-6), *line[9:]]))
    seal_again(published / "sanity")
    code, checks = verify()
    assert (
        code == 1 and failed(checks) == [BROKEN] and "scores.csv: line" in checks[BROKEN]["detail"]
    )


def test_a_file_more_or_less_is_found(verify, published, same_tables):
    (published / "sanity/more.csv").write_text("a\n1\n")
    assert failed(verify()[1]) == ["sanity: files are as published", FORM]
    seal_again(published / "sanity")
    assert failed(verify()[1]) == [FORM]
    (published / "sanity/more.csv").unlink()
    cover = published / "sanity/overview.svg"
    drawn = cover.read_bytes()
    cover.unlink()
    seal_again(published / "sanity")
    assert failed(verify()[1]) == [FORM]
    cover.write_bytes(drawn)
    seal_again(published / "sanity")
    (published / "sanity/.DS_Store").touch()  # a file manager's
    assert failed(verify()[1]) == []


def test_a_suite_without_cells_is_found(verify, published):
    path = published / "sanity/cells.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    seal_again(published / "sanity")
    code, checks = verify()
    assert code == 1 and BROKEN in failed(checks) and "ReportError" in checks[BROKEN]["detail"]


def test_a_suite_that_vanishes_is_found(verify, published, same_tables):
    shutil.copytree(published / "sanity", published / "other")
    (published / "other" / MANIFEST).unlink()
    code, checks = verify()
    assert code == 1 and failed(checks) == ["other: is a published suite"]


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [
        ("return_std", "-1.0", "rows with an impossible return_std"),
        ("episode_length_mean", "51.0", "rows with an impossible episode_length_mean"),
        ("terminated_frac", "1.5", "rows with an impossible terminated_frac"),
        ("n_episodes", "9", "rows with an impossible n_episodes"),
        ("return_std", "1.50", "rows.csv: not what `publish` would write"),
    ],
)
def test_what_no_table_shows_must_be_possible_and_written_as_it_is_published(
    verify, published, column, value, found
):
    path = published / "sanity/rows.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[3, column] = value
    table.to_csv(path, index=False, lineterminator="\n")
    seal_again(published / "sanity")
    code, checks = verify()
    assert code == 1 and any(found in checks[name]["detail"] for name in failed(checks)), checks


def test_a_column_of_its_own_is_found(verify, published):
    path = published / "sanity/timings.csv"
    path.write_text("".join(f"{line},x\n" for line in path.read_text().splitlines()))
    seal_again(published / "sanity")
    assert failed(verify()[1]) == ["sanity: tables are as `publish` writes them"]


def test_a_lost_table_is_named_where_it_was(verify, published):
    (published / "sanity/rows.csv").unlink()
    code, checks = verify()
    assert code == 1 and all(
        str(published / "sanity/rows.csv") in checks[name]["detail"] for name in failed(checks)[1:]
    )


def test_the_checksum_is_compared_whatever_is_read(published):
    path = published / "sanity/tasks.csv"
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(StoreError, match="altered after it was published"):
        Publication(published).table("sanity", "tasks")


def test_a_mean_over_too_few_levels_is_found(verify, monkeypatch):
    right = scores._means_over_levels

    def wrong(measured):
        return right(
            measured[measured["level"] < measured.groupby("axis")["level"].transform("max")]
        )

    monkeypatch.setattr(scores, "_means_over_levels", wrong)
    code, checks = verify()
    assert code == 1 and failed(checks) == [BROKEN]


def test_a_family_that_moved_is_found(verify, monkeypatch, same_tables):
    monkeypatch.setattr(checks_module, "family_version", lambda family: "99+beef")
    code, checks = verify()
    assert code == 1 and "→ 99+beef" in checks["sanity: versions are current"]["detail"]


def test_a_protocol_or_suite_that_moved_is_found(verify, monkeypatch, same_tables):
    with monkeypatch.context() as moved:
        moved.setattr(checks_module, "PROTOCOL_VERSION", 99)
        assert "→ 99" in verify()[1]["sanity: versions are current"]["detail"]
    monkeypatch.setitem(checks_module.SUITES, "sanity", replace(SUITES["sanity"], version=98))
    assert "→ 98" in verify()[1]["sanity: versions are current"]["detail"]


def test_a_version_that_moved_is_found(verify, monkeypatch):
    monkeypatch.setattr(load_method(METHODS["td3"]), "version", 99)
    code, checks = verify()
    assert (
        code == 1
        and "sanity: versions are current" in failed(checks)
        and BROKEN not in failed(checks)
    )
    assert (
        "td3 " in checks["sanity: versions are current"]["detail"]
        and "→ 99" in checks["sanity: versions are current"]["detail"]
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: edit(folder / MANIFEST, '"date": "20', '"date": "19'),
        lambda folder: edit(folder / "cells.csv", ",0,", ",5,"),
        lambda folder: edit(folder / "rows.csv", ",status\n", ",other\n"),
        lambda folder: edit(folder / "rows.csv", "id,task_index", "id,task"),
        lambda folder: edit(folder / "rows.csv", ",0,0,0,", ",0,0,abc,"),
        lambda folder: (folder / "report.md").write_text('"' + "x" * 140_000),
        lambda folder: (folder / "report.md").write_bytes(b"\xff\xfe"),
        lambda folder: edit(folder / MANIFEST, '"point-goal": "1+', '"point-gaol": "1+'),
        lambda folder: edit(folder / MANIFEST, '"methods"', '"method"'),
    ],
)
def test_whatever_is_spoiled_and_sealed_again_fails_and_ends_nothing(verify, published, spoil):
    spoil(published / "sanity")
    seal_again(published / "sanity")
    code, checks = verify()
    assert code == 1 and failed(checks) and len(checks) == 5
    assert not any("\n" in check["detail"] for check in checks.values())
    code, checks = verify("--level", "2", "--budget", "smoke", "--cells", "sanity/point-goal/td3")
    # and level 1 is reported all the same
    assert code == 1 and checks["the code as it is now"]["outcome"] == "skipped"


FEW = {name: METHODS[name] for name in ("apb", "apb-random", "td3")}


@pytest.fixture(scope="module")
def runs(made_once, published_sanity):
    """The store of a verification at level 2, made once since its runs take most of the time."""

    def make(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fresh, "METHODS", FEW)
            cells, store = ["sanity/point-goal/td3"], folder / "kept"
            asked = Asked(
                2,
                None,
                cells,
                budget="smoke",
                seeds=4,
                first_seed=1000,
                record=False,
                store=store,
                deadline=None,
            )
            assert look(asked, published_sanity, as_json=False) == 0

    return made_once("verified", make) / "kept"


class TestLevel2:
    @pytest.fixture(autouse=True)
    def _few_methods(self, monkeypatch, runs, same_tables, here):
        monkeypatch.setattr(fresh, "METHODS", FEW)
        shutil.copytree(runs, here / "kept")

    words = (
        "--level",
        "2",
        "--budget",
        "smoke",
        "--cells",
        "sanity/point-goal/td3",
        "--store",
        "kept",
    )

    def test_a_clean_build_passes_and_says_what_is_not_known(self, verify):
        code, checks = verify(*self.words, "--seeds", "2")
        outcomes = {name: check["outcome"] for name, check in checks.items()}
        assert code == 0
        assert (
            outcomes["fingerprints of the simulator"]
            == outcomes["fingerprints of the learner"]
            == outcomes["fingerprints of the weights"]
            == "skipped"
        )
        assert outcomes["trained state: sanity/point-goal/ood/apb seed 0"] == "passed"
        fresh_names = [name for name in outcomes if name.startswith("fresh: sanity/point-goal/td3")]
        assert len(fresh_names) == 2  # one per axis; two seeds against two tell nothing
        assert {outcomes[name] for name in fresh_names} == {"skipped"}
        code, checks = verify(*self.words, "--seeds", "2", "--record")
        code, checks = verify(*self.words, "--seeds", "2")
        assert code == 0 and checks["fingerprints of the learner"]["outcome"] == "passed"
        assert checks["fingerprints of the simulator"]["outcome"] == "passed"
        assert checks["fingerprints of the weights"]["outcome"] == "passed"

    @pytest.mark.parametrize("moved", [-30.0, 30.0])
    def test_scores_that_moved_fail_either_way_and_so_do_fingerprints(
        self, verify, published, monkeypatch, moved
    ):
        run, last = fresh._run, fresh.last_scores
        assert verify(*self.words, "--seeds", "4", "--record")[0] == 0

        def other(*words):
            rows = run(*words)
            return rows.assign(return_mean=rows["return_mean"] + moved)

        def thrice(scores):  # two published seeds are too few for a difference to show
            found = last(scores)
            again = [found.assign(seed=found["seed"] + 2 * i) for i in range(3)]
            return pd.concat(again) if found["seed"].max() < 2 else found

        monkeypatch.setattr(fresh, "_run", other)
        monkeypatch.setattr(fresh, "last_scores", thrice)
        code, checks = verify(*self.words, "--seeds", "4")
        bad = failed(checks)
        assert (
            code == 1
            and "fingerprints of the learner" in bad
            and "fingerprints of the simulator" not in bad
        )
        moves = [name for name in bad if name.startswith("fresh: sanity/point-goal/td3")]
        assert moves and all(
            checks[name]["detail"].startswith("better" if moved > 0 else "worse") for name in moves
        )

    def test_cells_without_a_score_are_found(self, verify, monkeypatch):
        run = fresh._run
        monkeypatch.setattr(fresh, "_run", lambda *words: run(*words).assign(return_mean=np.nan))
        code, checks = verify(*self.words, "--seeds", "2")
        assert (
            code == 1
            and sum("no fresh seed has a score" in check["detail"] for check in checks.values())
            == 2
        )

    def test_lost_or_broken_states_are_found(self, verify, published):
        (state,) = (published / "sanity/states").iterdir()
        state.write_bytes(b"no state")
        seal_again(published / "sanity")
        code, checks = verify(*self.words, "--seeds", "2")
        assert (
            code == 1
            and "cannot be loaded"
            in checks["trained state: sanity/point-goal/ood/apb seed 0"]["detail"]
        )
        state.unlink()
        seal_again(published / "sanity")
        assert failed(verify(*self.words, "--seeds", "2")[1]) == ["trained states of sanity"]

    def test_runs_of_another_commit_are_not_taken(self, cli, published, monkeypatch):
        assert cli("verify", "--published", published, *self.words, "--seeds", "2").code == 0
        monkeypatch.setattr(fresh, "provenance", lambda: {"commit": "c0ffee"})
        done = cli("verify", "--published", published, *self.words, "--seeds", "2")
        assert (
            done.code == 2 and "but this is c0ffee; choose another folder with --store" in done.err
        )

    @pytest.mark.parametrize(
        ("moved", "outcome"), [(0.0, "passed"), (1e-6, "passed"), (0.01, "failed")]
    )
    def test_a_state_may_score_otherwise_by_rounding_only(self, published, moved, outcome):
        path = published / "sanity/rows.csv"
        rows = pd.read_csv(path, keep_default_na=False, dtype={"return_mean": float})
        rows["return_mean"] += np.where(rows["env_steps"] == 0, moved, 0.0)
        rows.to_csv(path, index=False, lineterminator="\n")
        seal_again(published / "sanity")
        assert {
            check.outcome for check in fresh.trained_states(Publication(published), ["sanity"])
        } == {outcome}

    def test_another_trained_state_is_found(self, verify, published):
        (state,) = (published / "sanity/states").iterdir()
        weights = states.from_bytes(state.read_bytes())
        for tensor in leaves(weights):
            tensor.add_(0.1)
        state.write_bytes(states.to_bytes(weights))
        seal_again(published / "sanity")
        code, checks = verify(*self.words, "--seeds", "2")
        assert code == 1 and failed(checks) == ["trained state: sanity/point-goal/ood/apb seed 0"]
        assert "published" in checks[failed(checks)[0]]["detail"]


def test_bad_input_is_one_line(cli, published):
    def complaint(*words):
        return cli("verify", "--published", published, *words).complaint

    assert "suite 'oood' is not published; these are: sanity" in complaint("--suite", "oood")
    assert "nothing is published at budget desk, which level 3 runs again" in complaint(
        "--level", "3"
    )
    assert "nothing is published at budget quick" in complaint("--level", "2")
    smoke = ("--level", "2", "--budget", "smoke")
    assert "write suite/family/method" in complaint(*smoke, "--cells", "sanity")
    assert "is not published at budget smoke; in suite sanity there are" in complaint(
        *smoke, "--cells", "sanity/point-goal/maml"
    )
    taken = complaint(*smoke, "--cells", "sanity/point-goal/td3", "--first-seed", "1")
    assert "some of those seeds are published" in taken
    assert "unknown budget 'quik'" in complaint("--level", "2", "--budget", "quik")
    for words in (
        ("--cells", "a/b/c"),
        ("--seeds", "4"),
        ("--store", "kept"),
        ("--record",),
        ("--time-limit", "1m"),
    ):
        assert f"{words[0]} is for --level 2 or 3, and would do nothing here" in complaint(*words)
    (published.parent / "afile").write_text("mine")
    assert "a file is where a folder is needed" in complaint(
        *smoke, "--cells", "sanity/point-goal/td3", "--store", "afile"
    )
    assert "it is empty; name a folder" in complaint("--published", "")
    assert "--level" in complaint("--level", "4")
    assert (
        "nothing is published there"
        in cli("verify", "--published", published.parent / "none").complaint
    )


def test_differences_beyond_rounding():
    assert first_difference("a,1.0\n", "a,1.0000000000001\n") is None
    assert (
        first_difference("a,1.0\n", "a,1.0000001\n")
        == "line 1 says '1.0', but the rows give '1.0000001'"
    )
    assert (
        first_difference("a,1.0\n", "a,1.001\n") == "line 1 says '1.0', but the rows give '1.001'"
    )
    assert first_difference("a\n", "b\n") == "line 1 says 'a', but the rows give 'b'"
    assert first_difference("a\nb\n", "a\n") == "2 lines, but the rows give 1"
    assert first_difference("a,b\n", "a\n") == "line 1 has 2 fields, but the rows give 1"
    assert first_difference("a,\n", "a,0\n") is not None


class TestFingerprints:
    def test_they_are_exact_and_notice_a_coefficient(self, monkeypatch):
        once, again = fingerprints.simulator_fingerprints(), fingerprints.simulator_fingerprints()
        assert once == again and len(set(once.values())) == len(once)
        name = next(name for name in vars(cheetah) if name.isupper() and "COST" in name)
        monkeypatch.setattr(cheetah, name, 1.1 * getattr(cheetah, name))
        moved = {
            family
            for family, value in fingerprints.simulator_fingerprints().items()
            if value != once[family]
        }
        assert moved and all(family.startswith("cheetah") for family in moved)

    def test_they_are_of_this_machines_kind_and_of_every_method(self):
        assert mujoco.__version__ in fingerprints.simulator_key()
        assert torch.__version__.partition("+")[0] in fingerprints.learner_key()
        assert torch.backends.cpu.get_cpu_capability() in fingerprints.learner_key()
        recorded = fingerprints.load(PUBLISHED)
        # whoever adds a family or a method records its fingerprint
        assert all(set(known) == set(FAMILIES) for known in recorded["simulator"].values())
        somewhere = {name for known in recorded["learner"].values() for name in known}
        assert {
            f"{name}@{load_method(path).version}" for name, path in METHODS.items()
        } <= somewhere

    def test_a_learner_of_another_version_is_not_known(self, tmp_path, monkeypatch):
        key, ours = fingerprints.learner_key(), {"td3@1": [-50.0, 3.0], "apb@2": [-40.0, 3.0]}
        monkeypatch.setattr(fresh, "_run", lambda *_: None)
        monkeypatch.setattr(fresh, "_weights", lambda *_: {})
        monkeypatch.setattr(fingerprints, "learner_fingerprints", lambda rows: ours)
        monkeypatch.setattr(fingerprints, "simulator_fingerprints", lambda: {"f": "ab"})

        def outcome(known):
            fingerprints.record(tmp_path, "learner", key, known)
            _, found, _ = fresh.known_fingerprints(None, tmp_path, False, print)
            return found.outcome, found.detail.partition(",")[0]

        assert outcome({"td3@1": [-50.0, 3.0], "apb@1": [0.0, 3.0]}) == ("passed", "1 of 2")
        assert outcome({"td3@1": [-51.0, 3.0], "apb@1": [0.0, 3.0]}) == ("failed", "td3@1 differ")
        assert outcome({"td3@2": [-51.0, 3.0]}) == ("skipped", "0 of 2")

    @pytest.mark.parametrize(
        ("method", "settings"),
        [("pearl", {"kl_weight": 0.2}), ("apb", {"policy_noise": 0.25})],
    )
    def test_weights_notice_what_returns_at_smoke_hardly_do(self, tmp_path, method, settings):
        def weights(settings):
            (cell,) = expand(
                SUITES["ood"],
                BUDGETS["smoke"],
                {method: METHODS[method]},
                ["point-goal"],
                seeds=1,
                settings={method: settings},
            )
            store = Store(tmp_path / ("changed" if settings else "usual"), create=True)
            assert perform(store, Stage(cell, "train"), 1) == ("done", None)
            return fingerprints.weights_fingerprint(store.state(cell.train_key))

        usual = weights({})
        assert not fingerprints.differs(usual, usual) and len(usual) == 2
        other = weights(settings)
        assert fingerprints.differs(usual, other, fingerprints.WEIGHTS_TOLERANCE)

    def test_learners_have_a_tolerance(self):
        assert not fingerprints.differs([-50.0, 3.0], [-50.004, 3.0])
        assert fingerprints.differs([-50.0, 3.0], [-50.02, 3.0])
        assert (
            fingerprints.differs([-50.0], [-50.0, 3.0])
            and fingerprints.differs("", [1.0])
            and fingerprints.differs("a", "b")
        )
        assert fingerprints.differs([np.nan], [1.0])

    def test_they_are_kept_by_key_and_sealed(self, tmp_path):
        assert fingerprints.load(tmp_path) == {}
        fingerprints.record(tmp_path, "simulator", "k", {"f": "ab"})
        fingerprints.record(tmp_path, "learner", "l", {"m": [1.0]})
        fingerprints.record(tmp_path, "simulator", "k2", {"f": "cd"})
        assert fingerprints.load(tmp_path) == {
            "simulator": {"k": {"f": "ab"}, "k2": {"f": "cd"}},
            "learner": {"l": {"m": [1.0]}},
        }
        edit(tmp_path / fingerprints.FILE, '"ab"', '"xy"')
        with pytest.raises(StoreError, match="altered"):
            fingerprints.load(tmp_path)
