"""Tables hold the numbers, show the gaps, and are reproduced byte for byte."""

import io

import numpy as np
import pandas as pd
import pytest

from reports.page.output import to_csv
from reports.parts.score_table import score_table, to_markdown
from reports.text import seeds_text

TABLE = {"suite": "s", "budget": "quick", "family": "f", "split": "ood"}


def expected():
    counts = {"apb": (2, 2, 0), "maml": (2, 1, 0), "td3": (2, 0, 2), "zero": (1, 1, 0)}
    return pd.DataFrame(
        [
            {**TABLE, "method": m, "variant": "", "n_expected": e, "n_done": d, "n_failed": f}
            for m, (e, d, f) in counts.items()
        ]
    )


def normal(method, value):
    """A normalised score; maml's references are barely apart, and zero has none."""
    return {
        "normalised": np.nan if method == "zero" else 1 + value / 50,
        "uncertain": method == "maml",
    }


def scores():
    values = {
        "apb": {0: {0: -50.0, 50: -40.0, 100: -20.0}, 1: {0: -54.0, 50: -42.0, 100: -30.0}},
        "maml": {0: {0: -45.0, 50: -44.5}},
        "zero": {0: {0: -60.0}},
    }
    lines = []
    for method, seeds in values.items():
        for seed, curve in seeds.items():
            cost = {
                "meta_env_steps": 20_000.0 if method != "zero" else np.nan,
                "n_train_tasks": 8.0,
                "diverged": seed == 1,
            }
            for b, value in curve.items():
                measured = {
                    "env_steps": b,
                    "return_mean": value,
                    "gain": value - curve[0],
                    **cost,
                    **normal(method, value),
                }
                lines.append(
                    {
                        **TABLE,
                        "axis": "angle",
                        "method": method,
                        "variant": "",
                        "seed": seed,
                        **measured,
                    }
                )
    return pd.DataFrame(lines)


def test_numbers():
    table = score_table(scores(), expected()).set_index("method")
    assert list(table.index) == ["apb", "maml", "zero", "td3"]
    assert table.loc[
        "apb", ["return_mean@100", "return_low@100", "return_high@100", "n_seeds@100"]
    ].tolist() == [
        -25,
        -30,
        -20,
        2,
    ]
    assert table.loc["apb", ["gain_mean", "gain_low", "gain_high", "n_diverged"]].tolist() == [
        27.0,
        24.0,
        30.0,
        1,
    ]
    normalised = ["normalised_mean", "normalised_low", "normalised_high", "uncertain"]
    assert table.loc["apb", normalised].tolist() == [0.5, 0.4, 0.6, False]
    assert table.loc["maml", ["test_env_steps", "gain_mean", "meta_env_steps"]].tolist() == [
        50,
        0.5,
        20_000,
    ]
    assert table.loc["td3", "meta_env_steps":].isna().all()
    assert np.isnan(table.loc["zero", "gain_mean"]) and np.isnan(
        table.loc["maml", "return_mean@100"]
    )


def test_markdown():
    rows = [
        line.strip("| ").split(" | ")
        for line in to_markdown(score_table(scores(), expected())).splitlines()
    ]
    head, _, apb, maml, zero, td3 = rows
    assert head[:6] == ["method", "seeds", "b = 0", "b = 50", "b = 100", "gain from b = 0"]
    area = "area over log b, floored at the zero action"
    assert head[6:] == [
        area,
        "normalised",
        "meta-training steps",
        "training tasks",
        "steps on the test task",
    ]
    assert apb[1:6] == [
        "2 (1 with diverged simulations)",
        "−52.0 ± 2.00",
        "−41.0 ± 1.00",
        "−25.0 ± 5.00",
        "27.0 ± 3.00",
    ]
    assert apb[6:8] == ["−33.0 ± 3.00", "0.50 ± 0.10"]
    assert maml[1:] == [
        "unfinished (1 of 2 seeds)",
        "−45.0",
        "−44.5",
        "frozen",
        "0.50",
        "−44.5",
        "0.11?",
        "20\u202f000",
        "8",
        "50",
    ]
    assert td3[1:] == ["unfinished (0 of 2 seeds, 2 failed)", *["–"] * 9]
    assert zero[1:] == ["1", "−60.0", "frozen", "frozen", "–", "−60.0", "–", "–", "8", "0"]


def test_a_missing_seed_at_a_checkpoint_is_said():
    ragged = scores()
    ragged.loc[(ragged["seed"] == 1) & (ragged["env_steps"] == 50), ["return_mean", "gain"]] = (
        np.nan
    )
    assert "| −40.0 (1 of 2 seeds) |" in to_markdown(score_table(ragged, expected()))


def test_the_area_is_that_of_the_curve_in_the_logarithm_of_the_steps():
    lines = scores()
    table = score_table(lines, expected()).set_index("method")
    apb = lines[lines["method"] == "apb"].pivot(
        index="seed", columns="env_steps", values="return_mean"
    )
    inside = apb.loc[:, apb.columns > 0]
    areas = np.trapezoid(inside, np.log(inside.columns.to_numpy(float)), axis=1) / np.log(
        inside.columns[-1] / inside.columns[0]
    )
    np.testing.assert_allclose(table.loc["apb", "area_mean"], areas.mean())


def test_the_best_last_score_comes_first_and_of_equal_ones_the_larger_area():
    lines = scores().query("method != 'maml'")
    same = lines[lines["method"] == "apb"].assign(method="td3")
    same.loc[same["env_steps"] == 50, "return_mean"] += 5.0
    table = score_table(pd.concat([lines, same]), expected())
    assert table["method"].tolist() == ["td3", "apb", "zero", "maml"]
    assert "last" not in table and table["gain_mean"].iloc[0] == table["gain_mean"].iloc[1]


def test_the_area_counts_what_is_below_the_zero_action_as_that():
    lines = scores()
    low = lines.assign(
        return_mean=lines["return_mean"].mask(
            (lines["method"] == "apb") & (lines["env_steps"] == 50), -900.0
        )
    )
    low.loc[low["method"] == "zero", "return_mean"] = -40.0
    assert score_table(low, expected()).set_index("method").loc[
        "apb", "area_mean"
    ] == pytest.approx((-40 - 25) / 2)


def test_nothing_measured():
    text = to_markdown(score_table(scores().iloc[:0], expected()))
    assert "| td3 | unfinished (0 of 2 seeds, 2 failed) | – | – | – | – | – | – |\n" in text


def test_hostile_names_stay_in_their_cell():
    named = expected().assign(variant="a|b<script>")
    lines = to_markdown(score_table(scores(), named)).splitlines()
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1 and "<" not in "".join(
        lines
    )


def test_csv_reads_back_exactly_and_regenerates():
    table = score_table(scores(), expected())
    text = to_csv(table)
    assert text == to_csv(score_table(scores(), expected()))
    back = pd.read_csv(
        io.StringIO(text),
        keep_default_na=False,
        na_values={name: [""] for name in table if "@" in name},
    )
    np.testing.assert_array_equal(back["return_mean@50"], table["return_mean@50"].astype(float))
    assert "\r" not in text


def test_seeds_text():
    assert [seeds_text(2, 2, 0), seeds_text(2, 1, 0), seeds_text(3, 1, 1)] == [
        "2",
        "unfinished (1 of 2 seeds)",
        "unfinished (1 of 3 seeds, 1 failed)",
    ]
