"""Claims as data, and when one is judged."""

import pytest

from benchmark.cells import expand
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
from reports.text import method_name

NAN = float("nan")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.text)
def test_a_claim_names_arms_of_its_suite_and_families_that_are_judged(claim):
    suite = SUITES[claim.suite]
    methods = {name: METHODS[name] for name in suite.methods}
    for budget in JUDGED_AT:
        assert set(suite.families[budget]) <= FAMILIES
        cells = expand(
            suite, BUDGETS[budget], methods, families=suite.families[budget], seeds=1, settings={}
        )
        assert {*claim.arms, *claim.others} <= {
            method_name(cell.method, cell.variant) for cell in cells
        }


def test_both_versions_of_the_paper_are_there():
    assert {claim.paper for claim in CLAIMS} == {V1, FINAL} >= {*NOT_TESTED.values()}
    near = [claim for claim in CLAIMS if "comes near" in claim.text or "on par" in claim.text]
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
