"""The table of published numbers and ours: its cells, its place, and text that holds markup."""

from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import methods
from reports import ReportError
from reports.page.html import Section, write_html
from reports.page.page import write_report
from reports.parts.fidelity import BEGIN, END, fidelity_section, filled, full_table, write_table
from results.fidelity import Anchor, Ours, Published, Source, load_anchors

PUBLISHED = Published(-78.6, "https://example.org/x", spread=32, seeds=1, steps=250_000)
ANCHOR = Anchor(
    "a",
    "maml",
    "cheetah-dir",
    task="two ways",
    at="after 1 step",
    source=Source("a place", "returns"),
    published=PUBLISHED,
)
MEASURED = replace(
    ANCHOR,
    ours=Ours(-149, 3, 40_000_000, settings="as shipped", low=-160, high=-140.5, commit="abc1234"),
    reason="fewer steps",
)
FOREIGN = replace(
    ANCHOR, family=None, reason="none here", published=Published(5, "https://example.org/y")
)


def cells(table: str) -> list[list[str]]:
    """The rows of a Markdown table, without its header."""
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_a_row_says_both_numbers_and_what_lies_between() -> None:
    (row,) = cells(full_table([MEASURED]))
    published = "[−78.6 ± 32](https://example.org/x) (0.25 M steps, 1 seed)"
    ours = "−149 (−160 to −140.5) (40 M steps, 3 seeds)"
    assert row == [
        "maml",
        "cheetah-dir (two ways), after 1 step",
        published,
        ours,
        "−70",
        "fewer steps",
    ]
    better = replace(MEASURED, ours=Ours(-60.5, 1, 10, "s"))
    assert cells(full_table([better]))[0][4] == "+18.1"


def test_what_is_not_measured_says_so_and_what_cannot_be_says_why() -> None:
    missing, foreign = cells(full_table([ANCHOR, FOREIGN]))
    assert missing[3:] == ["not measured yet", "–", "–"]
    assert foreign[1:] == [
        "two ways, after 1 step",
        "[5](https://example.org/y)",
        "no such family",
        "–",
        "none here",
    ]


def test_sources_and_settings_are_said_once() -> None:
    _, _, notes = full_table([MEASURED, ANCHOR, MEASURED]).partition("\n\n")
    assert notes == "- **a place.** returns\n- **Ours, maml.** as shipped (commit abc1234).\n"


def test_a_table_goes_between_its_markers_and_only_there() -> None:
    text = f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n"
    once = filled(text, "| new |\n")
    assert (
        once == f"before\n\n{BEGIN}\n\n| new |\n\n{END}\n\nafter\n"
        and filled(once, "| new |\n") == once
    )
    for lacking in ("", BEGIN, END, f"{END} {BEGIN}"):
        with pytest.raises(ReportError, match="no place for the table"):
            filled(lacking, "x")


def test_the_table_of_a_checkout_is_written(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods/README.md").write_text(f"before\n{BEGIN}\n{END}\n", encoding="utf-8")
    written = write_table(tmp_path).read_text(encoding="utf-8")
    assert written == filled(f"before\n{BEGIN}{END}\n", full_table(load_anchors()))


def test_a_readme_without_a_place_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods/README.md").write_text("nothing\n")
    with pytest.raises(ReportError, match="no place"):
        write_table(tmp_path)
    assert (tmp_path / "methods/README.md").read_text() == "nothing\n"


def test_the_readme_says_what_the_data_say() -> None:
    """If this fails, `python -m reports.parts.fidelity` updates the README."""
    shipped = (Path(methods.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert filled(shipped, full_table(load_anchors())) == shipped


def test_hostile_text_stays_text(hostile: str, tmp_path: Path) -> None:
    ours = Ours(1, 1, 1, hostile, commit=hostile)
    anchor = Anchor(
        hostile,
        hostile,
        hostile,
        task=hostile,
        at=hostile,
        source=Source(hostile, hostile),
        published=PUBLISHED,
        ours=ours,
        reason=hostile,
    )
    markdown = fidelity_section([anchor, replace(anchor, family=None, ours=None)])
    assert "<script" not in markdown and "\n# [x]" not in markdown
    tokens = MarkdownIt("commonmark", {"html": False}).enable("table").parse(markdown)
    inline = [child for token in tokens for child in token.children or ()]
    assert {child.attrs["href"] for child in inline if child.type == "link_open"} == {PUBLISHED.url}
    assert sum(token.type == "td_open" for token in tokens) == 2 * 6
    page = write_html(tmp_path / "page.html", "t", [Section("s", markdown)]).read_text(
        encoding="utf-8"
    )
    assert page.count("<script") == 1 and "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_page_links_to_sources_and_loads_nothing_from_them(tmp_path: Path) -> None:
    page = write_html(tmp_path / "page.html", "t", [Section("s", fidelity_section())]).read_text(
        encoding="utf-8"
    )
    assert 'href="https://github.com/' in page and "not measured yet" in page
    assert '<td style="text-align:left">' in page  # words wrap, numbers do not
    assert 'src="http' not in page and "default-src 'none'" in page


def test_the_section_is_folded_in_a_report(tmp_path: Path, fill) -> None:
    html, markdown = write_report(
        fill(tmp_path / "store", ("apb",), 1), tmp_path / "out", formats=["html", "md"]
    )
    # the Markdown page has only what follows from the rows of the store
    assert "Fidelity" not in markdown.read_text(encoding="utf-8")
    assert fidelity_section()
    folded = html.read_text(encoding="utf-8").partition(
        "<summary>Fidelity to published numbers</summary>"
    )
    assert folded[1] and folded[0].rpartition("<")[2].startswith("details")
