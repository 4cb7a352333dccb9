"""What all executors have in common: their interface, and where and with what stages run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from benchmark.resume import SAVE_EVERY_S
from results.store import Store

if TYPE_CHECKING:
    from benchmark.local import Progress
    from benchmark.stage import Stage


ShowRow = Callable[[str, Mapping[str, Any]], None]  # stage, row


@dataclass(frozen=True)
class Means:
    """The resources that an executor may use."""

    jobs: int  # stages at a time
    threads: int  # cores per stage, for the simulator and torch
    time_limit_s: float | None = None  # for everything that a command does
    stage_limit_s: float | None = None  # per stage in one run; a stage that takes longer fails
    memory_limit: int | None = None  # bytes per worker process; a stage that takes more fails
    save_every_s: float = SAVE_EVERY_S  # between two saves of a running stage
    jobs_given: bool = False  # whether the user gave the number of jobs
    device: str = "cpu"  # the learners' device

    def __str__(self) -> str:
        workers = f"{self.jobs} worker{'s' * (self.jobs != 1)}"
        device = "" if self.device == "cpu" else f", learners on {self.device}"
        return f"{workers} × {self.threads} thread{'s' * (self.threads != 1)}{device}"

    def words(self) -> list[str]:
        """Options that give these limits to the command `worker`, except the overall time limit."""
        stage, memory = self.stage_limit_s, self.memory_limit
        limits = {
            "--stage-time-limit": None if stage is None else f"{stage:.0f}s",
            "--memory-limit": None if memory is None else f"{memory / 2**20:.3f}M",
            "--jobs": str(self.jobs) if self.jobs_given else None,
            "--device": None if self.device == "cpu" else self.device,
        }
        given = [word for name, value in limits.items() if value for word in (name, value)]
        return [*given, "--save-every", f"{self.save_every_s:.0f}s"]


@dataclass(frozen=True)
class Where:
    """Where the stages of a run are to run."""

    executor: str = "local"  # local, ray, slurm, or none: planned only and left to workers
    array: int = 1  # number of Slurm jobs
    parameters: Mapping[str, Any] = field(default_factory=dict)  # parameters of these jobs
    address: str | None = None  # address of a Ray cluster


HERE = Where()


class TimeLimitError(Exception):
    """The time limit was reached; what was finished is in the store."""


class Executor(Protocol):
    """Runs stages and keeps a table of their progress."""

    store: Store
    table: list["Progress"]
    about: str  # what it runs them with, described for a person

    def run(
        self, stages: Sequence["Stage"], show: Callable[[list["Progress"]], None]
    ) -> list["Progress"]:
        """Run `stages` to their end, calling `show` several times a second and whenever one ends.

        Raises:
          TimeLimitError: at the deadline.
          StoreError: if the store can no longer be written.
        """
        ...
