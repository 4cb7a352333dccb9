"""What the commands do, once their arguments are parsed."""

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from benchmark import tune as tuning
from benchmark.arguments import check_budgets
from benchmark.console import PlainConsole
from benchmark.executors import HERE, Executor, Means, ShowRow, TimeLimitError, Where
from benchmark.kept import saved
from benchmark.live import Live
from benchmark.local import LocalExecutor, Progress, stages_of
from benchmark.planning import Planned, Request, named, plan_of, planned_in, plans_of
from benchmark.progress import Display, counted, duration
from benchmark.provenance import why_unknown
from benchmark.seeding import Streams
from benchmark.stage import Stage, looks_over
from benchmark.suites import BUDGETS, Budget, Suite
from benchmark.unpublished import missing, take_over
from methods import METHODS
from results.files import StoreError
from results.publication import Publication, published_in
from results.store import CellKey, Store

__all__ = ["foresee", "run", "tune", "work"]

# exit codes
DONE = 0
FAILED = 1
TIME_LIMIT = 3


def run(
    request: Request,
    means: Means,
    store: Path,
    force: bool,
    published: Path | None = None,
    where: Where = HERE,
    as_json: bool = False,
    live: Path | None = None,
) -> int:
    """Run the cells of a suite, or only those that `published` lacks; return the exit code.

    With `as_json`, JSON is printed, and progress goes to standard error. Rows are also written to
    the folder `live` as they come, if it is given.
    """
    began = time.monotonic()
    suite, budget = request.suite, request.budget
    cells = request.cells()
    console = PlainConsole(stderr=as_json)
    publication = None if published is None else published_in(published)
    if publication and not (cells := missing(cells, publication)):
        console.print(
            f"suite {suite.id} at {budget.id}: seeds 0 to {request.seeds - 1} are published in"
            f" {published}",
            soft_wrap=True,
        )
        return _told([], store, DONE, as_json)
    check_budgets(cells)
    opened = Store(store, create=True)
    if publication and (taken := take_over(cells, publication, opened)):
        console.print(f"meta-trainings taken over from the published results: {taken}")
    display = Display(console)
    sink = None if live is None else Live(live, display.note)
    executor = _executor(
        opened, _left_of(means, began), where, force=force, note=display.note, live=sink
    )
    attempt = opened.write_plan(plan_of(suite, request.methods, cells, request))
    stages = stages_of(cells, attempt)
    line = (
        f"suite {suite.id} at {budget.id}: {counted(len(cells), 'cell')} in"
        f" {counted(len(stages), 'stage')}"
    )
    if executor is None:
        console.print(f"{line}, planned in {store}", soft_wrap=True)
        _leave_to_others(console, suite, store, means, where)
        return _told(_as_planned(opened, stages), store, DONE, as_json)
    console.print(f"{line}, {executor.about}, store {store}", soft_wrap=True)
    if reason := why_unknown():
        console.print(f"results will not name the commit of this code: {reason}", soft_wrap=True)
    try:
        table = _execute(console, executor, stages, display)
    finally:
        if sink is not None:
            sink.close()
    took_s = time.monotonic() - began
    code = TIME_LIMIT if table is None else _conclude(console, table, store, took_s)
    return _told(executor.table, store, code, as_json)


def foresee(request: Request, means: Means, workers: int, store: Path, as_json: bool) -> int:
    """Print the estimated cost of a run by `workers` workers; return the exit code."""
    from benchmark import estimate
    from results.rates import Rates

    cells = request.cells()
    check_budgets(cells)
    found = estimate.estimate(store, stages_of(cells), replace(means, jobs=workers), Rates())
    print(json.dumps(found, indent=2) if as_json else estimate.as_text(found))
    return DONE


def _told(table: list[Progress], store: Path, code: int, as_json: bool) -> int:
    """Print the outcome of each stage as JSON if `as_json`; return the exit code."""
    if as_json:
        stages = [
            {
                "stage": str(entry.stage),
                "cell": entry.stage.key.id,
                "state": entry.state,
                "before": entry.finished_before,
                "error": entry.error,
            }
            for entry in table
        ]
        print(json.dumps({"store": str(store), "exit_code": code, "stages": stages}, indent=2))
    return code


def _executor(
    store: Store,
    means: Means,
    where: Where,
    force: bool,
    note: Callable[[str], None],
    live: ShowRow | None,
) -> Executor | None:
    """The executor that is to run the stages; None if they are left to workers elsewhere.

    Raises:
      InputError: if something that it needs is not available here.
    """
    told = live or (lambda stage, row: None)
    if where.executor == "slurm":
        from benchmark.on_slurm import prepared

        prepared(store.root, where.parameters)
    if where.executor in ("none", "slurm"):
        return None
    if where.executor == "local":
        return LocalExecutor(store, means, force, note, told)
    from benchmark.on_ray import RayExecutor

    return RayExecutor(store, means, where.address, force, note, told)


