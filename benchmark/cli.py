"""The command line: parse and dispatch. Heavy imports happen inside the command that needs them."""

import gc
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark import __version__
from benchmark.exits import exit_code
from results import fork_server

VIDEOS = (
    "Film policies before and after adaptation, on the task farthest from training. Costs what the"
    " adaptation of one seed of each method and split cost, and seconds; what --out has is not"
    " filmed again. Needs OpenGL: in software Debian's libegl1 or libosmesa6 will do"
    " (MUJOCO_GL=egl or osmesa)."
)
FILMED = "With --videos: a method of your own, as `run` was given it, to be filmed too."
SEALED = (
    "Adapt to fresh test tasks, as far from training as the frozen ones, drawn from this seed:"
    " choose it once a method is finished. The report of a store that holds both says how much"
    " better the frozen ones are solved."
)
UNPUBLISHED = (
    "Run only what the published results lack, of as many seeds as they need, and take over the"
    " meta-trainings that are published. `publish --add` adds it."
)
RECORD = "Keep this machine's fingerprints in fingerprints.json of --published; for trusted code."
LEVELS = (
    "1: tables follow from rows (15 seconds). 2: also fingerprints, checkpoints, fresh seeds"
    " (minutes). 3: fresh seeds at desk or paper. What is run again, from --cells to --record, is"
    " for levels 2 and 3."
)
EPILOG = (
    "Exit codes: 0 done, 1 failed cells or a regression, 2 bad input, 3 time limit reached (run"
    " again to go on), 4 disk full, 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM. Start with: python -m"
    " benchmark run --suite ood, then: python -m benchmark report."
)
SAVE_EVERY = "How often unfinished stages are saved; a run that is stopped saves them, too."
THREADS_S = 5.0  # for threads to end, once a command has ended
DEFAULT_STORE = Path("results/local")
PUBLISHED = Path("published")  # in place of a folder, the results that came with the program

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    help="How well, and how cheaply, does a meta-RL method adapt to tasks it was not trained for?",
)


def _folder(text: str) -> Path:
    if not str(text).strip():
        raise typer.BadParameter("it is empty; name a folder")
    return Path(text)


def _own_folder(text: str) -> Path:
    if (folder := _folder(text)) == PUBLISHED:
        raise typer.BadParameter(
            f"`{PUBLISHED}` stands for the results that came with the program; name another folder"
        )
    return folder


def _results_folder(text: str) -> Path:
    """As `_folder`; only the bare word `published` stands for what came with the program."""
    folder = _folder(text)
    return folder.absolute() if folder == PUBLISHED and text != str(PUBLISHED) else folder


def _folder_option(*names: str, about: str, parser: Callable[[str], Path] = _folder) -> Any:
    return typer.Option(*names, help=about, parser=parser, metavar="FOLDER")


