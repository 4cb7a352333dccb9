"""The local executor: long-lived workers take one stage at a time, within a budget of cores.

The store and its locks are the queue between several executors; this one only decides what to try
next. A worker that dies loses what it did of one stage since the last save. When an executor dies,
its workers end too.
"""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from benchmark.announce import withdraw
from benchmark.arguments import InputError
from benchmark.cores import memory_of
from benchmark.executors import Means, ShowRow, TimeLimitError
from benchmark.exits import is_termination
from benchmark.kept import Kept, how_far
from benchmark.stage import Stage, finished, record_failure
from benchmark.worker import TELL_EVERY_S, TERMINATED, serve
from results.fork_server import READY, UNGUARDED, fork_context, starting
from results.store import CellKey, Store

State = Literal["waiting", "running", "done", "failed"]
_LOG = logging.getLogger(__name__)
BUSY_WAIT_S = 1.0  # before a stage held by another process is tried again
_LEAVE_S = 5.0  # for an idle worker to end by itself
MOST_ENDS = 3  # a stage fails once its process was ended this often by SIGTERM or SIGHUP
GRACE_S = 60.0  # for a worker to end its current step and save its stage


@dataclass
class Progress:
    """How far one stage is; `used` is counted as in `Stage.steps`."""

    stage: Stage
    state: State = "waiting"
    finished_before: bool = False  # already done in the store when the run began
    used: int = 0
    kept: Kept | None = None  # how far the newest saved state is, None for none
    resumed_at: int = 0  # environment steps that earlier processes did
    started: float | None = None  # time.monotonic
    ended: float | None = None
    error: str | None = None
    not_before: float = 0.0
    n_ended: int = 0  # how often its process was ended by a signal, or lost

    @property
    def work_left(self) -> float:
        """Environment steps that are left, summed over tasks."""
        share = 1.0 if self.state in ("done", "failed") else self.used / max(self.stage.steps, 1)
        return (1.0 - share) * self.stage.work

    @property
    def work_here(self) -> float:
        """Environment steps in this run, summed over tasks; a finished stage counts in full."""
        if self.started is None:
            return 0.0
        return (
            self.stage.work
            - self.work_left
            - self.resumed_at / max(self.stage.steps, 1) * self.stage.work
        )


def stages_of(cells: Sequence[Any], attempt: int = 0) -> list[Stage]:
    """The stages of cells, each train stage once and before the stages that build on it."""
    stages: dict[CellKey, Stage] = {}
    for cell in cells:
        if cell.train_key is not None:
            stages.setdefault(cell.train_key, Stage(cell.trainer, "train", attempt))
        stages[cell.adapt_key] = Stage(cell, "adapt", attempt)
    return list(stages.values())


def table_of(store: Store, stages: Sequence[Stage], force: bool) -> list[Progress]:
    """The table of stages before a run; what is finished counts as done, unless `force`.

    A training whose record was lost runs again even if no stage waits for it, because its rows are
    results.
    """
    table = [Progress(stage) for stage in stages]
    for entry in table:
        if not force and finished(store, entry.stage):
            entry.state = "done"
            entry.finished_before = True
    return table


def ready_of(table: Sequence[Progress]) -> list[Progress]:
    """The stages that wait for nothing but a worker.

    The training that each builds on is over, or was before the table was made.
    """
    pending = {entry.stage.key for entry in table if entry.state in ("waiting", "running")}
    return [
        entry
        for entry in table
        if entry.state == "waiting"
        and (entry.stage.name == "train" or entry.stage.cell.train_key not in pending)
    ]


