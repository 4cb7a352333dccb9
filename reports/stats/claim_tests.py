"""The tests of a claim: all finished pairs of methods, by family, shift axis and statistic."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from reports.stats.claims import (
    AREA,
    EQUAL,
    KEPT,
    LEVEL,
    MARGIN,
    NORMALISED,
    RETURN,
    STEPS,
    Claim,
)
from reports.stats.curve_areas import adaptation_areas, horizon, steps_to
from reports.stats.generalisation import at_equal_return, kept_on_neighbours
from reports.stats.power import detectable_effect, pooled_deviation
from reports.stats.score_matrix import FloatArray
from reports.stats.scores import last_scores
from reports.stats.significance import holm, lowest_p, permutation_test
from reports.stats.welch import equivalence, seeds_for_equivalence, shown_margin, welch_interval
from reports.text import method_name

PLACE = ("budget", "family", "split", "axis")
_MANY = 100  # more seeds than anybody runs
# the values of a statistic: a function that gives a line per place, method and seed, and its column
_TESTED = {
    RETURN: (last_scores, "return_mean"),
    NORMALISED: (last_scores, "normalised"),
    AREA: (lambda scores: adaptation_areas(scores, value="return_mean"), "area"),
    STEPS: (steps_to, "steps"),
    KEPT: (kept_on_neighbours, "kept"),
    EQUAL: (at_equal_return, "equal"),
}


def claim_tests(claim: Claim, scores: pd.DataFrame) -> pd.DataFrame:
    """Test a claim wherever two of its arms are finished.

    RETURN, AREA, KEPT and EQUAL are compared by permutation tests of means, STEPS by permutation
    tests of ranks, with seeds that never get there ranked last, and NORMALISED by two one-sided
    tests of equivalence with MARGIN: p is that of "equivalent, or better" or that of "worse by more
    than the margin", whichever is smaller. Only one of the two can be a false alarm, so they count
    as one test.

    Args:
      scores: `adaptation_scores`.
    Returns:
      One line per PLACE, `arm`, `other` and `statistic`, sorted by budget: `difference`, arm −
      other, and its 95 % interval `low`, `high` (none for STEPS); `p`, NaN where there is no test;
      `p_holm`, corrected over all tests of the claim at the budget, whose number is `n_tests`;
      `favours`, whether the result speaks for the claim; `detectable`, what a test at the first of
      Holm's steps finds with a power of 80 %: the difference, or for NORMALISED the margin within
      which equal methods are found equivalent, infinite where so few seeds can never show anything;
      `reached`, the lowest corrected p that so few seeds can give; `deviation` over seeds;
      `n_seeds`, `n_other`; `middle`, `other_middle`, medians over seeds; `early`, the difference of
      mean returns after two episodes; `steps`, `other_steps` that each used in the end;
      `uncertain`, whether the references of either are close.
    Source:
      Holm 1979; Shaffer 1986 for two hypotheses of which one is true.
    """
    table = claimed(claim, scores)
    if not (done := _samples(table, RETURN)):  # most claims are about other suites
        return _nothing()
    compared = table[table["method"].isin(claim.arms + claim.others)]
    samples = {
        statistic: _samples(compared if statistic == EQUAL else table, statistic)
        for statistic in claim.statistics
    }
    lines = []
    spent = _spent(table)
    for place in dict.fromkeys(key[:-1] for key in done):
        for arm, other in claim.pairs:
            if (*place, arm) in done and (*place, other) in done:
                mine = spent[*place, arm]
                theirs = spent[*place, other]
                here = {
                    **dict(zip(PLACE, place, strict=True)),
                    "arm": arm,
                    "other": other,
                    "early": mine["early"] - theirs["early"],
                }
                here |= {"steps": mine["steps"], "other_steps": theirs["steps"]}
                here["uncertain"] = bool(mine["uncertain"] or theirs["uncertain"])
                for statistic, found in samples.items():
                    x, y = (found.get((*place, name), np.empty(0)) for name in (arm, other))
                    lines.append({**here, "statistic": statistic, **_tested(statistic, x, y)})
    return _corrected(pd.DataFrame(lines)) if lines else _nothing()


def _nothing() -> pd.DataFrame:
    return pd.DataFrame(columns=[*PLACE, "arm", "other", "p_holm", "favours"])


def claimed(claim: Claim, scores: pd.DataFrame) -> pd.DataFrame:
    """The lines of the claim's suite, with the name of the arm as `method`.

    Only arms in default settings and arms that the claim compares are kept.
    """
    mine = scores[scores["suite"] == claim.suite]
    names = [method_name(*arm) for arm in mine[["method", "variant"]].to_numpy()]
    compared = np.isin(names, claim.arms + claim.others)
    return mine.assign(method=names)[(mine["variant"] == "") | compared]


def seeds_needed(tests: pd.DataFrame) -> int | None:
    """The fewest seeds per method at which every test of a claim at one budget can decide.

    None if more are needed than anybody runs, or if there is no test.

    For permutation tests, n such that m · lowest_p(n, n) ≤ LEVEL for the m tests; for equivalence,
    n such that equal methods are found equivalent with a power of 80 %, given the largest deviation
    seen in the tests.
    """
    made = tests[tests["p"].notna()]
    if made.empty:
        return None
    alpha = LEVEL / len(made)
    needed = []
    if (made["statistic"] != NORMALISED).any():
        needed.append(next((n for n in range(2, _MANY) if lowest_p(n, n) <= alpha), None))
    if (made["statistic"] == NORMALISED).any():
        needed.append(seeds_for_equivalence(float(made["deviation"].max()), MARGIN, alpha))
    return None if None in needed else max(n for n in needed if n is not None)


def _samples(table: pd.DataFrame, statistic: str) -> dict[tuple[Any, ...], FloatArray]:
    """The values of the seeds, missing ones left out, by (*PLACE, method)."""
    measure, column = _TESTED[statistic]
    found = measure(table).dropna(subset=[column])
    return {key: lines[column].to_numpy(float) for key, lines in found.groupby([*PLACE, "method"])}


def _tested(statistic: str, x: FloatArray, y: FloatArray) -> dict[str, Any]:
    """One test, not yet corrected."""
    said = {
        "n_seeds": x.size,
        "n_other": y.size,
        "p": np.nan,
        "favours": False,
        "lowest_p": np.nan,
        "deviation": np.nan,
    }
    said |= {
        "difference": np.nan,
        "low": np.nan,
        "high": np.nan,
        "middle": np.nan,
        "other_middle": np.nan,
    }
    if not x.size or not y.size or (statistic == NORMALISED and min(x.size, y.size) < 2):
        return said
    said |= {"middle": float(np.median(x)), "other_middle": float(np.median(y))}
    if statistic == STEPS:
        x, y = _ranks(x, y)
    else:
        said |= dict(zip(("low", "high"), welch_interval(x, y), strict=True))
        said |= {"difference": x.mean() - y.mean(), "deviation": pooled_deviation(x, y)}
    if statistic == NORMALISED:
        found = equivalence(x, y, MARGIN)
        return said | {
            "p": min(found),
            "favours": found.supports <= found.contradicts,
            "lowest_p": 0.0,
        }
    p = permutation_test(x, y, np.random.default_rng(0))
    return said | {
        "p": p,
        "favours": bool(x.mean() > y.mean()),
        "lowest_p": lowest_p(x.size, y.size),
    }


def _ranks(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Ranks of all values together, ties at their mean rank; the lowest value ranks highest."""
    both = np.concatenate((x, y))
    ranks = (both[:, None] < both).sum(axis=1) + (both[:, None] == both).sum(axis=1) / 2
    return ranks[: x.size], ranks[x.size :]