StoreOption = Annotated[
    Path, _folder_option("--store", about="Folder of results.", parser=_own_folder)
]
JobsOption = Annotated[int | None, typer.Option(help="Worker processes. [default: one per core]")]
DeviceOption = Annotated[
    str,
    typer.Option(
        help="Where learners are: cpu or cuda. Simulators are on the CPU, and random draws differ"
        " from one device to the other."
    ),
]
StageTimeLimitOption = Annotated[
    str | None,
    typer.Option(help="Give up a stage that takes longer than, for example, 6h; it has failed."),
]
MemoryLimitOption = Annotated[
    str | None,
    typer.Option(help="Give up a stage whose worker takes more than, for example, 8G of memory."),
]
TimeLimitOption = Annotated[
    str | None, typer.Option(help="Stop after, for example, 90m; run again to go on.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]
SealedOption = Annotated[int | None, typer.Option(min=0, help=SEALED)]
UnpublishedOption = Annotated[bool, typer.Option("--unpublished", help=UNPUBLISHED)]

BudgetOption = Annotated[
    str, typer.Option(help="How much experience it may cost; `list` shows them.")
]
MethodsOption = Annotated[
    str | None,
    typer.Option(
        help="Names, comma-separated; all; or none, for --method alone. [default: the suite's]"
    ),
]
FamiliesOption = Annotated[
    str | None, typer.Option(help="Names, comma-separated. [default: the suite's]")
]
SeedsOption = Annotated[int | None, typer.Option(help="Run seeds 0 … N−1. [default: the budget's]")]
SettingsOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting, as apb.hidden=128.")
]
OwnMethodOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Add a method of your own, as module:Class; MyMethod is called my-method then."
    ),
]
ForceOption = Annotated[
    bool,
    typer.Option("--force", help="Run finished cells again, unfinished ones from the start."),
]
PlanOption = Annotated[
    bool, typer.Option("--plan", help="Only plan the cells, and leave them to `worker`.")
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Say what it would cost (time, memory, disk), and run nothing; takes ten seconds.",
    ),
]
ExecutorOption = Annotated[
    str,
    typer.Option(help="Who runs the stages: local, slurm (an array of workers) or ray."),
]
ArrayOption = Annotated[
    int | None, typer.Option(min=1, max=10_000, help="With slurm: how many workers.")
]
SlurmOption = Annotated[
    list[str] | None,
    typer.Option(help="With slurm: a parameter of the jobs, as partition=long."),
]
AddressOption = Annotated[
    str | None,
    typer.Option(help="With ray: of the cluster, or auto. [default: this machine alone]"),
]
CompletedOption = Annotated[
    Path | None,
    _folder_option(about="For --unpublished: the published results. [default: the program's]"),
]
LiveOption = Annotated[
    Path | None,
    _folder_option(about="Folder for curves under way: JSON lines, and TensorBoard's files."),
]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"apb-benchmark {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log what happens, and show tracebacks.")
    ] = False,
) -> None:
    """Set up what every command shares."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(name)s %(message)s",
    )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # the user's own methods lie there
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


@app.command()
def run(
    context: typer.Context,
    suite: Annotated[str, typer.Option(help="Which question to ask; `list` shows them.")],
    budget: BudgetOption = "quick",
    methods: MethodsOption = None,
    families: FamiliesOption = None,
    seeds: SeedsOption = None,
    settings: SettingsOption = None,
    method: OwnMethodOption = None,
    jobs: JobsOption = None,
    device: DeviceOption = "cpu",
    store: StoreOption = DEFAULT_STORE,
    time_limit: TimeLimitOption = None,
    save_every: Annotated[str, typer.Option(help=SAVE_EVERY)] = "5m",
    stage_time_limit: StageTimeLimitOption = None,
    memory_limit: MemoryLimitOption = None,
    force: ForceOption = False,
    sealed: SealedOption = None,
    plan: PlanOption = False,
    dry_run: DryRunOption = False,
    executor: ExecutorOption = "local",
    array: ArrayOption = None,
    slurm: SlurmOption = None,
    address: AddressOption = None,
    unpublished: UnpublishedOption = False,
    published: CompletedOption = None,
    live: LiveOption = None,
    as_json: JsonOption = False,
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


@app.command()
def worker(
    suite: Annotated[
        list[str] | None, typer.Option(help="Only this suite. [default: every suite planned there]")
    ] = None,
    jobs: JobsOption = None,
    device: DeviceOption = "cpu",
    store: StoreOption = DEFAULT_STORE,
    time_limit: TimeLimitOption = None,
    save_every: Annotated[str, typer.Option(help=SAVE_EVERY)] = "5m",
    stage_time_limit: StageTimeLimitOption = None,
    memory_limit: MemoryLimitOption = None,
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


@app.command()
def status(
    store: StoreOption = DEFAULT_STORE,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every few seconds until all is done.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how far a store is: what is done, running and where, failed, lost, and the time left."""
    from benchmark import status as statuses

    statuses.tell(store, watch, as_json)


@app.command()
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
    jobs: JobsOption = None,
    store: StoreOption = Path("results/tuning-runs"),
    out: Annotated[Path, _folder_option(about="Folder of the logs.")] = Path("results/tuning"),
    time_limit: TimeLimitOption = None,
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


