"""Published numbers beside ours: a Markdown table for the report and for the methods' README.

After a change of the data, `python -m reports.parts.fidelity` writes the table into that README,
between its two markers.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from reports import ReportError
from reports.files import write_text
from reports.text import escape_markdown, markdown_table
from results.fidelity import Anchor, Number, load_anchors

BEGIN = "<!-- fidelity: begin -->"
END = "<!-- fidelity: end -->"
NOT_MEASURED = "not measured yet"
NO_FAMILY = "no such family"
UNKNOWN = "–"
_CHECKOUT = Path(__file__).resolve().parents[2]
_INTRODUCTION = """\
Published numbers, and what this program's methods score on the same kind of task. A difference is
ours minus the published number, given to the precision of the less precise one. The tasks are
similar, not identical: read each difference together with its reason.
"""


def full_table(anchors: Sequence[Anchor]) -> str:
    """All anchors with reasons; below them, what each source measured and how we measured ours."""
    rows = [
        [*_row(anchor), UNKNOWN if anchor.reason is None else escape_markdown(anchor.reason)]
        for anchor in anchors
    ]
    table = markdown_table(
        ["method", "task", "published", "ours", "difference", "why"], rows, words=(1, 5)
    )
    return f"{table}\n{_notes(anchors)}"


def fidelity_section(anchors: Sequence[Anchor] | None = None) -> str:
    """The section of a report, without its heading; `anchors` are by default the shipped ones."""
    return f"{_INTRODUCTION}\n{full_table(load_anchors() if anchors is None else anchors)}"


def filled(text: str, table: str) -> str:
    """Return `text` with `table` between its two markers.

    Raises:
      ReportError: if `text` lacks a marker.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ReportError(
            f"there is no place for the table: put the lines {BEGIN} and {END} around it"
        )
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def write_table(root: Path = _CHECKOUT) -> Path:
    """Write the table into the methods' README in a checkout and return its path.

    Raises:
      ReportError: if the README has no place for the table or cannot be written.
      OSError: if the README cannot be read.
      results.files.StoreError: if the anchors cannot be read.
    """
    path = root / "methods/README.md"
    return write_text(path, filled(path.read_text(encoding="utf-8"), full_table(load_anchors())))


def _row(anchor: Anchor) -> list[str]:
    place = anchor.task if anchor.family is None else f"{anchor.family} ({anchor.task})"
    names = [escape_markdown(anchor.method), escape_markdown(f"{place}, {anchor.at}")]
    difference = UNKNOWN if anchor.difference is None else _number(anchor.difference, "+")
    return [*names, _published(anchor), _ours(anchor), difference]


def _published(anchor: Anchor) -> str:
    known = anchor.published
    value = _number(known.value) + ("" if known.spread is None else f" ± {_number(known.spread)}")
    return f"[{value}]({known.url})" + _extent(known.steps, known.seeds)


def _ours(anchor: Anchor) -> str:
    if (ours := anchor.ours) is None:
        return NO_FAMILY if anchor.family is None else NOT_MEASURED
    interval = (
        ""
        if ours.low is None or ours.high is None
        else f" ({_number(ours.low)} to {_number(ours.high)})"
    )
    return f"{_number(ours.value)}{interval}{_extent(ours.steps, ours.seeds)}"


def _extent(steps: int | None, seeds: int | None) -> str:
    """The length of training and the number of seeds: " (0.25 M steps, 1 seed)"."""
    parts = [] if steps is None else [f"{steps / 1e6:g} M steps"]
    parts += [] if seeds is None else [f"{seeds} seed{'s' if seeds > 1 else ''}"]
    return f" ({', '.join(parts)})" if parts else ""


def _notes(anchors: Sequence[Anchor]) -> str:
    """Each source once, then each way of measuring ours, in the order of the table."""
    notes = [
        f"**{escape_markdown(anchor.source.name)}.** {escape_markdown(anchor.source.measured)}"
        for anchor in anchors
    ]
    for anchor in anchors:
        if (ours := anchor.ours) is not None:
            commit = f" (commit {ours.commit})" if ours.commit else ""
            notes.append(
                f"**Ours, {escape_markdown(anchor.method)}.**"
                f" {escape_markdown(ours.settings + commit)}."
            )
    return "".join(f"- {note}\n" for note in dict.fromkeys(notes))


def _number(value: Number, sign: str = "-") -> str:
    return format(value, sign).replace("-", "−")


if __name__ == "__main__":
    try:
        print(write_table())
    except (ReportError, OSError) as error:
        sys.exit(f"python -m reports.parts.fidelity: {error}")
