"""The bound on the error of adapted policies, beside their shortfall in return.

The bound is about an error between actions, which is unknown where the best actions are unknown.
The shortfall from the best return stands in for it, so only ranks are compared: is the shortfall
larger where the bound is larger?
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reports.stats.intervals import spread
from reports.stats.scores import ARM, IN_DISTRIBUTION, TABLE
from results.measures import (
    BOUND,
    COUNT_FREE_BOUND,
    FARTHEST,
    HEAD_NORM,
    LIPSCHITZ,
    LIPSCHITZ_SEEN,
    OUTSIDE,
)

TERMS = (LIPSCHITZ, LIPSCHITZ_SEEN, HEAD_NORM, OUTSIDE, FARTHEST, BOUND, COUNT_FREE_BOUND)
ARM_PLACE = ("suite", "budget", "family", *ARM)
_LEAST = 3  # fewest tasks whose ranks are worth comparing


def bound_points(
    rows: pd.DataFrame, cells: pd.DataFrame, measures: pd.DataFrame | None
) -> pd.DataFrame:
    """The terms of the bound for the last policy of every finished seed on every test task.

    Args:
      rows: the store's rows. cells: the expected cells with their status.
      measures: as `results.store.Store.measures` gives them; None for none.
    Returns:
      One line per ARM_PLACE, seed, `split` and `task_index`, sorted: `axis`, `TERMS`,
      `return_mean`, and `shortfall`, the return's distance from the best on that task of any
      method, seed and checkpoint in the same table.
    """
    keys = [*ARM_PLACE, "seed", "split", "task_index"]
    columns = [*keys, "axis", *TERMS, "return_mean", "shortfall"]
    if measures is None or not (wanted := measures["name"].isin(TERMS)).any():
        return pd.DataFrame(columns=columns)
    last = measures[wanted]
    last = last[last["env_steps"] == last.groupby("cell_id")["env_steps"].transform("max")]
    at = ["cell_id", "task_index", "env_steps"]
    found = last.pivot(index=at, columns="name", values="value").reset_index()
    played = rows[(rows["stage"] == "adapt") & rows["task_index"].notna()].copy()
    on_task = [*TABLE, "task_index"]
    played["best"] = played.groupby(on_task)["return_mean"].transform("max")
    done = cells.loc[cells["status"] == "done", ["adapt_id"]].rename(
        columns={"adapt_id": "cell_id"}
    )
    found = found.merge(played, on=at).merge(done.drop_duplicates(), on="cell_id")
    found = found.reindex(columns=[*found.columns, *(t for t in TERMS if t not in found)])
    found["axis"] = found["shift_axis"].astype(object).fillna(IN_DISTRIBUTION)
    found["shortfall"] = found["best"] - found["return_mean"]
    numbers = dict.fromkeys([*TERMS, "return_mean", "shortfall"], float)
    texts = {name: found[name].astype(object).fillna("").astype(str) for name in ARM_PLACE}
    found = found.assign(**texts)[columns].astype(numbers)
    return found.sort_values(keys, ignore_index=True)


def rank_correlations(
    points: pd.DataFrame, terms: Sequence[str] = (COUNT_FREE_BOUND, BOUND, FARTHEST)
) -> pd.DataFrame:
    """Spearman's correlation of a term with the shortfall, over the test tasks of each seed.

    Tasks of all splits count together. A seed with fewer than three tasks, or whose ranks are all
    the same, has none.

    Args:
      points: `bound_points`.
      terms: the columns of `points` to correlate with the shortfall.
    Returns:
      One line per ARM_PLACE and `term`: `mean` over seeds, `low`, `high`, `n_seeds`, `interval`.
    Source:
      Spearman 1904. The seed is the unit of replication, so the interval is Student's over seeds.
    """
    lines = []
    for key, of_arm in points.groupby(list(ARM_PLACE), sort=False):
        for term in terms:
            seeds = [spearman(seed[term], seed["shortfall"]) for _, seed in of_arm.groupby("seed")]
            lines.append((*key, term, *spread(seeds)))
    columns = [*ARM_PLACE, "term", "mean", "low", "high", "n_seeds", "interval"]
    return pd.DataFrame(lines, columns=columns)


def spearman(x: "pd.Series[float]", y: "pd.Series[float]") -> float:
    """Spearman's rank correlation of the known pairs, ties at their mean rank.

    NaN if there are fewer than three pairs or one side does not vary.
    """
    known = x.notna() & y.notna()
    ranks = np.array([x[known].rank(), y[known].rank()])
    if ranks.shape[1] < _LEAST or not ranks.std(axis=1).all():
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])
