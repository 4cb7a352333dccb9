"""Run one stage and write its result to the store."""

import hashlib
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch

from benchmark import run, states
from benchmark.announce import Announcer, withdraw
from benchmark.cells import Cell
from benchmark.exits import is_stop
from benchmark.provenance import provenance
from benchmark.resume import SAVE_EVERY_S, Saver, belongings
from benchmark.seeding import seed_globals
from methods.api import Method
from results.measures import Measure
from results.schema import Row, to_frame
from results.store import CellKey, Store, StoreError

_LONGEST = 1_000  # characters of an error, at most
Outcome = Literal["done", "failed", "busy", "stopped"]  # busy: another process holds the cell


@dataclass(frozen=True)
class Stage:
    """A stage of a cell."""

    cell: Cell
    name: Literal["train", "adapt"]
    # number of the attempt this belongs to: a stage that failed in this attempt or a later one is
    # not tried again (0: no attempt)
    attempt: int = field(default=0, compare=False)

    @cached_property
    def key(self) -> CellKey:
        """Key under which it is stored."""
        key = self.cell.train_key if self.name == "train" else self.cell.adapt_key
        assert key is not None, "a cell without meta-training has no train stage"
        return key

    @property
    def steps(self) -> int:
        """Environment steps it may use: in all for training, per test task for adaptation."""
        return self.cell.train_steps if self.name == "train" else self.cell.adapt_steps

    @property
    def work(self) -> int:
        """Environment steps that it may use, summed over tasks."""
        return self.steps if self.name == "train" else self.steps * self.cell.test_tasks

    def __str__(self) -> str:
        cell = self.cell
        place = cell.family if self.name == "train" else f"{cell.family}/{cell.split}"
        variant = f" [{cell.variant}]" if cell.variant else ""
        return f"{cell.method}{variant} {place} seed {cell.seed} {self.name}"


def perform(
    store: Store,
    stage: Stage,
    threads: int,
    tell: Callable[[str, Any], None] = lambda kind, value: None,
    force: bool = False,
    stop: Callable[[], bool] = lambda: False,
    save_every_s: float = SAVE_EVERY_S,
    device: str = "cpu",
) -> tuple[Outcome, str | None]:
    """Run a stage, from its snapshot if there is one, unless it is finished or held elsewhere.

    The outcome is written to the store.

    Args:
      threads: number of simulator threads; torch keeps the number set for the process.
      tell: callback for progress events. Environment steps are counted as in `Stage.steps`:
        "resumed" with those done before, "used" with those so far, "kept" with those saved; "row"
        with a new row as plain data; "note" with a line for a person.
      force: run it from its beginning, even if it is finished.
      stop: called between any two steps; if true, the stage is saved and left.
      save_every_s: seconds between two saves.
      device: the learner's device.

    Returns:
      The outcome, and for a failure its reason in one line.

    Raises:
      StoreError: if the store cannot be read or written.
    """
    with store.claim(stage.key) as mine:
        if not mine:
            return "busy", None
        if not force and finished(store, stage):
            return "done", None
        if error := given_up(store, stage):
            return "failed", error
        announcer = Announcer(store, stage.key, str(stage), stage.steps, tell)
        try:
            return _perform(
                store,
                stage,
                threads,
                tell=announcer,
                force=force,
                stop=stop,
                save_every_s=save_every_s,
                device=device,
            )
        finally:
            announcer.withdraw()


