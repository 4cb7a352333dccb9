"""All families of a suite together: table, profiles and matrix say what the statistics say."""

import numpy as np
import pandas as pd
import pytest

from reports.parts.overall import aggregate_table, group_name, improvement_figure, profile_figure
from reports.parts.styles import method_styles
from reports.stats.aggregates import aggregate, performance_profiles
from reports.stats.improvement import probability_of_improvement
from reports.stats.score_matrix import EXACT_IMAGES, OTHERS

ARMS = [("apb", ""), ("td3", ""), ("zero", "")]
EXACT = {"f": {"angle"}}
LEVELS = {"apb": 0.8, "td3": 0.4, "zero": 0.0}


@pytest.fixture(scope="module")
def scores():
    """Three seeds; one axis of `f` is exact, `g` has no references, `td3` has no seed 2 on `f`."""
    lines = []
    for family, axis in (("f", "angle"), ("f", "radius"), ("h", "speed"), ("g", "speed")):
        for method, level in LEVELS.items():
            for seed in range(3):
                if (family, method, seed) == ("f", "td3", 2):
                    continue
                value = np.nan if family == "g" else level + 0.1 * seed * (method != "zero")
                where = {
                    "suite": "s",
                    "budget": "quick",
                    "split": "ood",
                    "family": family,
                    "axis": axis,
                }
                lines.append(
                    where
                    | {
                        "method": method,
                        "variant": "",
                        "seed": seed,
                        "normalised": value,
                        "uncertain": False,
                    }
                )
    return pd.DataFrame(lines)


def test_the_table_has_a_line_per_method_in_order(scores):
    found = aggregate(scores, EXACT, value="normalised", draws=100)
    others = found[found["group"] == OTHERS]
    lines = aggregate_table(others, ARMS).splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    assert [line[0] for line in cells] == ["method", "---", "apb", "td3", "zero"]
    apb = dict(zip(cells[0], cells[2], strict=True))
    assert (
        float(apb["mean"].split(" ")[0]) == pytest.approx(0.9)
        and float(apb["optimality gap"].split(" ")[0]) == 0.1
    )
    assert (apb["families"], apb["families without references"], apb["seeds"]) == ("2", "1", "3")
    td3 = dict(zip(cells[0], cells[3], strict=True))
    assert "±" not in td3["mean"] and td3["seeds"] == "2"  # too few for an interval


def test_the_profiles_have_a_panel_per_group_and_a_line_per_method(scores):
    points = performance_profiles(
        scores, EXACT, np.linspace(-0.5, 1.5, 9), value="normalised", draws=50
    )
    figure = profile_figure(points, ARMS, method_styles(ARMS), "title")
    assert [axes.get_title() for axes in figure.axes] == [
        group_name(EXACT_IMAGES),
        group_name(OTHERS),
    ]
    for axes in figure.axes:
        assert [line.get_gid() for line in axes.get_lines()] == [
            "curve:apb",
            "curve:td3",
            "bound:zero",
        ]
    line = figure.axes[1].get_lines()[0]
    assert (
        np.interp(0.75, line.get_xdata(), line.get_ydata()) == 1.0 and line.get_ydata()[-1] == 0.0
    )


def test_the_matrix_says_who_beats_whom(scores):
    pairs = probability_of_improvement(scores, EXACT, value="normalised", draws=50)
    figure = improvement_figure(pairs, ARMS, "title")
    for axes in figure.axes:
        values = axes.get_images()[0].get_array().filled(np.nan)
        assert np.isnan(np.diag(values)).all()
        np.testing.assert_allclose(values + values.T, np.where(np.eye(3, dtype=bool), np.nan, 1.0))
        assert values[0, 1] == 1.0 and values[2, 0] == 0.0  # apb beats td3, zero never apb
        assert [text.get_text() for text in axes.get_xticklabels()] == ["apb", "td3", "zero"]
        assert sorted(text.get_text() for text in axes.texts) == ["0"] * 3 + ["100"] * 3


def matrix(n_arms):
    """Pairs of `n_arms` methods: each beats lower numbers at 60 %, but the last always wins."""
    lines = []
    for i in range(n_arms):
        for j in set(range(n_arms)) - {i}:
            value = float(i > j) if n_arms - 1 in (i, j) else 0.5 + 0.1 * (1 if i > j else -1)
            names = {"method": f"m{i}", "variant": "", "other": f"m{j}", "other_variant": ""}
            lines.append(
                names
                | {"group": OTHERS, "value": value, "n_left_out": 0, "n_seeds": 5, "n_families": 2}
            )
    return pd.DataFrame(lines), [(f"m{i}", "") for i in range(n_arms)]


@pytest.mark.parametrize(("n_arms", "n_numbers"), [(8, 56), (20, 20 * 19), (31, 0)])
def test_who_wins_most_comes_first_and_very_many_methods_have_no_numbers(n_arms, n_numbers):
    figure = improvement_figure(*matrix(n_arms), "title")
    (axes,) = figure.axes
    names = [f"m{i}" for i in reversed(range(n_arms))]
    assert (
        [text.get_text() for text in axes.get_yticklabels()]
        == [text.get_text() for text in axes.get_xticklabels()]
        == names
    )
    values = axes.get_images()[0].get_array().filled(np.nan)
    assert (values[np.triu_indices(n_arms, 1)] > 0.5).all()
    assert len(axes.texts) == n_numbers


def test_large_matrices_stand_one_below_the_other():
    pairs, arms = matrix(9)
    figure = improvement_figure(pd.concat([pairs, pairs.assign(group=EXACT_IMAGES)]), arms, "title")
    figure.canvas.draw()
    first, second = (axes.get_position() for axes in figure.axes)
    assert first.y0 > second.y1 and first.x0 == pytest.approx(second.x0)


def test_who_has_fewer_families_is_marked(scores):
    fewer = scores[(scores["method"] != "td3") | (scores["family"] != "h")]
    found = aggregate(fewer, EXACT, value="normalised", draws=50)
    text = aggregate_table(found[found["group"] == OTHERS], ARMS)
    assert "| td3† |" in text and "| apb |" in text and "\n† covers fewer families" in text
    assert "†" not in aggregate_table(found[found["group"] == EXACT_IMAGES], ARMS)
    pairs = probability_of_improvement(fewer, EXACT, value="normalised", draws=50)
    exact, others = improvement_figure(pairs, ARMS, "title").axes
    # td3 against each of the two others, both ways
    assert sum(text.get_text().endswith("*") for text in others.texts) == 4
    assert not any(text.get_text().endswith("*") for text in exact.texts)