def _as_planned(store: Store, stages: list[Stage]) -> list[Progress]:
    """A table of stages that other processes run, or have already run."""
    table = [Progress(stage) for stage in stages]
    for entry in table:
        if looks_over(store, entry.stage):
            entry.state, entry.finished_before = "done", True
    return table


def _leave_to_others(
    console: Console, suite: Suite, store: Path, means: Means, where: Where
) -> None:
    """Print how to start workers, or put them in Slurm's queue."""
    if where.executor == "none":
        console.print(f"next: python -m benchmark worker{_at(store)}", soft_wrap=True)
        return
    from benchmark.on_slurm import submit

    words = ["worker", "--suite", suite.id, "--store", str(store.absolute()), *means.words()]
    jobs = submit(store.absolute(), words, where.array, where.parameters)
    console.print(f"{counted(len(jobs), 'job')} in the queue: {jobs[0].job_id} …", soft_wrap=True)
    console.print(f"next: python -m benchmark status{_at(store)} --watch", soft_wrap=True)


def tune(
    name: str,
    path: str,
    family: str,
    budget: Budget,
    n_trials: int,
    seed: int,
    means: Means,
    store: Path,
    out: Path,
) -> int:
    """Tune a method on a family, rung by rung, and print the best trial; return the exit code."""
    began = time.monotonic()
    generator = Streams(seed, "tune", name, family).numpy("settings")
    drawn = dict(enumerate(tuning.draw_settings(path, budget, n_trials, generator)))
    opened = Store(store, create=True)
    lines = list[dict[str, Any]]()
    console = PlainConsole()
    log = tuning.log_path(out, budget, family, name)
    tried = partial(tuning.trials_of, name, path, family, budget=budget, chosen=drawn, seed=seed)
    every = [tried(rung=rung) for rung in range(len(tuning.RUNGS))]
    known = tuning.logged(log, chain(*every))
    if kept := tuning.put_aside(log, len(known)):
        console.print(f"{log} also holds other trials; it was copied to {kept}", soft_wrap=True)
    for rung, (fraction, _) in enumerate(tuning.RUNGS):
        chosen = [*drawn] if rung == 0 else tuning.promoted(pd.DataFrame(lines), rung)
        trials = [trial for trial in every[rung] if trial.number in chosen]
        check_budgets(trial.cell for trial in trials)
        left = [trial for trial in trials if trial.id not in known]
        lines += [known.pop(trial.id) for trial in trials if trial.id in known]
        cells = [trial.cell for trial in left]
        opened.write_plan(plan_of(tuning.SUITE, {name: path}, cells))
        console.print(
            f"{name} on {family}: {len(trials)} trials at {fraction:g} of {budget.id},"
            f" {len(trials) - len(left)} of them already in {log}, store {store}",
            soft_wrap=True,
        )
        display = Display(console)
        executor = LocalExecutor(opened, _left_of(means, began), note=display.note)
        try:
            table = _execute(console, executor, stages_of(cells), display)
        finally:  # also log trials that finished before a stop
            finished = [trial for trial in left if tuning.finished_in(opened, trial)]
            lines += [tuning.line_of(trial, opened, means.threads) for trial in finished]
            if finished:
                tuning.write_log(out, budget, [*lines, *known.values()])
        if table is None:
            return TIME_LIMIT
    tuning.write_log(out, budget, lines)  # drops trials that were promoted once but no longer are
    best = tuning.best_of(pd.DataFrame(lines))
    console.print(
        f"best: trial {best['trial']} with {best['settings']}, validation score"
        f" {best['score']:.2f}",
        soft_wrap=True,
    )
    console.print(
        f"{len(lines)} trials in {duration(time.monotonic() - began)}, written to {log}",
        soft_wrap=True,
    )
    return FAILED if best["status"] != "ok" else DONE


def work(
    store: Path,
    suites: list[str] | None,
    means: Means,
) -> int:
    """Run a store's unfinished planned stages, beside any other workers; return the exit code."""
    began = time.monotonic()
    plans_of(Store(store, create=False), suites)  # a folder that is no store must not become one
    opened = Store(store, create=True)
    console = PlainConsole()
    tried = set[tuple[CellKey, int]]()
    table = dict[CellKey, Progress]()
    # stages that are planned meanwhile are run too
    while stages := _left(opened, suites, tried, console):
        tried |= {(stage.key, stage.attempt) for stage in stages}
        display = Display(console)
        executor = LocalExecutor(opened, _left_of(means, began), note=display.note)
        console.print(
            f"{counted(len(stages), 'stage')} to run or to wait for, {executor.about}, store"
            f" {store}",
            soft_wrap=True,
        )
        done = _execute(console, executor, stages, display)
        if done is None:
            return TIME_LIMIT
        table |= {entry.stage.key: entry for entry in done}
    if not table:
        console.print(f"nothing is left to run in {store}", soft_wrap=True)
        return DONE
    return _conclude(console, [*table.values()], store, time.monotonic() - began)


