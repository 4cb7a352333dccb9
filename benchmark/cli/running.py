"""Commands that run stages: `run`, `worker`, `status` and `tune`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.cli import options
from results import fork_server

SAVE_EVERY = "How often unfinished stages are saved; a run that is stopped saves them, too."


def run(
    context: typer.Context,
    suite: Annotated[str, typer.Option(help="Which question to ask; `list` shows them.")],
    budget: options.Budget = "quick",
    methods: options.Methods = None,
    families: options.Families = None,
    seeds: options.Seeds = None,
    settings: options.Settings = None,
    method: options.OwnMethod = None,
    jobs: options.Jobs = None,
    device: options.Device = "cpu",
    store: options.Store = options.DEFAULT_STORE,
    time_limit: options.TimeLimit = None,
    save_every: Annotated[str, typer.Option(help=SAVE_EVERY)] = "5m",
    stage_time_limit: options.StageTimeLimit = None,
    memory_limit: options.MemoryLimit = None,
    force: options.Force = False,
    sealed: options.Sealed = None,
    plan: options.Plan = False,
    dry_run: options.DryRun = False,
    executor: options.Executor = "local",
    array: options.Array = None,
    slurm: options.Slurm = None,
    address: options.Address = None,
    unpublished: options.Unpublished = False,
    published: options.Completed = None,
    live: options.Live = None,
    as_json: options.Json = False,
) -> None:
    """Run a suite, or go on with it.

    What the store has finished is skipped, and what it has saved goes on.
    """
    from benchmark import arguments

    # quick checks come first: the methods import torch
    arguments.refuse_idle_of_run(context, plan, dry_run, executor)
    chosen_suite = arguments.choose_suite(suite)
    chosen_budget = arguments.choose_budget(budget)
    chosen_families = arguments.choose_families(chosen_suite, chosen_budget, families)
    chosen_suite = chosen_suite if sealed is None else arguments.with_sealed(chosen_suite, sealed)
    published = arguments.choose_published(unpublished, published, force)
    n_seeds = arguments.choose_seeds(seeds, chosen_budget, unpublished)
    if executor == "local" and not plan and not dry_run:
        fork_server.fork_context(fork_server.READY)  # while this process imports the same
    where = arguments.choose_where(executor, plan, array, slurm or [], address)
    limits = (stage_time_limit, memory_limit)
    means = arguments.choose_means(
        jobs, time_limit, save_every, *limits, executor=executor, device=device
    )
    chosen = arguments.choose_methods(chosen_suite, chosen_budget, methods, method or [])
    changed = arguments.choose_settings(settings or [], chosen, chosen_budget)

    from benchmark import commands
    from benchmark.planning import Request

    request = Request(
        chosen_suite,
        chosen_budget,
        chosen,
        families=chosen_families,
        seeds=n_seeds,
        settings=changed,
    )
    if dry_run:
        workers = array or means.jobs
        raise typer.Exit(commands.foresee(request, means, workers, store, as_json=as_json))
    how: dict[str, Any] = {"force": force, "published": published, "as_json": as_json, "live": live}
    raise typer.Exit(commands.run(request, means, store, where=where, **how))


def worker(
    suite: Annotated[
        list[str] | None, typer.Option(help="Only this suite. [default: every suite planned there]")
    ] = None,
    jobs: options.Jobs = None,
    device: options.Device = "cpu",
    store: options.Store = options.DEFAULT_STORE,
    time_limit: options.TimeLimit = None,
    save_every: Annotated[str, typer.Option(help=SAVE_EVERY)] = "5m",
    stage_time_limit: options.StageTimeLimit = None,
    memory_limit: options.MemoryLimit = None,
) -> None:
    """Run what is planned in a store, beside other workers on any machines that share the folder.

    `run --plan` plans. A worker ends when nothing planned is left; what failed is tried again once
    it is planned again.
    """
    from benchmark import arguments

    fork_server.fork_context(fork_server.READY)
    means = arguments.choose_means(
        jobs, time_limit, save_every, stage_time_limit, memory_limit, device=device
    )

    from benchmark import commands

    raise typer.Exit(commands.work(store, suite, means))


def status(
    store: options.Store = options.DEFAULT_STORE,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every few seconds until all is done.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show how far a store is: what is done, running and where, failed, lost, and the time left."""
    from benchmark import status as statuses

    statuses.tell(store, watch, as_json)


def tune(
    family: Annotated[str, typer.Option(help="On whose tuning law; `list` shows the families.")],
    method: Annotated[
        str,
        typer.Option(
            help="Name of a method, or module:Class of your own; its `space` says what is tried."
        ),
    ],
    trials: Annotated[
        int, typer.Option(min=2, max=1000, help="Settings to try: the budget's own, and others.")
    ] = 6,
    budget: Annotated[
        str,
        typer.Option(help="Whose settings are tuned; trials get a quarter of it, the best half."),
    ] = "quick",
    seed: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Of the draws and the trials.")
    ] = 0,
    jobs: options.Jobs = None,
    store: options.Store = Path("results/tuning-runs"),
    out: Annotated[Path, options.folder_option(about="Folder of the logs.")] = Path(
        "results/tuning"
    ),
    time_limit: options.TimeLimit = None,
    save_every: Annotated[str, typer.Option(help="How often unfinished stages are saved.")] = "5m",
) -> None:
    """Try settings of a method, and log every trial.

    Each is meta-trained on a family's tuning law and adapted to its validation tasks, none of which
    is a test task.
    """
    from benchmark import arguments

    chosen_budget = arguments.choose_budget(budget)
    fork_server.fork_context(fork_server.READY)
    means = arguments.choose_means(jobs, time_limit, save_every)
    name, path = arguments.choose_tuned(method, family, chosen_budget)

    from benchmark import commands

    what = (name, path, family, chosen_budget, trials, seed)
    raise typer.Exit(commands.tune(*what, means=means, store=store, out=out))
