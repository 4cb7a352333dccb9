"""What the paper of APB claims, and what this store says about it, number by number.

A claim is judged only where it was made: on the families and with the budget of the paper. Anything else is a hint, and is
called toy evidence.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.answers import last_scores
from reports.axes import axis_text
from reports.improvement import OTHER
from reports.scores import ARM, TABLE, select
from reports.significance import differences
from reports.strata import APART
from reports.text import escape_markdown, listing, markdown_table, number
from reports.welch import welch_interval

JUDGED_AT = "paper"  # the only budget that a claim is judged at
LEVEL = 0.05  # of the p-values, corrected over the families of a pair

SUPPORTED, CONTRADICTED, UNDECIDED, TOY = "supported", "not supported", "undecided", "toy evidence only"


@dataclass(frozen=True)
class Claim:
    """One arm is said to be better than another, or not to be worse."""

    text: str
    suite: str
    arm: str
    others: tuple[str, ...]
    better: bool = True  # False: the claim is that the arm comes near the other, so a clear difference contradicts it


FAMILIES = frozenset({"cheetah-vel", "cheetah-joints", "hopper-rand", "walker-rand", "ant-goal", "ant-dir"})  # of locomotion
META_RL = ("maml", "cavia", "pearl", "varibad")
CLAIMS = (
    Claim("APB adapts outside the training distribution where other meta-RL fails", "ood", "apb", META_RL),
    Claim("APB needs fewer samples than standard RL", "ood", "apb", ("td3",)),
    Claim("a random backbone comes near a meta-trained one", "sanity", "apb-random", ("apb",), better=False),
    Claim("a layer before and one after the backbone are both needed", "placement", "apb", ("apb-pre", "apb-post")),
)
NOT_TESTED = ("the error falls with the coverage of meta-training", "the bound 2L·‖h‖·|X_OOD|·ε_max holds")

_HEADER = ("compared", "judgement", "where", "difference", "p (Holm)", "detectable", "seeds")
_WORDS = (1, 2)  # columns of the header


def claims_table(scores: pd.DataFrame, exact: Mapping[str, frozenset[str]]) -> str:
    """All claims in Markdown, a table each with a line per pair of methods, family and shift axis that the store has finished.

    Args:
      scores: `adaptation_scores`. exact: `exact_axes`.
    """
    last = last_scores(scores).dropna(subset=["return_mean"])
    parts = [f"### {escape_markdown(claim.text)}\n\n{_claim(claim, last, exact)}" for claim in CLAIMS]
    untested = "".join(f"- {escape_markdown(text)}\n" for text in NOT_TESTED)
    return "\n".join([*parts, f"### Claims that no suite tests yet\n\n{untested}"])


def _claim(claim: Claim, last: pd.DataFrame, exact: Mapping[str, frozenset[str]]) -> str:
    """The table of one claim, as far as it is measured, and what is missing."""
    unchanged = last[(last["suite"] == claim.suite) & (last["variant"] == "")]
    lines, missing = [], []
    for other in claim.others:
        found = list(_lines(claim, other, unchanged, exact))
        lines += found
        if not found:
            pair = escape_markdown(f"{claim.arm} − {other}")
            missing.append(f"- {pair} is not measured: {escape_markdown(_missing(claim, other, last))}.\n")
    return "\n".join(filter(None, [markdown_table(_HEADER, lines, _WORDS) if lines else "", "".join(missing)]))


def _lines(claim: Claim, other: str, unchanged: pd.DataFrame, exact: Mapping[str, frozenset[str]]) -> Iterator[list[str]]:
    if not {claim.arm, other} <= set(unchanged["method"]):
        return
    pair = unchanged[unchanged["method"].isin((claim.arm, other))]
    found = differences(pair, (other, ""), value="return_mean")
    tests = found.groupby([*APART])["lowest_p"]  # Holm multiplies the lowest of these p-values by their number
    found["reached"] = np.maximum(found["lowest_p"], tests.transform("min") * tests.transform("size"))
    for one in found.to_dict("records"):
        place = f"{one['family']}, {axis_text(one['axis'], exact.get(one['family'], ()))}, budget {one['budget']}"
        low, high = _interval(unchanged, one)
        interval = "" if np.isnan(low) else f" [{number(low)}, {number(high)}]"
        yield [
            escape_markdown(f"{claim.arm} − {other}"),
            escape_markdown(_judged(claim, one)),
            escape_markdown(place),
            number(one["difference"]) + interval,
            f"{one['p_holm']:.2g}",
            "none" if np.isinf(one["smallest_effect"]) else number(one["smallest_effect"]),
            f"{one['n_seeds']}, {one['n_other']}",
        ]


def _missing(claim: Claim, other: str, last: pd.DataFrame) -> str:
    """Why two arms are not compared: which of them has no score, and where they have some that the claim does not count."""
    arms, unchanged, pair = last[last["suite"] == claim.suite], last[last["variant"] == ""], (claim.arm, other)
    lacking = [arm for arm in pair if select(unchanged, ("suite", "method"), (claim.suite, arm)).empty]
    if not lacking:
        return f"suite {claim.suite} has no family and shift axis where both are finished"
    said = f"suite {claim.suite} has no finished seed of {listing(lacking)} in this report"
    if changed := [arm for arm in lacking if arm in set(arms["method"])]:
        said += f", of {listing(changed)} only with changed settings"
    if elsewhere := [str(suite) for suite, of_suite in unchanged.groupby("suite") if set(pair) <= set(of_suite["method"])]:
        said += f"; both are in {listing(elsewhere)}, but the claim is about {claim.suite}"
    return said


def _judged(claim: Claim, one: Mapping[Hashable, Any]) -> str:
    """The judgement, and what is lacking where there is none."""
    said = judgement(claim, one["family"], one["budget"], one["difference"], one["p_holm"])
    lacking = []
    if said == TOY:
        other = ["family"] * (one["family"] not in FAMILIES) + ["budget"] * (one["budget"] != JUDGED_AT)
        lacking.append(f"{listing(other)} {'are' if len(other) > 1 else 'is'} not the paper's")
    if one["reached"] > LEVEL:
        lacking.append(f"{one['n_seeds']} and {one['n_other']} seeds are too few to reach p ≤ {LEVEL}")
    elif said == UNDECIDED:
        lacking.append(f"p > {LEVEL}")
    return f"{said}: {', '.join(lacking)}" if lacking else said


def judgement(claim: Claim, family: str, budget: str, difference: float, p: float) -> str:
    """Supported, not supported or undecided on locomotion at the budget of the paper; toy evidence anywhere else."""
    if budget != JUDGED_AT or family not in FAMILIES:
        return TOY
    if p > LEVEL:
        return UNDECIDED
    if claim.better:
        return SUPPORTED if difference > 0 else CONTRADICTED
    return CONTRADICTED if difference < 0 else SUPPORTED


def _interval(scores: pd.DataFrame, one: Mapping[Hashable, Any]) -> tuple[float, float]:
    """95 % interval of the difference of means over seeds; NaN with too few seeds."""
    at = select(scores, (*TABLE, "axis"), [one[name] for name in (*TABLE, "axis")])
    x, y = (select(at, ARM, [one[name] for name in names])["return_mean"].to_numpy(float) for names in (ARM, OTHER))
    return welch_interval(x, y)
