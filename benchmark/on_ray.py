"""An executor on a Ray cluster (extra `ray`): a Ray task per stage, results in the driver's store.

No disk is shared. A task gets what its stage begins from (the trained state and the newest saved
state), works in a folder of its own, and sends its cell back. What it saves meanwhile is sent to
the driver through a mailbox, so that a stage whose node is lost goes on from there.
"""

import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.announce import Announcer
from benchmark.arguments import InputError
from benchmark.executors import Means, ShowRow, TimeLimitError
from benchmark.kept import how_far
from benchmark.local import GRACE_S, Progress, ready_of, table_of, unheard
from benchmark.plugins import load_method, source_digest
from benchmark.provenance import provenance
from benchmark.stage import Stage, finished, given_up, record_failure
from results.files import DamageError
from results.store import CellKey, Store

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.2  # between two looks at the tasks
_TELL_S = 1.0  # between two reports of a task
MOST_LOST = 3  # a stage fails once it was lost with its process this often


@dataclass
class _Task:
    """A running stage."""

    entry: Progress
    held: ExitStack  # its claim on the driver's store
    result: Any  # Ray's reference
    announcer: Announcer


class Mailbox:
    """Messages from the tasks, and whether these are to stop; an actor on the driver's node."""

    def __init__(self) -> None:
        self._mail: list[tuple[str, str, Any]] = []
        self._stop = False

    def put(self, stage: str, kind: str, value: Any) -> bool:
        """Leave a message; return whether to stop."""
        self._mail.append((stage, kind, value))
        return self._stop

    def take(self) -> list[tuple[str, str, Any]]:
        """Return the messages since the last call."""
        mail, self._mail = self._mail, []
        return mail

    def stop(self) -> None:
        """Ask the tasks to save and end."""
        self._stop = True


