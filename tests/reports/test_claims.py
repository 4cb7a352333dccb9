"""Claims: what is compared, what is judged, and what is only toy evidence."""

import numpy as np
import pandas as pd
import pytest

from reports.claims import CLAIMS, CONTRADICTED, NOT_TESTED, SUPPORTED, TOY, UNDECIDED, Claim, claims_table, judgement
from reports.scores import adaptation_scores
from results.schema import Row, to_frame

BASE = {"family_version": "1", "method_version": 1, "variant": "", "config_hash": "c", "split": "ood"}


def scores_of(budget, levels, seeds=5, suite="ood", family="cheetah-vel"):
    """Seeds of each method around its level, before and at the end of adaptation."""
    rows, cells = [], []
    for method, level in levels.items():
        for seed in range(seeds):
            same = {"budget": budget, "suite": suite, "method": method, "seed": seed, "family": family}
            cells.append({**same, "split": "ood", "variant": "", "status": "done"})
            for b, value in ((0, -99.0), (100, level + 0.1 * seed)):
                where = {"task_index": 0, "shift": 1.0, "shift_axis": "angle", "env_steps": b, "return_mean": value}
                rows.append(Row(**BASE, **same, suite_version=1, stage="adapt", **where))
    return adaptation_scores(to_frame(rows), pd.DataFrame(cells))


def lines_of(scores):
    lines = [line for line in text_of(scores).splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return [dict(zip(cells[0], line, strict=True)) for line in cells if line[0] not in ("compared", "---")]


def text_of(*scores):
    return claims_table(pd.concat(scores, ignore_index=True), {"cheetah-vel": frozenset({"angle"})})


@pytest.mark.parametrize(("budget", "expected"), [("paper", SUPPORTED), ("quick", TOY)])
def test_a_clear_difference_is_judged_at_the_papers_budget_only(budget, expected):
    lines = lines_of(scores_of(budget, {"apb": -10.0, "maml": -20.0, "td3": -10.0}))
    (maml,) = [line for line in lines if line["compared"] == "apb − maml"]
    assert maml["difference"].startswith("10.0 [9.8") and maml["difference"].endswith("]")
    reason = {SUPPORTED: "", TOY: ": budget is not the paper's"}
    assert maml["judgement"] == expected + reason[expected]
    assert maml["seeds"] == "5, 5" and float(maml["p (Holm)"]) < 0.05
    assert "exact linear images" in maml["where"] and f"budget {budget}" in maml["where"]
    (td3,) = [line for line in lines if line["compared"] == "apb − td3"]
    assert td3["judgement"] == (f"{UNDECIDED}: p &gt; 0.05" if budget == "paper" else TOY + reason[TOY])


def test_a_point_mass_is_a_toy_at_any_budget():
    lines = lines_of(scores_of("paper", {"apb": -10.0, "maml": -20.0}, family="point-goal"))
    assert [line["judgement"] for line in lines if line["compared"] == "apb − maml"] == [f"{TOY}: family is not the paper's"]
    (line,) = lines_of(scores_of("quick", {"apb": -10.0, "td3": -20.0}, family="point-goal"))
    assert line["judgement"] == f"{TOY}: family and budget are not the paper's"


def test_few_seeds_have_no_interval_and_decide_nothing():
    lines = lines_of(scores_of("paper", {"apb": -10.0, "maml": -20.0}, seeds=2))
    (line,) = [line for line in lines if line["compared"] == "apb − maml"]
    assert "[" not in line["difference"] and line["detectable"] == "none"
    assert line["judgement"] == f"{UNDECIDED}: 2 and 2 seeds are too few to reach p ≤ 0.05"


def test_seeds_are_too_few_where_they_are_for_all_tests_of_a_pair_together():
    """Three seeds against four reach 1/35 in one test, which is no more than 2/35 in two."""
    places = [scores_of("paper", {"apb": -10.0}, 3, family=family) for family in ("cheetah-vel", "hopper-rand")]
    places += [scores_of("paper", {"maml": -20.0}, 4, family=family) for family in ("cheetah-vel", "hopper-rand")]
    (alone,) = lines_of(pd.concat(places[::2]))
    assert alone["judgement"] == SUPPORTED
    together = lines_of(pd.concat(places))
    assert {line["judgement"] for line in together} == {f"{UNDECIDED}: 3 and 4 seeds are too few to reach p ≤ 0.05"}
    assert "none" not in {line["detectable"] for line in together}  # by a single test


def test_what_is_not_measured_is_said():
    scores = scores_of("paper", {"maml": -20.0})
    text = text_of(scores)
    assert lines_of(scores) == [] and text.count("is not measured: ") == sum(len(claim.others) for claim in CLAIMS)
    assert "- apb − maml is not measured: suite ood has no finished seed of apb in this report.\n" in text
    assert "- apb − td3 is not measured: suite ood has no finished seed of apb and td3 in this report.\n" in text
    assert all(f"- {line}" in text.replace("\\", "") for line in NOT_TESTED)


def test_what_another_suite_measured_or_other_settings_is_said():
    text = text_of(scores_of("paper", {"apb": -10.0, "apb-random": -11.0}))
    missing = "suite sanity has no finished seed of apb-random and apb in this report; both are in ood, but the claim is about"
    assert f"- apb-random − apb is not measured: {missing} sanity.\n" in text
    changed = scores_of("paper", {"td3": -10.0}).assign(variant="tau=0.1")
    lacking = "no finished seed of td3 in this report, of td3 only with changed settings.\n"
    assert f"- apb − td3 is not measured: suite ood has {lacking}" in text_of(scores_of("paper", {"apb": -10.0}), changed)


def test_two_arms_in_different_families_are_not_compared():
    apart = scores_of("paper", {"apb": -10.0}), scores_of("paper", {"td3": -10.0}, family="hopper-rand")
    assert "- apb − td3 is not measured: suite ood has no family and shift axis where both are finished.\n" in text_of(*apart)


def test_the_columns_of_words_are_to_the_left():
    text = text_of(scores_of("paper", {"apb": -10.0, "maml": -20.0}))
    head = "| compared | judgement | where | difference | p (Holm) | detectable | seeds |\n"
    assert f"{head}| --- | :--- | :--- | ---: | ---: | ---: | ---: |\n" in text


@pytest.mark.parametrize(
    ("better", "difference", "p", "expected"),
    [
        (True, 1.0, 0.01, SUPPORTED),
        (True, -1.0, 0.01, CONTRADICTED),
        (True, 1.0, 0.2, UNDECIDED),
        (False, -1.0, 0.01, CONTRADICTED),
        (False, 1.0, 0.01, SUPPORTED),
        (False, -1.0, 0.2, UNDECIDED),
    ],
)
def test_a_judgement_follows_from_the_difference_and_its_p_value(better, difference, p, expected):
    assert judgement(Claim("", "ood", "a", ("b",), better), "cheetah-vel", "paper", difference, p) == expected


def test_an_interval_covers_the_difference():
    spread = scores_of("paper", {"apb": -10.0, "maml": -10.1})
    (line,) = [line for line in lines_of(spread) if line["compared"] == "apb − maml"]
    low, high = (float(part.strip("[]").replace("−", "-")) for part in line["difference"].split(" ", 1)[1].split(", "))
    assert low < 0.1 < high and np.isclose(high - low, 0.35, atol=0.1)