class LocalExecutor:
    """Runs stages in processes of their own.

    Args:
      store: where results go.
      means: what it may use; the time limit is counted from now.
      force: run finished stages again.
      note: called with a line for a person on anything unusual about a stage.
      live: called with the name of a stage and each of its rows as it comes.
    """

    def __init__(
        self,
        store: Store,
        means: Means,
        force: bool = False,
        note: Callable[[str], None] = lambda text: None,
        live: ShowRow = lambda stage, row: None,
    ) -> None:
        self.store = store
        self._live = live
        self._means = means
        self._force = force
        limit = means.time_limit_s
        self._deadline = None if limit is None else time.monotonic() + limit
        self._note = note
        self.about = str(means)
        self._workers: list[_Worker] = []
        self.table: list[Progress] = []

    def run(
        self, stages: Sequence[Stage], show: Callable[[list[Progress]], None]
    ) -> list[Progress]:
        """Run `stages` to their end, calling `show` several times a second and whenever one ends.

        If anything ends the run early, such as Ctrl-C, it first waits, for at most `GRACE_S`, until
        running stages are saved.

        Raises:
          TimeLimitError: at the deadline.
          StoreError: if the store can no longer be written.
        """
        self.table = table = table_of(self.store, stages, self._force)
        try:
            while any(entry.state in ("waiting", "running") for entry in table):
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    raise TimeLimitError
                self._assign(table)
                self._listen()
                self._enforce_limits()
                show(table)
            show(table)
        except BaseException:
            self._save_running()
            raise
        finally:
            for worker in self._workers:
                worker.end()
            self._workers.clear()
        return table

    def _assign(self, table: list[Progress]) -> None:
        """Give every idle worker the next stage whose training is over."""
        for entry in ready_of(table):
            if time.monotonic() >= entry.not_before:
                worker = self._idle()
                if worker is None:
                    return
                worker.begin(entry, self._force)

    def _idle(self) -> "_Worker | None":
        for worker in self._workers:
            if worker.entry is None and not worker.leaving:
                return worker
        if len(self._workers) < self._means.jobs:
            self._workers.append(_Worker(self.store, self._means, self._note, self._live))
            return self._workers[-1]
        return None

    def _listen(self) -> None:
        """Handle messages from the workers, waiting a moment for them."""
        ready = wait([worker.connection for worker in self._workers], timeout=TELL_EVERY_S)
        for worker in [worker for worker in self._workers if worker.connection in ready]:
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                self._replace_dead(worker)
                continue
            worker.hear(message)
            if worker.leaving:
                self._workers.remove(worker)
                worker.leave()

    def _enforce_limits(self) -> None:
        """End the stages that take too long or too much memory."""
        limit, memory = self._means.stage_limit_s, self._means.memory_limit
        for worker in [worker for worker in self._workers if worker.entry is not None]:
            assert worker.entry is not None and worker.entry.started is not None
            if limit is not None and (time.monotonic() - worker.entry.started) > limit:
                self._give_up(worker, f"it took longer than {limit:.0f} s", "timeout")
            elif memory is not None and (taken := memory_of(worker.process.pid or 0)) > memory:
                self._give_up(
                    worker,
                    f"it took {taken / 2**20:,.0f} MiB of memory; the limit is"
                    f" {memory / 2**20:,.0f} MiB",
                )

    def _give_up(self, worker: "_Worker", error: str, status: str = "failed") -> None:
        """Record the failure before the claim is free, so that nobody takes the stage up."""
        assert worker.entry is not None
        self._fail(worker.entry, error, status)
        self._workers.remove(worker)
        worker.end()
        withdraw(self.store, worker.entry.stage.key)  # the worker may have announced it since

    def _save_running(self) -> None:
        """Have the workers save their stages, and wait for that; only Ctrl-C cuts it short."""
        try:
            with unheard(signal.SIGALRM, signal.SIGTERM, signal.SIGHUP):
                self._save_busy()
        except BaseException as error:
            if not is_termination(error):
                raise
            # it came before signals were ignored, as when a terminal closes in the middle of a line
            with unheard(signal.SIGALRM, signal.SIGTERM, signal.SIGHUP):
                self._save_busy()

    def _save_busy(self) -> None:
        deadline = time.monotonic() + GRACE_S
        busy = [worker for worker in self._workers if worker.entry is not None]
        for worker in busy:
            worker.process.terminate()
        if busy:
            note = (
                f"saving {len(busy)} unfinished stage{'s' * (len(busy) > 1)}; Ctrl-C again ends at"
                " once, without saving"
            )
            with suppress(OSError):  # the terminal is gone
                self._note(note)
        while busy and (left := deadline - time.monotonic()) > 0:
            for connection in wait([worker.connection for worker in busy], timeout=left):
                worker = next(worker for worker in busy if worker.connection is connection)
                try:
                    worker.hear(worker.connection.recv())
                # it had nothing to save, could not save, or was cut off in the middle of a message
                except Exception:
                    busy.remove(worker)
            busy = [worker for worker in busy if worker.entry is not None]

    def _replace_dead(self, worker: "_Worker") -> None:
        """Remove a dead worker; its stage fails, or waits again if somebody ended the process."""
        self._workers.remove(worker)
        worker.process.join()
        worker.connection.close()
        if worker.process.exitcode == UNGUARDED and not worker.heard:
            raise InputError(
                "every worker process imports the script that started the run, and would start"
                ' another run: put the call under `if __name__ == "__main__":`'
            )
        if worker.entry is not None and worker.process.exitcode in (TERMINATED, -signal.SIGHUP):
            # somebody ended it before it could save the stage; that is not the fault of the stage,
            # unless it ends its own process: hence `MOST_ENDS`
            worker.entry.state = "waiting"
            worker.entry.n_ended += 1
            if worker.entry.n_ended == MOST_ENDS:
                self._fail(worker.entry, f"its worker process was ended {MOST_ENDS} times")
        elif worker.entry is not None:
            self._fail(worker.entry, f"its worker process {_cause(worker.process.exitcode or 0)}")

    def _fail(self, entry: Progress, error: str, status: str = "failed") -> None:
        record_failure(self.store, entry.stage, error, status, self._means.device)
        _end(entry, "failed", error)