class RayExecutor:
    """Runs stages as tasks of a Ray cluster, with the interface of `LocalExecutor`.

    Args:
      store: the driver's, where results go.
      means: what it may use: `jobs` tasks at a time, each of `threads` CPUs.
      address: address of the cluster, such as "auto"; None starts one on this machine.
      force: run finished stages again.
      note: called with a line for a person on anything unusual about a stage.
      live: called with the name of a stage and each of its rows as it comes.
    Raises:
      InputError: if Ray is not installed, or there is no cluster at the address.
    """

    def __init__(
        self,
        store: Store,
        means: Means,
        address: str | None = None,
        force: bool = False,
        note: Callable[[str], None] = lambda text: None,
        live: ShowRow = lambda stage, row: None,
    ) -> None:
        self.store = store
        self.table: list[Progress] = []
        self._means = means
        self._force = force
        self._note = note
        self._live = live
        limit = means.time_limit_s
        self._deadline = None if limit is None else time.monotonic() + limit
        self._ray = _connected(address)
        beside_driver = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            self._ray.get_runtime_context().get_node_id(), soft=False
        )
        self._mailbox = (
            self._ray.remote(Mailbox)
            .options(num_cpus=0, scheduling_strategy=beside_driver)
            .remote()
        )
        self._tasks: dict[str, _Task] = {}
        total = self._ray.cluster_resources()
        if not means.jobs_given:
            jobs = max(1, int(total.get("CPU", 1)) // means.threads)
            self._means = replace(means, jobs=jobs)
        self.about = (
            f"a Ray cluster of {int(total.get('CPU', 0))} CPUs, {self._means.jobs} stages at a time"
        )

    def run(
        self, stages: Sequence[Stage], show: Callable[[list[Progress]], None]
    ) -> list[Progress]:
        """As `LocalExecutor.run`."""
        self.table = table = table_of(self.store, stages, self._force)
        try:
            while any(entry.state in ("waiting", "running") for entry in table):
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    raise TimeLimitError
                self._assign()
                self._listen()
                self._enforce_limit()
                show(table)
            show(table)
        except BaseException:
            self._save_running()
            raise
        finally:
            for task in self._tasks.values():
                self._leave(task)
            self._tasks.clear()
            self._ray.kill(self._mailbox)
        return table

    def _assign(self) -> None:
        """Begin stages whose training is over, up to as many as may run at a time."""
        for entry in ready_of(self.table):
            if len(self._tasks) >= self._means.jobs:
                return
            if time.monotonic() >= entry.not_before:
                self._begin(entry)

    def _begin(self, entry: Progress) -> None:
        held, stage = ExitStack(), entry.stage
        if not held.enter_context(self.store.claim(stage.key)):
            entry.not_before = time.monotonic() + 1.0
            held.close()
            return
        if not self._force and finished(self.store, stage):
            _end(entry, "done")
            held.close()
            return
        if error := given_up(self.store, stage):
            _end(entry, "failed", error)
            held.close()
            return
        if self._force:
            self.store.forget(stage.key)
        entry.state, entry.started = "running", None  # set when a process begins it
        entry.used = entry.resumed_at = 0
        means = self._means
        options = {"num_cpus": means.threads, "max_retries": 0, "name": str(stage)}
        options |= {} if means.device == "cpu" else {"num_gpus": 1}
        # what a plug-in did to a process must not reach another stage
        calls = {"max_calls": 1} if stage.cell.method_source else {}
        work = self._ray.remote(**calls)(_work) if calls else self._ray.remote(_work)
        result = work.options(**options).remote(
            stage,
            means,
            begins_from=_begins_from(self.store, stage),
            saved=_saved(self.store, stage),
            software=_software(),
            mailbox=self._mailbox,
        )
        announcer = Announcer(self.store, stage.key, str(stage), stage.steps)
        self._tasks[stage.key.id] = _Task(entry, held, result, announcer)

    def _listen(self) -> None:
        """Handle messages from the tasks, and take the cells of those that have ended."""
        running = {task.result: name for name, task in self._tasks.items()}
        ended = list[Any]()
        if running:
            ended, _ = self._ray.wait([*running], num_returns=len(running), timeout=_LOOK_S)
        else:
            time.sleep(_LOOK_S)
        # all messages of ended tasks have arrived by now
        for name, kind, value in self._ray.get(self._mailbox.take.remote()):
            if task := self._tasks.get(name):
                self._hear(task, kind, value)
        for result in ended:
            task = self._tasks.pop(running[result])
            try:
                self._take(task.entry, result)
            finally:
                self._leave(task)

    def _leave(self, task: _Task) -> None:
        """Free the claim; withdraw the announcement unless the stage was lost with its process."""
        if task.entry.state != "waiting" or task.entry.n_ended == 0:
            task.announcer.withdraw()
        task.held.close()

    def _hear(self, task: _Task, kind: str, value: Any) -> None:
        entry = task.entry
        if kind == "began":
            entry.started = time.monotonic()
            task.announcer.begin(*value)
        elif kind in ("used", "resumed"):
            task.announcer(kind, value)
        if kind == "used":
            entry.used = value
        elif kind == "kept":
            entry.kept, header, state = value
            self.store.save(entry.stage.key, header, state)
            task.announcer(kind, entry.kept)
        elif kind == "resumed":
            entry.kept = value
            entry.used = entry.resumed_at = value.env_steps
            self._note(f"resumed {entry.stage} at {how_far(value, entry.stage.steps)}")
        elif kind == "row":
            self._live(str(entry.stage), value)
        elif kind == "note":
            self._note(value)

    def _take(self, entry: Progress, result: Any) -> None:
        """Take the outcome of a task that has ended."""
        try:
            outcome, error, contents = self._ray.get(result)
        except self._ray.exceptions.TaskCancelledError:  # cancelled by somebody else
            entry.state = "waiting"
            return
        except self._ray.exceptions.RayTaskError as raised:  # such as a node that cannot run it
            self._fail(entry, " ".join(str(raised.cause).split()))
            return
        except self._ray.exceptions.RayError as lost:  # its process or node is gone
            _LOG.info("lost %s: %s", entry.stage, lost)
            entry.n_ended += 1
            entry.state = "waiting"
            if entry.n_ended == MOST_LOST:
                self._fail(entry, f"its process was lost {MOST_LOST} times: {type(lost).__name__}")
            else:
                self._note(f"lost the process of {entry.stage}; the stage goes on elsewhere")
            return
        if outcome == "stopped":
            entry.state = "waiting"
            return
        key = entry.stage.key
        self.store.adopt(key, contents, replace=self.store.status(key) == "done")
        _end(entry, outcome, error)

    def _enforce_limit(self) -> None:
        limit = self._means.stage_limit_s
        for name, task in [*self._tasks.items()]:
            began = task.entry.started
            if limit is None or began is None or time.monotonic() - began <= limit:
                continue
            # recorded before the claim is free, so that nobody takes the stage up
            self._fail(task.entry, f"it took longer than {limit:.0f} s", "timeout")
            self._ray.cancel(task.result, force=True)
            self._leave(self._tasks.pop(name))

    def _fail(self, entry: Progress, error: str, status: str = "failed") -> None:
        record_failure(self.store, entry.stage, error, status, self._means.device)
        _end(entry, "failed", error)

    def _save_running(self) -> None:
        """Ask the tasks to save and end, and keep what they send."""
        with unheard(signal.SIGALRM, signal.SIGTERM, signal.SIGHUP):
            self._save_all()

    def _save_all(self) -> None:
        if not self._tasks:
            return
        with suppress(OSError):  # the terminal is gone
            self._note(f"saving {len(self._tasks)} unfinished stage{'s' * (len(self._tasks) > 1)}")
        self._mailbox.stop.remote()
        deadline = time.monotonic() + GRACE_S
        while self._tasks and time.monotonic() < deadline:
            self._listen()
        for task in self._tasks.values():
            self._ray.cancel(task.result, force=True)


def _connected(address: str | None) -> Any:
    """Import Ray and connect it to a cluster."""
    try:
        import ray
        import ray.util.scheduling_strategies
    except ModuleNotFoundError as error:
        raise InputError("--executor ray needs Ray: pip install 'apb-benchmark[ray]'") from error
    if not ray.is_initialized():
        try:
            level = logging.WARNING
            if address is None:  # otherwise an existing cluster would be joined
                ray.init("local", log_to_driver=False, include_dashboard=False, logging_level=level)
            else:
                ray.init(address, log_to_driver=False, logging_level=level)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"Ray: {' '.join(str(error).split())}") from error
    return ray


