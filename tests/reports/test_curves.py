"""Figures draw what the numbers say, and the same numbers give the same files."""

import time

import numpy as np
import pandas as pd
import pytest

from reports.page.output import save_figure
from reports.parts.captions import adaptation_note, unfinished_note
from reports.parts.curves import adaptation_figure, meta_training_figure
from reports.parts.styles import COLOURS, method_styles
from reports.stats.scores import CURVE, GROUP, add_hold, summarise

TABLE = {"suite": "s", "budget": "quick", "family": "f", "split": "ood"}
STEPS = (0, 50, 100, 250)
HOSTILE = "_$\\frac$|<b>"


def scores_of(methods, n_seeds=2, axes=("angle",), last=None):
    lines = [
        {
            **TABLE,
            "axis": axis,
            "method": m,
            "variant": "",
            "seed": s,
            "env_steps": b,
            "return_mean": -90.0 + b / 5 + 3 * s + i,
        }
        for i, m in enumerate(methods)
        for axis in axes
        for s in range(n_seeds)
        for b in STEPS
        if b <= (last or {}).get(m, 250)
    ]
    return pd.DataFrame(lines)


def expected_of(methods, n_done=2, n_expected=2, n_failed=0):
    counts = {"n_expected": n_expected, "n_done": n_done, "n_failed": n_failed}
    named = [
        {**TABLE, "method": m, "variant": "", "remembers": m.startswith("rl2")} for m in methods
    ]
    return pd.DataFrame([{**name, **counts} for name in named])


def draw(methods, title="f, split ood", **how):
    points = add_hold(summarise(scores_of(methods, **how)))
    styles = method_styles([(m, "") for m in methods])
    return adaptation_figure(points, expected_of(methods), styles, title), points


def lines(axes, gid):
    return [line for line in axes.lines if (line.get_gid() or "").split(":")[0] == gid]


def test_a_panel_per_axis_and_a_line_per_method():
    figure, _ = draw(
        ["apb", "td3", "zero", "random"], axes=("angle", "radius"), last={"zero": 0, "random": 0}
    )
    assert [axes.get_title() for axes in figure.axes] == ["shift axis: angle", "shift axis: radius"]
    for axes in figure.axes:
        assert [len(lines(axes, gid)) for gid in ("curve", "bound", "held")] == [2, 2, 0]
        assert len(axes.collections) == 2  # bands
        assert axes.get_xscale() == "symlog"
        assert [text.get_text() for text in axes.texts] == ["zero-shot", "few-shot", "many-shot"]
    assert figure.axes[0].get_ylabel() == "return (sum over an episode)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "apb",
        "td3",
        "zero",
        "random",
    ]


def test_lines_are_the_points_and_bands_the_intervals():
    figure, points = draw(["apb"])
    (line,) = lines(figure.axes[0], "curve")
    np.testing.assert_array_equal(line.get_xydata(), points[["env_steps", "mean"]].to_numpy(float))
    corners = figure.axes[0].collections[0].get_paths()[0].vertices
    for b, low, high in points[["env_steps", "low", "high"]].itertuples(index=False):
        assert {low, high} <= set(corners[corners[:, 0] == b, 1])


def test_one_seed_has_no_band():
    figure, _ = draw(["apb"], n_seeds=1)
    assert not figure.axes[0].collections


def test_methods_that_infer_the_task_within_an_episode_are_named():
    points = add_hold(summarise(scores_of(["apb", "rl2", "rl2+ft"])))
    assert "episode of rl2 and rl2+ft also serves to infer the task" in adaptation_note(
        points, expected_of(["apb", "rl2", "rl2+ft"])
    )
    assert "infer the task" not in adaptation_note(
        points[points["method"] == "apb"], expected_of(["apb"])
    )


def test_a_frozen_method_is_dashed_to_the_end():
    figure, points = draw(["apb", "maml"], last={"maml": 100})
    (held,) = lines(figure.axes[0], "held")
    value = points.loc[points["method"] == "maml", "mean"].iloc[-1]
    assert held.get_xydata().tolist() == [[100.0, value], [250.0, value]]
    assert held.is_dashed()


def test_the_blind_policy_is_a_line_from_its_return_at_zero():
    figure, _ = draw(["apb", "finetune"])
    (blind,) = lines(figure.axes[0], "blind")
    assert blind.get_xydata().tolist() == [[0.0, -87.5], [250.0, -87.5]]
    assert figure.legends[0].get_texts()[-1].get_text() == "multi-task policy\n(finetune at b = 0)"
    assert not lines(draw(["apb", "td3"])[0].axes[0], "blind")


def test_exact_images_are_said_above_their_panel():
    points = add_hold(summarise(scores_of(["apb"], axes=("angle", "radius"))))
    figure = adaptation_figure(
        points, expected_of(["apb"]), method_styles([("apb", "")]), "", {"angle"}
    )
    above = [axes.get_title() for axes in figure.axes]
    assert above == [
        "shift axis: angle\nexact linear images of training tasks",
        "shift axis: radius",
    ]


