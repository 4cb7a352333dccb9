"""Methods that only this store has, tested against other results: which is better, by how much."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from reports.page.output import Output
from reports.stats.regression import LEVEL
from reports.stats.scores import ARM, TABLE, last_scores
from reports.stats.shift_axes import axis_text
from reports.stats.significance import differences, holm
from reports.text import escape_markdown, listing, markdown_table, method_name, number

ABOVE = "better"
BELOW = "worse"
ALIKE = "not told apart"
UNKNOWN = "too few seeds to tell"
_IMAGES = "The tasks of this axis are exact linear images of training tasks."
_PLACE = (*TABLE, "axis")
_HOW_TO_READ = """\
Scores are those at the end of the adaptation budget ([CSV](data/comparison-own.csv)). A positive
difference favours the method named above the table. p is from a permutation test over seeds,
Holm-corrected over all lines of this section; "detectable" is the smallest difference that the
strictest of these tests finds with a power of 80 %.
"""


def against_others(own: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Compare every arm of `own` with each of `others` in the same place at the end of adaptation.

    Args:
      own: `adaptation_scores` of arms that only this set of results has; NaN for a missing score.
      others: the same for the arms of the other set.
    Returns:
      One line per TABLE, `axis`, arm and other arm (`other`, `other_variant`); the lines of an arm
      are together, sorted by place, the best other first: `mean` and `n_seeds`, `other_mean` and
      `n_other`; `difference`, mean − other_mean; `p` of a two-sided permutation test over seeds and
      `p_holm`, corrected over all lines; `detectable`, the difference that a t-test at the first of
      Holm's steps finds with a power of 80 %, infinite where so few seeds cannot show any; and
      `verdict`, ABOVE, BELOW, ALIKE or UNKNOWN.
    """
    mine, theirs = (last_scores(table).dropna(subset=["return_mean"]) for table in (own, others))
    arms = dict(iter(mine.groupby(list(ARM), sort=False)))
    n_tests = sum(
        len(_opponents(lines, theirs)[[*_PLACE, *ARM]].drop_duplicates()) for lines in arms.values()
    )
    if not n_tests:
        return pd.DataFrame(columns=[*_PLACE, *ARM])
    found = pd.concat(
        [_of_arm(lines, arm, theirs, n_tests) for arm, lines in arms.items()], ignore_index=True
    )
    found["p_holm"] = holm(found["p"].to_numpy(float))
    return found.assign(verdict=[_verdict(line) for line in found.to_dict("records")])


def _opponents(mine: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """The scores of the other arms at the places where `mine` has some."""
    return theirs.merge(mine[list(_PLACE)].drop_duplicates(), on=list(_PLACE))


def _of_arm(mine: pd.DataFrame, arm: Any, theirs: pd.DataFrame, n_tests: int) -> pd.DataFrame:
    """The tests of one arm, not yet corrected."""
    others = _opponents(mine, theirs)
    if others.empty:
        return pd.DataFrame()
    table = pd.concat([mine, others], ignore_index=True)
    pairs = differences(table, against=arm, value="return_mean", alpha=LEVEL / n_tests)
    means = table.groupby([*_PLACE, *ARM])["return_mean"].mean().rename("other_mean").reset_index()
    pairs = pairs.merge(means, on=[*_PLACE, *ARM])
    found = pairs[list(_PLACE)].assign(
        method=arm[0], variant=arm[1], other=pairs["method"], other_variant=pairs["variant"]
    )
    found["mean"] = pairs["other_mean"] - pairs["difference"]
    found = found.assign(
        n_seeds=pairs["n_other"], other_mean=pairs["other_mean"], n_other=pairs["n_seeds"]
    )
    found["difference"] = -pairs["difference"]
    found = found.assign(p=pairs["p"], detectable=pairs["smallest_effect"])
    order = {"by": [*_PLACE, "other_mean"], "ascending": [True] * len(_PLACE) + [False]}
    return found.sort_values(**order, kind="stable", ignore_index=True)


def _verdict(line: Any) -> str:
    if line["p_holm"] <= LEVEL:
        return ABOVE if line["difference"] > 0 else BELOW
    return UNKNOWN if np.isinf(line["detectable"]) else ALIKE


def own_section(
    own: pd.DataFrame, others: pd.DataFrame, exact: Mapping[str, frozenset[str]], out: Output
) -> Iterator[str]:
    """Yield what `against_others` finds in Markdown, a table per arm and place; write it as CSV."""
    found = against_others(own, others)
    if found.empty:
        return
    out.table(found, "comparison-own")
    yield _HOW_TO_READ
    for key, lines in found.groupby([*ARM, *_PLACE], sort=False):
        method, variant, suite, budget, family, split, axis = map(str, key)
        name = method_name(method, variant)
        place = f"{family}, split {split}, {axis_text(axis, ())} ({suite}, {budget})"
        told = f"{_answer(lines, name)} {_IMAGES if axis in exact.get(family, ()) else ''}".rstrip()
        yield f"### {escape_markdown(f'{name}: {place}')}\n\n{told}\n\n{_table(lines)}"


def _answer(lines: pd.DataFrame, name: str) -> str:
    n_seeds = int(lines["n_seeds"].iloc[0])
    mean = number(lines["mean"].iloc[0])
    said = [f"{escape_markdown(name)} scores {mean} ({n_seeds} seed{'s' if n_seeds != 1 else ''})."]
    kinds = (
        (ABOVE, "It is better than"),
        (BELOW, "It is worse than"),
        (ALIKE, "It cannot be told apart from"),
    )
    for verdict, words in kinds:
        those = lines[lines["verdict"] == verdict]
        if len(those):
            said.append(
                f"{words} {escape_markdown(listing(map(_other, those.to_dict('records'))))}."
            )
    if unknown := int((lines["verdict"] == UNKNOWN).sum()):
        said.append(
            f"For {unknown} of {len(lines)} there are too few seeds to detect any difference; run"
            " it with more (--seeds)."
        )
    return " ".join(said)


def _other(line: Any) -> str:
    return method_name(line["other"], line["other_variant"])


def _table(lines: pd.DataFrame) -> str:
    shown = [
        [
            escape_markdown(_other(line)),
            line["verdict"],
            number(line["difference"]),
            f"{line['p_holm']:.2g}",
            number(line["other_mean"]),
            str(line["n_other"]),
            "–" if np.isinf(line["detectable"]) else number(line["detectable"]),
        ]
        for line in lines.to_dict("records")
    ]
    header = [
        "other method",
        "verdict",
        "difference to it",
        "p (Holm)",
        "its score",
        "its seeds",
        "detectable",
    ]
    return markdown_table(header, shown, words=(1,))


def arms_of_tables(table: pd.DataFrame) -> set[tuple[str, ...]]:
    """The arms of a table, each with its suite, budget, family and split."""
    return set(table[[*TABLE, *ARM]].astype(str).itertuples(index=False, name=None))


def only_in(scores: pd.DataFrame, arms: set[tuple[str, ...]], inside: bool) -> pd.DataFrame:
    """The scores of `arms`, as from `arms_of_tables`, or of all others if `inside` is False."""
    return scores[scores[[*TABLE, *ARM]].astype(str).apply(tuple, axis=1).isin(arms) == inside]