def _begins_from(store: Store, stage: Stage) -> tuple[CellKey, Mapping[str, bytes]] | None:
    """Key and files of the meta-training that a stage adapts, if it has one that is done."""
    key = stage.cell.train_key
    if stage.name == "train" or key is None or store.status(key) != "done":
        return None
    return key, store.contents(key)


def _saved(store: Store, stage: Stage) -> tuple[Mapping[str, Any], bytes] | None:
    """The driver's snapshot of an unfinished stage, header and state; None without a usable one."""
    with suppress(DamageError):
        if header := store.saved(stage.key):
            return header, store.saved_state(stage.key, header)
    return None


def _software() -> dict[str, Any]:
    """The versions that have to be the same on all nodes."""
    known = provenance()
    return {name: known[name] for name in ("benchmark", "packages")}


def _end(entry: Progress, state: Any, error: str | None = None) -> None:
    entry.state, entry.error, entry.ended = state, error, time.monotonic()


class _Line:
    """A task's line to the mailbox, by which it also learns whether to stop."""

    def __init__(self, store: Store, stage: Stage, mailbox: Any) -> None:
        self._store = store
        self._stage = stage
        self._mailbox = mailbox
        self._used = 0
        self.asked = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._report, daemon=True)
        self._thread.start()

    def _report(self) -> None:
        while not self._over.wait(_TELL_S):
            self._put("used", self._used)

    def _put(self, kind: str, value: Any) -> None:
        import ray

        stop = ray.get(self._mailbox.put.remote(self._stage.key.id, kind, value))
        self.asked = self.asked or stop

    def __call__(self, kind: str, value: Any) -> None:
        """As `perform`'s `tell`."""
        if kind == "used":
            self._used = value
        elif kind == "kept":
            header = self._store.saved(self._stage.key)
            if header is not None:
                state = self._store.saved_state(self._stage.key, header)
                self._put(kind, (value, header, state))
        else:
            self._put(kind, value)

    def close(self) -> None:
        """Stop reporting."""
        self._over.set()
        self._thread.join()


def _work(
    stage: Stage,
    means: Means,
    begins_from: tuple[CellKey, Mapping[str, bytes]] | None,
    saved: tuple[Mapping[str, Any], bytes] | None,
    software: Mapping[str, Any],
    mailbox: Any,
) -> tuple[str, str | None, Mapping[str, bytes]]:
    """Run a stage in a store of its own; return outcome, error, and the files of its cell."""
    import torch

    from benchmark.isolation import settle
    from benchmark.stage import perform
    from benchmark.worker import keep_memory

    _check(stage, software)
    import ray

    ray.get(mailbox.put.remote(stage.key.id, "began", (os.uname().nodename, os.getpid())))
    keep_memory()
    settle()
    torch.set_num_threads(means.threads)
    with tempfile.TemporaryDirectory(prefix="apb-benchmark-") as folder:
        store = Store(Path(folder), create=True)
        if begins_from is not None:
            store.adopt(*begins_from)
        if saved is not None:
            header, state = saved
            own = {name: header[name] for name in header if name not in ("file", "file_sha256")}
            store.save(stage.key, own, state)
        line = _Line(store, stage, mailbox)
        try:
            outcome, error = perform(
                store,
                stage,
                means.threads,
                tell=line,
                stop=lambda: line.asked,
                save_every_s=means.save_every_s,
                device=means.device,
            )
        finally:
            line.close()
        contents = {} if outcome == "stopped" else store.contents(stage.key)
        return outcome, error, contents


def _check(stage: Stage, software: Mapping[str, Any]) -> None:
    """Check that this node would run the stage as the driver's program would.

    Raises:
      RuntimeError: if it would not.
    """
    ours, cell = _software(), stage.cell
    method = load_method(cell.method_path)
    theirs = (cell.method_version, cell.method_source)
    if ours != software or theirs != (method.version, source_digest(cell.method_path)):
        raise RuntimeError(
            f"the node {os.uname().nodename} has other versions ({ours}) than the driver"
            f" ({dict(software)}), or another version of {cell.method}: install the same versions"
            " on all nodes"
        )
