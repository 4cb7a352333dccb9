"""Commands that run stages: `run`, `worker`, `status` and `tune`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.cli import options
from results import fork_server


def run(
    context: typer.Context,
    suite: Annotated[
        list[str], typer.Option(help="Which question to ask; `list` shows all suites.")
    ],
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
    save_every: options.SaveEvery = "5m",
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
    """Run a suite, or continue it.

    Finished cells in the store are skipped, and saved ones are resumed.
    """
    from benchmark import arguments

    # quick checks come first: loading methods imports torch
    arguments.refuse_idle_of_run(context, plan, dry_run, executor)
    chosen_suite = arguments.choose_suite(arguments.the_only(suite, "--suite"))
    chosen_budget = arguments.choose_budget(budget)
    chosen_families = arguments.choose_families(chosen_suite, chosen_budget, families)
    chosen_suite = chosen_suite if sealed is None else arguments.with_sealed(chosen_suite, sealed)
    published = arguments.choose_published(unpublished, published, force)
    n_seeds = arguments.choose_seeds(seeds, chosen_budget, unpublished)
    if executor == "local" and not plan and not dry_run:
        # its imports run while this process makes the same ones
        fork_server.fork_context(fork_server.READY)
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
        list[str] | None, typer.Option(help="Only this suite. [default: every planned suite]")
    ] = None,
    jobs: options.Jobs = None,
    device: options.Device = "cpu",
    store: options.Store = options.DEFAULT_STORE,
    time_limit: options.TimeLimit = None,
    save_every: options.SaveEvery = "5m",
    stage_time_limit: options.StageTimeLimit = None,
    memory_limit: options.MemoryLimit = None,
) -> None:
    """Run planned cells of a store, alongside workers on any machines that share the folder.

    Plan them with `run --plan`. A worker ends when no planned cell is left; failed ones are retried
    once they are planned again.
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
        bool, typer.Option("--watch", help="Refresh every few seconds until everything is done.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show the progress of a store: stages done, running and where, failed, lost; time left."""
    from benchmark import status as statuses

    statuses.tell(store, watch, as_json)


def tune(
    family: Annotated[
        str, typer.Option(help="Family whose tuning law to use; `list` shows all families.")
    ],
    method: Annotated[
        str,
        typer.Option(
            help="A method, or module:Class for your own; its `space` says which settings to try."
        ),
    ],
    trials: Annotated[
        int,
        typer.Option(min=2, max=1000, help="How many settings to try, the budget's own included."),
    ] = 6,
    budget: Annotated[
        str,
        typer.Option(
            help="Whose settings to tune; trials get a quarter of it, the best ones a half."
        ),
    ] = "quick",
    seed: Annotated[
        int,
        typer.Option(min=0, max=1_000_000, help="Seed of the drawn settings and of the trials."),
    ] = 0,
    jobs: options.Jobs = None,
    store: options.Store = Path("results/tuning-runs"),
    out: Annotated[Path, options.folder_option(about="Folder for the logs.")] = Path(
        "results/tuning"
    ),
    time_limit: options.TimeLimit = None,
    save_every: options.SaveEvery = "5m",
) -> None:
    """Try settings of a method, and log every trial.

    Each trial is meta-trained on a family's tuning law and adapted to its validation tasks, none of
    which is a test task.
    """
    from benchmark import arguments

    chosen_budget = arguments.choose_budget(budget)
    fork_server.fork_context(fork_server.READY)
    means = arguments.choose_means(jobs, time_limit, save_every)
    name, path = arguments.choose_tuned(method, family, chosen_budget)

    from benchmark import commands

    what = (name, path, family, chosen_budget, trials, seed)
    raise typer.Exit(commands.tune(*what, means=means, store=store, out=out))