def _left(
    store: Store, suites: list[str] | None, tried: set[tuple[CellKey, int]], console: Console
) -> list[Stage]:
    """Planned stages that are neither finished nor tried, each once and in its newest attempt.

    Train stages that some of them build on are checked byte by byte, not by their record alone, and
    come first if they are damaged.
    """
    plans = plans_of(store, None)  # read once, as they are large
    chosen = {plan["suite"] for plan in named(plans, suites, store.root)}
    newest = dict[CellKey, Stage]()
    wanted = set[CellKey]()
    for plan in plans:
        if not plan.get("requests") and plan["suite"] == tuning.SUITE.id:
            continue  # `tune` plans its next trials itself
        if not plan.get("requests") and plan["suite"] not in chosen:
            continue
        planned = planned_in(plan)
        if planned.foreign and plan["suite"] in chosen and not tried:
            _tell_foreign(console, plan["suite"], planned)
        stages = stages_of(planned.cells, planned.attempt)
        wanted |= {stage.key for stage in stages if plan["suite"] in chosen}
        for stage in stages:
            known = newest.get(stage.key)
            if known is None or known.attempt < stage.attempt:
                newest[stage.key] = stage
    left = [
        stage
        for stage in newest.values()
        if stage.key in wanted
        and (stage.key, stage.attempt) not in tried
        and not looks_over(store, stage)
    ]
    found = {stage.key for stage in left}
    needed = {stage.cell.train_key for stage in left if stage.name == "adapt"} - found
    damaged = [
        newest[key]
        for key in needed
        if key in newest
        and (key, newest[key].attempt) not in tried
        and store.status(key) not in ("done", "failed")
    ]
    return [*damaged, *left]


def _tell_foreign(console: Console, suite: str, planned: Planned) -> None:
    why = f" ({planned.reason})" if planned.reason else ""
    console.print(
        f"suite {suite}: {counted(planned.foreign, 'planned cell')} left out, which this version of"
        f" the program, or of a method, cannot run as planned{why}",
        soft_wrap=True,
    )


def _left_of(means: Means, began: float) -> Means:
    """`means` with the time since `began` subtracted from the time limit."""
    limit = means.time_limit_s
    return means if limit is None else replace(means, time_limit_s=began + limit - time.monotonic())


def _at(store: Path) -> str:
    """The option that names a store in a command, "" for the default store."""
    return "" if store == Path("results/local") else f" --store {shlex.quote(str(store))}"


def _execute(
    console: Console, executor: Executor, stages: list[Stage], display: Display
) -> list[Progress] | None:
    """Run stages and show their progress; if the time limit is reached, say so and return None."""
    try:
        with display.shown():
            return executor.run(stages, display.show)
    except TimeLimitError:
        _tell_kept(console, executor.store, executor.table)
        console.print("time limit reached; run the same command again to continue")
        return None
    except Exception:
        raise
    except BaseException:  # Ctrl-C, SIGTERM
        _tell_kept(console, executor.store, executor.table)
        raise


def _tell_kept(console: Console, store: Store, table: list[Progress]) -> None:
    """Print how much is saved of each stage that was under way."""
    for entry in table:
        if entry.state not in ("done", "failed") and entry.started is not None:
            at = saved(store, entry.stage.key)
            console.print(
                f"{entry.stage}: {f'saved at {at}' if at else 'nothing saved'}", soft_wrap=True
            )


def _conclude(console: Console, table: list[Progress], store: Path, took_s: float) -> int:
    failed = [entry for entry in table if entry.state == "failed"]
    before = sum(entry.finished_before for entry in table)
    console.print(
        f"{len(table) - len(failed)} of {len(table)} stages done ({before} of them earlier) in"
        f" {duration(took_s)}"
    )
    for entry in failed:
        console.print(f"failed: {entry.stage}: {entry.error}", soft_wrap=True)
        console.print(f"  log: {store / entry.stage.key.folder / 'log.txt'}", soft_wrap=True)
    theirs = _published_seeds(table)
    ours = len({entry.stage.cell.seed for entry in table})
    console.print(
        f"next: python -m benchmark report{_at(store)}{' --compare published' * (theirs > 0)}",
        soft_wrap=True,
    )
    if ours < theirs:
        line = (
            f"  the published methods have {theirs} seeds each; run with --seeds {theirs} to tell"
            " yours apart from them"
        )
        console.print(line, soft_wrap=True)
    return FAILED if failed else DONE


def _published_seeds(table: list[Progress]) -> int:
    """Seeds per published method, or 0 if no plug-in was run or nothing comparable is published."""
    cell = table[0].stage.cell
    if all(entry.stage.cell.method in METHODS for entry in table):
        return 0
    try:
        budgets = Publication().manifest(cell.suite)["budgets"]
    except StoreError:
        return 0
    return int(BUDGETS[cell.budget].published_seeds) if cell.budget in budgets else 0