@app.command()
def report(
    store: Annotated[
        Path | None,
        _folder_option(
            about=(
                "Folder of results, or `published`. [default: results/local, the published ones"
                " where it is not there]"
            ),
            parser=_results_folder,
        ),
    ] = None,
    out: Annotated[
        Path, _folder_option(about="Folder to write the report into.", parser=_own_folder)
    ] = Path("report"),
    suite: Annotated[
        list[str] | None, typer.Option(help="Only this suite. [default: every suite in the store]")
    ] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help=(
                "Comma-separated: html (a page that needs no other file), latex (an appendix), md."
            ),
        ),
    ] = "html,latex,md",
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Write every figure as a PDF too, for papers.")
    ] = False,
    compare: Annotated[
        Path | None,
        _folder_option(
            about=(
                "Other results, or `published`: methods that only they have join, the others are"
                " compared."
            ),
            parser=_results_folder,
        ),
    ] = None,
    videos: Annotated[bool, typer.Option("--videos", help=VIDEOS)] = False,
    method: Annotated[list[str] | None, typer.Option(help=FILMED)] = None,
) -> None:
    """Turn a store into figures, tables and one page."""
    from benchmark import arguments
    from benchmark.cores import available_cores
    from reports.page.page import FORMATS, to_compare, write_report
    from results.publication import results_at

    formats = arguments.words(format_, "formats")
    if wrong := [name for name in formats if name not in FORMATS]:
        raise arguments.unknown("format", wrong[0], FORMATS)
    if method and not videos:
        raise arguments.InputError(
            "--method is for --videos; without films, what lies in the store is all that a report"
            " needs"
        )
    started = time.perf_counter()
    store = store or _own_or_published()
    clips: Any = ()
    if videos and set(formats) != {"latex"}:  # which shows none
        from benchmark.video import films

        if compare is not None:
            to_compare(compare, results_at(store))  # what is quick to check comes first
        clips = films(store, out, suite or None, typer.echo, method or ())
    pages = write_report(
        store,
        out,
        suite or None,
        formats,
        jobs=available_cores(),
        pdf=pdf,
        compare=compare,
        clips=clips,
        tell=typer.echo,
    )
    typer.echo("\n".join(map(str, pages)))
    kinds = "SVG and PDF" if pdf else "SVG"
    taken = time.perf_counter() - started
    typer.echo(f"{taken:.1f} s; figures as {kinds} and every number as CSV beside the pages")


def _own_or_published() -> Path:
    """The user's results where there are any, the published ones otherwise, which is said."""
    if DEFAULT_STORE.exists():
        return DEFAULT_STORE
    typer.echo(f"no {DEFAULT_STORE} here: these are the published results")
    return PUBLISHED


@app.command(name="list")
def list_(as_json: JsonOption = False) -> None:
    """Show suites, budgets, families with their splits, and methods with their settings."""
    from benchmark import catalogue

    known = catalogue.catalogue()
    typer.echo(json.dumps(known, indent=2) if as_json else catalogue.as_text(known))


