"""The folder that a report is written to."""

import io
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import pandas as pd

from reports import ReportError
from reports.files import write_bytes, write_text
from reports.page.svg import to_svg
from reports.parts.drawing import step_back
from reports.parts.styles import themed
from reports.processes import processes
from results.interrupts import interrupts_held

if TYPE_CHECKING:
    from matplotlib.figure import Figure


P = ParamSpec("P")
_NEEDED = ("seaborn", "matplotlib.backends.backend_svg")  # modules needed to draw


class Output:
    """Writes figures and tables to a folder.

    Args:
      folder: created if it does not exist.
      pool: processes that draw figures; None: each is drawn at once, in this process.
      draws: whether figures are drawn at all; tables are written in any case.
      pdf: whether every figure is also written as a PDF.
    """

    def __init__(
        self, folder: Path, pool: Executor | None, draws: bool = True, pdf: bool = False
    ) -> None:
        self.folder = folder
        self._pool = pool
        self._draws = draws
        self._pdf = pdf
        self._drawn: list[Future[Any]] = []
        self._written: set[Path] = set()  # paths without their extensions

    def figure(
        self, name: str, make: "Callable[P, Figure]", *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Write `make(*args, **kwargs)` to figures/`name`.svg; it is there when `wait` returns."""
        if not self._draws:
            return
        self._written.add(stem := self.folder / "figures" / name)
        draw = partial(_draw, stem, partial(make, *args, **kwargs), self._pdf)
        if self._pool is None:
            draw()
        else:
            with interrupts_held():  # submitting may start a process
                self._drawn.append(self._pool.submit(draw))

    def table(self, table: pd.DataFrame, name: str) -> None:
        """Write data/`name`.csv."""
        self._written.add(self.folder / "data" / name)
        write_text(self.folder / "data" / f"{name}.csv", to_csv(table))

    def left_over(self) -> int:
        """The number of figures and tables in the folder that this output did not write."""
        there = {
            path for kind in ("figures/*.svg", "data/*.csv") for path in self.folder.glob(kind)
        }
        return sum(
            path.with_name(path.name[: -len(path.suffix)]) not in self._written for path in there
        )

    def wait(self) -> None:
        """Wait for all figures.

        Raises:
          ReportError: if one could not be written, or a process that draws them was killed.
        """
        try:
            while self._drawn:
                self._drawn.pop(0).result()
        except BrokenProcessPool as error:
            raise ReportError(
                "a process that draws figures was killed, perhaps for want of memory; run it again,"
                " or with fewer suites"
            ) from error


def _draw(stem: Path, make: "Callable[[], Figure]", pdf: bool) -> None:
    with fast_texts():
        save_figure(make(), stem, pdf)


@contextmanager
def opened(folder: Path, jobs: int, pdf: bool = False) -> Iterator[Output]:
    """Open an output whose figures are drawn in `jobs` processes; with 0, none are drawn.

    The first process starts at once, so that it is ready when the first figure is.
    """
    if jobs < 2:
        yield Output(folder, None, draws=jobs > 0, pdf=pdf)
        return
    with processes(jobs, _NEEDED) as pool:
        yield Output(folder, pool, pdf=pdf)


@contextmanager
def fast_texts() -> Iterator[None]:
    """Keep text in pandas as Python objects: Arrow takes twice as long on small report tables."""
    with pd.option_context("mode.string_storage", "python"):
        yield


def to_csv(table: pd.DataFrame) -> str:
    """A table as CSV, byte-identical on all systems; missing is empty, floats read back exactly."""
    return str(table.to_csv(index=False, lineterminator="\n"))


@themed
def save_figure(figure: "Figure", stem: Path, pdf: bool = False) -> None:
    """Write `stem`.svg and, with `pdf`, also `stem`.pdf, each atomically.

    The same figure always gives the same bytes.

    Raises:
      ReportError: if they cannot be written there.
    """
    write_text(stem.with_name(f"{stem.name}.svg"), to_svg(figure, stem.name))
    if pdf:
        figure.set_layout_engine("none")  # it is laid out already
        step_back(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None})
        write_bytes(stem.with_name(f"{stem.name}.pdf"), buffer.getvalue())
