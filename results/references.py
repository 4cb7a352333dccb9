"""Reference returns of every test task: of the zero action, random actions and an expert.

They are shipped as sealed data, one file per family, measured once by the suite `oracle` and then
fixed, so that a normalised score does not change when a method joins or leaves a comparison. A
reference holds for one version of its family.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from results.files import DamageError, StoreError, explained, read, seal, unseal
from results.schema import PROTOCOL_VERSION

REFERENCES = Path(__file__).parent / "reference_returns"
RULE = (
    "random and zero: mean over all episodes of all seeds. oracle: TD3 on the task alone at the end"
    " of its budget, of the seed that was best at the checkpoint before, so it was not chosen by"
    " the episodes that judge it. Intervals are 95 %, normal, over episodes."
)
# the task that a reference belongs to
TASK_COLUMNS = ("family", "family_version", "split", "task_index", "task_params")
REFERENCE_COLUMNS = (*TASK_COLUMNS, "random", "zero", "oracle", "floor", "uncertain")


def collect(rows: pd.DataFrame, family: str) -> dict[str, Any]:
    """Return a family's references from the rows of `random`, `zero` and, if any, `td3`.

    Only rows with default settings count.

    Raises:
      StoreError: if the rows lack a bound, have several budgets, family versions or protocol
        versions, or a status other than "ok".
    """
    rows = rows[(rows["family"] == family) & (rows["stage"] == "adapt") & (rows["variant"] == "")]
    for column in ("family_version", "budget", "protocol_version"):
        if len(found := sorted(map(str, rows[column].dropna().unique()))) != 1:
            raise StoreError(
                f"the rows of {family} must have one {column}, got {', '.join(found) or 'none'};"
                " measure each in a store of its own"
            )
    if (bad := rows[rows["status"] != "ok"]).size:
        raise StoreError(
            f"{bad['method'].iloc[0]} on {family} has {bad['status'].iloc[0]} rows, which cannot"
            " serve as a reference"
        )
    splits: dict[str, list[dict[str, Any]]] = {}
    for (split, index, params), of_task in rows.groupby(["split", "task_index", "task_params"]):
        bounds = {
            name: _bound(of_task[of_task["method"] == name], family, name)
            for name in ("random", "zero")
        }
        task = {"task_index": int(index), "params": json.loads(params)}
        splits.setdefault(str(split), []).append({**task, **bounds, "oracle": _oracle(of_task)})
    first = rows.iloc[0]
    stated = {
        "budget": first["budget"],
        "protocol_version": int(first["protocol_version"]),
        "rule": RULE,
    }
    return {"family": family, "family_version": first["family_version"], **stated, "splits": splits}


def write_references(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Write the references of every family in `rows`, one sealed file each; return their paths.

    Raises:
      StoreError: if they cannot be written, or a bound is missing.
    """
    documents = {
        family: collect(rows, family) for family in sorted(rows["family"].dropna().unique())
    }
    paths = []
    for family, document in documents.items():
        path = folder / f"{family}.json"
        with explained(path):
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(seal(document))
        paths.append(path)
    return paths


def load_references(folder: Path = REFERENCES) -> pd.DataFrame:
    """Return all references of this protocol version, one line per task.

    The columns are `TASK_COLUMNS`, the mean returns `random`, `zero` and `oracle` (NaN for none),

        floor J₀ = max(random, zero)

    and `uncertain`, whether the oracle's interval is not wholly above the floor's, so that a score
    between them says little (false without an oracle).

    Raises:
      StoreError: if a file was altered.
    """
    lines: list[tuple[Any, ...]] = []
    for path in sorted(folder.glob("*.json")):
        try:
            with explained(path):
                document = unseal(read(path))
        except DamageError as error:
            raise StoreError(f"{path}: {error}; restore it from the distribution") from error
        if document["protocol_version"] == PROTOCOL_VERSION:
            lines.extend(_lines(document))
    return pd.DataFrame(lines, columns=list(REFERENCE_COLUMNS))


def normalised(value: pd.Series, floor: pd.Series, oracle: pd.Series) -> pd.Series:
    """Return (J − J₀) / (J_oracle − J₀), unclipped; NaN unless the expert is above the floor.

    0 is the better of random and zero actions, 1 the expert.
    """
    scale = oracle - floor
    return (value - floor) / scale.where(scale > 0)


def _lines(document: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    for split, tasks in document["splits"].items():
        for task in tasks:
            best = max(task["random"], task["zero"], key=lambda bound: float(bound["mean"]))
            oracle = task["oracle"] or {"mean": np.nan, "low": np.nan}
            means = task["random"]["mean"], task["zero"]["mean"], oracle["mean"], best["mean"]
            uncertain = bool(oracle["low"] <= best["high"])
            params = json.dumps(task["params"], sort_keys=True)  # in the form that rows have
            yield (
                document["family"],
                document["family_version"],
                split,
                task["task_index"],
                params,
                *means,
                uncertain,
            )


def _bound(rows: pd.DataFrame, family: str, name: str) -> dict[str, Any]:
    if rows.empty:
        raise StoreError(
            f"there is no row of {name} on every task of {family}; run the suite `oracle` with it"
            " first"
        )
    mean = rows["return_mean"].to_numpy(float)
    n_episodes = rows["n_episodes"].to_numpy(float)
    squares = rows["return_std"].to_numpy(float) ** 2 + (mean - mean.mean()) ** 2
    return {
        **_interval(float(mean.mean()), float(squares.mean()), float(n_episodes.sum())),
        "seeds": len(rows),
    }


def _oracle(rows: pd.DataFrame) -> dict[str, Any] | None:
    """Return the end of the TD3 seed that was best a checkpoint earlier, None without TD3 rows."""
    learned = rows[rows["method"] == "td3"]
    if learned.empty:
        return None
    *_, before, last = sorted(learned["env_steps"].unique())
    ends = learned[learned["env_steps"] == last].set_index("seed")
    chosen = ends.loc[
        learned[learned["env_steps"] == before]
        .set_index("seed")["return_mean"]
        .astype(float)
        .idxmax()
    ]
    found = _interval(
        float(chosen["return_mean"]), float(chosen["return_std"]) ** 2, float(chosen["n_episodes"])
    )
    return {**found, "seeds": len(ends), "env_steps": int(last)}


def _interval(mean: float, variance: float, n_episodes: float) -> dict[str, Any]:
    half = 1.96 * (variance / n_episodes) ** 0.5
    return {"mean": mean, "low": mean - half, "high": mean + half, "episodes": int(n_episodes)}
