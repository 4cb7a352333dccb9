"""Names as users may choose them, in Markdown, in labels and in file names."""

import pytest
from markdown_it import MarkdownIt

from reports.text import (
    escape_label,
    escape_markdown,
    listing,
    markdown_table,
    number,
    one_line,
    slug,
    steps,
)

HOSTILE = "a|b <img src=x onerror=alert(1)> [l](http://x) `c` $\\frac$ *d* ../../e\n# f"


def test_markdown_keeps_the_name_in_its_cell():
    line = markdown_table(["method"], [[escape_markdown(HOSTILE)]]).splitlines()[-1]
    assert line.replace("\\|", "").count("|") == 2
    assert (
        "<" not in line
        and "\\[l\\](http" in line
        and "\\`c\\`" in line
        and "\\$\\\\frac\\$" in line
    )


@pytest.mark.parametrize("name", ["1. a", "- a", "+ a", "12) a", "-", "1."])
def test_a_name_makes_no_list(name):
    shown = MarkdownIt("commonmark").render(escape_markdown(name))
    assert shown == f"<p>{name}</p>\n"


def test_plain_names_stay_as_they_are():
    assert escape_markdown("apb-random (depth=3, lr=0.1)") == "apb-random (depth=3, lr=0.1)"
    assert [escape_markdown(name) for name in ("-3.5", "+ft", "1.5")] == ["-3.5", "+ft", "1.5"]
    assert slug("apb-random+ft.2") == "apb-random+ft.2"


def test_labels_are_neither_mathematics_nor_hidden_nor_endless():
    assert escape_label("$x$") == r"\$x\$"
    assert not escape_label("_hidden").startswith("_")
    assert len(escape_label("x" * 500)) == 40


@pytest.mark.parametrize(
    "name", [HOSTILE, "..", "", "/etc/passwd", "x" * 500, "ünï", "a_b", "CON\0", ".hidden"]
)
def test_slugs_are_portable_and_distinct(name):
    assert set(slug(name)) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-"
    )
    assert slug(name)[0] not in ".-" and len(slug(name)) < 50
    assert slug(name) != slug(name + "!")


def test_numbers():
    nan = float("nan")
    assert [number(x) for x in (-12.34, 3.456, 0.0, 1234.56, nan)] == [
        "−12.3",
        "3.46",
        "0.00",
        "1234.6",
        "–",
    ]
    assert [steps(x) for x in (0, 3000, 1_000_000, nan)] == [
        "0",
        "3\u202f000",
        "1\u202f000\u202f000",
        "–",
    ]


def test_sentences():
    assert [listing(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert one_line("a\tb\n\x1b[31mc  d") == "a b [31mc d"


def test_the_columns_of_words_are_to_the_left():
    table = markdown_table(["a", "b", "c"], [["1", "2", "3"]], words=(2,))
    assert table == "| a | b | c |\n| --- | ---: | :--- |\n| 1 | 2 | 3 |\n"
