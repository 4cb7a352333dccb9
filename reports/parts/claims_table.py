"""The claims of the papers and the evidence in this store, test by test, in Markdown."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from reports.stats.claim_tests import claim_tests, claimed, seeds_needed
from reports.stats.claims import (
    AREA,
    CLAIMS,
    CONTRADICTED,
    EQUAL,
    FAMILIES,
    JUDGED_AT,
    KEPT,
    LEVEL,
    MARGIN,
    NORMALISED,
    NOT_TESTED,
    RETURN,
    STEPS,
    SUPPORTED,
    TOY,
    UNDECIDED,
    Claim,
    judgement,
)
from reports.stats.scores import last_scores
from reports.stats.shift_axes import axis_text
from reports.text import escape_markdown, listing, markdown_table, number, steps

_HEADER = (
    "compared",
    "judgement",
    "where",
    "difference",
    "p (Holm)",
    "detectable",
    "at b = 2H",
    "seeds",
    "steps used",
)
_WORDS = (1, 2)  # columns of _HEADER with text, left-aligned
_JUDGED = ("family", "budget", "p_holm", "favours")  # the arguments of `judgement`
_TESTED_BY = {
    RETURN: "the return at the end of the budget (permutation test)",
    AREA: (
        "the area under the adaptation curve over log b, floored at the zero action (permutation"
        " test)"
    ),
    STEPS: (
        "the steps to half of the expert's gain (permutation test on ranks; methods that never get"
        " there rank last)"
    ),
    KEPT: (
        "the return on neighbouring tasks minus that on the policy's own task, both at the end of"
        " the budget (permutation test)"
    ),
    EQUAL: (
        "the return on neighbouring tasks when the return on the own task first reaches a level"
        " that every arm reaches (permutation test)"
    ),
    NORMALISED: (
        "the normalised score at the end of the budget (two one-sided tests of equivalence with a"
        f" margin of {MARGIN})"
    ),
}


def all_claim_tests(scores: pd.DataFrame) -> dict[Claim, pd.DataFrame]:
    """Test every claim as far as its arms are finished in `scores`, from `adaptation_scores`."""
    measured = scores.dropna(subset=["return_mean"])
    return {claim: claim_tests(claim, measured) for claim in CLAIMS}


def verdicts_table(tests: Mapping[Claim, pd.DataFrame]) -> str:
    """All claims in one Markdown table, a line per claim; `tests` is from `all_claim_tests`."""
    lines = [
        [escape_markdown(claim.text), claim.paper, _verdict(claim, found), *_counts(found)]
        for claim, found in tests.items()
    ]
    lines += [
        [escape_markdown(text), paper, "not tested; the suite theory shows its terms", "–", "–"]
        for text, paper in NOT_TESTED.items()
    ]
    header = [
        "claim",
        "paper",
        "verdict",
        "tests for, against, undecided",
        "the same for toy evidence",
    ]
    return markdown_table(header, lines, words=(1, 2))


def _verdict(claim: Claim, tests: pd.DataFrame) -> str:
    """The verdict at each budget that claims are judged at, and how many pairs are measured."""
    said = []
    for budget in JUDGED_AT:
        here = tests[(tests["budget"] == budget) & tests["family"].isin(FAMILIES)]
        found = {judgement(*one) for one in here[list(_JUDGED)].itertuples(index=False, name=None)}
        if found := found - {TOY}:
            mixed = {SUPPORTED, CONTRADICTED} <= found
            decided = next(
                (verdict for verdict in (CONTRADICTED, SUPPORTED) if verdict in found), UNDECIDED
            )
            part = " in part" if decided != UNDECIDED and UNDECIDED in found else ""
            told = f"{'it depends' if mixed else decided + part} at {budget}"
            measured = len(here[["arm", "other"]].drop_duplicates())
            if measured < len(claim.pairs):
                told += f" ({measured} of {len(claim.pairs)} comparisons measured)"
            said.append(told)
    return ", ".join(said) or "not judged yet"


def _counts(tests: pd.DataFrame) -> list[str]:
    """Count tests for, against and undecided: first where claims are judged, then on toys."""
    toys = np.array(
        [judgement(*one) == TOY for one in tests[list(_JUDGED)].itertuples(index=False, name=None)],
        bool,
    )
    decided = (tests["p_holm"] <= LEVEL).to_numpy(bool)
    favours = tests["favours"].to_numpy(bool)
    counted = [
        (
            int((where & decided & favours).sum()),
            int((where & decided & ~favours).sum()),
            int((where & ~decided).sum()),
        )
        for where in (~toys, toys)
    ]
    return [", ".join(map(str, counts)) if any(counts) else "–" for counts in counted]


def claims_details(
    tests: Mapping[Claim, pd.DataFrame], scores: pd.DataFrame, exact: Mapping[str, frozenset[str]]
) -> str:
    """All claims in Markdown, each with a table of one line per test.

    Args:
      tests: from `all_claim_tests`. scores: `adaptation_scores`. exact: `exact_axes`.
    """
    last = last_scores(scores.dropna(subset=["return_mean"]))
    parts = (
        f"### {escape_markdown(claim.text)}\n\n{_claim(claim, found, last, exact)}"
        for claim, found in tests.items()
    )
    return "\n".join(parts)


def _claim(
    claim: Claim, tests: pd.DataFrame, last: pd.DataFrame, exact: Mapping[str, frozenset[str]]
) -> str:
    """Summaries and the table of one claim, as far as it is measured, and what is missing."""
    how = [_TESTED_BY[statistic] for statistic in claim.statistics]
    said = [f"Tested on the suite {escape_markdown(claim.suite)} by {' and by '.join(how)}."]
    said += [_summary(str(budget), of_budget) for budget, of_budget in tests.groupby("budget")]
    lines = [_line(claim, one, exact) for one in tests.to_dict("records")]
    found = set(tests[["arm", "other"]].itertuples(index=False, name=None))
    missing = [
        f"- {escape_markdown(f'{arm} − {other}')} is not measured:"
        f" {escape_markdown(_missing(claim, (arm, other), last))}.\n"
        for arm, other in claim.pairs
        if (arm, other) not in found
    ]
    parts = [
        f"{' '.join(said)}\n",
        markdown_table(_HEADER, lines, _WORDS) if lines else "",
        "".join(missing),
    ]
    return "\n".join(filter(None, parts))


def _summary(budget: str, tests: pd.DataFrame) -> str:
    """The outcome of the tests at one budget, and how many seeds they need."""
    verdicts = [judgement(*one) for one in tests[list(_JUDGED)].itertuples(index=False, name=None)]
    judged = len(verdicts) - verdicts.count(TOY)
    n_tests = int(tests["p"].notna().sum())
    place = f"At {escape_markdown(budget)}"
    if not judged:
        said = f"{place} there is only toy evidence"
    else:
        counts = [verdicts.count(verdict) for verdict in (SUPPORTED, CONTRADICTED, UNDECIDED)]
        said = (
            f"{place} it is supported in {counts[0]} of {judged} comparisons, not supported in"
            f" {counts[1]} and undecided in "
        )
        said += str(counts[2])
    if not n_tests:
        return f"{said}."
    needed = seeds_needed(tests)
    seeds = f"{needed} seeds per method" if needed else "more seeds than are practical"
    if (tests["statistic"] == NORMALISED).all():
        return f"{said}; to find identical methods equivalent, {_all(n_tests)} needs about {seeds}."
    return f"{said}; to reach p ≤ {LEVEL}, {_all(n_tests)} needs {seeds}."


def _all(n_tests: int) -> str:
    return f"the correction for {n_tests} tests" if n_tests > 1 else "its one test"


def _line(
    claim: Claim, one: Mapping[Hashable, Any], exact: Mapping[str, frozenset[str]]
) -> list[str]:
    pair = f"{one['arm']} − {one['other']}" + (
        f": {one['statistic']}" if len(claim.statistics) > 1 else ""
    )
    place = (
        f"{one['family']}, {axis_text(one['axis'], exact.get(one['family'], ()))}, budget"
        f" {one['budget']}"
    )
    return [
        escape_markdown(pair),
        escape_markdown(_judged(one)),
        escape_markdown(place),
        _difference(one),
        "–" if np.isnan(one["p_holm"]) else f"{one['p_holm']:.2g}",
        "none" if np.isinf(one["detectable"]) else number(one["detectable"]),
        number(one["early"]),
        f"{one['n_seeds']}, {one['n_other']}",
        f"{steps(one['steps'])}, {steps(one['other_steps'])}",
    ]


def _difference(one: Mapping[Hashable, Any]) -> str:
    """The difference and its interval, or both medians for STEPS; "?" if references are close."""
    mark = "?" if one["uncertain"] and one["statistic"] in (STEPS, NORMALISED) else ""
    if one["statistic"] == STEPS:
        middles = [one["middle"], one["other_middle"]]
        if np.isnan(middles).any():
            return "–"
        return (
            " against ".join("never" if np.isinf(middle) else steps(middle) for middle in middles)
            + mark
        )
    interval = "" if np.isnan(one["low"]) else f" [{number(one['low'])}, {number(one['high'])}]"
    return number(one["difference"]) + mark + interval


def _judged(one: Mapping[Hashable, Any]) -> str:
    """The judgement, with its budget if decided, else with what is lacking for a decision."""
    said = judgement(str(one["family"]), str(one["budget"]), one["p_holm"], one["favours"])
    if said in (SUPPORTED, CONTRADICTED):
        return f"{said} at {one['budget']}"
    lacking = list(_lacking(said, one))
    return f"{said}: {', '.join(lacking)}" if lacking else said


def _lacking(said: str, one: Mapping[Hashable, Any]) -> Iterator[str]:
    few = f"{one['n_seeds']} and {one['n_other']} seeds are too few"
    if np.isnan(one["p"]):
        yield "no reference returns" if min(one["n_seeds"], one["n_other"]) == 0 else few
    elif one["reached"] > LEVEL:
        yield f"{few} to reach p ≤ {LEVEL}"
    elif said == UNDECIDED:
        yield f"p > {LEVEL}"


def _missing(claim: Claim, pair: tuple[str, str], last: pd.DataFrame) -> str:
    """Why two arms are not compared: which have no score, and which scores the claim ignores."""
    arms = last[last["suite"] == claim.suite]
    done = set(claimed(claim, last)["method"])
    lacking = [arm for arm in pair if arm not in done]
    if not lacking:
        return f"suite {claim.suite} has no family and shift axis where both are finished"
    said = f"suite {claim.suite} has no finished seed of {listing(lacking)} in this report"
    if changed := [arm for arm in lacking if arm in set(arms["method"])]:
        said += f"; {listing(changed)} ran only with changed settings"
    if elsewhere := [
        str(suite)
        for suite, of_suite in last[last["variant"] == ""].groupby("suite")
        if set(pair) <= set(of_suite["method"])
    ]:
        said += f"; both are in {listing(elsewhere)}, but the claim is about {claim.suite}"
    return said
