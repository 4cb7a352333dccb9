"""Adaptation curves as one number per seed: area under the curve, or steps to reach a score."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.stats.score_matrix import APART, STRATUM, FloatArray, checked
from reports.stats.scores import ARM

ZERO = "zero"  # the method that does nothing


def adaptation_areas(
    scores: pd.DataFrame,
    *,
    value: str = "score",
    horizon: int | None = None,
    budget: int | None = None,
) -> pd.DataFrame:
    """Mean height of every seed's adaptation curve over the logarithm of the test-task steps.

        A = 1/log(B/H) ∫_H^B max(y(b), J_zero) d log b

    by trapezoids between checkpoints, from the horizon H to the budget's end B; the score at b = 0
    is reported separately. J_zero is the mean score of the zero action on the same family and axis.
    An untrained policy may do worse than no action, and a method that gathers experience first
    stays there until its first update; without that floor the area would depend on how bad such a
    start is. Where the zero action was not measured there is no floor. An arm whose last checkpoint
    lies before B has frozen, and its last score is carried flat to B, even from b = 0. A is in the
    units of y: the area of a constant curve is its height, or that of the floor. A curve with a
    missing score between H and the arm's last checkpoint has no area.

    Args:
      scores: one line per `family`, `axis`, `method`, `variant`, `seed` and `env_steps` (per test
        task), and per `suite`, `budget` and `split` where it has them, such as `adaptation_scores`;
        NaN where a score is missing.
      value: the column with y.
      horizon: H in environment steps; None for the first checkpoint above 0 of any arm on the
        family.
      budget: B in environment steps; None for the last checkpoint of any arm on the family.
    Returns:
      One line per curve and seed, sorted: `area`; `at_zero`, the score at b = 0; `held_from`, the
      checkpoint that the arm's last score was carried from, NaN where it was not; `floor`, J_zero,
      NaN where there is none. `reports.stats.scores.summarise` gives their intervals.
    Raises:
      ValueError: if H or B does not fit the checkpoints, or `scores` has duplicate keys, lacks a
        column, or holds a non-number.
    """
    table = checked(scores, value, (*STRATUM, *ARM, "seed", "env_steps"))
    apart = [name for name in APART if name in table]
    keys = [*apart, *STRATUM, *ARM]
    found = []
    for _, on_family in table.groupby([*apart, "family"]):
        first, last = _ends(on_family["env_steps"], horizon, budget)
        floors = on_family[on_family["method"] == ZERO].groupby("axis")["value"].mean()
        for key, curves in on_family.groupby(keys):
            seeds, row = np.unique(curves["seed"].to_numpy(), return_inverse=True)
            steps, column = np.unique(curves["env_steps"].to_numpy(), return_inverse=True)
            y = np.full((seeds.size, steps.size), np.nan)
            y[row, column] = curves["value"]
            zero = y[:, steps == 0][:, 0] if 0 in steps else np.full(seeds.size, np.nan)
            held = float(steps[-1]) if steps[-1] < last else np.nan
            floor = float(floors.get(curves["axis"].iloc[0], np.nan))
            if curves["method"].iloc[0] != ZERO:
                y = np.where(y < floor, floor, y)  # a missing score stays missing
            areas = _areas(steps, y, first, last)
            found += [
                (*key, seed, *numbers, held, floor)
                for seed, *numbers in zip(seeds, areas, zero, strict=True)
            ]
    columns = [*keys, "seed", "area", "at_zero", "held_from", "floor"]
    return pd.DataFrame(found, columns=columns).sort_values([*keys, "seed"], ignore_index=True)


def steps_to(
    scores: pd.DataFrame, level: float = 0.5, *, value: str = "normalised"
) -> pd.DataFrame:
    """The steps on the test task after which every seed first scores a level or more.

    Half of the expert's gain is the normalised score ½. Only checkpoints are known, so steps are
    late by up to the distance between two checkpoints.

    Args:
      scores: as in `adaptation_areas`.
      level: in the units of `value`.
      value: the column with the scores.
    Returns:
      One line per curve and seed, sorted, with `steps`: infinite where no checkpoint reaches the
      level, NaN where a score is missing before one does.
    Raises:
      ValueError: as in `adaptation_areas`.
    """
    table = checked(scores, value, (*STRATUM, *ARM, "seed", "env_steps"))
    keys = [*(name for name in APART if name in table), *STRATUM, *ARM, "seed"]
    decided = table[(table["value"] >= level) | table["value"].isna()]
    first = decided.sort_values("env_steps").drop_duplicates(keys)
    found = table[keys].drop_duplicates().merge(first, on=keys, how="left")
    steps = found["env_steps"].astype(float).fillna(np.inf)
    never = found["env_steps"].isna()
    return (
        found[keys]
        .assign(steps=steps.where(never | found["value"].notna()))
        .sort_values(keys, ignore_index=True)
    )


def horizon(checkpoints: Sequence[int]) -> int | None:
    """H if the checkpoints show it: the first one after 0, provided the next is at twice that."""
    return checkpoints[1] if len(checkpoints) > 2 and checkpoints[2] == 2 * checkpoints[1] else None


def _ends(steps: "pd.Series[int]", horizon: int | None, budget: int | None) -> tuple[int, int]:
    """H and B; 0 and 0 for a family where no arm has a checkpoint above 0."""
    first = int(steps[steps > 0].min()) if horizon is None and (steps > 0).any() else horizon or 0
    last = int(steps.max()) if budget is None else budget
    if budget is not None and steps.max() > budget:
        raise ValueError(
            f"a checkpoint at {steps.max()} steps lies beyond the budget's end at {budget}; give a"
            f" budget of at least {steps.max()}"
        )
    if last and not 0 < first <= last:
        raise ValueError(
            f"expected 0 < H ≤ B, got a horizon of {first} and a budget of {last} steps; give both"
        )
    return first, last


def _areas(steps: np.ndarray[Any, Any], y: FloatArray, first: int, last: int) -> FloatArray:
    """[seeds] areas of curves [seeds, checkpoints] from `first` to `last` steps."""
    missing: FloatArray = np.full(len(y), np.nan)
    if not last:
        return missing
    if steps[-1] < first:
        return np.asarray(y[:, -1])
    if first not in steps:
        return missing
    inside = steps >= first
    b = steps[inside].astype(float)
    height = y[:, inside]
    if b[-1] < last:
        b = np.append(b, last)
        height = np.column_stack((height, height[:, -1]))
    if len(b) == 1:
        return np.asarray(height[:, 0])
    return np.asarray(np.trapezoid(height, np.log(b), axis=1) / np.log(last / first))
