"""Tuning: settings of a method are tried on a family's tuning law, and every trial is logged.

Successive halving: all trials get a quarter of the budget; the best third of them, at least two,
get half of it. The first trial has the budget's own settings, the others are drawn from the space
that the method declares. The score is the mean return on the validation tasks at the end of
adaptation. No table uses these seeds, and none of these tasks is a test task. A trial that is in
the log is not run again, so that tuning can go on even if the store is lost.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmark.arguments import InputError
from benchmark.cells import Cell, expand, resolve_config
from benchmark.exits import is_stop
from benchmark.plugins import load_method
from benchmark.provenance import provenance
from benchmark.suites import Budget, Suite
from envs import TUNING
from results.files import commit, explained
from results.store import Store
from results.trials import load_log

TUNED_SEED = 1_000_000  # of every trial, plus the seed of the command line
SUITE = Suite(
    "tuning",
    1,
    "Which settings adapt best to tasks outside a tuning law?",
    splits=("validation",),
    families={},
    methods=(),
)
Settings = Mapping[str, Any]


class Rung(NamedTuple):
    """A round of successive halving."""

    fraction: float  # of the budget's steps
    share: float  # of the trials of the previous rung; the best ones go on


RUNGS = (Rung(0.25, 1.0), Rung(0.5, 1 / 3))


@dataclass(frozen=True)
class Trial:
    """A method with settings, tried at one rung."""

    number: int
    settings: Settings
    rung: int
    cell: Cell

    @property
    def id(self) -> str:
        """Id of what is measured; another version of the method, for example, has another id."""
        return self.cell.adapt_key.id


def draw_settings(
    path: str, budget: Budget, n: int, generator: np.random.Generator
) -> list[Settings]:
    """Draw the settings of `n` trials, or of fewer if the method's space is too small.

    The first are the budget's own, the others are different points of the space.

    Raises:
      InputError: if the method declares no space, or one that its Config refuses.
    """
    method = load_method(path)
    if not method.space:
        raise InputError(
            f"{path} declares nothing to tune: give its class a `space`, which maps each setting to"
            " the values to try, such as {'learning_rate': (3e-4, 1e-3)}"
        )
    if not _is_space(method.space):
        raise InputError(
            f"{path}: its `space` must give each setting a tuple of values, such as"
            " {'learning_rate': (3e-4, 1e-3)}"
        )
    usual = resolve_config(method, budget, {})
    if strange := [name for name in method.space if name not in usual]:
        raise InputError(
            f"{path} declares {', '.join(strange)} in `space`, but its Config has no such setting"
        )
    points = [
        dict(zip(method.space, point, strict=True)) for point in product(*method.space.values())
    ]
    points = [
        point for point in points if any(usual[name] != value for name, value in point.items())
    ]
    chosen = [points[i] for i in generator.permutation(len(points))[: n - 1]]
    moved = [
        {name: value for name, value in point.items() if usual[name] != value} for point in chosen
    ]
    for settings in moved:
        try:
            resolve_config(method, budget, settings)
        except BaseException as error:  # a Config may raise anything
            if is_stop(error):
                raise
            raise InputError(f"{path} declares a space that its Config refuses: {error}") from error
    return [{}, *moved]


def _is_space(space: Any) -> bool:
    """Whether a space gives each setting a non-empty tuple or list of values, none of them NaN."""
    return isinstance(space, Mapping) and all(
        isinstance(values, tuple | list) and values and all(value == value for value in values)
        for values in space.values()
    )


def scaled(budget: Budget, fraction: float) -> Budget:
    """Return the budget with a fraction of its steps, for training and for adaptation."""
    return replace(
        budget,
        id=f"{budget.id} x {fraction:g}",
        train_steps=int(budget.train_steps * fraction),
        fresh_steps=int(budget.fresh_steps * fraction),
        meta_steps={module: int(steps * fraction) for module, steps in budget.meta_steps.items()},
        adapt_steps=int(budget.adapt_steps * fraction),
    )


def trials_of(
    name: str,
    path: str,
    family: str,
    budget: Budget,
    rung: int,
    chosen: Mapping[int, Settings],
    seed: int,
) -> list[Trial]:
    """Return the trials of a rung; `chosen` holds their settings by number."""
    found = []
    for number, settings in chosen.items():
        (cell,) = expand(
            SUITE,
            scaled(budget, RUNGS[rung].fraction),
            {name: path},
            families=[TUNING + family],
            seeds=1,
            settings={name: settings},
        )
        found.append(Trial(number, settings, rung, replace(cell, seed=TUNED_SEED + seed)))
    return found


def promoted(lines: pd.DataFrame, rung: int) -> list[int]:
    """Numbers of the trials that go on to a rung: the best of the one before, ties to the first."""
    before = lines[lines["rung"] == rung - 1].sort_values(
        ["score", "trial"], ascending=[False, True], kind="stable"
    )
    return sorted(before["trial"].head(max(2, ceil(RUNGS[rung].share * len(before)))).tolist())


def line_of(trial: Trial, store: Store, threads: int) -> dict[str, Any]:
    """Return the log's line for a finished trial."""
    cell, train = trial.cell, trial.cell.train_key
    keys = [
        key for key in (train, cell.adapt_key) if key and store.status(key) in ("done", "failed")
    ]
    *_, rows = found = [store.rows(key) for key in keys]  # of adaptation, unless training failed
    last = rows[rows["env_steps"] == rows["env_steps"].max()]
    failed = sorted(set(rows["status"]) - {"ok"})
    wall_s = sum(float(table["wall_s"].fillna(0.0).max()) for table in found)
    return {
        "family": cell.family.removeprefix(TUNING),
        "method": cell.method,
        "method_version": cell.method_version,
        "rung": trial.rung,
        "fraction": RUNGS[trial.rung].fraction,
        "trial": trial.number,
        "cell_id": trial.id,
        "settings": json.dumps(dict(trial.settings), sort_keys=True),
        "config_hash": cell.config_hash,
        "seed": cell.seed,
        "score": -inf if failed else float(last["return_mean"].astype(float).mean()),
        "status": ",".join(failed) or "ok",
        "meta_env_steps": cell.train_steps if train else 0,
        "adapt_steps": cell.adapt_steps,
        "core_s": round(wall_s * threads, 1),
        "commit": provenance()["commit"],
    }


