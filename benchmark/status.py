"""How far a store is, judged by what its cells report; nothing is run or changed."""

import json
import time
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from rich.live import Live
from rich.text import Text

from benchmark.console import PlainConsole
from benchmark.planning import plans_of
from benchmark.progress import counted, duration
from results.plans import keys
from results.store import CellKey, Glance, Store

_LONGEST_S = 1e15
WATCH_EVERY_S = 5.0
STATES = ("done", "running", "failed", "lost", "waiting")
_MOST = 20  # lines of each kind in the text for a person


def tell(store: Path, watch: bool, as_json: bool) -> None:
    """Print the status of a store; with `watch`, repeat until no stage is left to run.

    Raises:
      StoreError: if there is no store, or nothing is planned in it.
    """
    opened = Store(store, create=False)
    console = PlainConsole()
    found = status_of(opened)
    if as_json:
        print(json.dumps(found, indent=2), flush=True)
        while watch and _unfinished(found):
            time.sleep(WATCH_EVERY_S)
            found = status_of(opened)
            print(json.dumps(found, indent=2), flush=True)
        return
    if not watch:
        console.print(as_text(found), soft_wrap=True)
        return
    with Live(Text(as_text(found)), console=console, auto_refresh=False) as live:
        while _unfinished(found):
            time.sleep(WATCH_EVERY_S)
            found = status_of(opened)
            live.update(Text(as_text(found)), refresh=True)


def _unfinished(status: Mapping[str, Any]) -> int:
    return sum(status["stages"][state] for state in ("running", "lost", "waiting"))


def status_of(store: Store) -> dict[str, Any]:
    """The status of a store, as plain data.

    A stage is "done"; "running" if a process holds its claim; "failed"; "lost" if the process that
    ran it died; otherwise "waiting". The seconds left are those of the stages still to be run, each
    estimated from similar stages or its own progress, shared by the processes at work, and at least
    those of the longest; None while a stage has nothing to be estimated from.
    """
    now = time.time()
    stages = _stages(store)
    seen = {key: store.glance(key) for key in stages}
    state_of = {key: _state(glance) for key, glance in seen.items()}
    count = Counter(state_of.values())
    lines: dict[str, list[dict[str, Any]]] = {"running": [], "failed": [], "lost": []}
    for key, state in state_of.items():
        if state in lines:
            lines[state].append(_line(store, key, stages[key], seen[key], now))
    return {
        "store": str(store.root),
        "stages": {state: count[state] for state in STATES},
        "seconds_left": _seconds_left(stages, seen, state_of, now),
        **lines,
    }


def _stages(store: Store) -> dict[CellKey, tuple[str, ...]]:
    """Kind of each planned stage; stages of the same kind take about as long."""
    found = dict[CellKey, tuple[str, ...]]()
    for plan in plans_of(store, None):
        for cell in plan["cells"]:
            slot = cell["slot"]
            kind = (slot["method"], slot["variant"], slot["family"], slot["budget"])
            key, train_key = keys(cell)
            if train_key is not None:
                found.setdefault(train_key, (*kind, "train"))
            found[key] = (*kind, slot["split"])
    return found


def _state(glance: Glance) -> str:
    if glance.status == "done":
        return "done"
    if glance.claimed:
        return "running"
    if glance.said is not None:
        return "lost"
    return "failed" if glance.status == "failed" else "waiting"


def _line(
    store: Store, key: CellKey, kind: tuple[str, ...], glance: Glance, now: float
) -> dict[str, Any]:
    said = glance.said or {}
    line: dict[str, Any] = {
        "cell": key.id,
        "stage": said.get("stage") or glance.record.get("stage"),
    }
    if glance.said is not None:
        line |= {name: said.get(name) for name in ("host", "pid", "used", "steps", "saved")}
        line |= {"seconds": now - said.get("since", now), "silent": now - said.get("at", now)}
    elif glance.status == "failed":
        line |= {
            "error": glance.record.get("error"),
            "log": str(store.root / key.folder / "log.txt"),
        }
    line["stage"] = line["stage"] or " ".join(filter(None, kind))
    return line


