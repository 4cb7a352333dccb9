"""The console that commands print to."""

from typing import NoReturn

from rich.console import Console


class PlainConsole(Console):
    """Prints text literally: brackets and colons in names and errors are no markup or emoji.

    A closed output is an error like any other, so that unfinished stages are still saved.
    """

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def on_broken_pipe(self) -> NoReturn:
        """Reraise the BrokenPipeError that rich is handling.

        Raises:
          BrokenPipeError: always.
        """
        raise
