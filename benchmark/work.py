"""One stage, from the store to the store."""

import hashlib
import io
import logging
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch

from benchmark import run
from benchmark.cells import Cell
from benchmark.provenance import provenance
from methods.api import Method
from results.schema import Row, to_frame
from results.store import CellKey, Store, StoreError

Outcome = Literal["done", "failed", "busy"]  # busy: another process holds the cell


@dataclass(frozen=True)
class Stage:
    """A stage of a cell."""

    cell: Cell
    name: Literal["train", "adapt"]

    @cached_property
    def key(self) -> CellKey:
        """Where it is stored."""
        key = self.cell.train_key if self.name == "train" else self.cell.adapt_key
        assert key is not None, "a cell without meta-training has no train stage"
        return key

    @property
    def steps(self) -> int:
        """Environment steps that it may use, as its progress counts them."""
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
    store: Store, stage: Stage, threads: int, tell: Callable[[int], None], force: bool = False
) -> tuple[Outcome, str | None]:
    """Run a stage unless it is finished or held elsewhere, and write what came of it.

    Args:
      threads: threads of the simulator; torch's are the process's.
      tell: told the environment steps used so far, as `Stage.steps` counts them.
      force: run it even if it is finished.

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
        replace = store.status(stage.key) == "done"
        log = [f"{time.strftime('%Y-%m-%d %H:%M:%S')} {stage}: {stage.steps} environment steps, settings {stage.cell.config}"]
        rows: list[Row] = []
        error: str | None = None
        checkpoint: bytes | None = None
        try:
            with _warnings_into(log):
                method = _prepared(store, stage)
                for row in _rows(store, stage, method, threads, tell):
                    to_frame([row])  # a method's numbers may be of any type
                    rows.append(row)
                    log.append(_line(row))
                checkpoint = _saved(method) if stage.name == "train" else None
        except StoreError:
            raise
        except (Exception, SystemExit) as reason:  # whatever a method raises is its result
            error = " ".join(f"{type(reason).__name__}: {reason}".split())
            rows.append(run.failed_row(stage.cell, stage.name, error))
            log.append(traceback.format_exc())
        used = max((row.env_steps for row in rows), default=0)
        seen = rows[-1].n_train_tasks if rows else None
        outcome = {"status": _status(rows), "error": error, "stage": str(stage), "env_steps": used, "n_train_tasks": seen}
        record = {**outcome, "built_on": _trained_state(store, stage), **_facts(stage.cell, threads)}
        store.write(stage.key, rows, checkpoint=checkpoint, log="\n".join(log) + "\n", record=record, replace=replace)
        return ("failed" if error else "done"), error


def finished(store: Store, stage: Stage) -> bool:
    """Whether a stage need not run: it is done, and if it adapted a trained state, then the one that is there now, if any.

    Raises:
      StoreError: if the store cannot be read.
    """
    if store.status(stage.key) != "done":
        return False
    state = _trained_state(store, stage)
    return state is None or store.record(stage.key).get("built_on") == state


def _trained_state(store: Store, stage: Stage) -> str | None:
    """SHA-256 of the checkpoint that an adapt stage begins from, None where there is none."""
    key = stage.cell.train_key
    if stage.name == "train" or key is None or store.status(key) != "done":
        return None
    return hashlib.sha256(store.checkpoint(key)).hexdigest()


@contextmanager
def _warnings_into(log: list[str]) -> Iterator[None]:
    """Keep in a stage's log what the modules log in a block."""
    handler = logging.Handler()
    handler.emit = lambda record: log.append(f"{record.levelname} {record.name}: {record.getMessage()}")  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def record_failure(store: Store, stage: Stage, error: str) -> None:
    """Write that a stage failed in a way that it could not write itself."""
    record = {"status": "failed", "error": error, "stage": str(stage), **_facts(stage.cell, None)}
    store.write(stage.key, [run.failed_row(stage.cell, stage.name, error)], checkpoint=None, log=error + "\n", record=record)


def _prepared(store: Store, stage: Stage) -> Method:
    """The method as the stage finds it: meta-trained before adaptation."""
    method, key = stage.cell.build(), stage.cell.train_key
    if stage.name == "adapt" and key is not None:
        if store.status(key) != "done":
            raise RuntimeError("its meta-training did not finish")
        method.load_state_dict(torch.load(io.BytesIO(store.checkpoint(key)), weights_only=True))
    return method


def _rows(store: Store, stage: Stage, method: Method, threads: int, tell: Callable[[int], None]) -> Iterable[Row]:
    if stage.name == "train":
        return run.train(stage.cell, method, threads, tell)
    key = stage.cell.train_key
    spent = store.record(key) if key else {}
    return run.adaptation(stage.cell, method, spent.get("env_steps"), threads, tell, spent.get("n_train_tasks"))


def _saved(method: Method) -> bytes:
    buffer = io.BytesIO()
    torch.save(method.state_dict(), buffer)
    buffer.seek(0)
    torch.load(buffer, weights_only=True)  # a state that cannot be read back is found now, not a night later
    return buffer.getvalue()


def _status(rows: list[Row]) -> str:
    statuses = {row.status for row in rows}
    return next((status for status in ("failed", "diverged") if status in statuses), "ok")


def _facts(cell: Cell, threads: int | None) -> dict[str, Any]:
    facts = {"device": "cpu", "mujoco_threads": threads, "torch_threads": torch.get_num_threads(), "config": dict(cell.config)}
    return {**facts, **provenance(), "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z")}


def _line(row: Row) -> str:
    score = row.return_mean if row.stage == "adapt" else row.online_return
    place = f"task {row.task_index} " if row.stage == "adapt" else ""
    return f"{row.wall_s:9.1f} s  {place}steps {row.env_steps}  updates {row.updates}  return {score}  {row.status}"
