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
from reports.stats import BOOTSTRAP_SEEDS
from reports.text import escape_markdown, markdown_table, number

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

_HEADER = ("claim", "compared", "where", "difference", "p (Holm)", "smallest detectable", "seeds", "judgement")


def claims_table(scores: pd.DataFrame, exact: Mapping[str, frozenset[str]]) -> str:
    """All claims in Markdown, a line per pair of methods, family and shift axis that the store has finished.

    Args:
      scores: `adaptation_scores`. exact: `exact_axes`.
    """
    last = last_scores(scores).dropna(subset=["return_mean"])
    lines = [line for claim in CLAIMS for line in _lines(claim, last[last["suite"] == claim.suite], exact)]
    lines += [[escape_markdown(text), "–", "no suite tests this yet", *["–"] * 4, "not measured yet"] for text in NOT_TESTED]
    return markdown_table(_HEADER, lines)


def _lines(claim: Claim, last: pd.DataFrame, exact: Mapping[str, frozenset[str]]) -> Iterator[list[str]]:
    text, unchanged = escape_markdown(claim.text), last[last["variant"] == ""]
    there = [other for other in claim.others if {claim.arm, other} <= set(unchanged["method"])]
    pairs = {other: unchanged[unchanged["method"].isin((claim.arm, other))] for other in there}
    found = [differences(pair, (other, ""), value="return_mean") for other, pair in pairs.items()]
    if not found or all(table.empty for table in found):
        yield [text, escape_markdown(f"{claim.arm} − {' / '.join(claim.others)}"), "–", *["–"] * 4, "not measured yet"]
        return
    for one in pd.concat(found).to_dict("records"):
        place = f"{one['family']}, {axis_text(one['axis'], exact.get(one['family'], ()))}, budget {one['budget']}"
        low, high = _interval(unchanged, one)
        interval = "" if np.isnan(low) else f" [{number(low)}, {number(high)}]"
        effect = "none with so few seeds" if np.isinf(one["smallest_effect"]) else number(one["smallest_effect"])
        yield [
            text,
            escape_markdown(f"{claim.arm} − {one[OTHER[0]]}"),
            escape_markdown(place),
            number(one["difference"]) + interval,
            f"{one['p_holm']:.2g}",
            effect,
            f"{one['n_seeds']}, {one['n_other']}",
            judgement(claim, one["family"], one["budget"], one["difference"], one["p_holm"]),
        ]


def judgement(claim: Claim, family: str, budget: str, difference: float, p: float) -> str:
    """Supported, not supported or undecided on locomotion at the budget of the paper; toy evidence anywhere else."""
    if budget != JUDGED_AT or family not in FAMILIES:
        return TOY
    if p > LEVEL:
        return UNDECIDED
    if claim.better:
        return SUPPORTED if difference > 0 else CONTRADICTED
    return CONTRADICTED if difference < 0 else SUPPORTED


def _interval(scores: pd.DataFrame, one: Mapping[Hashable, Any], draws: int = 5_000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the difference of means over seeds; NaN with too few seeds."""
    at = select(scores, (*TABLE, "axis"), [one[name] for name in (*TABLE, "axis")])
    x, y = (select(at, ARM, [one[name] for name in names])["return_mean"].to_numpy(float) for names in (ARM, OTHER))
    if min(x.size, y.size) < BOOTSTRAP_SEEDS:
        return float("nan"), float("nan")
    generator = np.random.default_rng(0)
    means = [values[generator.integers(values.size, size=(draws, values.size))].mean(axis=1) for values in (x, y)]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return float(low), float(high)