def finished_in(store: Store, trial: Trial) -> bool:
    """Whether nothing is left to do for a trial, whether it succeeded or failed."""
    train = trial.cell.train_key
    if train and store.status(train) == "failed":
        return True
    return store.status(trial.cell.adapt_key) in ("done", "failed")


def logged(path: Path, trials: Iterable[Trial]) -> dict[str, dict[str, Any]]:
    """Return a log's lines for these trials by their ids, without those that failed.

    A failure may have been the machine's fault, so those are run again.

    Raises:
      StoreError: if it cannot be read, or is no log.
    """
    if not path.exists():
        return {}
    ids = {trial.id for trial in trials}
    return {
        line["cell_id"]: {str(name): value for name, value in line.items()}
        for line in load_log(path).to_dict("records")
        if line.get("cell_id") in ids and "failed" not in line["status"].split(",")
    }


def put_aside(path: Path, n_known: int) -> Path | None:
    """Copy a log that has more than `n_known` trials before it is written anew; return the copy.

    Raises:
      StoreError: if it cannot be read or copied.
    """
    if not path.exists() or len(load_log(path)) == n_known:
        return None
    copy = path.with_suffix(".csv.old")
    with explained(copy):
        shutil.copyfile(path, copy)
    return copy


def log_path(folder: Path, budget: Budget, family: str, method: str) -> Path:
    """The file of a method's trials on a family at a budget."""
    return folder / f"{budget.id}_{family}_{method}.csv"


def best_of(lines: pd.DataFrame) -> pd.Series:
    """The line of the trial to take: the best of the last rung."""
    last = lines[lines["rung"] == lines["rung"].max()]
    return last.sort_values(["score", "trial"], ascending=[False, True], kind="stable").iloc[0]


def write_log(folder: Path, budget: Budget, lines: Sequence[Mapping[str, Any]]) -> Path:
    """Write the log of a method on a family at a budget, sorted by rung and trial; return its path.

    Raises:
      StoreError: if it cannot be written.
    """
    table = (
        pd.DataFrame(lines)
        .assign(budget=budget.id)
        .sort_values(["rung", "trial"], ignore_index=True)
    )
    first = table.iloc[0]
    path = log_path(folder, budget, first["family"], first["method"])
    with explained(path):
        folder.mkdir(parents=True, exist_ok=True)
        commit(folder, {path.name: table.to_csv(index=False, lineterminator="\n").encode()})
    return path