def test_bounds_run_from_start_to_end():
    figure, points = draw(["apb", "zero"], last={"zero": 0})
    (bound,) = lines(figure.axes[0], "bound")
    value = points.loc[points["method"] == "zero", "mean"].iloc[0]
    assert bound.get_xydata().tolist() == [[0.0, value], [250.0, value]]


def test_a_point_without_all_seeds_is_hollow():
    scores = scores_of(["apb"])
    points = add_hold(summarise(scores[(scores["seed"] == 0) | (scores["env_steps"] < 100)]))
    figure = adaptation_figure(points, expected_of(["apb"]), method_styles([("apb", "")]), "")
    (few,) = lines(figure.axes[0], "few")
    assert few.get_xdata().tolist() == [100, 250] and few.get_markerfacecolor() == "white"
    assert "Hollow" in adaptation_note(points, expected_of(["apb"]))


def test_only_step_zero_draws(tmp_path):
    figure, _ = draw(["apb", "zero"], last={"apb": 0, "zero": 0})
    save_figure(figure, tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x.svg"]


def test_colours_stay_with_their_method():
    few = method_styles([("mine", ""), ("apb", "")])
    many = method_styles([("td3", ""), ("apb", ""), ("apb", "depth=3"), ("mine", "")])
    assert few["apb", ""] == many["apb", ""] and few["mine", ""] == many["mine", ""]
    assert many["apb", ""].colour == many["apb", "depth=3"].colour == COLOURS["apb"]
    assert many["apb", ""].marker != many["apb", "depth=3"].marker
    assert (
        len(
            {
                style.colour
                for style in method_styles([(m, "") for m in (*COLOURS, "x", "y")]).values()
            }
        )
        == len(COLOURS) + 1
    )


def test_the_note_says_seeds_and_interval_and_gaps():
    two = add_hold(summarise(scores_of(["apb"])))
    assert (
        adaptation_note(two, expected_of(["apb"]))
        == "Mean of 2 seeds; band: lowest to highest seed. Fewer than five seeds: a description,"
        " not a test."
    )
    six = add_hold(summarise(scores_of(["apb"], n_seeds=6)))
    assert (
        adaptation_note(six, expected_of(["apb"], 6, 6))
        == "Mean of 6 seeds; band: 95 % interval over seeds, Student's t."
    )
    gaps = expected_of(["apb", "td3"], n_done=1, n_failed=1)
    assert (
        unfinished_note(gaps)
        == "Incomplete: apb unfinished (1 of 2 seeds, 1 failed) and td3 unfinished (1 of 2 seeds,"
        " 1 failed)."
    )


def test_meta_training_draws_every_seed_and_the_mean_where_all_are():
    steps = {0: (100, 200, 300), 1: (100, 200)}
    same = {"suite": "s", "budget": "quick", "family": "f", "method": "apb", "variant": ""}
    scores = pd.DataFrame(
        [
            {**same, "seed": s, "env_steps": b, "return_mean": -b / 10 + s}
            for s in steps
            for b in steps[s]
        ]
    )
    points = summarise(scores, by=(*CURVE, "env_steps"))
    (axes,) = meta_training_figure(scores, points, method_styles([("apb", "")]), "").axes
    assert [len(line.get_xdata()) for line in lines(axes, "seed")] == [3, 2]
    assert lines(axes, "mean")[0].get_xydata().tolist() == [[100.0, -9.5], [200.0, -19.5]]


@pytest.mark.filterwarnings("error")
def test_hostile_names_draw(tmp_path):
    figure, _ = draw([HOSTILE, "x" * 300], title=HOSTILE)
    save_figure(figure, tmp_path / "x")
    assert [text.get_text().strip()[0] for text in figure.legends[0].get_texts()] == ["_", "x"]


def test_the_same_numbers_give_the_same_files(tmp_path):
    contents = []
    for name in ("first", "second"):
        figure, _ = draw(["apb", "td3"])
        save_figure(figure, tmp_path / name / "figure", pdf=True)
        contents.append(
            [(tmp_path / name / f"figure.{kind}").read_bytes() for kind in ("svg", "pdf")]
        )
        time.sleep(1.1)  # timestamps have a resolution of seconds
    assert contents[0] == contents[1]
    assert contents[0][0].startswith(b"<svg ") and contents[0][1].startswith(b"%PDF")


def test_drawing_leaves_the_users_settings_alone():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    draw(["apb"])
    assert dict(mpl.rcParams) == before


def test_points_carry_the_whole_key():
    assert list(GROUP) == [name for name in summarise(scores_of(["apb"])).columns if name in GROUP]
