"""On rectangular tables our aggregates, profiles and probabilities of improvement are rliable's,
and so are their intervals without the correction for few seeds, which rliable does not have.

rliable always draws from the global generator, so each of its runs seeds that one.
Bounds of its intervals and of ours both depend on the draws: their tolerance is four standard
errors, estimated from runs with different seeds.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reports.stats.aggregates import (
    IQM,
    MEAN,
    MEDIAN,
    OPTIMALITY_GAP,
    aggregate,
    performance_profiles,
)
from reports.stats.improvement import probability_of_improvement

Scores = dict[str, "np.ndarray[Any, Any]"]  # method: [seeds, families], as in rliable
TAU = np.array([-0.2, 0.1, 0.5, 0.55, 0.8, 1.4])
RUNS, DRAWS = 8, 4_000


def methods(n_x: int, n_y: int, n_families: int) -> Scores:
    generator = np.random.default_rng(n_x)
    offsets = np.linspace(-0.3, 0.9, n_families)
    return {
        "x": generator.normal(offsets, 0.4, (n_x, n_families)),
        "y": generator.normal(offsets + 0.2, 0.4, (n_y, n_families)),
    }


def frame(scores: Scores) -> pd.DataFrame:
    lines = [
        {"family": f"f{f}", "axis": "a", "method": method, "variant": "", "seed": s, "score": score}
        for method, values in scores.items()
        for (s, f), score in np.ndenumerate(values)
    ]
    return pd.DataFrame(lines)


def ours_of(table: pd.DataFrame, method: str) -> pd.DataFrame:
    return table[table["method"] == method].reset_index(drop=True)


def assert_same_bounds(theirs: list[Any], ours: list[Any]) -> None:
    """Bounds [RUNS, 2, …] of intervals from different seeds agree in their mean over the runs."""
    left, right = np.array(theirs, dtype=float), np.array(ours, dtype=float)
    error = np.sqrt((left.var(axis=0, ddof=1) + right.var(axis=0, ddof=1)) / RUNS)
    assert (np.abs(left.mean(axis=0) - right.mean(axis=0)) <= 4 * error + 1e-12).all()


def runs_of(library: Any, scores: Any, function: Callable[..., Any], draws: int) -> list[Any]:
    """rliable's intervals [2, …] from RUNS seeds; the global generator is left as it was."""
    state, found = np.random.get_state(), []
    for seed in range(RUNS):
        np.random.seed(seed)
        found.append(library.get_interval_estimates({"m": scores}, function, reps=draws)[1]["m"])
    np.random.set_state(state)
    return found


@pytest.mark.parametrize("size", [(10, 10, 5), (5, 7, 4), (3, 3, 1), (9, 9, 7)], ids=str)
def test_aggregates_are_rliables(rliable: Any, size: tuple[int, int, int]) -> None:
    metrics, _ = rliable
    scores = methods(*size)
    table = aggregate(frame(scores), {})
    theirs = {
        IQM: metrics.aggregate_iqm,
        MEDIAN: metrics.aggregate_median,
        MEAN: metrics.aggregate_mean,
        OPTIMALITY_GAP: metrics.aggregate_optimality_gap,
    }
    for method, values in scores.items():
        found = ours_of(table, method).set_index("statistic")["value"]
        assert set(found.index) == set(theirs)
        for name, statistic in theirs.items():
            assert abs(found[name] - statistic(values)) < 1e-12


def test_intervals_of_aggregates_are_rliables(rliable: Any) -> None:
    metrics, library = rliable
    values = methods(10, 10, 5)["x"]

    def all_four(scores: Any) -> Any:
        return np.array(
            [
                getattr(metrics, f"aggregate_{name}")(scores)
                for name in ("iqm", "median", "mean", "optimality_gap")
            ]
        )

    ours = [
        aggregate(frame({"x": values}), {}, seed=seed, draws=DRAWS, corrected=False)[
            ["low", "high"]
        ]
        .to_numpy()
        .T
        for seed in range(RUNS)
    ]  # [RUNS, 2, 4]
    assert_same_bounds(runs_of(library, values, all_four, DRAWS), ours)


@pytest.mark.parametrize("size", [(10, 10, 5), (5, 7, 4)], ids=str)
def test_profiles_are_rliables(rliable: Any, size: tuple[int, int, int]) -> None:
    _, library = rliable
    scores = methods(*size)
    theirs, _ = library.create_performance_profile(scores, TAU, reps=2)
    table = performance_profiles(frame(scores), {}, TAU)
    for method in scores:
        np.testing.assert_allclose(
            ours_of(table, method)["value"], theirs[method], rtol=0, atol=1e-12
        )


def test_intervals_of_profiles_are_rliables(rliable: Any) -> None:
    _, library = rliable
    values = methods(10, 10, 5)["x"]
    ours = [
        performance_profiles(frame({"x": values}), {}, TAU, seed=seed, draws=DRAWS, corrected=False)
        for seed in range(RUNS)
    ]
    ours = [table[["low", "high"]].to_numpy().T for table in ours]
    theirs = runs_of(
        library,
        values,
        lambda scores: np.array([library.run_score_deviation(scores, tau) for tau in TAU]),
        DRAWS,
    )
    assert_same_bounds(theirs, ours)


@pytest.mark.parametrize("size", [(10, 10, 5), (5, 7, 4), (3, 4, 1)], ids=str)
def test_probabilities_of_improvement_are_rliables(
    rliable: Any, size: tuple[int, int, int]
) -> None:
    metrics, _ = rliable
    scores = {method: values.round(1) for method, values in methods(*size).items()}  # with ties
    found = probability_of_improvement(frame(scores), {}).set_index("method")["value"]
    assert abs(found["x"] - metrics.probability_of_improvement(scores["x"], scores["y"])) < 1e-12
    assert abs(found["y"] - metrics.probability_of_improvement(scores["y"], scores["x"])) < 1e-12


def test_intervals_of_improvements_are_rliables(rliable: Any) -> None:
    metrics, library = rliable
    scores = methods(8, 6, 3)
    ours = [
        probability_of_improvement(frame(scores), {}, seed=seed, draws=400, corrected=False)
        for seed in range(RUNS)
    ]
    ours = [table.set_index("method").loc["x", ["low", "high"]] for table in ours]
    theirs = runs_of(
        library,
        (scores["x"], scores["y"]),
        lambda x, y: np.array([metrics.probability_of_improvement(x, y)]),
        400,
    )
    assert_same_bounds(theirs, np.array(ours, dtype=float)[..., None].tolist())
