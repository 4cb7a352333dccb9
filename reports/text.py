"""Names and numbers as text. Method and variant names come from users and are always escaped."""

import hashlib
import math
import re
from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_MARKDOWN = re.compile(r"([\\`*_\[\]#|~$])")
_LIST = re.compile(r"^(\d*)([-+.)])(?=\s|$)")  # at the beginning of a line these make a list
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_LONGEST_LABEL = 40  # characters; longer names are cut in figures, never in tables


def one_line(text: str) -> str:
    """`text` without control characters, its white space collapsed to single spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def escape_markdown(text: str) -> str:
    """`text` as literal Markdown, safe in a paragraph, in a link and in the cell of a table."""
    escaped = _MARKDOWN.sub(r"\\\1", one_line(text).translate(_HTML))
    return _LIST.sub(r"\1\\\2", escaped)


def escape_label(text: str) -> str:
    """`text` as a literal matplotlib label: no maths, no leading underscore (hidden in legends)."""
    line = one_line(text)
    if len(line) > _LONGEST_LABEL:
        line = line[: _LONGEST_LABEL - 1] + "…"
    line = line.replace("$", r"\$")
    return " " + line if line.startswith("_") else line


def slug(name: str) -> str:
    """`name` as part of a portable file name, without underscores; different names stay apart."""
    plain = re.sub(r"[^A-Za-z0-9.+-]+", "-", name).strip(".-")[:32]
    if plain and plain == name:
        return plain
    return f"{plain or 'x'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def method_name(method: str, variant: str) -> str:
    """The name of a method with changed settings: "apb" or "apb (depth=3)"."""
    return f"{method} ({variant})" if variant else method


def number(value: float) -> str:
    """A return in its family's units: one decimal from 10 on, two below; "–" if it is missing."""
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def plus_minus(mean: float, low: float, high: float) -> str:
    """A mean and half the width of its interval, "−43.2 ± 1.10"; without one, the mean alone."""
    return (
        number(mean) if math.isnan(high - low) else f"{number(mean)} ± {number((high - low) / 2)}"
    )


def steps(value: float) -> str:
    """A number of environment steps with thin separators: "20 000"; "–" where it is missing."""
    return "–" if value is None or math.isnan(value) else f"{round(value):,}".replace(",", "\u202f")


def seeds_text(n_expected: int, n_done: int, n_failed: int) -> str:
    """An arm's seeds: "2", "unfinished (1 of 2 seeds)", "unfinished (1 of 2 seeds, 1 failed)"."""
    if n_done == n_expected:
        return str(n_done)
    return (
        f"unfinished ({n_done} of {n_expected} seeds{f', {n_failed} failed' if n_failed else ''})"
    )


def span(seeds: "pd.Series[int]") -> str:
    """How many seeds there are per arm: "2 seeds", or "1 to 2 seeds"."""
    low, high = (int(seeds.min()), int(seeds.max())) if len(seeds) else (0, 0)
    return f"{low} seed{'s' * (low != 1)}" if low == high else f"{low} to {high} seeds"


def listing(names: Iterable[str]) -> str:
    """Names in a sentence: "a, b and c"."""
    names = list(names)
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], words: Container[int] = ()
) -> str:
    """A Markdown table of cells that are escaped already.

    The first column and those in `words` are left-aligned, the others right-aligned.
    """
    rule = ["---", *(":---" if column in words else "---:" for column in range(1, len(header)))]
    lines = [header, rule, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
