"""Sentences on what was seen and in how many seeds, claiming no more than these support."""

from collections.abc import Collection, Hashable, Iterator, Mapping
from typing import Any

import pandas as pd

from reports.stats.intervals import FEW_SEEDS
from reports.stats.scores import ARM, BOUNDS, TOLD, last_scores, summarise
from reports.stats.shift_axes import axis_text
from reports.text import escape_markdown, listing, method_name, number, steps


def findings(scores: pd.DataFrame, exact: Collection[str]) -> Iterator[str]:
    """Yield what one split of a family shows, a paragraph of Markdown per shift axis.

    Args:
      scores: `adaptation_scores` of one suite, budget, family and split.
      exact: its shift axes whose tasks are exact linear images of training tasks.
    """
    for axis, of_axis in scores.groupby("axis"):
        place = axis_text(str(axis), exact)
        effort = f"after {steps(of_axis['env_steps'].max())} steps"
        yield (
            f"**{escape_markdown(place[:1].upper() + place[1:])}**, {effort}:"
            f" {_sentence(last_scores(of_axis))}\n"
        )


def _sentence(last: pd.DataFrame) -> str:
    learners = last[~last["method"].isin((*BOUNDS, TOLD))].dropna(subset=["return_mean"])
    if learners.empty:
        return "no learning method is finished."
    said = [
        _gained(learners[learners["gain"].notna() & (learners["env_steps"] > 0)]),
        _best(learners),
        _below_zero_action(last, learners),
    ]
    return " ".join(filter(None, [*said, _seeds(learners)]))


def _seeds(learners: pd.DataFrame) -> str:
    """How many seeds there are, and which methods have too few of them for a claim."""
    n_seeds = learners.groupby(list(ARM), sort=False)["seed"].nunique()
    fewest = int(n_seeds.min())
    most = int(n_seeds.max())
    said = f"Seeds per method: {fewest if fewest == most else f'{fewest} to {most}'}"
    if fewest >= FEW_SEEDS:
        return f"{said}."
    said += f"; a claim of significance needs at least {FEW_SEEDS} per method"
    if most < FEW_SEEDS:
        return f"{said}."
    return (
        f"{said}, which these lack:"
        f" {listing(f'{_name(arm)} ({n})' for arm, n in n_seeds[n_seeds < FEW_SEEDS].items())}."
    )


def _gained(learners: pd.DataFrame) -> str:
    """Which methods ended above their own return at b = 0, the largest gain first."""
    extremes = learners.groupby(list(ARM))["gain"].agg(lowest="min", highest="max").reset_index()
    gains = (
        summarise(learners, "gain", by=ARM)
        .merge(extremes, on=list(ARM))
        .sort_values("mean", ascending=False, kind="stable")
    )
    kinds = (
        ("gained over b = 0 in every seed", gains[gains["lowest"] > 0]),
        ("in some seeds only", gains[(gains["lowest"] <= 0) & (gains["highest"] > 0)]),
        ("gained over b = 0 in no seed", gains[gains["highest"] <= 0]),
    )
    text = "; ".join(
        f"{kind}: {listing(map(_gain, those.to_dict('records')))}"
        for kind, those in kinds
        if len(those)
    )
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _gain(found: Mapping[Hashable, Any]) -> str:
    return (
        f"{_name((found['method'], found['variant']))}"
        f" ({'+' if found['mean'] > 0 else ''}{number(found['mean'])})"
    )


def _best(learners: pd.DataFrame) -> str:
    means = summarise(learners, by=ARM).sort_values("mean", ascending=False, kind="stable")
    names = (
        f"{_name(arm[:2])} ({number(arm[2])})"
        for arm in means[[*ARM, "mean"]].head(2).itertuples(index=False, name=None)
    )
    return f"Highest mean returns among learning methods: {', then '.join(names)}."


def _below_zero_action(last: pd.DataFrame, learners: pd.DataFrame) -> str:
    """Name the methods that ended below doing nothing, which can be hard to beat."""
    zero = last.loc[last["method"] == "zero", "return_mean"].mean()
    means = learners.groupby(list(ARM))["return_mean"].mean()
    below = [_name(arm) for arm in means[means < zero].index]
    return f"Below the zero action ({number(zero)}): {listing(below)}." if below else ""


def _name(arm: Any) -> str:
    method, variant = arm
    return escape_markdown(method_name(method, variant))
