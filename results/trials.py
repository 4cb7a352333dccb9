"""Tuning logs: which settings of a method were tried on a family's tuning law, and their scores.

There is a file per budget, family and method, as `benchmark tune` writes it; the shipped ones show
where the budgets' settings come from.
"""

from io import BytesIO
from pathlib import Path

import pandas as pd

from results.files import DamageError, StoreError, explained, read

TUNING = Path(__file__).parent / "tuning"
COLUMNS = (
    "budget",
    "family",
    "method",
    "rung",
    "fraction",
    "trial",
    "settings",
    "seed",
    "score",
    "status",
    "core_s",
)


def load_trials(folder: Path = TUNING) -> pd.DataFrame:
    """Return every trial in a folder, a row each, by file name; none if there is no folder.

    Raises:
      StoreError: if a file cannot be read, or is not a tuning log.
    """
    with explained(folder):
        parts = [load_log(path) for path in sorted(folder.glob("*.csv"))]
    parts = [part for part in parts if len(part)] or [pd.DataFrame(columns=list(COLUMNS))]
    return pd.concat(parts, ignore_index=True)


def load_log(path: Path) -> pd.DataFrame:
    """Return the trials in one file, a row each.

    Raises:
      StoreError: if it cannot be read, or is not a tuning log.
    """
    try:
        with explained(path):
            content = BytesIO(read(path))
        table = pd.read_csv(content, keep_default_na=False, dtype={"cell_id": str})
    except (ValueError, DamageError) as error:
        raise StoreError(f"{path}: it is not a tuning log ({error}): delete it") from error
    if missing := [name for name in COLUMNS if name not in table]:
        raise StoreError(
            f"{path}: it is not a tuning log, because it lacks {', '.join(missing)}: delete it"
        )
    return table
