"""The bound and the shortfall, from measures to tables, worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from reports.parts.theory import bound_figure, correlations_table, terms_table
from reports.stats.theory import TERMS, bound_points, rank_correlations
from results import measures
from results.measures import BOUND, COUNT_FREE_BOUND, HEAD_NORM, NEIGHBOURS, Measure
from results.schema import Row, to_frame

TASKS = 4
RETURNS = [[-9.0, -5.5, -7.0, -1.0], [-8.0, -4.0, -6.0, -6.0]]  # by seed and task, at the end
BOUNDS = [[40.0, 20.0, 30.0, 5.0], [1.0, 2.0, 3.0, 4.0]]


def tables(status=("done", "done")):
    """Two seeds of apb, and one of apb-random, which has no bound and ends at −5 on every task."""
    rows, cells, found = [], [], []
    for method, seed in (("apb", 0), ("apb", 1), ("apb-random", 0)):
        name = f"{method}{seed}"
        slot = {"suite": "theory", "budget": "quick", "family": "f", "split": "ood"}
        slot |= {"method": method, "variant": "", "seed": seed}
        ended = status[seed] if method == "apb" else "done"
        cells.append({**slot, "adapt_id": name, "train_id": None, "status": ended})
        ours = []
        for b in (0, 100):
            for task in range(TASKS):
                earned = -5.0 if method == "apb-random" else RETURNS[seed][task]
                same = {"family_version": "1", "method_version": 1, "config_hash": "c"}
                same |= {"suite_version": 1, "stage": "adapt", "env_steps": b, "shift": 1.0}
                at = {"env_steps": b, "task_index": task}
                row = Row(**slot, **same, shift_axis="angle", task_index=task)
                row = Row(**{**vars(row), "return_mean": earned if b else -50.0})
                rows.append((name, row))
                ours.append(Measure(name=HEAD_NORM, value=0.5 + b, **at))
                ours.append(Measure(name=NEIGHBOURS, value=1.0, at=0.5, **at))
                if method == "apb":
                    value = BOUNDS[seed][task] if b else 1000.0
                    ours.append(Measure(name=BOUND, value=value, **at))
                    ours.append(Measure(name=COUNT_FREE_BOUND, value=value / 10, **at))
        found.append((name, measures.to_frame(ours)))
    frame = to_frame([row for _, row in rows]).assign(
        cell_id=pd.array([name for name, _ in rows], dtype="string")
    )
    known = pd.DataFrame(cells).astype({"adapt_id": "string", "status": "string"})
    return frame, known, measures.joined(found)


def test_terms_are_those_of_the_last_policy_beside_what_it_falls_short_of():
    points = bound_points(*tables())
    assert len(points) == 3 * TASKS and set(TERMS) <= set(points)
    by = points.set_index(["method", "seed", "task_index"])
    assert by.loc[("apb", 1, 2), BOUND] == 3.0 and by.loc[("apb", 1, 2), HEAD_NORM] == 100.5
    # the best on task 1 is seed 1 itself, and on task 0 apb-random
    assert by.loc[("apb", 1, 1), "shortfall"] == 0 and by.loc[("apb", 1, 0), "shortfall"] == 3
    assert by.loc[("apb", 0, 0), "shortfall"] == 4
    assert points.loc[points["method"] == "apb-random", BOUND].isna().all()
    assert set(points["axis"]) == {"angle"}


def test_unfinished_cells_and_stores_without_the_measures_have_no_points():
    rows, cells, found = tables(status=("missing", "done"))
    points = bound_points(rows, cells, found)
    assert points.groupby("method")["seed"].unique().map(list).to_dict() == {
        "apb": [1],
        "apb-random": [0],
    }
    assert bound_points(rows, cells, None).empty
    assert bound_points(rows, cells, found[found["name"] == NEIGHBOURS]).empty


def without_ties(x, y):
    """Spearman's 1 − 6 Σ d² / (n (n² − 1)), d the difference of ranks."""
    ranks = [{value: i for i, value in enumerate(sorted(values))} for values in (x, y)]
    d = [ranks[0][a] - ranks[1][b] for a, b in zip(x, y, strict=True)]
    return 1 - 6 * sum(one**2 for one in d) / (len(d) * (len(d) ** 2 - 1))


def test_the_correlation_is_that_of_ranks_within_a_seed():
    points = bound_points(*tables())
    found = rank_correlations(points, [BOUND]).set_index("method")
    each = [
        without_ties(seed[BOUND], seed["shortfall"])
        for _, seed in points[points["method"] == "apb"].groupby("seed")
    ]
    assert found.loc["apb", "mean"] == pytest.approx(np.mean(each))
    assert found.loc["apb", ["low", "high"]].tolist() == pytest.approx(sorted(each))
    assert found.loc["apb-random", "n_seeds"] == 0
    few = points[points["task_index"] < 2]
    assert rank_correlations(few, [BOUND])["n_seeds"].tolist() == [0, 0]
    flat = points.assign(**{BOUND: 1.0})
    assert rank_correlations(flat, [BOUND])["n_seeds"].tolist() == [0, 0]


def test_tables_and_figure_show_what_is_there():
    points = bound_points(*tables())
    lines = terms_table(points).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == ["apb", "apb-random"]
    assert "–" in lines[3] and "13.1" in lines[2]  # the mean of the bounds
    text = correlations_table(rank_correlations(points))
    assert "apb-random" not in text and "2 L ‖ρₜ‖" in text and "| 2 |" in text
    figure = bound_figure(points[points["method"] == "apb"], "title")
    count_free, bound = figure.get_axes()
    (dots,) = [line for line in bound.lines if line.get_gid() == "dots:ood:angle"]
    assert sorted(dots.get_xdata()) == sorted(BOUNDS[0] + BOUNDS[1])
    assert count_free.get_xlabel() == "L ‖ρₜ‖ ε_max"
