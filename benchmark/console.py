"""The console that commands print to."""

from typing import NoReturn

from rich.console import Console


class PlainConsole(Console):
    """Prints text as it is: names and errors hold whatever they hold.

    A closed output is an error like any other, so that what is unfinished is still saved.
    """

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def on_broken_pipe(self) -> NoReturn:
        """Called while a BrokenPipeError is handled.

        Raises:
          BrokenPipeError: that one.
        """
        raise