def _seconds_left(
    stages: Mapping[CellKey, tuple[str, ...]],
    seen: Mapping[CellKey, Glance],
    state_of: Mapping[CellKey, str],
    now: float,
) -> float | None:
    took = dict[tuple[str, ...], list[float]]()
    for key, state in state_of.items():
        seconds = seen[key].record.get("seconds")
        if state == "done" and is_time(seconds):
            took.setdefault(stages[key], []).append(seconds)
    costs = list[float]()
    usual = _usual({*stages.values()}, took)
    for key, state in state_of.items():
        if state in ("running", "lost", "waiting"):
            whole = usual[stages[key]]
            said = seen[key].said or {}
            # a lost stage is resumed from its last save
            done = said.get("saved") or 0 if state == "lost" else said.get("used", 0)
            share = done / max(said.get("steps", 1), 1)
            if state == "running" and (share_here := _share_here(said)) > 0.02:
                whole = (now - said["since"]) / share_here
            if whole is None:
                return None
            costs.append((1.0 - share) * whole)
    workers = max(sum(state == "running" for state in state_of.values()), 1)
    return max(sum(costs) / workers, max(costs, default=0.0))


def is_time(seconds: Any) -> TypeGuard[float]:
    """Whether an entry of a record can be the number of seconds that a stage took."""
    return isinstance(seconds, int | float) and 0 < seconds < _LONGEST_S


def _share_here(said: Mapping[str, Any]) -> float:
    """Share of a stage's steps done by the process that runs it now."""
    steps = said.get("used", 0) - said.get("began_at", 0)
    return float(steps / max(said.get("steps", 1), 1))


def _usual(
    kinds: Collection[tuple[str, ...]], took: Mapping[tuple[str, ...], list[float]]
) -> dict[tuple[str, ...], float | None]:
    """Mean seconds of a whole stage of each kind, or else of all train or adapt stages, or None."""
    of_sort: dict[bool, list[float]] = {True: [], False: []}
    for kind, seconds in took.items():
        of_sort[kind[-1] == "train"] += seconds
    sorts = {
        sort: sum(all_of) / len(all_of) if all_of else None for sort, all_of in of_sort.items()
    }
    return {
        kind: sum(likes) / len(likes) if (likes := took.get(kind)) else sorts[kind[-1] == "train"]
        for kind in kinds
    }


def as_text(status: Mapping[str, Any]) -> str:
    """Return a status as text for a person."""
    count, left = status["stages"], status["seconds_left"]
    total = sum(count.values())
    states = ", ".join(f"{count[state]:,} {state}" for state in STATES[1:] if count[state])
    time_left = "time left unknown" if left is None else f"about {duration(left)} left"
    ending = f"; {states}; {time_left}" if count["done"] < total else ""
    if not _unfinished(status):
        ending = f"; {states}" if states else ""
    text = [f"{status['store']}: {count['done']:,} of {counted(total, 'stage')} done{ending}"]
    for line in status["running"][:_MOST]:
        silent = f", silent for {duration(line['silent'])}" if line.get("silent", 0) > 60 else ""
        text.append(f"running: {line['stage']}: {_how_far(line)}{silent}")
    for line in status["lost"][:_MOST]:
        text.append(f"lost: {line['stage']}: {_how_far(line)}; a worker will resume it")
    for line in status["failed"][:_MOST]:
        text += [f"failed: {line['stage']}: {line['error']}", f"  log: {line['log']}"]
    for state in ("running", "lost", "failed"):
        if (more := len(status[state]) - _MOST) > 0:
            text.append(f"… and {more:,} more {state}")
    return "\n".join(text)


def _how_far(line: Mapping[str, Any]) -> str:
    if "host" not in line:
        return "just claimed"
    steps = max(line["steps"], 1)
    kept = "" if line["saved"] is None else f" ({100 * line['saved'] // steps} % saved)"
    share = f"{100 * line['used'] // steps} %{kept}"
    return f"{share} on {line['host']}, process {line['pid']}, for {duration(line['seconds'])}"
