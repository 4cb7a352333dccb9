"""Claims on the page: what is judged and at which budget, what is toy evidence, what is missing."""

import numpy as np
import pandas as pd
import pytest

from reports.parts.claims_table import all_claim_tests, claims_details, verdicts_table
from reports.stats.claims import CLAIMS, CONTRADICTED, NOT_TESTED, SUPPORTED, TOY, UNDECIDED
from reports.stats.scores import adaptation_scores
from results.schema import Row, to_frame

BASE = {
    "family_version": "1",
    "method_version": 1,
    "variant": "",
    "config_hash": "c",
    "split": "ood",
}


def scores_of(budget, levels, seeds=5, suite="ood", family="cheetah-vel", references=None):
    """Scores near each method's level once adaptation starts; expert at 0, floor at −100."""
    rows, cells = [], []
    for method, level in levels.items():
        for seed in range(seeds):
            same = {
                "budget": budget,
                "suite": suite,
                "method": method,
                "seed": seed,
                "family": family,
            }
            cells.append({**same, "split": "ood", "variant": "", "status": "done"})
            for b, value in ((0, -99.0), (100, level - 1.0), (200, level + 0.1 * seed)):
                where = {
                    "task_index": 0,
                    "shift": 1.0,
                    "shift_axis": "angle",
                    "env_steps": b,
                    "return_mean": value,
                }
                rows.append(
                    Row(**BASE, **same, **where, task_params="{}", suite_version=1, stage="adapt")
                )
    return adaptation_scores(to_frame(rows), pd.DataFrame(cells), references)


def references_of(family="cheetah-vel", uncertain=False):
    task = {
        "family": family,
        "family_version": "1",
        "split": "ood",
        "task_index": 0,
        "task_params": "{}",
    }
    bounds = {
        "random": -100.0,
        "zero": -100.0,
        "oracle": 0.0,
        "floor": -100.0,
        "uncertain": uncertain,
    }
    return pd.DataFrame([{**task, **bounds}])


def text_of(*scores):
    table = pd.concat(scores, ignore_index=True)
    return claims_details(all_claim_tests(table), table, {"cheetah-vel": frozenset({"angle"})})


def lines_of(*scores):
    lines = [line for line in text_of(*scores).splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return [
        dict(zip(cells[0], line, strict=True))
        for line in cells
        if line[0] not in ("compared", "---")
    ]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [("paper", f"{SUPPORTED} at paper"), ("desk", f"{SUPPORTED} at desk"), ("quick", TOY)],
)
def test_a_clear_difference_is_judged_at_desk_and_at_paper_and_says_at_which(budget, expected):
    text = text_of(scores_of(budget, {"apb": -10.0, "maml": -20.0}))
    (maml,) = lines_of(scores_of(budget, {"apb": -10.0, "maml": -20.0}))
    assert maml["compared"] == "apb − maml" and maml["judgement"] == expected
    assert maml["difference"] == "10.0 [9.77, 10.2]" and maml["at b = 2H"] == "10.0"
    assert maml["seeds"] == "5, 5" and float(maml["p (Holm)"]) == pytest.approx(2 / 252, abs=1e-4)
    assert (
        "exact linear images" in maml["where"]
        and f"budget {budget}" in maml["where"]
        and maml["steps used"] == "200, 200"
    )
    counts = (
        f"At {budget} it is supported in 1 of 1 comparisons, not supported in 0 and undecided in 0;"
        " to reach p ≤ 0.05, its"
    )
    assert (counts in text) == (budget != "quick") and (
        "At quick there is only toy evidence" in text
    ) == (budget == "quick")


def test_what_is_worse_contradicts_and_budgets_are_corrected_by_themselves():
    worse = {"apb": -30.0, "maml": -20.0, "maml+ft": -10.0}
    lines = lines_of(scores_of("desk", worse), scores_of("paper", {"apb": -30.0, "maml": -20.0}))
    assert [line["judgement"] for line in lines] == [f"{CONTRADICTED} at desk"] * 2 + [
        f"{CONTRADICTED} at paper"
    ]
    assert [line["p (Holm)"] for line in lines] == ["0.016", "0.016", "0.0079"]


def test_a_point_mass_is_a_toy_at_any_budget():
    (line,) = lines_of(scores_of("paper", {"apb": -10.0, "maml": -20.0}, family="point-goal"))
    assert line["judgement"] == TOY


