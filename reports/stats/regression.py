"""Whether fresh runs score like published ones with the same methods and tasks but other seeds."""

from typing import Any

import numpy as np
import pandas as pd

from reports.stats.power import detectable_effect, pooled_deviation
from reports.stats.scores import ARM, TABLE
from reports.stats.significance import holm, lowest_p, permutation_test

LEVEL = 0.05  # of all tests together, by Holm's correction
POWER = 0.8
LEAST_SHARE = 0.05  # of the published mean's absolute value
# of the published deviation over seeds; a difference below the larger of the two is no regression
LEAST_DEVIATIONS = 0.5
SAME = "same"
WORSE = "worse"
BETTER = "better"
TOO_FEW = "too few seeds to tell"
PLACE = (*TABLE, "axis", *ARM)


def regressions(
    fresh: pd.DataFrame, known: pd.DataFrame, value: str = "return_mean"
) -> pd.DataFrame:
    """Compare the scores of arms in two sets of results, family by family and axis by axis.

    A score has moved if a two-sided permutation test over seeds says so at 5 %, Holm-corrected over
    all lines, and the difference reaches a least effect, so that with many seeds a negligible
    difference does not count:

        |x̄ − ȳ| ≥ max(0.05 |ȳ|, 0.5 s_y)

    with ȳ and s_y the mean and deviation of the known scores. A score that is too good fails as
    well: it is just as much a change.

    Args:
      fresh, known: `reports.stats.scores.last_scores` of both; NaN where a score is missing.
      value: the column to compare.
    Returns:
      One line per PLACE that both have, sorted: `mean` and `n_seeds` of the fresh scores,
      `known_mean`, `known_low`, `known_high` (lowest and highest seed) and `n_known`; `difference`;
      `p`, `p_holm`; `least_effect`; `detectable`, what a t-test at the level of the first of Holm's
      steps finds with a power of 80 %, infinite where so few seeds can never show a difference; and
      the `verdict`, SAME, WORSE, BETTER or TOO_FEW.
    """
    mine, theirs = (
        {
            place: scores[value].dropna().to_numpy(float)
            for place, scores in table.groupby(list(PLACE))
        }
        for table in (fresh, known)
    )
    places = sorted(
        place for place in mine if place in theirs and len(mine[place]) and len(theirs[place])
    )
    lines = [(*place, *_compared(mine[place], theirs[place], len(places))) for place in places]
    numbers = ["mean", "n_seeds", "known_mean", "known_low", "known_high", "n_known"]
    columns = [*PLACE, *numbers, "difference", "p", "least_effect", "detectable", "possible"]
    found = pd.DataFrame(lines, columns=columns)
    found["p_holm"] = holm(found["p"].to_numpy(float))
    found["verdict"] = [_verdict(line) for line in found.to_dict("records")]
    return found.drop(columns="possible")


def _compared(x: Any, y: Any, n_tests: int) -> tuple[Any, ...]:
    level = LEVEL / n_tests  # Holm's first step, which a single change among many must pass
    possible = x.size + y.size > 2 and lowest_p(x.size, y.size) <= level
    deviation = pooled_deviation(x, y)
    detectable = detectable_effect(deviation, x.size, y.size, level, POWER) if possible else np.inf
    least = max(
        LEAST_SHARE * abs(y.mean()),
        LEAST_DEVIATIONS * (float(y.std(ddof=1)) if y.size > 1 else 0.0),
    )
    p = permutation_test(x, y, np.random.default_rng(0))
    numbers = x.mean(), x.size, y.mean(), y.min(), y.max(), y.size
    return (*numbers, x.mean() - y.mean(), p, least, detectable, possible)


def _verdict(line: Any) -> str:
    if line["p_holm"] <= LEVEL and abs(line["difference"]) >= line["least_effect"]:
        return BETTER if line["difference"] > 0 else WORSE
    return SAME if line["possible"] else TOO_FEW
