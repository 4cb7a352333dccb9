"""Notes below a figure: how many seeds, what is drawn around their mean, what is unfinished."""

from collections.abc import Sequence

import pandas as pd

from reports.stats.intervals import FEW_SEEDS, MIN_MAX, STUDENT
from reports.stats.scores import ARM, BOUNDS
from reports.text import listing, method_name, seeds_text, span

STOPPED = "A method that stops learning early is shown as it was when it stopped."


def seeds_note(
    points: pd.DataFrame, expected: pd.DataFrame, drawn: str, curve: Sequence[str]
) -> list[str]:
    """Return the sentences on the seeds behind a figure.

    Args:
      points: the points drawn, with `n_seeds` and the kind of `interval`.
      expected: `coverage` of the arms.
      drawn: the word for how an interval is drawn, such as "band".
      curve: the columns of `points` that identify a curve, on which points with fewer seeds than
        others are drawn hollow.
    """
    learners = expected[~expected["method"].isin(BOUNDS) & (expected["n_done"] > 0)]
    kinds = set(points["interval"]) - {""}
    bands = {
        frozenset({STUDENT}): "95 % interval over seeds, Student's t",
        frozenset({MIN_MAX}): "lowest to highest seed",
    }
    band = bands.get(
        frozenset(kinds),
        "95 % interval over seeds, Student's t, or lowest to highest where there are only two",
    )
    said = [
        f"Mean of {span(learners['n_done'])}{f'; {drawn}: {band}' if kinds else ''}.",
        few(learners["n_done"]),
    ]
    if (points["n_seeds"] < points.groupby(list(curve))["n_seeds"].transform("max")).any():
        said.append("Hollow: not every finished seed has a score there.")
    return [sentence for sentence in (*said, unfinished_note(expected)) if sentence]


def adaptation_note(points: pd.DataFrame, expected: pd.DataFrame) -> str:
    """The notes on adaptation curves; `points` also has `held_to`, `expected` also `remembers`."""
    said = seeds_note(points, expected, "band", ("family", *ARM, "axis"))
    if points.loc[~points["method"].isin(BOUNDS), "held_to"].notna().any():
        said.append(
            "Dashed: the method has stopped learning; its last score is extended to the end of the"
            " budget."
        )
    remembering = set(expected.loc[expected["remembers"], "method"])
    if inferring := [method for method in dict.fromkeys(points["method"]) if method in remembering]:
        ends = [method for method in inferring if method.endswith("+td3")]
        until = f" ({listing(ends)}: until TD3 takes over)" if ends else ""
        said.append(
            f"At 0 steps and later, an evaluated episode of {listing(inferring)} also serves to"
            f" infer the task{until}."
        )
    return " ".join(said)


def unfinished_note(expected: pd.DataFrame) -> str:
    """The arms with seeds that are not done, as a sentence; "" where there are none."""
    counts = ["n_expected", "n_done", "n_failed"]
    seeds = expected.groupby(list(ARM), sort=False)[counts].sum().reset_index()
    open_arms = seeds[seeds["n_done"] < seeds["n_expected"]]
    texts = (
        f"{method_name(arm.method, arm.variant)}"
        f" {seeds_text(arm.n_expected, arm.n_done, arm.n_failed)}"
        for arm in open_arms.itertuples()
    )
    return f"Incomplete: {listing(texts)}." if len(open_arms) else ""


def few(seeds: "pd.Series[int]") -> str:
    """A warning if some arm has fewer than five seeds, "" otherwise."""
    return (
        "Fewer than five seeds: a description, not a test."
        if len(seeds) and seeds.min() < FEW_SEEDS
        else ""
    )
