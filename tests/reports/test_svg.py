"""A figure as SVG: each arm can be found in it, and nothing in it clashes with another figure."""

import re
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from reports.page.svg import inline, to_svg
from reports.parts.drawing import Style, legend, step_back, tag
from reports.parts.styles import focused, method_styles

HOSTILE = ('evil"<script>alert(1)</script>', "")


def drawn(styles):
    figure = Figure()
    axes = figure.subplots()
    for arm, style in styles.items():
        axes.plot([0, 1], [0, 1], color=style.colour, marker="o", gid=tag("curve", arm, style))
        axes.fill_between([0, 1], [0, 0], [1, 1], gid=tag("band", arm, style))
    legend(figure, styles)
    return figure


def many(n_more):
    arms = [
        ("apb", ""),
        ("td3", ""),
        ("mine", ""),
        ("zero", ""),
        *((f"maml{i}", "") for i in range(n_more)),
    ]
    return method_styles(arms), arms


def test_an_arm_is_marked_with_its_name_and_whether_it_steps_back():
    styles = {
        ("apb", ""): Style("#112233", "o"),
        ("rl2", "x=1"): Style("#445566", "s", focus=False),
        HOSTILE: Style("#777777", "D"),
    }
    root = ElementTree.fromstring(to_svg(drawn(styles), "name"))
    marked = {(e.get("class"), e.get("data-method")) for e in root.iter() if e.get("data-method")}
    assert {("curve", "apb"), ("band", "apb"), ("legend", "apb")} <= marked
    hidden = {name for kind, name in marked if kind == "curve rest"}
    assert (
        len(hidden) == 1 and ("band rest", *hidden) in marked and ("legend", *hidden) not in marked
    )
    # a line and its text
    assert [e.get("class") for e in root.iter() if "others" in (e.get("class") or "")] == [
        "others"
    ] * 2
    assert "script" not in {e.tag.rpartition("}")[2] for e in root.iter()}


def test_figures_on_one_page_share_no_id_and_refer_to_their_own():
    styles = {("apb", ""): Style("#112233", "o")}
    texts = [to_svg(drawn(styles), name) for name in ("one", "two")]
    ids = [set(re.findall(r' id="([^"]*)"', text)) for text in texts]
    used = [set(re.findall(r"[\"(]#([^\")]+)[\")]", text)) for text in texts]
    assert ids == used and all(ids) and not ids[0] & ids[1]
    assert to_svg(drawn(styles), "one") == texts[0]


def test_a_part_of_a_page_has_no_style_of_its_own_and_a_title():
    text = inline(to_svg(drawn({("apb", ""): Style("#112233", "o")}), "name"), 'a "title" & more')
    assert "<style" not in text and "xmlns" not in text and "xlink" not in text
    assert 'role="img" aria-label="a &#34;title&#34; &amp; more"' in text


@pytest.mark.parametrize(("n_more", "expected"), [(6, None), (7, {"apb", "td3", "mine", "zero"})])
def test_of_many_methods_the_papers_those_of_users_and_bounds_are_in_focus(
    n_more, expected, monkeypatch
):
    from reports.parts import styles

    styled, arms = many(n_more)
    monkeypatch.setattr(
        styles, "COLOURS", {**styles.COLOURS, **{f"maml{i}": "#000000" for i in range(n_more)}}
    )
    found = focused(styled, arms)
    assert {arm[0] for arm, style in found.items() if style.focus} == (
        expected or {arm[0] for arm in arms}
    )
    assert set(focused(styled, arms[:2])) == set(arms[:2])


def test_what_steps_back_is_grey_in_files_and_its_band_is_gone():
    styles = {("apb", ""): Style("#112233", "o"), ("rl2", ""): Style("#445566", "s", focus=False)}
    figure = drawn(styles)
    step_back(figure)
    axes = figure.axes[0]
    assert [line.get_color() for line in axes.lines] == ["#112233", "#BDBDBD"]
    assert [band.get_visible() for band in axes.collections] == [True, False]


def test_the_last_digits_of_a_coordinate_change_no_name():
    texts = []
    for nudge in (0.0, 1e-11):
        figure = Figure()
        axes = figure.add_axes((0.1 + nudge, 0.1, 0.8, 0.8))
        axes.plot([0, 1], [0, 1], marker="o", gid="curve:apb")
        texts.append(to_svg(figure, "name"))
    assert texts[0] == texts[1]
    assert set(re.findall(r"\(#([^)]*)\)", texts[0])) <= set(re.findall(r' id="([^"]*)"', texts[0]))
