"""How far a stage was saved."""

from contextlib import suppress
from typing import NamedTuple

from results.files import DamageError
from results.store import CellKey, Store


class Kept(NamedTuple):
    """How far a saved state is."""

    env_steps: int  # summed over tasks in meta-training, per test task in adaptation
    updates: int  # optimiser steps, per task


def how_far(kept: Kept, steps: int) -> str:
    """Saved progress of a stage, such as "43 % (8,600 of 20,000 steps, 3,100 updates)"."""
    return (
        f"{100 * kept.env_steps // max(steps, 1)} % ({kept.env_steps:,} of {steps:,} steps,"
        f" {kept.updates:,} updates)"
    )


def saved(store: Store, key: CellKey) -> str:
    """How far an unfinished stage was saved; "" if there is nothing usable."""
    with suppress(DamageError):
        if header := store.saved(key):
            return how_far(Kept(header["env_steps"], header["updates"]), header["steps"])
    return ""