class _Worker:
    """A worker process and the stage it is running."""

    def __init__(
        self, store: Store, means: Means, note: Callable[[str], None], live: ShowRow
    ) -> None:
        if multiprocessing.current_process().daemon:
            raise InputError(
                "a run starts processes, which a daemonic process (such as a worker of"
                " multiprocessing.Pool) cannot; use concurrent.futures.ProcessPoolExecutor"
            )
        context = fork_context(READY)
        self.connection, theirs = context.Pipe()
        arguments = (theirs, store, means, dict(os.environ))
        self.process: BaseProcess = context.Process(target=serve, args=arguments)
        with starting(main=True):
            self.process.start()
        theirs.close()
        self.note = note
        self.live = live
        self.leaving = False
        self.heard = False  # whether its process has sent anything
        self.entry: Progress | None = None

    def begin(self, entry: Progress, force: bool) -> None:
        """Start a stage."""
        _LOG.info("process %d begins %s", self.process.pid, entry.stage)
        entry.state = "running"
        entry.started = time.monotonic()
        entry.used = 0
        entry.kept = None
        entry.resumed_at = 0
        self.entry = entry
        try:
            self.connection.send((entry.stage, force))
        # it died while idle, which is not the fault of the stage; the executor will soon notice
        except OSError:
            self.entry = None
            entry.state = "waiting"

    def hear(self, message: tuple[str, Any]) -> None:
        """Handle a message: a row, progress, or the end of the stage."""
        self.heard = True
        kind, value = message
        assert self.entry is not None, "only a worker at work speaks"
        if kind == "row":
            self.live(str(self.entry.stage), value)
            return
        if kind in ("used", "resumed", "kept", "note"):
            self._hear_progress(self.entry, kind, value)
            return
        entry = self.entry
        self.entry = None
        if kind == "store":
            raise value
        if kind == "busy":
            entry.state = "waiting"
            entry.started = None
            entry.not_before = time.monotonic() + BUSY_WAIT_S
        elif kind == "stopped":
            entry.state = "waiting"
            self.leaving = True
        else:
            _end(entry, "failed" if kind == "failed" else "done", value)
            # what a plug-in did to the process must not reach another stage
            self.leaving = bool(entry.stage.cell.method_source)

    def _hear_progress(self, entry: Progress, kind: str, value: Any) -> None:
        if kind == "used":
            entry.used = value
        elif kind == "kept":
            entry.kept = value
        elif kind == "resumed":
            entry.kept = value
            entry.used = value.env_steps
            entry.resumed_at = value.env_steps
            self.note(f"resumed {entry.stage} at {how_far(value, entry.stage.steps)}")
        else:
            self.note(value)

    def leave(self) -> None:
        """Let the idle process end by itself, with any processes that a plug-in started."""
        self.connection.close()
        self.process.join(_LEAVE_S)
        self.end()

    def end(self) -> None:
        """Kill the process; the store is written so that this is safe at any moment."""
        self.process.kill()
        self.process.join()
        self.connection.close()


@contextmanager
def unheard(*numbers: int) -> Iterator[None]:
    """Ignore signals in a block, as another SIGTERM, or the alarm that repeats it, would end it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.alarm(0)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(entry: Progress, state: State, error: str | None) -> None:
    _LOG.info("%s: %s %s", state, entry.stage, error or "")
    entry.state = state
    entry.error = error
    entry.ended = time.monotonic()


def _cause(code: int) -> str:
    """How a process ended, from its exit code."""
    if code >= 0:
        return f"ended with exit code {code}"
    return (
        "was killed by SIGKILL (out of memory?)"
        if code == -signal.SIGKILL
        else f"was killed by signal {-code}"
    )
