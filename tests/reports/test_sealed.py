"""Frozen against sealed tasks: pairs by hand, and what has no counterpart."""

import pandas as pd
import pytest

from envs.sealed import is_sealed, sealed_name
from reports.parts import sealed
from reports.parts.sealed import overfits, overfits_table

PLACE = {"suite": "ood", "budget": "quick", "family": "f", "axis": "speed", "variant": ""}


def scores_of(*cells):
    """Scores from (split, method, returns of the seeds); adaptation ends at 100 steps."""
    lines = [
        {**PLACE, "split": split, "method": method, "seed": seed, "env_steps": b, "return_mean": x}
        for split, method, returns in cells
        for seed, value in enumerate(returns)
        for b, x in ((0, -99.0), (100, value))
    ]
    return pd.DataFrame(lines)


def test_the_difference_is_paired_by_seed_over_the_mean_of_the_draws():
    found = overfits(
        scores_of(
            ("ood", "apb", [-10.0, -20.0, -30.0]),
            ("ood-sealed-1", "apb", [-11.0, -22.0, -33.0]),
            ("ood-sealed-2", "apb", [-13.0, -24.0, -35.0]),
            ("ood", "td3", [-5.0, -5.0, -5.0]),
            ("id-sealed-1", "td3", [-1.0, -1.0, -1.0]),
        )
    )
    (line,) = found.to_dict("records")
    assert (line["method"], line["split"], line["n_seeds"]) == ("apb", "ood", 3)
    assert (line["frozen"], line["sealed"]) == (-20.0, -23.0)
    assert line["difference"] == pytest.approx(3.0)  # the mean of 2, 3 and 4
    assert line["high"] - 3.0 == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    table = overfits_table(found, {})
    assert "| apb | -20.0 | -23.0 | 3.00 ± 2.48 | 3 |" in table


def test_without_sealed_tasks_there_is_nothing():
    assert overfits(scores_of(("ood", "apb", [-1.0, -2.0]))).empty


def test_names_are_those_of_the_tasks():
    name = sealed_name("ood", 7)
    assert is_sealed(name) and sealed._SEALED.fullmatch(name)[1] == "ood"
