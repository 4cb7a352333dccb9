"""Measures beside the rows of a cell: a table that takes new kinds without new columns.

The name of a measure says what it is; where a quantity is measured at several places (distances,
noise levels), `at` says which.
"""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache

import pandas as pd

from results.schema import columns_of

# return of the zero action on a training task, mean over episodes
ZERO_RETURN = "zero_return"
# mean returns, without further learning, of a policy adapted to a test task: on tasks that lie the
# share `at` of the way to others, and under noise with the standard deviation `at`
NEIGHBOURS = "neighbours"
ACTION_NOISE = "action_noise"
OBSERVATION_NOISE = "observation_noise"
# terms of APB's bound (`benchmark.theory`) for the policy of a test task
LIPSCHITZ = "lipschitz"  # of the backbone: product of spectral norms
LIPSCHITZ_SEEN = "lipschitz_seen"  # largest input gradient over visited states
HEAD_NORM = "head_norm"  # spectral norm of the layer after the backbone
OUTSIDE = "outside"  # number of inputs of ten episodes outside the support of meta-training
FARTHEST = "farthest"  # largest distance of those from the support; 0 without any
BOUND = "bound"
COUNT_FREE_BOUND = "count_free_bound"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measured number. None means missing, never zero."""

    name: str
    env_steps: int  # environment steps of the stage at the time
    # of a training task in stage "train", of a test task in stage "adapt"
    task_index: int | None = None
    at: float | None = None  # the place, in the unit that belongs to the name
    value: float | None = None


COLUMNS = columns_of(Measure)


def to_frame(measures: Sequence[Measure]) -> pd.DataFrame:
    """Return `measures` as a table, in their order."""
    return pd.DataFrame([asdict(measure) for measure in measures], columns=list(COLUMNS)).astype(
        COLUMNS
    )


@cache
def no_measures() -> pd.DataFrame:
    """Return the empty table, which most cells have; it must not be changed."""
    return to_frame([])


def to_csv(table: pd.DataFrame) -> bytes:
    """Return a table as CSV: missing is empty, floats read back exactly, line ends never vary."""
    data: str = table.to_csv(index=False, lineterminator="\n")
    return data.encode()


def from_csv(data: bytes) -> pd.DataFrame:
    """Read a table that `to_csv` wrote.

    Raises:
      ValueError: if the columns are different.
    """
    table = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False, na_values=[""])
    if list(table.columns) != list(COLUMNS):
        raise ValueError(
            f"measures have the columns {', '.join(COLUMNS)}, not {', '.join(table.columns)}"
        )
    return table.astype(
        {name: "float64" for name, dtype in COLUMNS.items() if dtype != "string"}
    ).astype(COLUMNS)


def joined(tables: Sequence[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """Return one table of all measures, each with the id of its stage as `cell_id`."""
    empty = to_frame([]).assign(cell_id=pd.array([], dtype="string"))
    return pd.concat(
        [
            empty,
            *(
                table.assign(cell_id=pd.array([stage] * len(table), dtype="string"))
                for stage, table in tables
            ),
        ]
    )
