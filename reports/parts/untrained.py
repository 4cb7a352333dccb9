"""Methods that meta-training taught nothing: return on training tasks against the zero action."""

from collections.abc import Iterator

import pandas as pd

from reports.stats.scores import ARM, CURVE, Arm
from reports.text import escape_markdown, method_name, number
from results.measures import ZERO_RETURN

LAST = 0.9  # share of the steps after which returns count as the end of meta-training


def training_floors(
    training: pd.DataFrame, cells: pd.DataFrame, measures: pd.DataFrame | None
) -> pd.DataFrame:
    """Return at the end of every meta-training and of the zero action on its own training tasks.

    Args:
      training: `meta_training_scores`.
      cells: the expected cells, with the `train_id` that each builds on.
      measures: as `results.store.Store.measures` gives them; None for none.
    Returns:
      One line per CURVE and seed whose stage measured the zero action: `trained`, the mean
      return over the last tenth of its steps, and `zero`, that of the zero action.
    """
    on = [*CURVE, "seed"]
    if measures is None or training.empty:
        return pd.DataFrame(columns=[*on, "trained", "zero"])
    at_end = training["env_steps"] > LAST * training.groupby(on)["env_steps"].transform("max")
    trained = training[at_end].groupby(on)["return_mean"].mean().rename("trained").reset_index()
    zero = (
        measures[measures["name"] == ZERO_RETURN]
        .groupby("cell_id")["value"]
        .mean()
        .astype(float)
        .rename("zero")
    )
    known = (
        cells[[*on, "train_id"]]
        .dropna()
        .drop_duplicates(on)
        .astype(dict.fromkeys((*CURVE, "train_id"), object))
    )
    known = known.assign(
        seed=known["seed"].astype("int64"), zero=known["train_id"].map(zero.to_dict())
    )
    return trained.merge(known.dropna(subset=["zero"])[[*on, "zero"]], on=on)


def untrained(floors: pd.DataFrame, suite: str, budget: str, family: str) -> list[Arm]:
    """The arms of one family whose mean over seeds does not exceed that of the zero action."""
    here = floors[(floors[["suite", "budget", "family"]] == [suite, budget, family]).all(axis=1)]
    means = here.groupby(list(ARM), sort=False)[["trained", "zero"]].mean()
    return [
        (str(method), str(variant))
        for method, variant in means.index[means["trained"] <= means["zero"]]
    ]


def untrained_lines(floors: pd.DataFrame, suite: str, budget: str, family: str) -> Iterator[str]:
    """Yield a sentence for each of the `untrained` arms, in Markdown."""
    for arm in untrained(floors, suite, budget, family):
        key = [suite, budget, family, *arm]
        means = floors.loc[(floors[list(CURVE)] == key).all(axis=1), ["trained", "zero"]].mean()
        yield (
            f"{escape_markdown(method_name(*arm))} is **untrained**: on its own training tasks it"
            f" earned {number(means['trained'])} at the end of meta-training, against"
            f" {number(means['zero'])} for the zero action; its scores say nothing about adaptation"
            " out of distribution.\n"
        )
