"""Measured costs of stages, kept in `rates.csv`, from which the cost of a run is estimated.

A rate belongs to one method, family, budget and stage: seconds per environment step that the stage
may use, with steps summed over its tasks. The line `CALIBRATION` holds the speed of the machine
that measured the rates.
"""

import os
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from results.files import StoreError, explained, stage

RATES = Path(__file__).with_name("rates.csv")
CALIBRATION = "calibration"  # value of the column `method` in that line
KEY = ["method", "family", "budget", "stage"]
FIELDS = ["seconds_per_step", "peak_mem_mb", "disk_mb"]


class Rate(NamedTuple):
    """The cost of a stage."""

    seconds_per_step: float
    peak_mem_mb: float
    disk_mb: float
    guessed: bool  # taken from other families or methods


class Rates:
    """The shipped rates, or those in another file.

    Attributes:
      speed: speed of the machine that measured them, as from `benchmark.estimate.machine_speed`.
      table: a line per rate, with the columns `KEY` and `FIELDS`.

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
        """Return the rate of a stage, "train" or "adapt".

        If it was not measured, it is the median over the nearest alternative: the method on other
        families, other methods on the family, or anything; always at this budget and stage. None
        if there is nothing.
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
    """Return a rates file: medians over `measured` stages, with the columns `KEY` and `FIELDS`."""
    rates = measured.groupby(KEY)[FIELDS].median().reset_index()
    line = {**dict.fromkeys([*KEY, *FIELDS], ""), "method": CALIBRATION, "seconds_per_step": speed}
    text = StringIO()
    pd.concat([pd.DataFrame([line]), rates.astype(object)]).to_csv(
        text, index=False, float_format="%.6g", lineterminator="\n"
    )
    return text.getvalue().encode()


def merged(old: Path, new: bytes) -> bytes:
    """Return `new` plus the lines of `old` that it lacks, rescaled to the machine of `new`.

    Raises:
      StoreError: if `old` exists and cannot be read.
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
