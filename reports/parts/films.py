"""Films of policies as a report shows them; `benchmark.video`, which runs policies, makes them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from reports.stats.scores import TABLE
from reports.text import escape_markdown, method_name


class Clip(NamedTuple):
    """A policy before and after adaptation, side by side."""

    suite: str
    budget: str
    family: str
    split: str
    method: str
    variant: str
    file: str  # relative to the report's folder
    caption: str  # plain text


def clips_section(clips: Sequence[Clip], table: tuple[str, ...]) -> Iterator[str]:
    """The clips of one suite, budget, family and split, in Markdown."""
    mine = [clip for clip in clips if tuple(getattr(clip, name) for name in TABLE) == table]
    if mine:
        yield "##### Before and after adaptation\n"
    for clip in mine:
        name = escape_markdown(method_name(clip.method, clip.variant))
        caption = escape_markdown(clip.caption)
        yield (
            f"![{name}, before adaptation on the left and after it on the"
            f" right]({clip.file})\n\n**{name}**: {caption}\n"
        )
