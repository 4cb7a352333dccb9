"""Saving a stage under way, and resuming it from what was saved."""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmark import states
from benchmark.exits import is_stop
from benchmark.kept import Kept
from benchmark.pool import UnsavableError
from benchmark.run import StageRun
from results.files import DamageError, StoreError
from results.store import CellKey, Store

SAVE_EVERY_S = 300.0
# largest share of a stage's time that saving may take: what takes long to save is saved less often
_MOST = 0.02
_FORMAT = 1  # of the saved state
# packages whose version must be the same for a stage to be resumed
_MOVE_BITS = ("torch", "mujoco", "numpy", "gymnasium")
_LOG = logging.getLogger(__name__)


class Saver:
    """Saves one stage every few minutes, and whenever asked to.

    Args:
      steps: environment steps that the stage may use.
      belongs: what a saved state must match to be used here, as plain JSON data.
      facts: what else is saved about this process, so that a stage's record shows on which machines
        and versions it ran.
      every_s: minimum number of seconds between two saves.
      say: callback for problems with saving or resuming, and their reasons: one line per kind of
        problem, once.

    Attributes:
      kept: how far the newest saved state is; None if there is none.
      earlier: for each earlier process that ran this stage, the steps at its last save, and its
        facts.
    """

    def __init__(
        self,
        store: Store,
        key: CellKey,
        steps: int,
        belongs: Mapping[str, Any],
        facts: Mapping[str, Any],
        every_s: float,
        say: Callable[[str], None],
    ) -> None:
        self._store = store
        self._key = key
        self._steps = steps
        self._every_s = every_s
        self._say = say
        self._belongs = dict(belongs)
        self._facts = dict(facts)
        self._next = time.monotonic() + every_s
        self._told = set[str]()
        self.kept: Kept | None = None
        self.earlier: list[dict[str, Any]] = []

    def restore(self, begin: Callable[[], StageRun], log: list[str]) -> StageRun:
        """Return the stage as saved, or at its beginning; put its saved lines in front of `log`."""
        found = self._read()
        stage = begin()
        if found is None:
            return stage
        header, tree = found
        try:
            stage.load_state_dict(tree["stage"])
            lines = [*tree["log"]]
            earlier = [*tree["earlier"]]
            if (stage.used, stage.updates) != (header["env_steps"], header["updates"]):
                raise DamageError(
                    f"after restoring it is at {stage.used} steps and {stage.updates} updates"
                    f" instead of {header['env_steps']} and {header['updates']}"
                )
        except BaseException as error:  # a method may raise anything
            if is_stop(error):
                raise
            self._tell_refused(f"{type(error).__name__}: {error}")
            return begin()  # `stage` may be half restored
        self.kept = Kept(stage.used, stage.updates)
        self.earlier = [*earlier, {"env_steps": stage.used, **header["facts"]}]
        saved = header["facts"].get("saved")
        moved = self._moved(header["facts"])
        log[:] = [
            *lines,
            *log,
            f"resumed at {stage.used} environment steps, saved {saved}{moved and f' ({moved})'}",
        ]
        if moved:
            self._tell(
                "moved",
                f"it resumes {moved}, so its last digits may differ from those of an uninterrupted"
                " run",
            )
        return stage

    def _read(self) -> tuple[dict[str, Any], Any] | None:
        """Header and tree of the saved state; None if there is none, or none that can be used."""
        try:
            if (header := self._store.saved(self._key)) is None:
                return None
            if reason := self._foreign(header):
                raise DamageError(reason)
            device = header["facts"].get("device", "cpu")
            if device != self._facts["device"]:  # states of generators differ between devices
                raise DamageError(f"it was saved with --device {device}; use that device to resume")
            data = self._store.saved_state(self._key, header)
            return header, states.from_bytes(data, self._facts["device"])
        except (DamageError, states.StateError, MemoryError) as reason:
            self._tell_refused(str(reason) or "out of memory")
            return None

    def _tell_refused(self, reason: str) -> None:
        """Report that the saved state cannot be used.

        It stays until the stage is saved again, since a later run may be able to use it.
        """
        self._tell(
            "refused",
            f"its saved state cannot be used ({reason}); it starts from the beginning",
        )

    def _moved(self, theirs: Mapping[str, Any]) -> str:
        """Return what changed since the save that may alter the last digits; "" for nothing."""
        machines = [facts.get("machine", {}).get("processor") for facts in (theirs, self._facts)]
        moved = ["on another processor"] * (machines[0] != machines[1])
        moved += ["with other threads"] * (
            theirs.get("torch_threads") != self._facts["torch_threads"]
        )
        moved += ["with other code"] * (theirs.get("commit") != self._facts["commit"])
        return " and ".join(moved)

    def _foreign(self, header: Mapping[str, Any]) -> str:
        """Return the first mismatch between the saved state and this stage; "" if there is none."""
        theirs = header["belongs"]
        wrong = (name for name, value in self._belongs.items() if theirs.get(name) != value)
        return next(
            (f"{name}: {theirs.get(name)}, here {self._belongs[name]}" for name in wrong), ""
        )

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() >= self._next

    def save(self, stage: StageRun, log: list[str]) -> bool:
        """Save the stage; a failure is reported once and leaves the previous save in place."""
        began = time.monotonic()
        try:
            data = self._bytes(stage, log)
            facts = {**self._facts, "saved": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
            kept = Kept(stage.used, stage.updates)
            header = {
                "belongs": self._belongs,
                "facts": facts,
                "steps": self._steps,
                **kept._asdict(),
            }
            self._store.save(self._key, header, data)
        except (UnsavableError, states.StateError, MemoryError) as reason:
            self._tell_unsavable(reason)
            return False
        except StoreError as error:
            self._tell("disk", f"it could not be saved and continues unsaved: {error}")
            return False
        finally:
            now = time.monotonic()
            self._next = now + max(self._every_s, (now - began) / _MOST)
        self.kept = kept
        return True

    def try_out(self, stage: StageRun) -> None:
        """Find out at once whether the stage can be saved, and report it if it cannot."""
        try:
            self._bytes(stage, [])
        except (UnsavableError, states.StateError, MemoryError) as reason:
            self._tell_unsavable(reason)

    def _bytes(self, stage: StageRun, log: list[str]) -> bytes:
        return states.to_bytes({"stage": stage.state_dict(), "log": log, "earlier": self.earlier})

    def _tell_unsavable(self, reason: Exception) -> None:
        said = str(reason) or "out of memory"
        self._tell(
            "unsavable",
            f"it cannot be saved, so it will start from the beginning if it is stopped: {said}",
        )

    def _tell(self, kind: str, text: str) -> None:
        """Report a problem to the user, once for each kind."""
        if kind not in self._told:
            self._told.add(kind)
            _LOG.warning("%s", text)
            self._say(" ".join(text.split()))


def belongings(
    packages: Mapping[str, Any], method_version: int, built_on: str | None
) -> dict[str, Any]:
    """What a saved state must match besides its stage's identity: all else that affects results."""
    versions = {name: packages.get(name) for name in _MOVE_BITS}
    return {
        "format": _FORMAT,
        "byte order": sys.byteorder,
        "method version": method_version,
        "built on": built_on,
        **versions,
    }
