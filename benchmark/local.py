"""The local executor: long-lived worker processes that take one stage at a time, within a budget of cores.

The store and its locks are the queue between several executors; this one only decides what to try next. A worker that dies
takes one stage with it, and an executor that dies takes its workers.
"""

import logging
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from benchmark.work import Stage, finished, record_failure
from benchmark.worker import TELL_EVERY_S, serve
from results.interrupts import interrupts_held
from results.store import CellKey, Store, StoreError

State = Literal["waiting", "running", "done", "failed"]
_LOG = logging.getLogger(__name__)
BUSY_WAIT_S = 1.0  # before a stage held by another process is tried again


@dataclass
class Progress:
    """How far one stage is; `used` as `Stage.steps` counts."""

    stage: Stage
    state: State = "waiting"
    finished_before: bool = False  # found done in the store when the run began
    used: int = 0
    started: float | None = None  # time.monotonic
    ended: float | None = None
    error: str | None = None
    not_before: float = 0.0

    @property
    def work_done(self) -> float:
        """Environment steps summed over tasks; a finished stage counts whole."""
        share = 1.0 if self.state in ("done", "failed") else self.used / max(self.stage.steps, 1)
        return share * self.stage.work


def stages_of(cells: Sequence[Any]) -> list[Stage]:
    """The stages of cells, each train stage once and before what builds on it."""
    stages: dict[CellKey, Stage] = {}
    for cell in cells:
        if cell.train_key is not None:
            stages.setdefault(cell.train_key, Stage(cell.trainer, "train"))
        stages[cell.adapt_key] = Stage(cell, "adapt")
    return list(stages.values())


class TimeLimitError(Exception):
    """The time limit was reached; what was finished is in the store."""


class LocalExecutor:
    """Runs stages in `jobs` spawned processes.

    Args:
      store: where results go.
      jobs: processes.
      threads: cores of each, for the simulator and torch.
      deadline: `time.monotonic()` at which to stop, None for never.
      force: run finished stages again.
    """

    def __init__(self, store: Store, jobs: int, threads: int, deadline: float | None = None, force: bool = False) -> None:
        self._store, self._jobs, self._threads, self._force = store, jobs, threads, force
        self._deadline = deadline
        self._workers: list[_Worker] = []

    def run(self, stages: Sequence[Stage], show: Callable[[list[Progress]], None]) -> list[Progress]:
        """Run `stages` to their end, calling `show` several times a second and whenever one ends.

        Raises:
          TimeLimitError: at the deadline; running stages are lost.
          StoreError: if the store can no longer be written.
          KeyboardInterrupt: on Ctrl-C; running stages are lost.
        """
        table = [Progress(stage) for stage in stages]
        if not self._force:
            self._skip_finished(table)
        try:
            while any(entry.state in ("waiting", "running") for entry in table):
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    raise TimeLimitError
                self._assign(table)
                self._listen()
                show(table)
            show(table)
        finally:
            for worker in self._workers:
                worker.end()
            self._workers.clear()
        return table

    def _skip_finished(self, table: list[Progress]) -> None:
        """Mark what need not run. Training whose record was lost runs again even if nothing waits: its rows are results."""
        for entry in table:
            if finished(self._store, entry.stage):
                entry.state, entry.finished_before = "done", True

    def _assign(self, table: list[Progress]) -> None:
        """Give every idle worker the next stage whose training is over."""
        over = {entry.stage.key for entry in table if entry.state in ("done", "failed")}
        for entry in table:
            key = entry.stage.cell.train_key
            ready = entry.stage.name == "train" or key is None or key in over
            if entry.state == "waiting" and ready and time.monotonic() >= entry.not_before:
                worker = self._idle()
                if worker is None:
                    return
                worker.begin(entry, self._force)

    def _idle(self) -> "_Worker | None":
        for worker in self._workers:
            if worker.entry is None:
                return worker
        if len(self._workers) < self._jobs:
            self._workers.append(_Worker(self._store, self._threads))
            return self._workers[-1]
        return None

    def _listen(self) -> None:
        """Take what the workers say, waiting a moment for it."""
        ready = wait([worker.connection for worker in self._workers], timeout=TELL_EVERY_S)
        for worker in [worker for worker in self._workers if worker.connection in ready]:
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                self._bury(worker)
                continue
            worker.hear(message)

    def _bury(self, worker: "_Worker") -> None:
        """A worker died: its stage failed, and the next stage gets a new one."""
        self._workers.remove(worker)
        worker.process.join()
        worker.connection.close()
        if worker.entry is not None:
            error = f"its worker process {_cause(worker.process.exitcode or 0)}"
            record_failure(self._store, worker.entry.stage, error)
            _end(worker.entry, "failed", error)


class _Worker:
    """A spawned process and the stage it is at."""

    def __init__(self, store: Store, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # torch and MuJoCo hang in a forked child
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=serve, args=(theirs, store, threads), daemon=True)
        with interrupts_held():
            self.process.start()
        theirs.close()
        self.entry: Progress | None = None

    def begin(self, entry: Progress, force: bool) -> None:
        """Start a stage."""
        _LOG.info("process %d begins %s", self.process.pid, entry.stage)
        entry.state, entry.started, entry.used = "running", time.monotonic(), 0
        self.entry = entry
        try:
            self.connection.send((entry.stage, force))
        except OSError:  # it died idle, which is no fault of the stage; the executor is about to hear of it
            self.entry, entry.state = None, "waiting"

    def hear(self, message: tuple[str, Any]) -> None:
        """Note a sign of progress, or the end of the stage."""
        kind, value = message
        assert self.entry is not None, "only a worker at work speaks"
        if kind == "used":
            self.entry.used = value
            return
        entry, self.entry = self.entry, None
        if kind == "store":
            raise StoreError(value)
        if kind == "busy":
            entry.state, entry.not_before = "waiting", time.monotonic() + BUSY_WAIT_S
        else:
            _end(entry, "failed" if kind == "failed" else "done", value)

    def end(self) -> None:
        """Kill the process; the store is written so that this is safe at any moment."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def _end(entry: Progress, state: State, error: str | None) -> None:
    _LOG.info("%s: %s %s", state, entry.stage, error or "")
    entry.state, entry.error, entry.ended = state, error, time.monotonic()


def _cause(code: int) -> str:
    """How a process ended, from its exit code."""
    if code >= 0:
        return f"ended with exit code {code}"
    return "was killed by SIGKILL (out of memory?)" if code == -signal.SIGKILL else f"was killed by signal {-code}"
