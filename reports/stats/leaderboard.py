"""A line per method of a suite: scores before, during and after adaptation, over all families."""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import pandas as pd

from reports.stats.bootstrap import estimate
from reports.stats.curve_areas import adaptation_areas
from reports.stats.estimates import iqm
from reports.stats.score_matrix import APART, STRATUM, add_group, arms_of, checked, score_matrix
from reports.stats.scores import ARM, IN_DISTRIBUTION, last_scores

START = "start"
AREA = "area"
END = "end"
# values of `unit`
NORMALISED = "normalised score"
RETURN = "return"


def leaderboard(scores: pd.DataFrame, exact: Mapping[str, Collection[str]]) -> pd.DataFrame:
    """The interquartile mean of every method's scores over seeds × families, with intervals.

    Families are combined by normalised scores. Where no family of a group has reference returns
    there are no such scores; if the group is one family on one shift axis, returns take their
    place.

    Args:
      scores: `reports.stats.scores.adaptation_scores`.
      exact: `reports.stats.shift_axes.exact_axes`.
    Returns:
      One line per suite, budget, split, `group` of strata and arm, the best first within a group:
      `unit`, NORMALISED or RETURN; `strata`, the families and axes that entered, and `left_out`,
      those without reference returns, as text; `families` that entered, comma-separated; START (b =
      0), AREA (`adaptation_areas`) and END (each seed's last checkpoint), each with its `_low` and
      `_high`; `n_seeds` and `n_families` that the END rests on; `complete`, whether that is every
      stratum (if not, the arm comes last); and `env_steps`, the most steps on a test task.
      Groups of several strata without references have no line.
    """
    keys = [*APART, "group"]
    boards = []
    for key, of_group in add_group(scores, exact).groupby(keys, sort=False):
        known = of_group.groupby(list(STRATUM))["normalised"].transform("count") > 0
        unit = NORMALISED if known.any() else RETURN
        entered = of_group[known] if unit == NORMALISED else of_group
        if unit == NORMALISED or len(strata_of(of_group)) == 1:
            board = _board(entered, "normalised" if unit == NORMALISED else "return_mean")
            board["left_out"] = text_of(set(strata_of(of_group)) - set(strata_of(entered)))
            boards.append(board.assign(**dict(zip(keys, key, strict=True)), unit=unit))
    if not boards:
        return pd.DataFrame(columns=[*keys, *ARM, "unit", "families", START, AREA, END])
    return pd.concat(boards, ignore_index=True)


def strata_of(scores: pd.DataFrame) -> list[tuple[str, str]]:
    """The families and shift axes of a table, sorted."""
    return sorted({*zip(scores["family"], scores["axis"], strict=True)})


def text_of(strata: Iterable[tuple[str, str]]) -> str:
    """Families and axes in a sentence: "point-goal angle, point-rand rotation"."""
    return ", ".join(
        family if axis == IN_DISTRIBUTION else f"{family} {axis}" for family, axis in sorted(strata)
    )


def _board(scores: pd.DataFrame, value: str) -> pd.DataFrame:
    """The lines of one group."""
    tables = {
        START: checked(scores[scores["env_steps"] == 0], value),
        AREA: checked(adaptation_areas(scores, value=value), "area"),
        END: checked(last_scores(scores), value),
    }
    strata = strata_of(scores)
    board = scores.groupby(list(ARM), sort=False)["env_steps"].max().reset_index()
    board["strata"] = text_of(strata)
    board["families"] = ",".join(sorted({family for family, _ in strata}))
    for moment, table in tables.items():
        found = [
            (*arm, *_estimated(lines.dropna(subset=["value"])))
            for arm, lines in arms_of(table).items()
        ]
        numbers = [moment, f"{moment}_low", f"{moment}_high"]
        counts = ["n_seeds", "n_families", "n_strata"]
        line = pd.DataFrame(found, columns=[*ARM, *numbers, *counts])
        columns = [*ARM, *numbers, *(counts if moment == END else ())]
        board = board.merge(line[columns], on=list(ARM), how="left")
    board["complete"] = board.pop("n_strata") == len(strata)
    return board.sort_values(["complete", END], ascending=False, kind="stable", ignore_index=True)


def _estimated(lines: pd.DataFrame) -> tuple[float, float, float, int, int, int]:
    """One arm's IQM and interval, as in `reports.stats.aggregates.aggregate`, and its counts."""
    if lines.empty:
        return np.nan, np.nan, np.nan, 0, 0, 0
    values = score_matrix(lines)
    found = estimate(values, iqm, np.random.default_rng(0))
    fewest = int((~np.isnan(values)).sum(axis=1).min())
    counts = fewest, lines["family"].nunique(), len(strata_of(lines))
    return *(float(number) for number in found), *counts
