"""A line per method of a suite: scores before, along and after adaptation, over all families."""

from collections.abc import Collection, Mapping

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
    """The interquartile mean over seeds × families of what every method scores, and its intervals.

    Families are combined by normalised scores. Where no family of a group has reference returns
    there are no such scores; if the group is one family on one shift axis, returns take their
    place.

    Args:
      scores: `reports.stats.scores.adaptation_scores`.
      exact: `reports.stats.shift_axes.exact_axes`.
    Returns:
      One line per suite, budget, split, `group` of strata and arm, the best first within a group:
      `unit`, NORMALISED or RETURN; `strata`, its families and axes as text; each of START (b = 0),
      AREA (`adaptation_areas`) and END (each seed's last checkpoint) with its `_low` and `_high`;
      `n_seeds` and `n_families` that the END rests on, and `env_steps`, the most steps on a test
      task. Groups of several strata without references have no line.
    """
    measured = scores.dropna(subset=["return_mean"])
    grouped = add_group(measured, exact)
    keys = [*APART, "group"]
    boards = []
    for key, of_group in grouped.groupby(keys, sort=False):
        unit = NORMALISED if of_group["normalised"].notna().any() else RETURN
        if unit == NORMALISED or len(of_group[list(STRATUM)].drop_duplicates()) == 1:
            board = _board(of_group, "normalised" if unit == NORMALISED else "return_mean")
            boards.append(board.assign(**dict(zip(keys, key, strict=True)), unit=unit))
    if not boards:
        return pd.DataFrame(columns=[*keys, *ARM, "unit", START, AREA, END])
    return pd.concat(boards, ignore_index=True)


def _board(scores: pd.DataFrame, value: str) -> pd.DataFrame:
    """The lines of one group."""
    areas = adaptation_areas(scores, value=value)
    tables = {
        START: checked(scores[scores["env_steps"] == 0], value),
        AREA: checked(areas, "area"),
        END: checked(last_scores(scores), value),
    }
    board = scores.groupby(list(ARM), sort=False)["env_steps"].max().reset_index()
    board["strata"] = ", ".join(
        map(_stratum, sorted({*zip(scores["family"], scores["axis"], strict=True)}))
    )
    for moment, table in tables.items():
        found = [
            (*arm, *_estimated(lines.dropna(subset=["value"])))
            for arm, lines in arms_of(table).items()
        ]
        numbers = [moment, f"{moment}_low", f"{moment}_high", "n_seeds", "n_families"]
        line = pd.DataFrame(found, columns=[*ARM, *numbers])
        board = board.merge(
            line if moment == END else line[[*ARM, *numbers[:3]]], on=list(ARM), how="left"
        )
    return board.sort_values(END, ascending=False, kind="stable", ignore_index=True)


def _stratum(place: tuple[str, str]) -> str:
    family, axis = place
    return family if axis == IN_DISTRIBUTION else f"{family} {axis}"


def _estimated(lines: pd.DataFrame) -> tuple[float, float, float, int, int]:
    """One arm's IQM and interval, as in `reports.stats.aggregates.aggregate`, and its counts."""
    if lines.empty:
        return np.nan, np.nan, np.nan, 0, 0
    values = score_matrix(lines)
    found = estimate(values, iqm, np.random.default_rng(0))
    fewest = int((~np.isnan(values)).sum(axis=1).min())
    return *(float(number) for number in found), fewest, lines["family"].nunique()
