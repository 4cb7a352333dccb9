"""Estimates what a run will cost before it begins, from measured rates and the machine's speed."""

import heapq
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmark.executors import Means
from benchmark.local import stages_of
from benchmark.planning import planned_in, plans_of
from benchmark.progress import counted, duration
from benchmark.stage import Stage, looks_over
from benchmark.status import is_time
from envs import load_family
from envs.batch import BatchEnv
from methods.core.nets import LAYERS, actor, init_actor, init_critics
from methods.core.replay import Batch
from methods.core.td3 import TD3, TD3Config
from results.rates import Rates, merged, to_csv, write
from results.store import CellKey, Store, StoreError

WORKERS = (10, 100)  # estimated in addition to the number asked for
_TURNS = 5  # of each half of the calibration; their median counts
_TURN_S = 1.0


def machine_speed(turn_s: float = _TURN_S) -> float:
    """The speed of one core of this machine.

    It is the geometric mean of TD3 updates and simulator steps a second, each the median of a few
    turns.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pairs = [(_rate(_updates(), turn_s), _rate(_steps(), turn_s)) for _ in range(_TURNS)]
    finally:
        torch.set_num_threads(threads)
    return float(np.sqrt(np.prod(np.median(pairs, axis=0))))


def _rate(act: Any, turn_s: float) -> float:
    """Calls of `act` per second of processor time; what other processes take does not count."""
    act()
    began, times = process_time(), 0
    while (passed := process_time() - began) < turn_s:
        act()
        times += 1
    return times / passed


def _updates() -> Any:
    """A function that makes one TD3 update for eight tasks, at the sizes of budget quick."""
    generator = torch.Generator().manual_seed(0)
    n, sizes = 8, (17, 6, 64)
    pi = init_actor(*sizes, depth=1, lead=dict.fromkeys(LAYERS, (n,)), generator=generator)
    omega = init_critics(n, 23, 64, generator)
    learner = TD3(lambda p, s: actor(p, s, depth=1), pi, {}, omega, TD3Config(hidden=64))

    def normal(*shape: int) -> torch.Tensor:
        return torch.empty(n, 64, *shape).normal_(generator=generator)

    batch = Batch(normal(17), normal(6), normal(), normal(17), torch.zeros(n, 64))
    return lambda: learner.update(batch, torch.zeros(n, 64, 6))


def _steps() -> Any:
    """A function that makes one simulator step of eight cheetahs."""
    family = load_family("cheetah-vel")
    env = BatchEnv(family, family.sample(8, np.random.default_rng(0)))
    action = np.random.default_rng(1).uniform(-1, 1, (8, 1, 6)).astype(np.float32)
    env.reset()

    def step() -> None:
        if env.step(action).truncated.any():
            env.reset()

    return step


def estimate(store: Path, stages: Sequence[Stage], means: Means, rates: Rates) -> dict[str, Any]:
    """Estimate the cost of those of `stages` that are not finished, as plain data."""
    left, opened = list(stages), None
    if store.is_dir() and any(store.iterdir()):
        opened = Store(store, create=False)
        left = [stage for stage in stages if not looks_over(opened, stage)]
    factor = rates.speed / machine_speed() if left else 1.0
    rate_of = cache(rates.of)  # stages that differ only in the seed share a rate
    costs, guessed, unknown = dict[CellKey, float](), set[str](), set[str]()
    memory, disk = list[float](), 0.0
    for stage in left:
        cell = stage.cell
        rate = rate_of(cell.method, cell.family, cell.budget, stage.name)
        if rate is None:
            unknown.add(f"{cell.method} at {cell.budget}")
            continue
        if rate.guessed:
            guessed.add(f"{cell.method} on {cell.family}")
        costs[stage.key] = factor * rate.seconds_per_step * stage.work
        memory.append(rate.peak_mem_mb)
        disk += rate.disk_mb
    workers = sorted({means.jobs, *WORKERS})
    return {
        "stages": len(stages),
        "finished": len(stages) - len(left),
        "core_hours": sum(costs.values()) * means.threads / 3600,
        "wall_seconds": {n: _makespan(left, costs, n) for n in workers},
        "workers": means.jobs,
        "memory_mb": sum(sorted(memory, reverse=True)[: means.jobs]),
        "disk_mb": disk,
        "speed": 1.0 / factor,
        "guessed": sorted(guessed),
        "unknown": sorted(unknown),
    }


def _makespan(stages: Sequence[Stage], costs: Mapping[CellKey, float], workers: int) -> float:
    """Seconds until all stages are over.

    A worker that is free begins the first stage whose training is over.
    """
    left = {stage.key for stage in stages}
    follows = dict[CellKey, list[int]]()
    ready = list[int]()  # indices into `stages`
    for place, stage in enumerate(stages):
        key = stage.cell.train_key
        if stage.name == "adapt" and key is not None and key in left:
            follows.setdefault(key, []).append(place)
        else:
            ready.append(place)
    running = list[tuple[float, int]]()
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            place = heapq.heappop(ready)
            heapq.heappush(running, (now + costs.get(stages[place].key, 0.0), place))
        now, place = heapq.heappop(running)
        for following in follows.get(stages[place].key, ()):
            heapq.heappush(ready, following)
    return now


def as_text(found: Mapping[str, Any]) -> str:
    """An estimate as text for people to read."""
    left = found["stages"] - found["finished"]
    text = [f"{counted(left, 'stage')} to run, {found['finished']:,} done before"]
    if not left:
        return text[0]
    wall = [
        f"{duration(seconds)} with {counted(n, 'worker')}"
        for n, seconds in found["wall_seconds"].items()
    ]
    text += [
        f"about {found['core_hours']:.1f} core-hours: {', '.join(wall)}",
        f"memory {_size(found['memory_mb'])} with {counted(found['workers'], 'worker')}, disk"
        f" {_size(found['disk_mb'])}",
        f"a core of this machine is {found['speed']:.2f} times as fast as the one that the rates"
        " were measured on",
    ]
    if found["guessed"]:
        text.append(f"guessed from similar stages: {_few(found['guessed'])}")
    if found["unknown"]:
        text.append(f"not counted, because no similar stage was measured: {_few(found['unknown'])}")
    return "\n".join(text)


def _size(megabytes: float) -> str:
    return f"{megabytes:.0f} MiB" if megabytes < 1000 else f"{megabytes / 1024:.1f} GiB"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + f" and {len(names) - 5} more" * (len(names) > 5)


def write_rates(store: Path, out: Path) -> str:
    """Write the rates of every finished stage in a store to `out`, and keep its other rates.

    Raises:
      StoreError: if no stage is finished, or `out` cannot be read or written.
    """
    opened = Store(store, create=False)
    lines = list[dict[str, Any]]()
    for plan in plans_of(opened, None):
        if not plan.get("requests"):
            continue  # a plan of tuning, whose settings are no budget's
        for stage in stages_of(planned_in(plan).cells):
            glance = opened.glance(stage.key)
            # variants have costs of their own
            if glance.status == "done" and not stage.cell.variant:
                lines.append(_line(opened, stage, glance.record))
    if not lines:
        raise StoreError(f"{store}: nothing is finished there: run a suite first")
    write(out, merged(out, to_csv(pd.DataFrame(lines), machine_speed())))
    return f"{out}: {counted(len(lines), 'stage')}"


def _line(store: Store, stage: Stage, record: Mapping[str, Any]) -> dict[str, Any]:
    """What a finished stage cost, as a row of the rates."""
    folder, cell = store.root / stage.key.folder, stage.cell
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    rows = store.rows(stage.key)
    return {
        "method": cell.method,
        "family": cell.family,
        "budget": cell.budget,
        "stage": stage.name,
        "seconds_per_step": _seconds(stage, record, rows) / stage.work,
        "peak_mem_mb": float(rows["peak_mem_mb"].max()),
        "disk_mb": size / 2**20,
    }


def _seconds(stage: Stage, record: Mapping[str, Any], rows: pd.DataFrame) -> float:
    """Seconds that a stage would have taken on an idle machine, as far as its record tells.

    For one thread on a busy machine, that is its processor time, unless it waits for a GPU, or for
    processes that a plug-in started.
    """
    wall = record.get("seconds")
    wall = float(wall) if is_time(wall) else float(rows["wall_s"].max())
    cpu = record.get("cpu_seconds")
    alone = not stage.cell.method_source and record.get("device", "cpu") == "cpu"
    return min(wall, float(cpu)) if alone and is_time(cpu) else wall
