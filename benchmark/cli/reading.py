"""Commands that show results and what can be run: `report`, `list` and `show`."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.cli import options

VIDEOS = (
    "Film policies before and after adaptation, on the task farthest from training. Reruns the"
    " adaptation of one seed per method and split, plus a few seconds; films already in --out are"
    " kept. Needs OpenGL; for software rendering, Debian's libegl1 or libosmesa6 (MUJOCO_GL=egl or"
    " osmesa)."
)
FILMED = "With --videos: also film a method of your own, given as for `run`."


def report(
    store: Annotated[
        Path | None,
        options.folder_option(
            about=(
                "Folder of results, or `published`. [default: results/local if it exists, else"
                " published]"
            ),
            parser=options.results_folder,
        ),
    ] = None,
    out: Annotated[
        Path,
        options.folder_option(about="Folder to write the report into.", parser=options.own_folder),
    ] = Path("report"),
    suite: Annotated[
        list[str] | None, typer.Option(help="Only this suite. [default: every suite in the store]")
    ] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help=("Comma-separated: html (one self-contained page), latex (an appendix), md."),
        ),
    ] = "html,latex,md",
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Write every figure as a PDF too, for papers.")
    ] = False,
    compare: Annotated[
        Path | None,
        options.folder_option(
            about=(
                "Other results, or `published`: methods found only there join the report, the"
                " others are compared."
            ),
            parser=options.results_folder,
        ),
    ] = None,
    videos: Annotated[bool, typer.Option("--videos", help=VIDEOS)] = False,
    method: Annotated[list[str] | None, typer.Option(help=FILMED)] = None,
) -> None:
    """Turn a store into one page with figures and tables."""
    from benchmark import arguments
    from benchmark.cores import available_cores
    from reports.page.page import FORMATS, to_compare, write_report
    from results.publication import results_at

    formats = arguments.words(format_, "formats")
    if wrong := [name for name in formats if name not in FORMATS]:
        raise arguments.unknown("format", wrong[0], FORMATS)
    if method and not videos:
        raise arguments.InputError(
            "--method is for --videos; without films, a report needs only the store"
        )
    started = time.perf_counter()
    store = store or _own_or_published()
    clips: Any = ()
    if videos and set(formats) != {"latex"}:  # LaTeX shows no films
        from benchmark.video import films

        if compare is not None:
            to_compare(compare, results_at(store))  # quick checks come first
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
    """Return the user's results folder; if there is none, say so and return the published one."""
    if options.DEFAULT_STORE.exists():
        return options.DEFAULT_STORE
    typer.echo(f"no {options.DEFAULT_STORE} here, showing the published results")
    return options.PUBLISHED


def list_(as_json: options.Json = False) -> None:
    """Show suites, budgets, families with their splits, and methods with their settings."""
    from benchmark import catalogue

    known = catalogue.catalogue()
    typer.echo(json.dumps(known, indent=2) if as_json else catalogue.as_text(known))


def show(
    cell: Annotated[
        str | None, typer.Argument(help="The beginning of a cell's id. [default: list all cells]")
    ] = None,
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Show the cells of a store, or one of them.

    For a single cell, show everything: its record, rows and log.
    """
    from benchmark import show as cells

    typer.echo(cells.show(store, cell, as_json))
