"""A row of results: what a run passes to the store, and the store to the report."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import get_type_hints

import pandas as pd

SCHEMA_VERSION = 1  # of the columns below and the files of the store
PROTOCOL_VERSION = 1  # of the rules for adapting to tasks and evaluating


@dataclass(frozen=True, kw_only=True)
class Row:
    """One evaluation, or one report from meta-training. None means missing, never zero.

    `env_steps` is summed over the training tasks in stage "train" and per test task in stage
    "adapt". A train stage is shared between suites, so its rows name neither a suite nor a split.
    Returns are undiscounted sums over an episode, in the family's units.
    """

    schema_version: int = SCHEMA_VERSION
    protocol_version: int = PROTOCOL_VERSION
    suite: str | None = None
    suite_version: int | None = None
    budget: str
    family: str
    family_version: str
    split: str | None = None
    task_index: int | None = None
    task_params: str | None = None  # JSON object of named numbers, SI units
    shift: float | None = None
    shift_axis: str | None = None
    method: str
    method_version: int
    variant: str  # settings changed on the command line, "" for none
    config_hash: str
    seed: int
    stage: str  # train | adapt
    env_steps: int
    updates: int | None = None  # optimiser steps on weights so far, per task
    # environment steps that meta-training used, summed over its tasks
    meta_env_steps: int | None = None
    n_train_tasks: int | None = None
    eval_mode: str | None = None  # deterministic | stochastic
    return_mean: float | None = None
    return_std: float | None = None  # population standard deviation over the episodes
    n_episodes: int | None = None
    episode_length_mean: float | None = None  # control steps
    terminated_frac: float | None = None
    # mean return of the method's own episodes since the last row
    online_return: float | None = None
    status: str = "ok"  # ok | diverged | failed | timeout
    error: str | None = None  # one line, if status is failed or timeout
    wall_s: float | None = None  # seconds the stage has run so far, across resumes
    peak_mem_mb: float | None = None


_DTYPES = {int: "Int64", float: "Float64", str: "string"}


def columns_of(record: type) -> dict[str, str]:
    """Return the nullable dtype of each field of a dataclass of numbers and strings."""
    return {
        name: next(
            dtype
            for kind, dtype in _DTYPES.items()
            if kind is hint or kind in getattr(hint, "__args__", ())
        )
        for name, hint in get_type_hints(record).items()
    }


COLUMNS = columns_of(Row)
NOT_COMPARED = ("wall_s", "peak_mem_mb")  # the columns in which two equal runs may differ
assert list(COLUMNS) == [f.name for f in fields(Row)]


def to_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Return rows as a table with the columns and nullable types of `COLUMNS`."""
    rows = list(rows)
    return pd.DataFrame(
        {
            name: pd.array([getattr(row, name) for row in rows], dtype=COLUMNS[name])
            for name in COLUMNS
        }
    )
