"""Tables of scores, checked on entry, and the array for statistics over seeds × families.

A stratum is a family on one shift axis. Strata of different kinds are never combined: tasks
inside the training law, shift axes whose tasks are exact linear images of training tasks, and the
other shift axes each form a group of their own.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.stats.scores import ARM, IN_DISTRIBUTION

FloatArray: TypeAlias = NDArray[np.floating[Any]]

STRATUM = ("family", "axis")
APART = ("suite", "budget", "split")  # never combined either, where a table has them
# values of `group`, beside IN_DISTRIBUTION
EXACT_IMAGES = "exact linear images"
OTHERS = "others"


def checked(
    scores: pd.DataFrame,
    value: str,
    keys: Sequence[str] = (*STRATUM, *ARM, "seed"),
    apart: Sequence[str] = APART,
) -> pd.DataFrame:
    """A score table with plain strings and integers as keys and its scores as floats in `value`.

    Args:
      scores: one line per combination of `keys` and, as far as the table has them, `apart`; a
        missing score is NaN or null.
      value: the column with the scores.
      keys: the columns that identify a score; `seed` and `env_steps` are whole numbers, the others
        strings.
      apart: further columns that identify a score, if the table has them; they come first in the
        result.
    Returns:
      A new table, in the order of `scores`, with an index from 0.
    Raises:
      ValueError: if a column or a key is missing, a score is infinite or not a number, or two lines
        have the same keys.
    """
    if missing := [name for name in dict.fromkeys((*keys, value)) if name not in scores]:
        raise ValueError(
            f"the table of scores has no column {missing[0]!r}, only"
            f" {', '.join(map(str, scores.columns))}"
        )
    names = [*(name for name in apart if name in scores), *keys]
    columns: dict[str, Any] = {name: _key(scores[name], name) for name in names}
    try:
        columns["value"] = scores[value].to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the column {value!r} holds something that is not a number ({error}); convert it"
            " first, with NaN for missing scores"
        ) from error
    table = pd.DataFrame(columns)
    if (infinite := np.isinf(table["value"])).any():
        line = table.loc[infinite, names].iloc[0].to_dict()
        raise ValueError(
            f"an infinite score of {line}: a score is a finite number, or NaN where it is missing"
        )
    if (twice := table.duplicated(names)).any():
        line = table.loc[twice, names].iloc[0].to_dict()
        raise ValueError(
            f"two scores for {line}: select one checkpoint, split and suite, or average them first"
        )
    return table


def add_group(table: pd.DataFrame, exact: Mapping[str, Collection[str]]) -> pd.DataFrame:
    """Add `group`: EXACT_IMAGES, OTHERS, or IN_DISTRIBUTION for tasks without a shift axis.

    Args:
      table: with the columns `family` and `axis`.
      exact: `reports.stats.shift_axes.exact_axes`.
    Raises:
      ValueError: if `exact` maps a family to a string instead of a collection.
    """
    if wrong := [family for family, axes in exact.items() if isinstance(axes, str)]:
        raise ValueError(
            f"exact[{wrong[0]!r}] is the text {exact[wrong[0]]!r}; give a set of names of axes"
        )
    groups = [
        (
            IN_DISTRIBUTION
            if axis == IN_DISTRIBUTION
            else EXACT_IMAGES
            if axis in exact.get(family, ())
            else OTHERS
        )
        for family, axis in table[list(STRATUM)].itertuples(index=False, name=None)
    ]
    return table.assign(group=pd.Series(groups, index=table.index, dtype=object))


def score_matrix(table: pd.DataFrame) -> FloatArray:
    """The scores of one arm as an array, missing ones left out.

    Args:
      table: `checked` lines of one arm.
    Returns:
      [F, S] a row per stratum that has a score, sorted, its seeds in ascending order and then NaN
      up to the longest row.
    """
    found = table["value"].notna().to_numpy()
    score, seed, *strata = (
        table[name].to_numpy()[found] for name in ("value", "seed", *reversed(STRATUM))
    )
    order = np.lexsort((seed, *strata))
    new = np.ones(order.size, dtype=bool)  # where a stratum begins
    new[1:] = np.any([names[order][1:] != names[order][:-1] for names in strata], axis=0)
    stratum = np.cumsum(new) - 1
    place = np.arange(order.size) - np.flatnonzero(new)[stratum]
    values = np.full((stratum.max(initial=-1) + 1, place.max(initial=-1) + 1), np.nan)
    values[stratum, place] = score[order]
    return values


def arms_of(table: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """The lines of each arm, the arms sorted."""
    return {
        (str(method), str(variant)): lines for (method, variant), lines in table.groupby(list(ARM))
    }


def _key(column: "pd.Series[Any]", name: str) -> Any:
    if column.isna().any():
        raise ValueError(
            f"the column {name!r} of the table of scores has missing entries; every score needs a"
            " name"
        )
    if name not in ("seed", "env_steps"):
        return column.astype(str).to_numpy(dtype=object)
    try:
        numbers = column.to_numpy(dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the column {name!r} holds something that is not a number ({error}); seeds and steps"
            " must be whole numbers"
        ) from error
    if (broken := numbers[~np.isfinite(numbers) | (numbers != np.round(numbers))]).size:
        raise ValueError(
            f"the column {name!r} holds {broken[0]}; seeds and steps are whole numbers"
        )
    return numbers.astype("int64")
