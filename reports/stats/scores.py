"""Tidy numbers from rows: scores per seed, per method over its seeds, and what is unfinished.

A score is an average over the tasks of a level of shift, then over the levels of one shift axis;
axes are never averaged together. Only finished cells enter a score. Missing is NaN, never zero: a
score that lacks a task is missing. Returns are in the family's units, steps are environment
steps.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from reports import ReportError
from reports.stats.intervals import spread
from results.references import REFERENCE_COLUMNS, TASK_COLUMNS, normalised

IN_DISTRIBUTION = "in-distribution"  # the axis of tasks that have none
BOUNDS = ("random", "zero")  # references, not learners
TOLD = "context-td3"  # a reference that learns, and is told the parameters of its task
Arm: TypeAlias = tuple[str, str]  # method, variant
TABLE = ("suite", "budget", "family", "split")
ARM = ("method", "variant")
CELL = (*TABLE, *ARM)  # with a seed, one cell
GROUP = (*TABLE, "axis", *ARM)  # one curve
OTHER = ("other", "other_variant")  # the arm that an arm is compared with
# one meta-training curve, for each arm of a suite that builds on it
CURVE = ("suite", "budget", "family", *ARM)


def adaptation_scores(
    rows: pd.DataFrame, cells: pd.DataFrame, references: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Score every finished cell at each of its checkpoints.

    Args:
      rows: the store's rows, of any stage.
      cells: the expected cells with their status.
      references: as `results.references.load_references` gives them; None for none.
    Returns:
      One line per GROUP, seed and checkpoint, sorted: `env_steps` (per test task), `return_mean`,
      `normalised` (by reference returns, missing where a task has none), `uncertain` (whether a
      task's references are too close for that), `gain` (over the same seed's return at 0 steps),
      `n_levels`, `n_tasks`, `meta_env_steps` (summed over training tasks), `n_train_tasks`, and
      `diverged` (whether a simulation of the cell did).
    Raises:
      ReportError: if two rows claim the same task, seed and checkpoint.
    """
    measured = _finished_rows(rows, cells)
    at = [*GROUP, "seed", "env_steps"]
    tasks = measured.groupby(at)["task_index"].nunique().rename("n_tasks").reset_index()
    scores = _means_over_levels(measured).rename(columns={"count": "n_levels"})
    scores = (
        scores.merge(_normalised_scores(measured, references), on=at)
        .merge(tasks, on=at)
        .merge(_of_cells(measured), on=[*CELL, "seed"])
    )
    start = scores.loc[scores["env_steps"] == 0, [*GROUP, "seed", "return_mean"]]
    scores = scores.merge(
        start.rename(columns={"return_mean": "start"}), on=[*GROUP, "seed"], how="left"
    )
    scores["gain"] = scores["return_mean"] - scores["start"]
    columns = [
        *at,
        "return_mean",
        "normalised",
        "uncertain",
        "gain",
        "n_levels",
        "n_tasks",
        "meta_env_steps",
        "n_train_tasks",
        "diverged",
    ]
    return scores[columns].sort_values(at, ignore_index=True)


def last_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores of each arm and seed at its last checkpoint, with which adaptation ends."""
    return scores.loc[scores.groupby([*TABLE, "axis", *ARM, "seed"])["env_steps"].idxmax()]


def level_scores(
    rows: pd.DataFrame, cells: pd.DataFrame, references: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Score finished cells at each checkpoint and level of shift; see `adaptation_scores`.

    Returns:
      One line per GROUP, `level`, seed and `env_steps`, sorted, with `return_mean`, the mean over
      the tasks of the level, and `normalised`, that of normalised returns, missing where a task has
      no reference.
    Raises:
      ReportError: if two rows claim the same task, seed and checkpoint.
    """
    measured = _finished_rows(rows, cells)
    score = _normalised_returns(measured, references)["normalised"]
    normal = _means_of_levels(measured.assign(return_mean=score)).rename(
        columns={"return_mean": "normalised"}
    )
    at = [*GROUP, "level", "seed", "env_steps"]
    return (
        _means_of_levels(measured).drop(columns="count").merge(normal[[*at, "normalised"]], on=at)
    )