def _corrected(tests: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that depend on the number of tests at the same budget."""
    tests = tests.sort_values("budget", kind="stable", ignore_index=True)
    budgets = tests.groupby("budget")
    tests["p_holm"] = budgets["p"].transform(holm)
    tests["n_tests"] = budgets["p"].transform("count")
    tests["reached"] = np.maximum(
        tests["lowest_p"], budgets["lowest_p"].transform("min") * tests["n_tests"]
    )
    tests["detectable"] = [_detectable(one) for one in tests.to_dict("records")]
    return tests


def _detectable(one: Mapping[Any, Any]) -> float:
    if np.isnan(one["p"]) or one["statistic"] == STEPS:
        return float("nan")
    alpha = LEVEL / one["n_tests"]
    seeds = (one["n_seeds"], one["n_other"])
    if one["statistic"] == NORMALISED:
        return shown_margin(one["deviation"], *seeds, alpha)
    return (
        float("inf")
        if one["lowest_p"] > alpha
        else detectable_effect(one["deviation"], *seeds, alpha)
    )


def _spent(table: pd.DataFrame) -> dict[tuple[Any, ...], dict[Hashable, Any]]:
    """What each (*PLACE, method) has spent and earned.

    `steps` is the number of steps used on the test task in the end, `early` the mean return at the
    last checkpoint within two episodes, and `uncertain` says whether its references are close.
    """
    keys = [*PLACE, "method"]
    firsts = {
        place: horizon(sorted(map(int, b.unique())))
        for place, b in table.groupby(list(PLACE))["env_steps"]
    }
    twice = [
        2 * (firsts[place] or np.nan)
        for place in table[list(PLACE)].itertuples(index=False, name=None)
    ]
    before = table[table["env_steps"] <= twice]
    then = before[before["env_steps"] == before.groupby(keys)["env_steps"].transform("max")]
    ends = table.groupby(keys).agg(steps=("env_steps", "max"), uncertain=("uncertain", "any"))
    found = ends.assign(early=then.groupby(keys)["return_mean"].mean())
    return dict(zip(found.index, found.to_dict("records"), strict=True))
