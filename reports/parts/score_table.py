"""A table of scores per family, split and shift axis; unfinished methods have a line as well."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from reports.stats.curve_areas import adaptation_areas
from reports.stats.scores import ARM, GROUP, TABLE, Arm, summarise
from reports.text import escape_markdown, markdown_table, method_name, plus_minus, seeds_text, steps

AREA = "area over log b, floored at the zero action"  # the header of that column
_RETURN = ("mean", "low", "high", "n_seeds")


def score_table(scores: pd.DataFrame, expected: pd.DataFrame) -> pd.DataFrame:
    """Compute the numbers of one table.

    Args:
      scores: `adaptation_scores` of one suite, budget, family, split and axis.
      expected: `coverage` of the same, in the order of the table.
    Returns:
      One line per arm: `n_expected`, `n_done`, `n_failed`; `n_diverged`, the finished seeds with a
      diverged simulation; `meta_env_steps` and `n_train_tasks`, means over seeds; `test_env_steps`,
      the steps per test task at its last checkpoint; `gain_…` from 0 steps to that checkpoint,
      `normalised_…` and `uncertain` at it; `area_…`, the mean height of the curve over the
      logarithm of the steps, floored at the zero action; and for every checkpoint b
      `return_mean@b`, `return_low@b`, `return_high@b`, `n_seeds@b`. What was not measured is NaN.
      Arms are sorted by descending score at the last checkpoint, then by area; arms without a score
      come last.
    """
    table = expected[[*ARM, "n_expected", "n_done", "n_failed"]]
    for found in (_spent(scores), _gain(scores), _normalised(scores), _area(scores)):
        table = table.merge(found, on=list(ARM), how="left")
    points = summarise(scores)
    for b, at_b in points.groupby("env_steps"):
        names = {
            "mean": f"return_mean@{b}",
            "low": f"return_low@{b}",
            "high": f"return_high@{b}",
            "n_seeds": f"n_seeds@{b}",
        }
        table = table.merge(at_b[[*ARM, *_RETURN]].rename(columns=names), on=list(ARM), how="left")
    table = table.merge(
        _last(scores).groupby(list(ARM))["return_mean"].mean().rename("last").reset_index(),
        how="left",
    )
    ranked = table.sort_values(
        ["last", "area_mean"], ascending=False, kind="stable", ignore_index=True
    )
    return ranked.drop(columns="last")


def to_markdown(table: pd.DataFrame, untrained: Collection[Arm] = ()) -> str:
    """Format a score table as Markdown, in the family's units: mean ± half the interval's width.

    `untrained` arms are marked. A checkpoint that a method does not reach because it stops learning
    earlier is shown as "frozen", a missing score as "–".
    """
    checkpoints = [
        int(name.split("@")[1]) for name in table.columns if name.startswith("return_mean@")
    ]
    header = [
        "method",
        "seeds",
        *(f"b = {steps(b)}" for b in checkpoints),
        "gain from b = 0",
        AREA,
        "normalised",
    ]
    header += ["meta-training steps", "training tasks", "steps on the test task"]
    return markdown_table(
        header, [_line(record, checkpoints, untrained) for record in table.to_dict("records")]
    )


def _spent(scores: pd.DataFrame) -> pd.DataFrame:
    seeds = scores.groupby([*ARM, "seed"]).agg(
        n_diverged=("diverged", "any"),
        meta_env_steps=("meta_env_steps", "max"),
        n_train_tasks=("n_train_tasks", "max"),
        test_env_steps=("env_steps", "max"),
    )
    how = {
        "n_diverged": "sum",
        "meta_env_steps": "mean",
        "n_train_tasks": "mean",
        "test_env_steps": "max",
    }
    return seeds.groupby(list(ARM)).agg(how).reset_index()


def _last(scores: pd.DataFrame) -> pd.DataFrame:
    return scores.loc[scores.groupby([*GROUP, "seed"])["env_steps"].idxmax()]


def _gain(scores: pd.DataFrame) -> pd.DataFrame:
    """Gain of every arm at each seed's last checkpoint."""
    last = _last(scores)
    gain = summarise(last[last["env_steps"] > 0], "gain", by=(*TABLE, "axis", *ARM))
    return gain[[*ARM, "mean", "low", "high"]].rename(
        columns=lambda name: name if name in ARM else f"gain_{name}"
    )


def _normalised(scores: pd.DataFrame) -> pd.DataFrame:
    """Normalised score of every arm at each seed's last checkpoint."""
    last = _last(scores)
    found = summarise(last, "normalised", by=ARM).rename(
        columns=lambda name: name if name in ARM else f"normalised_{name}"
    )
    uncertain = last.groupby(list(ARM))["uncertain"].any().reset_index()
    return found[[*ARM, "normalised_mean", "normalised_low", "normalised_high"]].merge(
        uncertain, on=list(ARM)
    )


def _area(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean height of every arm's curves over log b, floored at the zero action."""
    found = summarise(adaptation_areas(scores, value="return_mean"), "area", by=ARM)
    return found[[*ARM, "mean", "low", "high"]].rename(
        columns=lambda name: name if name in ARM else f"area_{name}"
    )


def _line(
    record: dict[str, float], checkpoints: Sequence[int], untrained: Collection[Arm]
) -> list[str]:
    arm = (str(record["method"]), str(record["variant"]))
    name = escape_markdown(method_name(*arm)) + (", untrained" if arm in untrained else "")
    returns = [_checkpoint(record, b) for b in checkpoints]
    gain = plus_minus(record["gain_mean"], record["gain_low"], record["gain_high"])
    area = plus_minus(record["area_mean"], record["area_low"], record["area_high"])
    seeds = seeds_text(int(record["n_expected"]), int(record["n_done"]), int(record["n_failed"]))
    if record["n_diverged"] > 0:
        seeds += f" ({record['n_diverged']:.0f} with diverged simulations)"
    normal = "–" if np.isnan(record["normalised_mean"]) else _share(record)
    spent = [
        steps(record[column]) for column in ("meta_env_steps", "n_train_tasks", "test_env_steps")
    ]
    return [name, seeds, *returns, gain, area, normal, *spent]


def _share(record: dict[str, float]) -> str:
    """The normalised score; "?" where the expert is barely better than doing nothing."""
    mark = "?" if record["uncertain"] else ""
    return (
        plus_minus(record["normalised_mean"], record["normalised_low"], record["normalised_high"])
        + mark
    )


def _checkpoint(record: dict[str, float], b: int) -> str:
    mean = record[f"return_mean@{b}"]
    n_seeds = record[f"n_seeds@{b}"]
    if np.isnan(mean):
        return "frozen" if b > record["test_env_steps"] else "–"
    few = f" ({n_seeds:.0f} of {record['n_done']} seeds)" if n_seeds < record["n_done"] else ""
    return plus_minus(mean, record[f"return_low@{b}"], record[f"return_high@{b}"]) + few
