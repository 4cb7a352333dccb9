"""Adapted policies beyond their own task: returns on neighbouring tasks and under noise.

These were measured without learning (`benchmark.generalisation`). Policies are compared at equal
steps, that is, as they are in the end, and at equal return on the task that they were adapted to,
so that a policy is not called general because it learned nothing, or narrow because it learned
more.
"""

import numpy as np
import pandas as pd

from reports.stats.score_matrix import FloatArray
from reports.stats.scores import BOUNDS, GROUP, IN_DISTRIBUTION, TABLE, last_scores
from results.measures import ACTION_NOISE, NEIGHBOURS, OBSERVATION_NOISE

SEED_CURVE = (*GROUP, "seed")  # the curve of one adaptation
PLACES = {  # what a policy was tried on, and what `at` means there
    NEIGHBOURS: "share of the way to another task",
    ACTION_NOISE: "deviation of the action noise",
    OBSERVATION_NOISE: "deviation of the observation noise",
}


def tried_elsewhere(
    rows: pd.DataFrame, cells: pd.DataFrame, measures: pd.DataFrame | None
) -> pd.DataFrame:
    """The mean returns over tasks of every policy that was tried on neighbours and under noise.

    Args:
      rows: the store's rows. cells: the expected cells with their status.
      measures: as `results.store.Store.measures` gives them; None for none.
    Returns:
      One line per GROUP, seed, `env_steps`, `name` and `at`, sorted: `return_mean`. The axis is
      that of the tasks that the policies were adapted to.
    """
    columns = [*SEED_CURVE, "env_steps", "name", "at"]
    if measures is None or not (wanted := measures["name"].isin(list(PLACES))).any():
        return pd.DataFrame(columns=[*columns, "return_mean"])
    axes = rows.loc[rows["stage"] == "adapt", ["cell_id", "task_index", "shift_axis"]]
    known = cells.loc[cells["status"] == "done", [*TABLE, "method", "variant", "seed", "adapt_id"]]
    found = (
        measures[wanted]
        .merge(axes.drop_duplicates(["cell_id", "task_index"]), on=["cell_id", "task_index"])
        .merge(known.rename(columns={"adapt_id": "cell_id"}), on="cell_id")
    )
    found["axis"] = found["shift_axis"].astype(object).fillna(IN_DISTRIBUTION)
    texts = {name: found[name].astype(object).fillna("").astype(str) for name in GROUP}
    numbers = {name: found[name].astype(float) for name in ("at", "value")}
    whole = {name: found[name].astype("int64") for name in ("seed", "env_steps")}
    means = found.assign(**texts, **numbers, **whole).groupby(columns)["value"].mean()
    return means.rename("return_mean").reset_index()


def with_neighbours(scores: pd.DataFrame, elsewhere: pd.DataFrame) -> pd.DataFrame:
    """Add `neighbours` to `adaptation_scores`: the mean return on neighbours at all distances."""
    near = elsewhere[elsewhere["name"] == NEIGHBOURS]
    on = [*SEED_CURVE, "env_steps"]
    means = near.groupby(on)["return_mean"].mean().rename("neighbours").reset_index()
    return scores.merge(means.astype({"neighbours": float}), on=on, how="left")


def kept_on_neighbours(scores: pd.DataFrame) -> pd.DataFrame:
    """How much more each seed's last policy earns on neighbours than on its own tasks.

    Returns:
      `last_scores` with `kept`, which is negative where neighbours are harder for it; no line where
      neighbours were not tried.
    """
    last = last_scores(_tried(scores))
    return last.assign(kept=last["neighbours"] - last["return_mean"])


def at_equal_return(scores: pd.DataFrame) -> pd.DataFrame:
    """The return on neighbours when each seed first reaches the return that all seeds reach.

    That return is the lowest, over the seeds of all learning arms in the table, of a seed's best
    checkpoint. Between two checkpoints both returns are interpolated linearly.

    Args:
      scores: those of the arms to compare, with `neighbours`.
    Returns:
      One line per GROUP and seed: `home`, the return that is reached, and `equal`, the
      return on neighbours then, NaN for a seed that begins above `home`.
    """
    tried = _tried(scores[~scores["method"].isin(BOUNDS)])
    best = tried.groupby(list(SEED_CURVE))["return_mean"].max().reset_index()
    level = best.groupby([*TABLE, "axis"])["return_mean"].min().rename("home").reset_index()
    ordered = tried.sort_values("env_steps").merge(level, on=[*TABLE, "axis"])
    found = [
        (*key, curve["home"].iloc[0], _first_at(*curve[names].to_numpy(float).T))
        for names in [["home", "return_mean", "neighbours"]]
        for key, curve in ordered.groupby(list(SEED_CURVE))
    ]
    return pd.DataFrame(found, columns=[*SEED_CURVE, "home", "equal"])


def _tried(scores: pd.DataFrame) -> pd.DataFrame:
    if "neighbours" not in scores:
        return scores.iloc[:0].assign(neighbours=np.nan)
    return scores[scores["neighbours"].notna()]


def _first_at(level: FloatArray, home: FloatArray, near: FloatArray) -> float:
    """`near` where `home`, along its checkpoints, first reaches the level."""
    reached = np.flatnonzero(home >= level)
    if not reached.size:
        return float("nan")
    i = reached[0]
    if i == 0:
        return float(near[0]) if home[0] == level[0] else float("nan")
    return float(np.interp(level[i], home[i - 1 : i + 1], near[i - 1 : i + 1]))