@app.command()
def show(
    cell: Annotated[
        str | None, typer.Argument(help="Beginning of a cell's id; without it, all cells.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Show the cells of a store, or one of them.

    Of one cell all is shown: its record, its rows and its log.
    """
    from benchmark import show as cells

    typer.echo(cells.show(store, cell, as_json))


@app.command()
def publish(
    suite: Annotated[str | None, typer.Option(help="Which suite of the store.")] = None,
    store: StoreOption = DEFAULT_STORE,
    out: Annotated[
        Path | None, _folder_option(about="Folder of published results. [default: this checkout's]")
    ] = None,
    rerender: Annotated[
        bool,
        typer.Option(
            "--rerender",
            help=(
                "Write the report of what is published anew, all suites or one; nothing is run or"
                " added."
            ),
        ),
    ] = False,
    dirty: Annotated[
        bool, typer.Option("--dirty", help="Publish what ran on code that was not committed.")
    ] = False,
    add: Annotated[
        bool,
        typer.Option(
            "--add", help="Add the finished cells to what is published, the suite whole or not."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Publish a finished suite.

    That is: rows per seed, manifest, report, and trained states.
    """
    from benchmark import arguments

    if suite is None and not rerender:
        raise arguments.InputError("name what is published with --suite, or give --rerender")
    chosen = None if suite is None else arguments.choose_suite(suite)
    if rerender and (add or dirty or store != DEFAULT_STORE):
        raise arguments.InputError(
            "--rerender takes what is published already; it goes with --suite and --out only"
        )
    from benchmark import publish as publishing

    told = list[str]()
    tell = told.append if as_json else typer.echo
    if chosen is None or rerender:
        folders = [*publishing.rerender([chosen.id] if chosen else [], out)]
    else:
        folders = [publishing.publish(store, chosen, out, dirty=dirty, add=add, tell=tell)]
    if as_json:
        shown = {"folders": [str(folder) for folder in folders], "told": told}
        typer.echo(json.dumps(shown, indent=2))
    else:
        typer.echo("\n".join(map(str, folders)))


@app.command()
def verify(
    context: typer.Context,
    level: Annotated[
        int,
        typer.Option(
            min=1,
            max=3,
            help=LEVELS,
        ),
    ] = 1,
    suite: Annotated[
        list[str] | None, typer.Option(help="Only this suite. [default: every published one]")
    ] = None,
    published: Annotated[
        Path | None,
        _folder_option(about="Folder of published results. [default: the program's own]"),
    ] = None,
    as_json: JsonOption = False,
    cells: Annotated[
        str | None,
        typer.Option(
            help=(
                "What to run again: suite/family/method, comma-separated. [default: six, at level 3"
                " all]"
            )
        ),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Of those cells. [default: quick, at level 3 desk]")
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, max=100, help="Fresh seeds of each.")] = 4,
    first_seed: Annotated[
        int, typer.Option(min=0, max=1_000_000_000, help="The first of them.")
    ] = 1_000,
    store: Annotated[
        Path | None,
        _folder_option(
            about=(
                "Keep the runs there, to go on after a break with the same code. [default: a"
                " temporary folder]"
            )
        ),
    ] = None,
    time_limit: Annotated[str | None, typer.Option(help="Stop after, for example, 90m.")] = None,
    record: Annotated[
        bool,
        typer.Option("--record", help=RECORD),
    ] = False,
) -> None:
    """Check published numbers against their rows and the code.

    The exit code is 1 if one of them does not follow.
    """
    from benchmark import arguments

    if level == 1:
        arguments.refuse_idle(
            context,
            ("cells", "budget", "seeds", "first_seed", "store", "time_limit", "record"),
            "--level 2 or 3",
        )
    named = None if cells is None else arguments.words(cells, "cells")
    chosen_budget = None if budget is None else arguments.choose_budget(budget).id
    deadline = None if time_limit is None else time.monotonic() + arguments.seconds(time_limit)
    from benchmark.verify.command import Asked
    from benchmark.verify.command import verify as look
    from results.publication import PUBLISHED as SHIPPED

    asked = Asked(
        level,
        suite or None,
        named,
        budget=chosen_budget,
        seeds=seeds,
        first_seed=first_seed,
        record=record,
        store=store,
        deadline=deadline,
    )
    raise typer.Exit(look(asked, published or SHIPPED, as_json))


@app.command()
def references(
    store: StoreOption = DEFAULT_STORE,
    out: Annotated[Path, _folder_option(about="Folder to write one file per family into.")] = Path(
        "reference_returns"
    ),
) -> None:
    """Make the reference returns that normalise a score.

    They come from what the suite oracle measured.
    """
    from benchmark import show as cells

    typer.echo(cells.references(store, out))


@app.command()
def rates(
    store: StoreOption = DEFAULT_STORE,
    out: Annotated[
        Path, typer.Option(help="File to write; what it has of other stages stays.")
    ] = Path("rates.csv"),
) -> None:
    """Note what stages cost, for `run --dry-run`, from a store that an idle machine has filled."""
    from benchmark import estimate

    typer.echo(estimate.write_rates(store, out))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    if arguments is None:
        gc.set_threshold(100_000, 50, 100)  # what imports make is a lot, and no garbage
    words = sys.argv[1:] if arguments is None else arguments
    verbose = any(word in ("-v", "--verbose") for word in words)
    resumes = bool({"run", "tune", "worker"} & {*words}) or (
        "verify" in words and any(word.split("=")[0] == "--store" for word in words)
    )
    # only films are drawn, and they say what they miss
    hidden: dict[str, str | None] = {"MPLBACKEND": None}
    if "--videos" not in words:
        hidden["MUJOCO_GL"] = "disable"
    with _environment(hidden):
        code = exit_code(
            lambda: app(args=arguments, prog_name="python -m benchmark", standalone_mode=False),
            verbose,
            resumes,
        )
    if arguments is None:
        _leave_threads(code)  # first: without the server, processes of a pool would seem gone
        fork_server.dismiss()
        gc.freeze()  # to search for garbage before Python ends takes a second
    sys.exit(code)


def _leave_threads(code: int) -> None:
    """End at once where a plug-in has left threads, for which Python would wait for ever."""
    deadline = time.monotonic() + THREADS_S
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join(max(0.0, deadline - time.monotonic()))  # ours are about to end
            if thread.is_alive():
                fork_server.dismiss()
                for stream in (sys.stdout, sys.stderr):
                    with suppress(OSError):
                        stream.flush()
                os._exit(code)


@contextmanager
def _environment(instead: Mapping[str, str | None]) -> Iterator[None]:
    """Hide variables that would end an import of MuJoCo or matplotlib where they name what is not
    there: an OpenGL, or a backend. Figures are files, and need no backend.
    """
    before = {name: os.environ[name] for name in instead if name in os.environ}
    for name in before:
        if (value := instead[name]) is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    try:
        yield
    finally:
        os.environ.update(before)
