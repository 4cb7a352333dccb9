"""The page as HTML: what it may run and load, and that markup in names and titles is inert."""

import re
from base64 import b64encode
from hashlib import sha256

import pytest

from reports.page.html import Section, write_html


@pytest.fixture
def page(tmp_path):
    """The text of a page of one section."""

    def write(markdown, title="t", heading="s"):
        return write_html(tmp_path / "page.html", title, [Section(heading, markdown)]).read_text(
            encoding="utf-8"
        )

    return write


def test_nothing_but_its_own_script_runs_and_nothing_is_loaded(page):
    text = page("x")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    (script,) = re.findall(r"<script>(.*)</script>", text, re.DOTALL)
    allowed = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert (
        allowed.pop("script-src")
        == f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"
    )
    assert allowed.pop("style-src") == "'unsafe-inline'" and allowed.pop("img-src") == "data:"
    assert allowed == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}


def test_markup_is_shown_as_it_is_written(page):
    hostile = "<img src=x onerror=alert(1)>"
    text = page(f"{hostile}\n\na <b>b</b> c\n", title=hostile, heading=hostile)
    assert (
        "<img" not in text
        and "<b>" not in text
        and text.count("&lt;img src=x onerror=alert(1)&gt;") == 5
    )


def test_links_that_run_are_no_links(page):
    assert 'href="javascript' not in page("[x](javascript:alert(1)) [y](vbscript:x)")


def test_a_table_is_reachable_by_keyboard_and_its_heads_are_buttons(page):
    text = page("| a | b |\n| --- | ---: |\n| 1 | 2 |\n")
    assert text.count('scope="col"') == text.count('<button type="button">') == 2
    assert '<div class="scroll" tabindex="0"><table>' in text


def test_long_cells_wrap_whatever_their_links_hide(page):
    text = page(
        f"| a | b |\n| --- | ---: |\n| {'x ' * 12} | [2](https://a.long/address/of/a/page) |\n"
    )
    assert text.count('class="long"') == 1 and '<td class="long">x' in text