def _perform(
    store: Store,
    stage: Stage,
    threads: int,
    tell: Callable[[str, Any], None],
    force: bool,
    stop: Callable[[], bool],
    save_every_s: float,
    device: str,
) -> tuple[Outcome, str | None]:
    """`perform` for a stage that is already claimed."""
    if force:
        store.forget(stage.key)
    replaces = store.status(stage.key) == "done"
    log = [_first_line(stage)]
    rows: list[Row] = []
    measured: list[Measure] = []
    error: str | None = None
    state: bytes | None = None
    under_way: run.StageRun | None = None
    facts = _facts(threads, device)
    saver = _saver(store, stage, facts, save_every_s, tell)
    try:
        with _warnings_into(log):
            begin = _Beginning(store, stage, threads, device, tell)
            under_way = saver.restore(begin, log)
            rows += under_way.rows
            if saver.kept is not None:
                tell("resumed", saver.kept)
            if not _run(
                under_way,
                saver,
                rows,
                log=log,
                stop=stop,
                tell=tell,
                plug_in=bool(stage.cell.method_source),
                saves=not (force and replaces),
            ):
                return "stopped", None
            measured = under_way.measures
            state = _written(begin.method) if stage.name == "train" else None
    except StoreError:
        raise
    except BaseException as reason:  # whatever a method raises is recorded as its result
        if is_stop(reason):
            raise
        error = _in_one_line(reason)
        rows.append(run.failed_row(stage.cell, stage.name, error))
        log.append(traceback.format_exc())
    resumed = {"resumed": saver.earlier} if saver.earlier else {}
    cost = {"cpu_seconds": under_way.cpu_seconds} if under_way is not None else {}
    record = {**_outcome(store, stage, rows, error), **cost, **resumed, **_told(stage, facts)}
    store.write(
        stage.key,
        rows,
        measured=measured,
        state=state,
        log="\n".join(log) + "\n",
        record=record,
        replace=replaces,
    )
    return ("failed" if error else "done"), error


def _in_one_line(reason: BaseException) -> str:
    try:
        text = str(reason)
    except BaseException as error:  # from a method's own exception class
        if is_stop(error):
            raise
        text = "its message cannot be shown"
    said = " ".join(f"{type(reason).__name__}: {text[:_LONGEST]}".split())
    # tables hold only text, and terminals obey some unprintable characters
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in said)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


def _outcome(store: Store, stage: Stage, rows: list[Row], error: str | None) -> dict[str, Any]:
    """The part of a stage's record that says how it ended."""
    return {
        "status": _status(rows),
        "error": error,
        "stage": str(stage),
        "attempt": stage.attempt,
        "seconds": max((row.wall_s or 0.0 for row in rows), default=0.0),
        "env_steps": max((row.env_steps for row in rows), default=0),
        "n_train_tasks": rows[-1].n_train_tasks if rows else None,
        "built_on": _trained_state(store, stage),
    }


def _run(
    stage: run.StageRun,
    saver: Saver,
    rows: list[Row],
    log: list[str],
    stop: Callable[[], bool],
    tell: Callable[[str, Any], None],
    plug_in: bool,
    saves: bool,
) -> bool:
    """Run a stage to its end and add its rows to `rows`; return False if it is left before.

    Snapshots are saved if `saves`. The forced second run of a finished stage has none: nobody could
    ask for it to be resumed.
    """
    first = True
    while not stage.finished:
        asked = stop()
        if saves and (asked or saver.due()) and saver.save(stage, log):
            tell("kept", saver.kept)
        if asked:
            return False
        stage.step()
        for row in stage.rows[len(rows) :]:
            to_frame([row])  # raises if a method's numbers do not fit their columns
            rows.append(row)
            log.append(_line(row))
            tell("row", asdict(row))
        if first and plug_in and saves:
            saver.try_out(stage)
        first = False
    return True


def finished(store: Store, stage: Stage) -> bool:
    """Whether a stage need not run.

    It is done and, if the store holds a trained state that it builds on, it adapted that very one.

    Raises:
      StoreError: if the store cannot be read.
    """
    if store.status(stage.key) != "done":
        return False
    state = _trained_state(store, stage)
    return state is None or store.record(stage.key).get("built_on") == state


def given_up(store: Store, stage: Stage) -> str | None:
    """Error of a stage that has failed in its attempt or in a later one; None otherwise."""
    if not stage.attempt or store.status(stage.key) != "failed":
        return None
    record = store.record(stage.key)
    return record.get("error") if _attempt(record) >= stage.attempt else None


def _attempt(record: Mapping[str, Any]) -> int:
    number = record.get("attempt")
    return number if isinstance(number, int) else 0


def looks_over(store: Store, stage: Stage) -> bool:
    """Whether a stage need not run or is given up, judged by its record alone, which is quick."""
    glance = store.glance(stage.key)
    if glance.status == "failed":
        return bool(stage.attempt) and _attempt(glance.record) >= stage.attempt
    if glance.status != "done":
        return False
    key = stage.cell.train_key
    if stage.name == "train" or key is None:
        return True
    trained = store.glance(key)
    return trained.status != "done" or glance.record.get("built_on") == trained.state