def test_few_seeds_have_no_interval_and_decide_nothing():
    (line,) = lines_of(scores_of("paper", {"apb": -10.0, "maml": -20.0}, seeds=2))
    assert "[" not in line["difference"] and line["detectable"] == "none"
    assert line["judgement"] == f"{UNDECIDED}: 2 and 2 seeds are too few to reach p ≤ 0.05"


def test_seeds_are_too_few_where_they_are_for_all_tests_of_a_claim_together():
    """Four seeds reach p = 2/70 in one test, 4/70 in two, even against two others; five suffice."""
    alone = {"apb": -10.0, "maml": -20.0}
    together = {"apb": -10.0, "maml": -20.0, "pearl+ft": -30.0}
    assert [line["judgement"] for line in lines_of(scores_of("desk", alone, 4))] == [
        f"{SUPPORTED} at desk"
    ]
    found = lines_of(scores_of("desk", together, 4))
    assert {line["judgement"] for line in found} == {
        f"{UNDECIDED}: 4 and 4 seeds are too few to reach p ≤ 0.05"
    }
    assert {line["detectable"] for line in found} == {"none"}
    assert "the correction for 2 tests needs 5 seeds per method." in text_of(
        scores_of("desk", together, 4)
    )


def test_fewer_samples_has_a_line_for_the_area_and_one_for_the_steps():
    levels = {"apb": -40.0, "td3": -60.0, "zero": -90.0}
    area, steps = lines_of(scores_of("desk", levels, references=references_of()))
    assert (
        area["compared"] == "apb − td3: area under the curve"
        and steps["compared"] == "apb − td3: steps to half"
    )
    assert area["judgement"] == steps["judgement"] == f"{SUPPORTED} at desk"
    assert steps["difference"] == "100 against never" and steps["detectable"] == "–"
    _, bare = lines_of(scores_of("desk", levels))
    assert (
        bare["judgement"] == f"{UNDECIDED}: no reference returns"
        and bare["difference"] == bare["p (Holm)"] == "–"
    )
    _, close = lines_of(scores_of("desk", levels, references=references_of(uncertain=True)))
    assert close["difference"] == "100 against never?"


@pytest.mark.parametrize(
    ("apb", "expected"),
    [
        (-50.0, f"{SUPPORTED} at desk"),
        (-20.0, f"{SUPPORTED} at desk"),
        (-75.0, f"{CONTRADICTED} at desk"),
        (-60.0, f"{UNDECIDED}: p &gt; 0.05"),
    ],
)
def test_on_par_is_equivalence_of_normalised_scores(apb, expected):
    """The margin is a tenth of the range from −100 to 0."""
    scores = scores_of(
        "desk", {"apb": apb, "td3": -50.0}, suite="sanity", references=references_of()
    )
    (line,) = [line for line in lines_of(scores) if line["compared"] == "apb − td3"]
    assert line["judgement"] == expected
    assert (
        "to find identical methods equivalent, its one test needs about 2 seeds per method"
        in text_of(scores)
    )


def test_on_par_without_references_is_undecided_and_says_why():
    lines = lines_of(
        scores_of("desk", {"apb": -50.0, "apb-random": -50.0, "td3": -50.0}, suite="sanity")
    )
    assert [line["compared"] for line in lines] == [
        "apb-random − apb",
        "apb − td3",
        "apb-random − td3",
    ]
    assert {line["judgement"] for line in lines} == {f"{UNDECIDED}: no reference returns"}
    (alone,) = lines_of(
        scores_of("desk", {"apb": -50.0, "td3": -50.0}, 1, "sanity", references=references_of())
    )
    assert alone["judgement"] == f"{UNDECIDED}: 1 and 1 seeds are too few"


def test_what_is_not_measured_is_said():
    scores = scores_of("paper", {"maml": -20.0})
    text = text_of(scores)
    assert lines_of(scores) == [] and text.count("is not measured: ") == sum(
        len(claim.pairs) for claim in CLAIMS
    )
    assert (
        "- apb − maml is not measured: suite ood has no finished seed of apb in this report.\n"
        in text
    )
    assert (
        "- apb − td3 is not measured: suite ood has no finished seed of apb and td3 in this"
        " report.\n" in text
    )
    assert all(f"### {claim.text}\n" in text for claim in CLAIMS)


