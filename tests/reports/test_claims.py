"""Claims as data, and when one is judged."""

import pytest

from benchmark.suites import BUDGETS, SUITES
from methods import METHODS
from reports.stats.claims import (
    CLAIMS,
    CONTRADICTED,
    FAMILIES,
    FINAL,
    JUDGED_AT,
    META_RL,
    NORMALISED,
    NOT_TESTED,
    STEPS,
    SUPPORTED,
    TOY,
    UNDECIDED,
    V1,
    judgement,
)

NAN = float("nan")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.text)
def test_a_claim_names_arms_of_its_suite_and_families_that_are_judged(claim):
    assert {*claim.arms, *claim.others} <= set(SUITES[claim.suite].methods) <= set(METHODS)
    for budget in JUDGED_AT:
        assert budget in BUDGETS and set(SUITES[claim.suite].families[budget]) <= FAMILIES


def test_both_versions_of_the_paper_are_there():
    assert {claim.paper for claim in CLAIMS} == {*NOT_TESTED.values()} == {V1, FINAL}
    near = [claim for claim in CLAIMS if "near" in claim.text or "on par" in claim.text]
    assert len(near) == 2 and all(claim.statistics == (NORMALISED,) for claim in near)
    (samples,) = [claim for claim in CLAIMS if "fewer samples" in claim.text]
    assert STEPS in samples.statistics and len(samples.statistics) == 2


def test_methods_that_stop_early_are_compared_as_they_go_on_too():
    assert {f"{name}+ft" for name in META_RL if not name.endswith("+ft")} <= set(META_RL)
    assert CLAIMS[0].pairs == [("apb", other) for other in META_RL]


@pytest.mark.parametrize(
    ("family", "budget", "p", "favours", "expected"),
    [
        ("cheetah-vel", "desk", 0.01, True, SUPPORTED),
        ("ant-dir", "paper", 0.05, True, SUPPORTED),
        ("cheetah-vel", "desk", 0.01, False, CONTRADICTED),
        ("cheetah-vel", "paper", 0.051, True, UNDECIDED),
        ("cheetah-vel", "desk", NAN, True, UNDECIDED),
        ("cheetah-vel", "quick", 0.001, True, TOY),
        ("point-goal", "desk", 0.001, False, TOY),
    ],
)
def test_a_judgement_follows_from_the_place_and_the_p_value(family, budget, p, favours, expected):
    assert judgement(family, budget, p, favours) == expected