def meta_training_scores(rows: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return on training tasks during meta-training, one line per CURVE, seed and number of steps.

    An arm that adapts what another arm meta-trains has the other's curve.

    Args:
      rows: the store's rows, with `cell_id`.
      cells: the expected cells, with the `train_id` that each builds on.
    Returns:
      `env_steps` (summed over the training tasks) and `return_mean`, from the method's own episodes
      if that was recorded, else from evaluations.
    """
    train = training_rows(rows, cells, CURVE)
    train["return_mean"] = _floats(train["online_return"]).fillna(_floats(train["return_mean"]))
    at = [*CURVE, "seed", "env_steps"]
    return train.dropna(subset=["return_mean"])[[*at, "return_mean"]].sort_values(
        at, ignore_index=True
    )


def training_rows(rows: pd.DataFrame, cells: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The rows of the meta-training that each arm and seed builds on.

    `by` names columns of the cells; of several cells that agree in them and the seed, the first one
    counts.
    """
    train = rows[rows["stage"] == "train"].drop(columns=[*by, "seed"], errors="ignore")
    arms = _plain(cells)[[*by, "seed", "train_id"]].dropna().drop_duplicates([*by, "seed"])
    arms, train = (
        table.astype({key: object}) for table, key in ((arms, "train_id"), (train, "cell_id"))
    )
    return arms.merge(train, left_on="train_id", right_on="cell_id").astype({"env_steps": "int64"})


def summarise(
    scores: pd.DataFrame, value: str = "return_mean", by: Sequence[str] = (*GROUP, "env_steps")
) -> pd.DataFrame:
    """Mean of a score over seeds, with an interval.

    Args:
      scores: one line per seed, missing scores NaN.
      value: the column to summarise.
      by: the columns to group by; each group is averaged over its seeds.
    Returns:
      One line per combination of `by`, sorted: `mean`, `low`, `high`, `n_seeds` and the kind of
      `interval`.
    """
    found = [(*key, *spread(group)) for key, group in scores.groupby(list(by))[value]]
    return pd.DataFrame(found, columns=[*by, "mean", "low", "high", "n_seeds", "interval"])


def add_hold(points: pd.DataFrame) -> pd.DataFrame:
    """Add `held_to` to curve points: the environment steps up to which a frozen policy is carried.

    A method whose last checkpoint lies before the end of the adaptation budget has frozen. Its last
    point has that end as `held_to`; all other points have NaN. No point is added.
    """
    end = points.groupby(list(TABLE))["env_steps"].transform("max")
    last = points.groupby(list(GROUP))["env_steps"].transform("max")
    held = (points["env_steps"] == last) & (last < end) & points["mean"].notna()
    return points.assign(held_to=end.astype(float).where(held))


def blind_policy(points: pd.DataFrame) -> pd.DataFrame:
    """The points of the task-blind multi-task policy: meta-trained, before it sees the test task.

    That is `finetune` at 0 steps, or `apb-none`, which equals it there if its settings do. Arms in
    default settings are preferred, then the arm with more seeds; no line if neither is finished.
    """
    start = points[(points["env_steps"] == 0) & points["method"].isin(["finetune", "apb-none"])]
    if start.empty:
        return start
    seeds = (
        start.groupby(list(ARM))["n_seeds"]
        .max()
        .reset_index()
        .assign(changed=lambda arms: arms["variant"] != "")
    )
    arms = seeds.sort_values(
        ["changed", "n_seeds", "method"], ascending=[True, False, False], kind="stable"
    )
    return select(start, ARM, tuple(arms[list(ARM)].iloc[0]))


def coverage(cells: pd.DataFrame) -> pd.DataFrame:
    """Numbers of seeds expected, done and failed: one line per CELL, in the order of `cells`.

    A cell also counts as failed if its meta-training failed.
    """
    status = _status(cells)
    counted = _plain(cells).assign(
        n_expected=1, n_done=status == "done", n_failed=status.str.startswith("failed")
    )
    return (
        counted.groupby(list(CELL), sort=False)[["n_expected", "n_done", "n_failed"]]
        .sum()
        .reset_index()
    )


def with_missing_seeds(cells: pd.DataFrame, plans: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The cells, with a missing cell added for every seed that a published line still lacks.

    Args:
      plans: published ones state how many `seeds` a line of each budget is to have.
    """
    wanted = {(plan["suite"], b): n for plan in plans for b, n in plan.get("seeds", {}).items()}
    found = []
    for _, of_arm in cells[cells["variant"].fillna("") == ""].groupby(list(CELL), sort=False):
        one = of_arm.iloc[0]
        n_seeds = wanted.get((one["suite"], one["budget"]), 0)
        others = [seed for seed in range(n_seeds) if seed not in set(of_arm["seed"])]
        unknown = dict.fromkeys(("adapt_id", "train_id", "train_status"))
        for seed in others[: max(0, n_seeds - len(of_arm))]:
            found.append({**one, **unknown, "seed": seed, "status": "missing"})
    lines = pd.DataFrame(found, columns=cells.columns).astype(cells.dtypes)
    return pd.concat([cells, lines], ignore_index=True) if found else cells


def unfinished(rows: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Expected cells that are not done: CELL, `seed`, `status`, `error` (one line, "" if none)."""
    cells = _plain(cells).assign(status=_status(cells))
    missing = cells.loc[
        cells["status"] != "done", [*CELL, "seed", "status", "adapt_id", "train_id"]
    ]
    errors = rows.loc[rows["error"].notna(), ["cell_id", "error"]].drop_duplicates(
        "cell_id", keep="last"
    )
    told = dict(zip(errors["cell_id"].astype(object), errors["error"].astype(object), strict=True))
    ids = zip(missing["adapt_id"], missing["train_id"], strict=True)
    told_of = [next((told[name] for name in pair if name in told), "") for pair in ids]
    return missing.assign(error=told_of).drop(columns=["adapt_id", "train_id"])


def _status(cells: pd.DataFrame) -> "pd.Series[str]":
    """Status of the cells; "failed in meta-training" where that kept adaptation from starting."""
    status = cells["status"].astype(object)
    if "train_status" not in cells:
        return status
    return status.mask(
        (status == "missing") & (cells["train_status"].astype(object) == "failed"),
        "failed in meta-training",
    )


def select(table: pd.DataFrame, columns: Sequence[str], key: Sequence[str]) -> pd.DataFrame:
    """The lines of a table whose `columns` equal `key`."""
    found = np.ones(len(table), dtype=bool)
    for column, wanted in zip(columns, key, strict=True):
        found &= table[column].to_numpy(dtype=object) == wanted
    return table[found]


def _finished_rows(rows: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Adaptation rows of the cells that are done, with `axis`, `level` and float returns."""
    cells = _plain(cells)
    done = cells.loc[cells["status"] == "done", [*CELL, "seed"]].drop_duplicates()
    measured = _plain(rows[(rows["stage"] == "adapt") & rows["task_index"].notna()]).merge(
        done, on=[*CELL, "seed"]
    )
    measured["axis"] = measured["shift_axis"].astype(object).fillna(IN_DISTRIBUTION).astype(str)
    measured["level"] = _floats(measured["shift"]).fillna(0.0)
    measured["return_mean"] = _floats(measured["return_mean"])
    same = [*CELL, "seed", "task_index", "env_steps"]
    if measured.duplicated(same).any():
        first = measured.loc[measured.duplicated(same), same].iloc[0].to_dict()
        raise ReportError(
            f"the store holds two rows for {first}; report suites and versions separately, or move"
            " one of them elsewhere"
        )
    return measured


def _mean_if_complete(
    table: pd.DataFrame, by: list[str], unit: str, scope: list[str]
) -> pd.DataFrame:
    """Mean return over the units in `by`; NaN if a unit that any arm has in `scope` is missing."""
    expected = table.groupby(scope)[unit].nunique().rename("expected").reset_index()
    means = (
        table.groupby(by)["return_mean"]
        .agg(["mean", "count"])
        .reset_index()
        .merge(expected, on=scope)
    )
    means["return_mean"] = means["mean"].where(means["count"] == means["expected"])
    return means[[*by, "return_mean", "count"]]


def _means_of_levels(measured: pd.DataFrame) -> pd.DataFrame:
    by = [*GROUP, "level", "seed", "env_steps"]
    return _mean_if_complete(measured, by, "task_index", [*TABLE, "axis", "level"])


def _means_over_levels(measured: pd.DataFrame) -> pd.DataFrame:
    return _mean_if_complete(
        _means_of_levels(measured), [*GROUP, "seed", "env_steps"], "level", [*TABLE, "axis"]
    )


def _normalised_scores(measured: pd.DataFrame, references: pd.DataFrame | None) -> pd.DataFrame:
    """One line per GROUP, seed and checkpoint: `normalised` and `uncertain`."""
    found = _normalised_returns(measured, references)
    means = _means_over_levels(measured.assign(return_mean=found["normalised"])).drop(
        columns="count"
    )
    close = measured.assign(uncertain=found["uncertain"])
    at = [*GROUP, "seed", "env_steps"]
    return means.rename(columns={"return_mean": "normalised"}).merge(
        close.groupby(at)["uncertain"].any().reset_index(), on=at
    )


def _normalised_returns(measured: pd.DataFrame, references: pd.DataFrame | None) -> pd.DataFrame:
    """`normalised` and `uncertain` of every row."""
    known = pd.DataFrame(columns=list(REFERENCE_COLUMNS)) if references is None else references
    on = list(TASK_COLUMNS)
    keys = {name: measured[name].astype(object).astype(str) for name in on}
    keys["task_index"] = measured["task_index"].astype("int64")
    found = (
        measured[[]].assign(**keys).merge(known.astype({"task_index": "int64"}), on=on, how="left")
    )
    found.index = measured.index
    score = normalised(measured["return_mean"], _floats(found["floor"]), _floats(found["oracle"]))
    return pd.DataFrame(
        {"normalised": score, "uncertain": found["uncertain"].astype(object).eq(True)}
    )


def _of_cells(measured: pd.DataFrame) -> pd.DataFrame:
    """What a cell's rows agree on: the cost of meta-training, and whether anything diverged."""
    cost = {column: _floats(measured[column]) for column in ("meta_env_steps", "n_train_tasks")}
    known = measured.assign(**cost, diverged=measured["status"].astype(object) == "diverged")
    return known.groupby([*CELL, "seed"])[[*cost, "diverged"]].max().reset_index()


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """A copy with plain string and integer keys; nullable and plain keys merge inconsistently."""
    texts = {
        name: table[name].astype(object).fillna("").astype(str).astype(object)
        for name in CELL
        if name in table
    }
    whole = {name: table[name].astype("int64") for name in ("seed", "env_steps") if name in table}
    return table.assign(**texts, **whole)


def _floats(column: pd.Series) -> pd.Series:
    return pd.Series(
        column.to_numpy(dtype=float, na_value=np.nan), index=column.index, name=column.name
    )
