"""Published numbers to compare our methods with, and what we measured, with sources.

They are shipped as one file, edited by hand: `sources` describes the numbers of each publication
once, `anchors` has an entry per number. A number that is only read off a plot, or only quoted by
others, is not an anchor. Values are written with the digits they have; differences are always
computed.
"""

import json
import math
import re
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, get_type_hints

from results.files import StoreError, explained

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ANCHORS = Path(__file__).parent / "anchors.json"
_URL = re.compile(r"https://[A-Za-z0-9.~%/#?=&@+_-]+")  # no character that ends a Markdown link

Number = int | float
T = TypeVar("T", bound="DataclassInstance")


@dataclass(frozen=True)
class Source:
    """A place where numbers were published."""

    name: str
    measured: str  # what its numbers are and how they were measured


@dataclass(frozen=True)
class Published:
    """A number as it was published."""

    value: Number
    url: str
    spread: Number | None = None  # after ±; its source says what it is
    seeds: int | None = None
    steps: int | None = None  # environment steps of the whole training


@dataclass(frozen=True)
class Ours:
    """The same number, measured here."""

    value: Number
    seeds: int
    steps: int
    settings: str  # settings or command that reproduce it
    low: Number | None = None  # lower end of its interval
    high: Number | None = None  # upper end
    commit: str | None = None


@dataclass(frozen=True)
class Anchor:
    """A published number, our number where measured, and why they differ."""

    id: str
    method: str
    # None: no family here has that task, so it cannot be measured; `reason` says why
    family: str | None
    task: str  # in words
    at: str  # the time or condition of the measurement
    source: Source
    published: Published
    ours: Ours | None = None  # None: not measured
    reason: str | None = None

    @property
    def difference(self) -> Number | None:
        """Our number minus the published one, at the lower precision; None if not measured."""
        if self.ours is None:
            return None
        ours = self.ours.value
        published = self.published.value
        digits = min(_digits(ours), _digits(published))
        return round(ours - published, digits) if digits else round(ours - published)


def load_anchors(path: Path = ANCHORS) -> list[Anchor]:
    """Return all anchors, in the order of the file.

    Raises:
      StoreError: if the file cannot be read or has an impossible entry, which the message names.
    """
    try:
        with explained(path):
            document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_reject)
    except (ValueError, RecursionError) as error:
        raise StoreError(
            f"{path}: not valid JSON ({error}); restore it from the distribution"
        ) from error
    if not isinstance(document, dict) or set(document) != {"sources", "anchors"}:
        raise StoreError(f'{path}: it must have "sources" and "anchors" and nothing else')
    if not isinstance(document["sources"], dict) or not isinstance(document["anchors"], list):
        raise StoreError(f'{path}: "sources" must be an object and "anchors" a list')
    sources = {
        key: _record(Source, value, f"{path}: source {key!r}")
        for key, value in document["sources"].items()
    }
    anchors: dict[str, Anchor] = {}
    for number, entry in enumerate(document["anchors"]):
        anchor = _anchor(entry, sources, f"{path}: anchor {_name(entry, number)}")
        if anchor.id in anchors:
            raise StoreError(f"{path}: two anchors have the id {anchor.id!r}")
        anchors[anchor.id] = anchor
    return list(anchors.values())


def _anchor(entry: Any, sources: dict[str, Source], where: str) -> Anchor:
    if not isinstance(entry, dict):
        raise StoreError(f"{where} must be an object")
    given = dict(entry)
    ours = entry.get("ours")
    if not isinstance(source := given.get("source"), str) or source not in sources:
        raise StoreError(
            f"{where}: its source is {source!r}; there are {', '.join(sources) or 'none'}"
        )
    given["source"] = sources[source]
    given["published"] = _record(Published, given.get("published"), f"{where}: published")
    given["ours"] = None if ours is None else _record(Ours, ours, f"{where}: ours")
    anchor = _record(Anchor, given, where)
    if not _URL.fullmatch(anchor.published.url):
        raise StoreError(
            f"{where}: {anchor.published.url!r} is not an https address that can be used in a link"
        )
    if anchor.family is None and anchor.ours is not None:
        raise StoreError(f"{where} has no family but a value of ours")
    if anchor.reason is None and (anchor.family is None or anchor.ours is not None):
        raise StoreError(f"{where} needs a reason: why it differs, or why it cannot be measured")
    if anchor.ours is not None and not _ordered(anchor.ours):
        raise StoreError(
            f"{where}: ours must have both ends of an interval that contains its value, or neither"
        )
    return anchor


def _record(kind: type[T], given: Any, where: str) -> T:
    """Return a dataclass from a JSON object, whose entries must have the types of its fields."""
    if not isinstance(given, dict):
        raise StoreError(f"{where} must be an object, not {given!r}")
    hints = get_type_hints(kind)
    required = [field.name for field in fields(kind) if field.default is MISSING]
    if missing := [name for name in required if name not in given]:
        raise StoreError(f"{where} lacks {missing[0]!r}")
    if unknown := [name for name in given if name not in hints]:
        raise StoreError(f"{where} has {unknown[0]!r}; it may have {', '.join(hints)}")
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, hints[name]) or value == "":
            raise StoreError(f"{where}: {name} cannot be {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise StoreError(f"{where}: {name} is not finite")
        if name in ("seeds", "steps", "spread") and value is not None and value <= 0:
            raise StoreError(f"{where}: {name} must be positive, not {value!r}")
    return kind(**given)


def _ordered(ours: Ours) -> bool:
    if ours.low is None or ours.high is None:
        return ours.low is ours.high
    return ours.low <= ours.value <= ours.high


def _digits(value: Number) -> int:
    """Return the number of digits after the decimal point."""
    return 0 if isinstance(value, int) else len(repr(value).partition(".")[2])


def _name(entry: Any, number: int) -> str:
    name = entry.get("id") if isinstance(entry, dict) else None
    return repr(name) if isinstance(name, str) else f"number {number + 1}"


def _reject(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not finite")
