"""Everything that a report is drawn from, computed from rows."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.parts.cost import cost_points
from reports.parts.drawing import Style
from reports.parts.films import Clip
from reports.parts.shift import shift_points
from reports.parts.styles import method_styles
from reports.parts.untrained import training_floors
from reports.stats.generalisation import tried_elsewhere, with_neighbours
from reports.stats.radius import adaptation_radius
from reports.stats.scores import (
    ARM,
    Arm,
    adaptation_scores,
    add_hold,
    coverage,
    level_scores,
    meta_training_scores,
    summarise,
)
from reports.stats.shift_axes import exact_axes
from reports.stats.theory import bound_points


@dataclass(frozen=True)
class ReportData:
    """Everything that the page of one or more suites is drawn from."""

    plans: list[dict[str, Any]]  # in the order of the page
    rows: pd.DataFrame
    cells: pd.DataFrame
    scores: pd.DataFrame  # scores of adaptation, per seed
    elsewhere: pd.DataFrame  # returns on neighbours and under noise, per seed
    bounds: pd.DataFrame  # terms of APB's bound, per seed and task
    points: pd.DataFrame  # summary of `scores` over seeds, with held_to
    shifts: pd.DataFrame  # scores against shift, at b = 0 and at the last checkpoint
    normal_shifts: pd.DataFrame  # the same for normalised scores
    radii: pd.DataFrame  # adaptation radius of every arm
    costs: pd.DataFrame  # final scores and what they cost
    training: pd.DataFrame  # scores of meta-training, per seed
    floors: pd.DataFrame  # end of meta-training beside the zero action, per seed
    # coverage, in the order of the plans; `remembers`: the method infers the task in an episode
    expected: pd.DataFrame
    styles: dict[Arm, Style]
    clips: tuple[Clip, ...]  # films of policies
    # by family, the shift axes along which test tasks are exact linear images of training tasks
    exact: dict[str, frozenset[str]]


def compute(
    rows: pd.DataFrame,
    cells: pd.DataFrame,
    plans: list[dict[str, Any]],
    measures: pd.DataFrame | None = None,
    references: pd.DataFrame | None = None,
    clips: Iterable[Clip] = (),
    remembering: Collection[str] = (),
) -> ReportData:
    """Turn a store's rows and expected cells into its report's numbers, scaled by `references`.

    Args:
      measures: those of the same stages, as from `results.store.Store.measures`; None for none.
      remembering: methods that infer the task within an evaluated episode.
    Raises:
      ReportError: if rows contradict each other.
    """
    scores = adaptation_scores(rows, cells, references)
    elsewhere = tried_elsewhere(rows, cells, measures)
    if not elsewhere.empty:
        scores = with_neighbours(scores, elsewhere)
    order = {
        method: i
        for i, method in reversed(
            list(enumerate(method for plan in plans for method in plan["arms"]))
        )
    }
    expected = coverage(cells)
    expected["remembers"] = expected["method"].isin(remembering)
    expected = expected.sort_values(
        "method", key=lambda names: names.map(order).fillna(len(order)), kind="stable"
    )
    styles = method_styles(list(expected[list(ARM)].itertuples(index=False, name=None)))
    points = add_hold(summarise(scores))
    levels = level_scores(rows, cells, references)
    shifts = shift_points(levels), shift_points(levels, "normalised")
    costs = cost_points(rows, cells, scores)
    training = meta_training_scores(rows, cells)
    floors = training_floors(training, cells, measures)
    return ReportData(
        plans,
        rows,
        cells,
        scores,
        elsewhere,
        bound_points(rows, cells, measures),
        points,
        *shifts,
        adaptation_radius(levels),
        costs,
        training,
        floors,
        expected,
        styles,
        tuple(clips),
        exact_axes(plans),
    )
