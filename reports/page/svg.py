"""A figure as SVG: a separate file, or part of a page that can show and hide its methods."""

import io
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from markupsafe import escape

from reports.parts.drawing import GREY

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Text stays text, so that it can be searched and read aloud; files are also a third as large.
_PARAMS: dict[Any, Any] = {"svg.fonttype": "none", "svg.id": None}
_PIXELS = 96  # per inch, as in browsers
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_HEAD = re.compile(r"^.*?<svg [^>]*?viewBox=\"([^\"]*)\"[^>]*>", re.DOTALL)
_STYLE = re.compile(r" ?<style.*?</style>\s*", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_ID = re.compile(r' id="([^"]*)"')
_USED = re.compile(r"[\"(]#([^\")]+)[\")]")
_SPACES = ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
_ALONE = (
    "<style>*{stroke-linejoin:round;stroke-linecap:butt}.rest path,.rest"
    f" use{{stroke:{GREY}!important;fill:{GREY}!important}}.rest"
    " path{fill:none!important}.rest.band{display:none}</style>"
)


def to_svg(figure: "Figure", name: str) -> str:
    """Return the figure as SVG; the same figure always gives the same text.

    What stands for an arm, according to its `gid` from `reports.parts.drawing.tag`, becomes a group
    with the class of its kind and, if it steps back, the class `rest`; `data-method` names the arm.

    Args:
      name: unique on its page, so that no reference in the figure leads to another figure.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    with rc_context(_PARAMS | {"svg.hashsalt": name}):
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(buffer, metadata=_NO_METADATA)  # `savefig` would draw everything twice
    text = buffer.getvalue()
    head = _HEAD.match(text)
    if head is None:
        raise ValueError(f"figure {name}: matplotlib wrote SVG without a viewBox")
    box = head[1]
    width = round(figure.get_figwidth() * _PIXELS)
    text = _STYLE.sub("", _HEAD.sub("", text))
    text = re.sub(r"^\s*<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    names = _names(text, name)
    text = _TAG.sub(lambda tag: _ID.sub(lambda id_: _attributes(id_[1], names), tag[0]), text)
    text = _USED.sub(lambda used: used[0].replace(used[1], names.get(used[1], used[1])), text)
    return f'<svg{_SPACES} width="{width}" viewBox="{box}">{_ALONE}\n{text}'


def _names(text: str, name: str) -> dict[str, str]:
    """New names for the ids that are referred to, numbered in the order of the text.

    matplotlib derives its ids from coordinates with all their digits, of which the last may vary.
    """
    used = set(_USED.findall(text))
    prefix = f"i{sha256(name.encode()).hexdigest()[:8]}"
    found = (identity for tag in _TAG.findall(text) for identity in _ID.findall(tag))
    return {old: f"{prefix}-{i}" for i, old in enumerate(dict.fromkeys(found)) if old in used}


def _attributes(identity: str, names: Mapping[str, str]) -> str:
    kind, _, arm = identity.partition(":")
    if kind == "others":
        return ' class="others"'
    if not arm:
        return f' id="{names[identity]}"' if identity in names else ""
    method, _, rest = arm.partition(":")
    return f' class="{kind}{" rest" * bool(rest)}" data-method="{method}"'


def inline(svg: str, title: str) -> str:
    """A `to_svg` file to put in an HTML page, styled by it; only screen readers get the title."""
    drawn = _STYLE.sub("", svg).replace(_SPACES, "", 1)
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1).replace(
        "xlink:href", "href"
    )
