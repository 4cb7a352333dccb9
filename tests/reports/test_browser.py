"""The page in a real browser: it draws, sorts, requests nothing; a hostile name runs nothing."""

import os
import re
import shutil
from importlib.util import find_spec

import pytest

from reports.page.page import write_report

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
if (find_spec("playwright") is None or BROWSER is None) and os.environ.get(
    "TOX_ENV_NAME"
) != "browser":
    pytest.skip(
        "playwright or Chromium is not installed; tox run -e browser needs Chromium only",
        allow_module_level=True,
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory, fill, hostile):
    """A compared report with hostile methods, settings, errors, and failed and missing cells."""
    root = tmp_path_factory.mktemp("browser")
    fill(
        root / "store",
        methods=("apb", "td3", "maml", "zero", hostile),
        ended={("td3", 1): "failed", ("maml", 1): "missing"},
    )
    fill(root / "others", methods=("apb", "td3", "zero"), seeds=5)
    (page,) = write_report(root / "store", root / "out", formats=["html"], compare=root / "others")
    alone = root / "alone" / "page.html"  # it needs nothing beside it
    alone.parent.mkdir()
    shutil.copy(page, alone)
    return alone


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[1280, 390], ids=["desktop", "phone"])
def page(request, chromium, report):
    """The open page; `page.told` has its console, dialogs and errors, `page.asked` all requests."""
    page = chromium.new_page(viewport={"width": request.param, "height": 900})
    page.told, page.asked = [], []
    page.on("console", lambda message: page.told.append(message.text))
    page.on("pageerror", lambda error: page.told.append(str(error)))
    page.on("dialog", lambda dialog: (page.told.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(report.as_uri())
    yield page
    page.close()


def test_it_opens_without_a_word_and_without_a_request(page, report):
    page.wait_for_timeout(300)
    assert page.told == []
    assert [url for url in page.asked if not url.startswith("data:")] == [report.as_uri()]


def test_every_figure_is_drawn(page):
    shown = page.evaluate(
        "[...document.querySelectorAll('main svg')].map(drawn =>"
        " drawn.getBoundingClientRect().width)"
    )
    assert len(shown) >= 4 and min(shown) > 300
    if page.viewport_size["width"] == 1280:
        assert max(shown) <= 1280
    assert page.locator("main svg text").count() > 50


def test_methods_are_hidden_and_shown_in_figures_and_tables(page):
    def visible():
        figures = page.locator("main svg .curve[data-method=td3]").evaluate_all(
            "all => all.filter(x => x.getClientRects().length)"
        )
        rows = page.locator("main section tr[data-method=td3]").evaluate_all(
            "all => all.filter(x => x.getClientRects().length)"
        )
        return len(figures), len(rows)

    page.evaluate("document.querySelector('.methods').open = true")
    before, box = visible(), page.locator(".methods input[value=td3]")
    assert min(before) > 0 and box.is_checked()
    box.uncheck()
    assert (
        visible() == (0, 0) and page.locator("main svg .curve[data-method=apb]").first.is_visible()
    )
    page.locator(".methods button", has_text="all").click()
    assert visible() == before and box.is_checked()
    page.locator(".methods button", has_text="none").click()
    assert visible() == (0, 0)


def test_nothing_is_wider_than_the_window(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_claims_comparisons_and_aggregates_fit_a_desktop_and_wider_tables_show_that_they_go_on(
    page,
):
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    judged = page.locator(".scroll", has=page.locator("th", has_text="judgement"))
    compared = page.locator(
        ".scroll", has=page.locator("th", has_text=re.compile("least effect|its seeds"))
    )
    # 3 tables of arms in both stores, 6 of the arms that only this store has
    assert judged.count() >= 2 and compared.count() == 3 + 6
    measure = "tables => tables.map(table => [table.scrollWidth, table.clientWidth])"
    if page.viewport_size["width"] == 1280:
        assert all(
            inner <= outer
            for tables in (judged, compared)
            for inner, outer in tables.evaluate_all(measure)
        )
    wide = page.locator(".scroll", has_text="gain from b = 0").first
    assert "local, scroll" in wide.evaluate("table => getComputedStyle(table).backgroundAttachment")
    wide.evaluate("table => { table.scrollLeft = 1000 }")
    first = wide.locator("td").first
    assert (
        first.bounding_box()["x"] - wide.bounding_box()["x"] <= 2
        and first.bounding_box()["width"] >= 96
    )


def test_words_are_to_the_left_and_numbers_to_the_right(page):
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")

    def align(head, table):
        found = page.locator("table", has=page.locator("th", has_text=head)).first
        column = [
            text.split("\n")[0].strip(" ↕") for text in found.locator("th").all_inner_texts()
        ].index(table)
        return {
            found.locator(f"{cell}:nth-child({column + 1})").first.evaluate(
                "x => getComputedStyle(x).textAlign"
            )
            for cell in ("th", "td")
        }

    words = {
        "judgement": ("compared", "judgement", "where"),
        "least effect": ("method", "verdict"),
        "its seeds": ("other method", "verdict"),
    }
    assert {
        side for head, columns in words.items() for name in columns for side in align(head, name)
    } <= {"left", "start"}
    numbers = {
        "judgement": ("difference", "seeds"),
        "least effect": ("here", "seeds"),
        "its seeds": ("its score",),
        "gain from b = 0": ("normalised",),
    }
    assert {
        side for head, columns in numbers.items() for name in columns for side in align(head, name)
    } == {"right"}


def test_tables_sort_by_number_and_by_text_with_what_is_missing_last(page):
    table = page.locator("table", has_text="gain from b = 0").first
    column = [text.strip() for text in table.locator("th").all_inner_texts()].index(
        "gain from b = 0"
    )

    def cells(which):
        return [
            text.strip()
            for text in table.locator(f"tbody td:nth-child({which + 1})").all_inner_texts()
        ]

    def value(text):
        return float(text.replace("−", "-").split(" ")[0])

    for order, state in ((True, "descending"), (False, "ascending")):
        table.locator("th").nth(column).locator("button").click()
        found = cells(column)
        numbers = [value(text) for text in found if text != "–"]
        assert len(numbers) >= 3 and numbers == sorted(numbers, reverse=order)
        assert "–" not in found[: len(numbers)] and "–" in found
        assert table.locator("th").nth(column).get_attribute("aria-sort") == state
    table.locator("th button").first.focus()
    page.keyboard.press("Enter")
    names = cells(0)
    assert (
        len(names) == 5
        and names != sorted(names, key=str.lower)
        and names == sorted(names, key=str.lower, reverse=True)
    )
    assert table.locator("th[aria-sort]").count() == 1


def test_a_hostile_name_is_shown_and_runs_nothing(page):
    assert (
        page.evaluate(
            "document.querySelectorAll('main script, main iframe, main a[href^=\"http:\"]').length"
        )
        == 0
    )
    assert page.locator("td", has_text="<script>alert(1)</script>").count() > 0


def test_numbers_are_downloaded_from_the_page_itself(page):
    with page.expect_download() as started:
        page.locator("a", has_text="points as CSV").first.click()
    download = started.value
    assert download.suggested_filename.endswith(".csv")
    assert (
        download.path()
        .read_text(encoding="utf-8")
        .startswith("suite,budget,family,split,axis,method")
    )


def test_contents_lead_to_their_sections_and_unfold_them(page):
    link = page.locator("nav a", has_text="How to read this")
    link.click()
    page.wait_for_function("document.querySelector('main details').open", timeout=5000)
    targets = page.evaluate(
        "[...document.querySelectorAll('nav a')].map(a =>"
        " !!document.getElementById(a.hash.slice(1)))"
    )
    assert len(targets) >= 4 and all(targets)
