"""The report as one HTML file: figures and data embedded, tables sortable, no network requests."""

import hashlib
import re
from base64 import b64encode
from collections.abc import MutableMapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup

from reports.files import write_text
from reports.page.svg import inline
from reports.text import one_line, slug

_KINDS = {".csv": "text/csv", ".webp": "image/webp"}
_LONG = 20  # characters; longer table cells wrap, so that the table stays narrow


class Section(NamedTuple):
    """A section of the page: its Markdown as in `report.md`, without the heading."""

    title: str
    markdown: str
    folded: bool = False  # shown only after a click


class Method(NamedTuple):
    """A method the reader can show or hide; figures know it by its `slug`, tables by its name."""

    name: str
    slug: str
    colour: str


def write_html(
    path: Path, title: str, sections: Sequence[Section], methods: Sequence[Method] = ()
) -> Path:
    """Write the page and embed the files that its Markdown links to, relative to its folder.

    Anything in a name or a message that looks like HTML is shown as written and never runs.

    Args:
      methods: those the reader can show or hide in figures and tables, in the order of the list.
    Raises:
      ReportError: if the page cannot be written.
      OSError: if a file that it links to does not exist.
    """
    page = Environment(
        loader=PackageLoader("reports.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    slugs = {one_line(method.name): method.slug for method in methods}
    shown = []
    for i, section in enumerate(sections):
        env = {"folder": path.parent, "part": i, "headings": [], "slugs": slugs}
        body = Markup(_parser().render(section.markdown, env))
        place = {"title": section.title, "id": f"part-{i}", "folded": section.folded}
        shown.append({**place, "body": body, "headings": env["headings"]})
    script = (
        resources.files("reports.page").joinpath("templates/page.js").read_text(encoding="utf-8")
    )
    # only this script may run
    allowed = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    told = {
        "title": title,
        "sections": shown,
        "methods": methods,
        "script": Markup(script),
        "allowed": allowed,
    }
    return write_text(path, page.get_template("page.html").render(**told) + "\n")


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    for rule in (_image, _link_open, _heading_open, _tr_open, _th_open, _td_open):
        parser.add_render_rule(rule.__name__.removeprefix("_"), rule)
    parser.add_render_rule("th_close", lambda *_: "</button></th>\n")
    parser.add_render_rule("table_open", lambda *_: '<div class="scroll" tabindex="0"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return parser


Env = MutableMapping[str, Any]


def _image(
    self: RendererHTML, tokens: Sequence[Token], i: int, options: OptionsDict, env: Env
) -> str:
    token = tokens[i]
    path = Path(env["folder"]) / str(token.attrGet("src"))
    if path.suffix == ".svg":
        return inline(path.read_text(encoding="utf-8"), _text(token))
    token.attrSet("src", _embedded(env["folder"], token.attrGet("src")))
    return self.image(tokens, i, options, env)


def _link_open(
    self: RendererHTML, tokens: Sequence[Token], i: int, options: OptionsDict, env: Env
) -> str:
    token = tokens[i]
    target = str(tokens[i].attrGet("href"))
    if not re.match(r"[a-z]+:|#", target):
        token.attrSet("download", Path(target).name)
        token.attrSet("href", _embedded(env["folder"], target))
    return self.renderToken(tokens, i, options, env)


def _heading_open(
    self: RendererHTML, tokens: Sequence[Token], i: int, options: OptionsDict, env: Env
) -> str:
    token = tokens[i]
    text = _text(tokens[i + 1])
    anchor = f"part-{env['part']}-{len(env['headings'])}-{slug(text)}"
    token.attrSet("id", anchor)
    env["headings"].append({"id": anchor, "text": text, "level": int(token.tag[1:])})
    return self.renderToken(tokens, i, options, env)


def _tr_open(
    self: RendererHTML, tokens: Sequence[Token], i: int, options: OptionsDict, env: Env
) -> str:
    if tokens[i + 1].type == "td_open":
        text = _text(tokens[i + 2])
        name = text.removesuffix(", untrained").rstrip("?†")  # marks that tables add
        if found := env["slugs"].get(text) or env["slugs"].get(name):
            tokens[i].attrSet("data-method", found)
    return self.renderToken(tokens, i, options, env)


def _th_open(
    self: RendererHTML, tokens: Sequence[Token], i: int, options: OptionsDict, env: Env
) -> str:
    tokens[i].attrSet("scope", "col")
    return self.renderToken(tokens, i, options, env) + '<button type="button">'


def _td_open(
    self: RendererHTML, tokens: Sequence[Token], i: int, options: OptionsDict, env: Env
) -> str:
    if len(_text(tokens[i + 1])) > _LONG:
        tokens[i].attrSet("class", "long")
    return self.renderToken(tokens, i, options, env)


def _text(token: Token) -> str:
    """The text that is shown for a line of Markdown."""
    return "".join(child.content for child in token.children or ())


def _embedded(folder: Path, target: Any) -> str:
    """Return a file in the page's folder as a data URI."""
    path = folder / str(target)
    return f"data:{_KINDS[path.suffix]};base64,{b64encode(path.read_bytes()).decode()}"
