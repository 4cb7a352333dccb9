"""The Typer application that the commands belong to, and the options they share."""

import logging
import os
import sys
from typing import Annotated

import typer

from benchmark import __version__

EPILOG = (
    "Exit codes: 0 done, 1 failed cells or a regression, 2 bad input, 3 time limit reached (run"
    " again to continue), 4 disk or memory full, 70 a bug in the program, 129 SIGHUP, 130"
    " Ctrl-C, 141 output closed, 143 SIGTERM. Start with: python -m benchmark run --suite ood,"
    " then: python -m benchmark report."
)

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    help="How well, and how cheaply, does a meta-RL method adapt to tasks it was not trained for?",
)


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
        bool, typer.Option("--verbose", "-v", help="Log progress, and show tracebacks.")
    ] = False,
) -> None:
    """Set up what every command shares."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(name)s %(message)s",
    )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # for the user's own methods
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)
