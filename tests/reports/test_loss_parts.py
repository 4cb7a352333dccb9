"""The parts of a loss on hand-made tables."""

import numpy as np
import pandas as pd
import pytest

from reports.parts.loss_parts import loss_parts_table
from reports.stats.loss_parts import PARTS, loss_parts
from reports.stats.scores import TOLD
from reports.stats.welch import welch_interval

CURVE = (0, 100, 200, 400)
PLACE = {"suite": "ood", "budget": "quick", "family": "f", "split": "ood"}


def scores_of(curves, axis="angle", variant=""):
    """Scores from {method: [[return at each of CURVE], …]}, one curve per seed."""
    return pd.DataFrame(
        [
            {
                **PLACE,
                "axis": axis,
                "method": method,
                "variant": variant,
                "seed": seed,
                "env_steps": b,
                "return_mean": y,
            }
            for method, seeds in curves.items()
            for seed, curve in enumerate(seeds)
            for b, y in zip(CURVE, curve, strict=False)
        ]
    )


TABLE = {
    TOLD: [[-20, -15, -12, -10 + s] for s in range(4)],  # reaches −8.5 on average
    "apb": [[-60, -40, -20, -14 + s] for s in (0, 2, 4)],
    "maml": [[-50, -45]],  # one seed, and it stops early
    "zero": [[-30]],  # better than what apb begins with
}


def test_each_part_is_what_it_says():
    parts = loss_parts(scores_of(TABLE)).set_index(["method", "part"])
    assert parts.loc[("apb", "zero_shot"), "mean"] == -8.5 + 60
    assert parts.loc[("apb", "ceiling"), "mean"] == -8.5 + 12
    log = np.log([100, 200, 400])
    areas = [np.trapezoid([-40, -20, end], log) / np.log(4) for end in (-14, -12, -10)]
    assert parts.loc[("apb", "speed"), "mean"] == pytest.approx(-12 - np.mean(areas))
    assert parts.loc[("apb", "ceiling"), ["low", "high"]].tolist() == pytest.approx(
        welch_interval([-10, -9, -8, -7], [-14, -12, -10])
    )
    assert parts.loc[(TOLD, "ceiling"), "mean"] == 0
    # together: R minus the mean height, which is what is lost while adapting
    lost = parts.loc[[("apb", "speed"), ("apb", "ceiling")], "mean"].sum()
    assert lost == pytest.approx(-8.5 - np.mean(areas))
    alone = parts.loc["maml"]
    assert alone.loc["ceiling", "mean"] == pytest.approx(-8.5 + 45)
    assert alone[["low", "high"]].isna().all(axis=None)
    # the told policy itself: its zero-shot part is paired by seed, its ceiling has no interval
    assert parts.loc[(TOLD, "zero_shot"), "mean"] == -8.5 + 20
    assert parts.loc[(TOLD, "ceiling"), ["low", "high"]].isna().all()
    assert "zero" not in parts.index.get_level_values("method")


def test_without_the_told_policy_there_are_no_parts():
    bare = {name: curves for name, curves in TABLE.items() if name != TOLD}
    assert loss_parts(scores_of(bare)).empty
    changed = [scores_of(bare), scores_of({TOLD: TABLE[TOLD]}, variant="depth=2")]
    assert loss_parts(pd.concat(changed, ignore_index=True)).empty
    elsewhere = [scores_of(bare), scores_of({TOLD: TABLE[TOLD]}, axis="radius")]
    assert set(loss_parts(pd.concat(elsewhere, ignore_index=True))["method"]) == {TOLD}
    assert loss_parts(scores_of(bare).iloc[:0]).empty


def test_the_table_has_the_order_of_the_suite_and_every_part():
    parts = loss_parts(scores_of(TABLE))
    expected = pd.DataFrame({"method": ["apb", "maml", "unfinished"], "variant": ""})
    lines = loss_parts_table(parts, expected).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines] == ["method", "---", "apb", "maml"]
    assert all(len(line.split(" | ")) == 1 + len(PARTS) for line in lines)
