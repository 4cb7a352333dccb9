"""Measurements beside the rows of a cell: a table that takes new kinds without a new column.

A measure has a name that says what it is; where one quantity is measured at several places
(distances, layers), `at` says where.
"""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache

import pandas as pd

from results.schema import columns_of

# return of the zero action on a training task of a meta-training, mean over episodes
ZERO_RETURN = "zero_return"
# mean returns of a policy that was adapted to a test task, without learning: on tasks that lie `at`
# that share of the way to others, and under noise with `at` that standard deviation
NEIGHBOURS = "neighbours"
ACTION_NOISE = "action_noise"
OBSERVATION_NOISE = "observation_noise"
# terms of APB's bound (`benchmark.theory`) for the policy of a test task
LIPSCHITZ = "lipschitz"  # of the backbone: product of spectral norms
LIPSCHITZ_SEEN = "lipschitz_seen"  # largest input gradient over visited states
HEAD_NORM = "head_norm"  # spectral norm of the layer after it
OUTSIDE = "outside"  # inputs of ten episodes that lie outside the support of meta-training
FARTHEST = "farthest"  # of those, the largest distance from the support, 0 without any
BOUND = "bound"
COUNT_FREE_BOUND = "count_free_bound"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number. None is missing, never zero."""

    name: str
    env_steps: int  # of the stage, when it was measured
    # of training tasks in stage "train", of test tasks in stage "adapt"
    task_index: int | None = None
    at: float | None = None  # where, in the unit that goes with the name
    value: float | None = None


COLUMNS = columns_of(Measure)


def to_frame(measures: Sequence[Measure]) -> pd.DataFrame:
    """Give `measures` as a table, in their order."""
    return pd.DataFrame([asdict(measure) for measure in measures], columns=list(COLUMNS)).astype(
        COLUMNS
    )


@cache
def no_measures() -> pd.DataFrame:
    """Give the table without a line, which most cells have; it is not to be changed."""
    return to_frame([])


def to_csv(table: pd.DataFrame) -> bytes:
    """A table as text; missing is empty, floats read back exactly, line ends never vary."""
    data: str = table.to_csv(index=False, lineterminator="\n")
    return data.encode()


def from_csv(data: bytes) -> pd.DataFrame:
    """Give back the table of `to_csv`.

    Raises:
      ValueError: if it is a different table.
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
    """One table of all measures, each with the id of its stage as `cell_id`."""
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