def _trained_state(store: Store, stage: Stage) -> str | None:
    """SHA-256 of the trained state that an adapt stage begins from; None if there is none."""
    key = stage.cell.train_key
    if stage.name == "train" or key is None or store.status(key) != "done":
        return None
    return hashlib.sha256(store.state(key)).hexdigest()


class _Listening(logging.Handler):
    """Appends what is logged to a list."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.append(f"{record.levelname} {record.name}: {record.getMessage()}")


@contextmanager
def _warnings_into(log: list[str]) -> Iterator[None]:
    """Add to a stage's log whatever modules log within the block."""
    handler = _Listening(log)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def record_failure(
    store: Store, stage: Stage, error: str, status: str = "failed", device: str = "cpu"
) -> None:
    """Record that a stage failed in a way that kept it from recording this itself."""
    record = {
        "status": status,
        "error": error,
        "stage": str(stage),
        "attempt": stage.attempt,
        **_told(stage, _facts(None, device)),
    }
    store.write(
        stage.key,
        [replace(run.failed_row(stage.cell, stage.name, error), status=status)],
        state=None,
        log=error + "\n",
        record=record,
    )
    withdraw(store, stage.key)  # the process that ran it could not


class _Beginning:
    """Makes the stage at its beginning; each call makes a new one, with a method of its own."""

    def __init__(
        self,
        store: Store,
        stage: Stage,
        threads: int,
        device: str,
        tell: Callable[[str, Any], None],
    ) -> None:
        self._store = store
        self._stage = stage
        self._threads = threads
        self._device = device
        self._tell = tell

    def __call__(self) -> run.StageRun:
        cell, key = self._stage.cell, self._stage.cell.train_key
        seed_globals(run.streams_of(cell, self._stage.name))
        self.method = cell.build()

        def progress(used: int) -> None:
            self._tell("used", used)

        means: Any = {"threads": self._threads, "progress": progress, "device": self._device}
        if self._stage.name == "train":
            return run.Training(cell, self.method, **means)
        if key is None:
            return run.Adaptation(cell, self.method, None, **means)
        if self._store.status(key) != "done":
            raise RuntimeError("its meta-training did not finish")
        self.method.load_state_dict(states.from_bytes(self._store.state(key), self._device))
        spent = self._store.record(key)
        tasks = spent.get("n_train_tasks")
        return run.Adaptation(
            cell,
            self.method,
            spent.get("env_steps"),
            n_train_tasks=tasks,
            **means,
        )


def _saver(
    store: Store,
    stage: Stage,
    facts: Mapping[str, Any],
    every_s: float,
    tell: Callable[[str, Any], None],
) -> Saver:
    def say(text: str) -> None:
        tell("note", f"{stage}: {text}")

    belongs = belongings(
        provenance()["packages"], stage.cell.method_version, _trained_state(store, stage)
    )
    return Saver(
        store, stage.key, stage.steps, belongs=belongs, facts=facts, every_s=every_s, say=say
    )


def _written(method: Method) -> bytes:
    """Return a trained state; one that cannot be read back is found now, not a night later."""
    data = states.to_bytes(method.state_dict())
    states.from_bytes(data)
    return data


def _status(rows: list[Row]) -> str:
    statuses = {row.status for row in rows}
    return next((status for status in ("failed", "diverged") if status in statuses), "ok")


def _facts(threads: int | None, device: str) -> dict[str, Any]:
    """Facts on which the last digits of a stage's rows may depend."""
    means = {"mujoco_threads": threads, "torch_threads": torch.get_num_threads()}
    return {"device": device, **means, **provenance()}


def _told(stage: Stage, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The rest of a record: what it says besides how the stage ended."""
    config = dict(stage.cell.config)
    return {**facts, "config": config, "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z")}


def _first_line(stage: Stage) -> str:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"{now} {stage}: {stage.steps} environment steps, settings {stage.cell.config}"


def _line(row: Row) -> str:
    score = row.return_mean if row.stage == "adapt" else row.online_return
    place = f"task {row.task_index} " if row.stage == "adapt" else ""
    return (
        f"{row.wall_s:9.1f} s  {place}steps {row.env_steps}  updates {row.updates}  return {score} "
        f" {row.status}"
    )
