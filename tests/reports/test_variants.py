"""Variants of one method: which belong together, and what their dots show."""

import pandas as pd
import pytest

from reports.parts.styles import COLOURS, method_styles
from reports.parts.variants import (
    moment_name,
    variant_points,
    variant_scores,
    variants_figure,
    variants_of,
    variants_table,
)
from reports.stats.scores import blind_policy, summarise

PLACE = {"suite": "s", "budget": "quick", "family": "f", "split": "ood", "axis": "angle"}
STEPS = (0, 50, 100, 250)
HOSTILE = "apb-_$\\frac$|<b>"


def scores_of(methods, last=None, steps=STEPS):
    """Returns that fall by 10 per method and rise by 2 per seed and 1 per 50 steps."""
    return pd.DataFrame(
        {
            **PLACE,
            "method": m,
            "variant": "",
            "seed": s,
            "env_steps": b,
            "return_mean": -10.0 * i + 2 * s + b / 50,
        }
        for i, m in enumerate(methods)
        for s in (0, 1)
        for b in steps
        if b <= (last or {}).get(m, 250)
    )


def expected_of(methods, n_done=2):
    counts = {"variant": "", "n_expected": 2, "n_done": n_done, "n_failed": 0}
    return pd.DataFrame([{"method": m, **counts} for m in methods])


def draw(variants, scores):
    styles = method_styles([(m, "") for m in scores["method"].unique()])
    mine = variant_scores(scores, [(m, "") for m in variants])
    return variants_figure(mine, summarise(scores), expected_of(variants), styles, "f")


def lines(axes, gid):
    return [line for line in axes.lines if (line.get_gid() or "").split(":")[0] == gid]


def plain(*names):
    return [(name, "") for name in names]


def test_what_belongs_together():
    assert variants_of(plain("apb-random", "td3", "apb", "apb-pre")) == {
        "apb": plain("apb", "apb-random", "apb-pre")
    }
    assert variants_of(plain("x-a", "td3", "x-b")) == {}  # no base, so perhaps unrelated
    assert variants_of([("td3", "hidden=8"), ("apb", ""), ("td3", "")]) == {
        "td3": [("td3", ""), ("td3", "hidden=8")]
    }
    assert variants_of([*plain("apb-random", "td3"), ("apb-random", "x=1")]) == {
        "apb-random": [("apb-random", ""), ("apb-random", "x=1")]
    }


def test_what_stands_alone():
    assert variants_of(plain("apb-random", "td3", "maml", "rl2")) == {}
    assert variants_of([("zero", ""), ("zero", "x=1"), ("random", "")]) == {}  # bounds stand alone


def test_a_method_that_stopped_counts_as_it_was_then():
    scores = variant_scores(
        scores_of(["apb", "apb-pre"], last={"apb-pre": 50}), plain("apb", "apb-pre")
    )
    points = variant_points(scores).set_index(["method", "at"])
    assert points["env_steps"].to_dict() == {
        ("apb", 0): 0,
        ("apb", 100): 100,
        ("apb", 250): 250,
        ("apb-pre", 0): 0,
        ("apb-pre", 100): 50,
        ("apb-pre", 250): 50,
    }
    assert points.loc[("apb", 100), ["mean", "low", "high"]].tolist() == [3.0, 2.0, 4.0]


def test_moments_follow_the_budget():
    at = [
        sorted(variant_scores(scores_of(["apb"], steps=s), plain("apb"))["at"].unique())
        for s in ((0,), (0, 70), (0, 50, 100))
    ]
    assert at == [[0], [0, 70], [0, 100]]
    names = [moment_name(at, (0, 100, 3000)) for at in (0, 100, 3000)]
    assert names == ["zero-shot (b = 0)", "few-shot (b = 100)", "end of the budget (b = 3k)"]


def test_dots_are_means_with_intervals_and_seeds():
    figure = draw(
        ["apb", "apb-pre"], scores_of(["apb", "apb-pre", "td3", "zero"], last={"zero": 0})
    )
    zero, few, end = figure.axes
    assert [text.get_text() for text in zero.get_yticklabels()] == ["apb", "apb-pre"]
    assert zero.get_ylim()[0] > zero.get_ylim()[1]  # the base is on top
    assert [line.get_xydata().tolist() for line in lines(end, "mean")] == [
        [[6.0, 0.0]],
        [[-4.0, 1.0]],
    ]
    assert [line.get_xdata().tolist() for line in lines(few, "interval")] == [
        [2.0, 4.0],
        [-8.0, -6.0],
    ]
    assert [sorted(line.get_xdata()) for line in lines(zero, "seed")] == [[0.0, 2.0], [-10.0, -8.0]]
    assert len({axes.get_xlim() for axes in figure.axes}) == 1


