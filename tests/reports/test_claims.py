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
    lines = claims_table(scores, {"cheetah-vel": frozenset({"angle"})}).splitlines()
    header, _, *body = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return [dict(zip(header, cells, strict=True)) for cells in body]


@pytest.mark.parametrize(("budget", "expected"), [("paper", SUPPORTED), ("quick", TOY)])
def test_a_clear_difference_is_judged_at_the_papers_budget_only(budget, expected):
    lines = lines_of(scores_of(budget, {"apb": -10.0, "maml": -20.0, "td3": -10.0}))
    (maml,) = [line for line in lines if line["compared"] == "apb − maml"]
    assert maml["difference"].startswith("10.0 [9.8") and maml["difference"].endswith("]")
    assert maml["judgement"] == expected and maml["seeds"] == "5, 5" and float(maml["p (Holm)"]) < 0.05
    assert "exact linear images" in maml["where"] and f"budget {budget}" in maml["where"]
    (td3,) = [line for line in lines if line["compared"] == "apb − td3"]
    assert td3["judgement"] == (UNDECIDED if budget == "paper" else TOY)


def test_a_point_mass_is_a_toy_at_any_budget():
    lines = lines_of(scores_of("paper", {"apb": -10.0, "maml": -20.0}, family="point-goal"))
    assert [line["judgement"] for line in lines if line["compared"] == "apb − maml"] == [TOY]


def test_few_seeds_have_no_interval_and_decide_nothing():
    lines = lines_of(scores_of("paper", {"apb": -10.0, "maml": -20.0}, seeds=2))
    (line,) = [line for line in lines if line["compared"] == "apb − maml"]
    assert "[" not in line["difference"] and line["judgement"] == UNDECIDED
    assert line["smallest detectable"] == "none with so few seeds"


def test_what_was_not_measured_is_said():
    lines = lines_of(scores_of("paper", {"maml": -20.0}))
    assert len(lines) == len(CLAIMS) + len(NOT_TESTED) and {line["judgement"] for line in lines} == {"not measured yet"}


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