def test_what_another_suite_measured_or_other_settings_is_said():
    text = text_of(scores_of("paper", {"apb": -10.0, "apb-random": -11.0}))
    missing = (
        "suite sanity has no finished seed of apb-random and apb in this report; both are in ood,"
        " but the claim is about"
    )
    assert f"- apb-random − apb is not measured: {missing} sanity.\n" in text
    changed = scores_of("paper", {"td3": -10.0}).assign(variant="tau=0.1")
    lacking = "no finished seed of td3 in this report; td3 ran only with changed settings.\n"
    assert f"- apb − td3 is not measured: suite ood has {lacking}" in text_of(
        scores_of("paper", {"apb": -10.0}), changed
    )


def test_two_arms_in_different_families_are_not_compared():
    apart = (
        scores_of("paper", {"apb": -10.0}),
        scores_of("paper", {"td3": -10.0}, family="hopper-rand"),
    )
    assert (
        "- apb − td3 is not measured: suite ood has no family and shift axis where both are"
        " finished.\n" in text_of(*apart)
    )


def verdict_of(*scores):
    """The line of each claim in the table of all claims, by the claim's text."""
    lines = verdicts_table(all_claim_tests(pd.concat(scores, ignore_index=True))).splitlines()
    cells = [
        [cell.strip() for cell in line.replace("\\", "").strip("| ").split(" | ")] for line in lines
    ]
    return {line[0]: dict(zip(cells[0], line, strict=True)) for line in cells[2:]}


@pytest.mark.parametrize(
    ("others", "verdict", "counts"),
    [
        ({"maml": -20.0, "pearl": -30.0}, "supported at desk", "2, 0, 0"),
        ({"maml": -20.0, "pearl": -10.0}, "supported in part at desk", "1, 0, 1"),
        ({"maml": -20.0, "pearl": -1.0}, "it depends at desk", "1, 1, 0"),
        ({"maml": -1.0, "pearl": -2.0}, "not supported at desk", "0, 2, 0"),
        ({"maml": -1.0, "pearl": -10.0}, "not supported in part at desk", "0, 1, 1"),
        ({"maml": -10.0}, "undecided at desk", "0, 0, 1"),
    ],
)
def test_one_table_has_every_claim_with_its_verdict_and_how_many_tests_say_so(
    others, verdict, counts
):
    verdict = f"{verdict} ({len(others)} of 8 comparisons measured)"
    found = verdict_of(scores_of("desk", {"apb": -10.0, **others}))
    assert list(found) == [*(claim.text for claim in CLAIMS), *NOT_TESTED]
    line = found[CLAIMS[0].text]
    assert (
        line["verdict"],
        line["tests for, against, undecided"],
        line["the same for toy evidence"],
    ) == (
        verdict,
        counts,
        "–",
    )
    assert {found[text]["verdict"] for text in NOT_TESTED} == {
        "not tested; the suite theory shows its terms"
    }
    assert found[CLAIMS[2].text]["verdict"] == "not judged yet"


def test_toys_are_counted_apart_and_judge_nothing():
    toy = scores_of("paper", {"apb": -10.0, "maml": -20.0}, family="point-goal")
    line = verdict_of(toy)[CLAIMS[0].text]
    assert (
        line["verdict"],
        line["tests for, against, undecided"],
        line["the same for toy evidence"],
    ) == (
        "not judged yet",
        "–",
        "1, 0, 0",
    )
    both = verdict_of(toy, scores_of("desk", {"apb": -30.0, "maml": -20.0}))[CLAIMS[0].text]
    assert (both["verdict"], both["tests for, against, undecided"]) == (
        "not supported at desk (1 of 8 comparisons measured)",
        "0, 1, 0",
    )
    levels = {"apb": -10.0, "td3": -30.0}
    whole = verdict_of(scores_of("desk", levels, references=references_of()))[CLAIMS[1].text]
    assert whole["verdict"] == "supported in part at desk"  # its only pair was measured


def test_the_columns_of_words_are_to_the_left():
    text = text_of(scores_of("paper", {"apb": -10.0, "maml": -20.0}))
    head = (
        "| compared | judgement | where | difference | p (Holm) | detectable | at b = 2H | seeds |"
        " steps used |\n"
    )
    assert f"{head}| --- | :--- | :--- |{' ---: |' * 6}\n" in text


def test_an_interval_covers_the_difference():
    (line,) = lines_of(scores_of("paper", {"apb": -10.0, "maml": -10.1}))
    low, high = (
        float(part.strip("[]").replace("−", "-"))
        for part in line["difference"].split(" ", 1)[1].split(", ")
    )
    assert low < 0.1 < high and np.isclose(high - low, 0.46, atol=0.02)