def test_references_are_those_at_zero_steps():
    figure = draw(
        ["apb", "apb-pre"], scores_of(["apb", "apb-pre", "zero", "finetune"], last={"zero": 0})
    )
    for axes in figure.axes:
        assert set(lines(axes, "bound")[0].get_xdata()) == {-19.0}
        assert set(lines(axes, "blind")[0].get_xdata()) == {-29.0}
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["zero", "multi-task policy\n(finetune at b = 0)"]


def test_the_blind_policy_is_finetune_or_its_equal():
    points = summarise(scores_of(["apb", "apb-none", "finetune"]))
    assert blind_policy(points)[["method", "env_steps"]].to_numpy().tolist() == [["finetune", 0]]
    assert blind_policy(points[points["method"] != "finetune"])["method"].tolist() == ["apb-none"]
    assert blind_policy(points[points["method"] == "apb"]).empty


def test_the_blind_policy_has_the_settings_of_the_suite_where_it_was_run_with_them():
    usual = summarise(scores_of(["finetune"]))
    changed = usual.assign(variant="depth=3", n_seeds=9)
    assert blind_policy(pd.concat([changed, usual]))["variant"].tolist() == [""]
    assert blind_policy(changed)["variant"].tolist() == ["depth=3"]


def test_a_missing_seed_is_hollow_and_an_unfinished_variant_has_an_empty_line():
    scores = scores_of(["apb", "apb-pre"])
    lost = (scores["seed"] == 1) & (scores["env_steps"] == 250) & (scores["method"] == "apb")
    scores["return_mean"] = scores["return_mean"].mask(lost)
    styles = method_styles(plain("apb", "apb-pre", "apb-post"))
    mine = variant_scores(scores, plain("apb", "apb-pre", "apb-post"))
    expected = expected_of(["apb", "apb-pre", "apb-post"]).assign(n_done=[2, 2, 0])
    figure = variants_figure(mine, summarise(scores), expected, styles, "f")
    first, last = figure.axes[0], figure.axes[-1]
    assert [text.get_text() for text in first.get_yticklabels()] == ["apb", "apb-pre", "apb-post"]
    assert [line.get_ydata().tolist() for line in lines(first, "mean")] == [[0], [1]]
    assert [line.get_xdata().tolist() for line in lines(last, "few")] == [[5.0]]
    assert any(
        "apb-post unfinished (0 of 2 seeds)" in text.get_text().replace("\n", " ")
        for text in figure.texts
    )


def test_the_table():
    scores = variant_scores(
        scores_of(["apb", "apb-pre"], last={"apb-pre": 50}), plain("apb", "apb-pre")
    )
    table = variants_table(variant_points(scores), expected_of(["apb", "apb-pre", "apb-post"]))
    assert [
        line.strip("| ").split(" | ") for line in table.splitlines()[:1] + table.splitlines()[2:]
    ] == [
        ["variant", "seeds", "b = 0", "b = 100", "b = 250"],
        ["apb", "2", "1.00 ± 1.00", "3.00 ± 1.00", "6.00 ± 1.00"],
        ["apb-pre", "2", "−9.00 ± 1.00", "−8.00 ± 1.00", "−8.00 ± 1.00"],
        ["apb-post", "2", "–", "–", "–"],
    ]


@pytest.mark.filterwarnings("error")
def test_hostile_names_draw():
    figure = draw(["apb", HOSTILE], scores_of(["apb", HOSTILE]))
    figure.draw_without_rendering()
    table = variants_table(
        variant_points(variant_scores(scores_of([HOSTILE]), plain(HOSTILE))), expected_of([HOSTILE])
    )
    assert (
        len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1
        and "<b" not in table
    )


def test_arms_that_look_alike_in_one_vision_differ_in_their_marker():
    learners = [m for m in COLOURS if m not in ("random", "zero")]
    styles = method_styles([(m, "") for m in (*learners, "mine", "yours")])
    looks = list(styles.values())
    assert len(set(looks)) == len(looks)
    alike = [
        (a, b)
        for i, a in enumerate(looks)
        for b in looks[:i]
        if a.marker == b.marker and difference(a, b) < 20
    ]
    assert not alike


def difference(a, b):
    """Least CIELAB distance in normal, protan, deutan vision (Machado et al. 2009, severity 1)."""
    import numpy as np
    from matplotlib.colors import to_rgb

    visions = [
        np.eye(3),
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
    ]
    xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    ) / [[0.9505], [1], [1.089]]

    def lab(colour, vision):
        linear = np.power((np.array(to_rgb(colour)) + 0.055) / 1.055, 2.4)
        x, y, z = np.cbrt(xyz @ np.clip(vision @ linear, 0, 1))
        return np.array([116 * y, 500 * (x - y), 200 * (y - z)])

    return min(
        np.linalg.norm(lab(a.colour, v) - lab(b.colour, v)) for v in map(np.asarray, visions)
    )
