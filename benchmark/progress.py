"""How a run is shown while it runs: a live table in a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from benchmark.local import Progress

PLAIN_EVERY_S = 30.0  # between lines about what is running, where the output is not a terminal


class Display:
    """Shows the stages of a run; use it as `with display.shown():` around the executor.

    The console must not interpret markup, because names and errors may contain anything.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._plain_at = time.monotonic()
        self._told = set[int]()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the live table on the screen during the block, if the output is a terminal."""
        self._plain_at = time.monotonic()
        if not self._console.is_terminal:
            yield
            return
        with self._live:
            yield

    def show(self, table: list[Progress]) -> None:
        """Update the screen; stages that ended since the last call get a line that stays."""
        ended = [
            i for i, entry in enumerate(table) if entry.ended is not None and i not in self._told
        ]
        self._told.update(ended)
        for i in ended:
            self._line(_ended_line(table[i]), table)
        if self._console.is_terminal:
            self._live.update(self._table(table), refresh=True)
        elif time.monotonic() - self._plain_at > PLAIN_EVERY_S:
            for entry in table:
                if entry.state == "running":
                    self._line(f"running {entry.stage}: {_percent(entry)}, {_rate(entry)}", table)

    def note(self, text: str) -> None:
        """Show a line that stays."""
        self._console.print(text, soft_wrap=True)

    def _line(self, text: str, table: list[Progress]) -> None:
        self._plain_at = time.monotonic()
        self._console.print(f"{self._count(table)} {text}", soft_wrap=True)

    def _count(self, table: list[Progress]) -> str:
        over = sum(entry.state in ("done", "failed") for entry in table)
        return f"[{over}/{len(table)}, {self._left(table)}]"

    def _left(self, table: list[Progress]) -> str:
        """Time left, from the rates measured in this run for each method and stage separately."""
        if not any(entry.state in ("waiting", "running") for entry in table):
            return "all done"
        seconds = seconds_left(table)
        return "time left unknown" if seconds is None else f"{duration(seconds)} left"

    def _table(self, table: list[Progress]) -> Table:
        shown = Table(title=self._count(table), title_justify="left", expand=False)
        for name in ("stage", "state", "progress", "saved", "rate"):
            shown.add_column(name, justify="left" if name in ("stage", "state") else "right")
        room = max(self._console.height - 8, 4)
        entries = [entry for entry in table if entry.state == "running"]
        entries += [entry for entry in table if entry.state == "waiting"]
        for entry in entries[:room]:
            shown.add_row(
                str(entry.stage), entry.state, _percent(entry), _saved(entry), _rate(entry)
            )
        if len(entries) > room:
            shown.add_row(f"… and {len(entries) - room} more", "waiting", "", "", "")
        return shown


def counted(n: int, noun: str) -> str:
    """A number with its noun, such as "1 cell" or "2 cells"."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def duration(seconds: float) -> str:
    """Seconds as a person writes them: "42 s", "3 min", "2 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def seconds_left(table: list[Progress]) -> float | None:
    """Seconds until all stages are over, None before anything is known.

    A step costs what it was measured to cost in this run for the same method and stage; where that
    is unknown, the average over what was measured. The work left is shared by as many workers as
    are running now.
    """
    now = time.monotonic()
    steps = dict[tuple[str, str], float]()
    seconds = dict[tuple[str, str], float]()
    for entry in table:
        if entry.started is not None and entry.work_here > 0:
            kind = (entry.stage.cell.method, entry.stage.name)
            steps[kind] = steps.get(kind, 0.0) + entry.work_here
            seconds[kind] = seconds.get(kind, 0.0) + (entry.ended or now) - entry.started
    if not steps:
        return None
    average = sum(seconds.values()) / sum(steps.values())
    rates = {kind: seconds[kind] / steps[kind] for kind in steps}
    costs = [
        entry.work_left * rates.get((entry.stage.cell.method, entry.stage.name), average)
        for entry in table
    ]
    return max(sum(costs) / max(sum(entry.state == "running" for entry in table), 1), max(costs))


def _saved(entry: Progress) -> str:
    return (
        ""
        if entry.kept is None or entry.state == "waiting"
        else f"{100 * entry.kept.env_steps / max(entry.stage.steps, 1):.0f} %"
    )


def _percent(entry: Progress) -> str:
    return (
        "" if entry.state == "waiting" else f"{100 * entry.used / max(entry.stage.steps, 1):.0f} %"
    )


def _rate(entry: Progress) -> str:
    """Environment steps per second, summed over tasks."""
    if entry.started is None or entry.state == "waiting":
        return ""
    elapsed = (entry.ended or time.monotonic()) - entry.started
    return f"{entry.work_here / max(elapsed, 1e-9):,.0f} steps/s"


def _ended_line(entry: Progress) -> str:
    took = duration(entry.ended - entry.started) if entry.ended and entry.started else ""
    return f"{entry.state} {entry.stage} in {took}" + (f": {entry.error}" if entry.error else "")
