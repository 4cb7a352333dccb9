"""Commands for the data shipped with the program: `publish`, `verify`, `references`, `rates`."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli import options

RECORD = "Save this machine's fingerprints in the folder of --published; for trusted code only."
LEVELS = (
    "1: tables follow from rows (15 seconds). 2: also fingerprints, checkpoints, fresh seeds"
    " (minutes). 3: fresh seeds at desk or paper. The options from --cells to --record are for"
    " levels 2 and 3, which run code."
)


def publish(
    suite: Annotated[str | None, typer.Option(help="The suite to publish.")] = None,
    store: options.Store = options.DEFAULT_STORE,
    out: Annotated[
        Path | None,
        options.folder_option(about="Folder of published results. [default: this checkout's]"),
    ] = None,
    rerender: Annotated[
        bool,
        typer.Option(
            "--rerender",
            help="Rewrite the published reports, of all suites or one; nothing is run or added.",
        ),
    ] = False,
    dirty: Annotated[
        bool, typer.Option("--dirty", help="Publish even results from uncommitted code.")
    ] = False,
    add: Annotated[
        bool,
        typer.Option(
            "--add",
            help="Add the finished cells to the published ones, even of an unfinished suite.",
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Publish a finished suite: rows per seed, manifest, report, and trained states."""
    from benchmark import arguments

    if suite is None and not rerender:
        raise arguments.InputError("name what is published with --suite, or give --rerender")
    chosen = None if suite is None else arguments.choose_suite(suite)
    if rerender and (add or dirty or store != options.DEFAULT_STORE):
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


def verify(
    context: typer.Context,
    level: Annotated[int, typer.Option(min=1, max=3, help=LEVELS)] = 1,
    suite: Annotated[
        list[str] | None, typer.Option(help="Only this suite. [default: every published one]")
    ] = None,
    published: Annotated[
        Path | None,
        options.folder_option(about="Folder of published results. [default: the program's own]"),
    ] = None,
    as_json: options.Json = False,
    cells: Annotated[
        str | None,
        typer.Option(
            help=(
                "What to rerun: comma-separated suite/family/method. [default: six cells; at level"
                " 3 all]"
            )
        ),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Budget of those cells. [default: quick; at level 3 desk]")
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, max=100, help="Fresh seeds per cell.")] = 4,
    first_seed: Annotated[
        int, typer.Option(min=0, max=1_000_000_000, help="The first fresh seed.")
    ] = 1_000,
    store: Annotated[
        Path | None,
        options.folder_option(
            about=(
                "Keep the runs here, to resume them later with the same code. [default: a temporary"
                " folder]"
            )
        ),
    ] = None,
    time_limit: Annotated[str | None, typer.Option(help="Stop after, say, 90m.")] = None,
    record: Annotated[bool, typer.Option("--record", help=RECORD)] = False,
) -> None:
    """Check published numbers against their rows and the code.

    The exit code is 1 if a check fails.
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


def references(
    store: options.Store = options.DEFAULT_STORE,
    out: Annotated[
        Path, options.folder_option(about="Folder to write one file per family into.")
    ] = Path("reference_returns"),
) -> None:
    """Write the reference returns that normalise scores, from results of the suite oracle."""
    from benchmark import show as cells

    typer.echo(cells.references(store, out))


def rates(
    store: options.Store = options.DEFAULT_STORE,
    out: Annotated[
        Path, typer.Option(help="File to write; its entries for other stages are kept.")
    ] = Path("rates.csv"),
) -> None:
    """Record what stages cost, for `run --dry-run`; use a store that an idle machine has filled."""
    from benchmark import estimate

    typer.echo(estimate.write_rates(store, out))
