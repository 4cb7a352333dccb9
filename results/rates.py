"""What stages cost, measured and kept in `rates.csv`, by which a run is estimated before it begins.

A rate is of one method on one family at one budget and stage: seconds for each environment step
that the stage may use, summed over its tasks. The line of `CALIBRATION` says how fast the machine
was that measured them.
"""

import os
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from results.files import StoreError, explained, stage

RATES = Path(__file__).with_name("rates.csv")
CALIBRATION = "calibration"  # in the column `method`
KEY = ["method", "family", "budget", "stage"]
FIELDS = ["seconds_per_step", "peak_mem_mb", "disk_mb"]


class Rate(NamedTuple):
    """What a stage costs."""

    seconds_per_step: float
    peak_mem_mb: float
    disk_mb: float
    guessed: bool  # from other families or methods


class Rates:
    """The rates that ship, or those in another file.

    Attributes:
      speed: of the machine that measured them, as `benchmark.estimate.machine_speed` gives it.
      table: `KEY` and `FIELDS` of each.

    Raises:
      StoreError: if the file cannot be read.
    """

    def __init__(self, path: Path = RATES) -> None:
        try:
            with explained(path):
                table = pd.read_csv(path)
            self.speed = _speed(table)
            self.table = table[table["method"] != CALIBRATION][[*KEY, *FIELDS]]
        except (ValueError, LookupError) as error:
            raise StoreError(
                f"{path}: cannot be read ({error}): restore it from the distribution"
            ) from error

    def of(self, method: str, family: str, budget: str, name: str) -> Rate | None:
        """The rate of a stage, "train" or "adapt".

        Where it was not measured, it is the median of what is most like it: the method on other
        families, other methods on the family, or anything at the budget. None if nothing was.
        """
        table = self.table[(self.table["stage"] == name) & (self.table["budget"] == budget)]
        same_method, same_family = table["method"] == method, table["family"] == family
        for guessed, chosen in (
            (False, same_method & same_family),
            (True, same_method),
            (True, same_family),
            (True, table["stage"] == name),
        ):
            if chosen.any():
                seconds, memory, disk = table.loc[chosen, FIELDS].median()
                return Rate(float(seconds), float(memory), float(disk), guessed)
        return None


def to_csv(measured: pd.DataFrame, speed: float) -> bytes:
    """Rates as a file, from stages with the columns `KEY` and `FIELDS`, several of each."""
    rates = measured.groupby(KEY)[FIELDS].median().reset_index()
    line = {**dict.fromkeys([*KEY, *FIELDS], ""), "method": CALIBRATION, "seconds_per_step": speed}
    text = StringIO()
    pd.concat([pd.DataFrame([line]), rates.astype(object)]).to_csv(
        text, index=False, float_format="%.6g", lineterminator="\n"
    )
    return text.getvalue().encode()


def merged(old: Path, new: bytes) -> bytes:
    """`new`, and the lines of `old` that it lacks, as they would be on the machine of `new`.

    Raises:
      StoreError: if `old` is there and cannot be read.
    """
    known = pd.read_csv(StringIO(new.decode()))
    speed = _speed(known)
    if not old.exists():
        return new
    rates = Rates(old)
    before = rates.table.assign(
        seconds_per_step=rates.table["seconds_per_step"] * rates.speed / speed
    )
    lines = pd.concat([known[known["method"] != CALIBRATION][[*KEY, *FIELDS]], before])
    return to_csv(lines.drop_duplicates(KEY, keep="first").sort_values(KEY), speed)


def _speed(table: pd.DataFrame) -> float:
    return float(table.loc[table["method"] == CALIBRATION, "seconds_per_step"].iloc[0])


def write(path: Path, data: bytes) -> None:
    """Write the file whole or not at all.

    Raises:
      StoreError: if it cannot be written.
    """
    with explained(path):
        os.replace(stage(path, data), path)
