"""Returns on neighbours and under noise, from measures to a table, worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from reports.parts.generalisation import (
    generalisation_figure,
    generalisation_points,
    generalisation_table,
)
from reports.parts.styles import method_styles
from reports.stats.claim_tests import claim_tests
from reports.stats.claims import CLAIMS, EQUAL, KEPT, Claim
from reports.stats.generalisation import (
    PLACES,
    at_equal_return,
    kept_on_neighbours,
    tried_elsewhere,
    with_neighbours,
)
from reports.stats.scores import adaptation_scores, coverage
from results import measures
from results.measures import ACTION_NOISE, NEIGHBOURS, ZERO_RETURN, Measure
from results.schema import Row, to_frame

NAN = float("nan")
STEPS = (0, 100, 200)
HOME = {"apb": (-60.0, -40.0, -20.0), "td3": (-60.0, -50.0, -10.0)}
# how far the return on neighbours is below that at home, at each checkpoint
COST = {"apb": (0.0, 2.0, 4.0), "td3": (0.0, 10.0, 30.0)}
SHARES = (0.5, 1.0)  # the farther neighbours cost 2 more than the nearer


def tables(seeds=2, status="done", tasks=2, cost=COST):
    """Rows, cells and measures of two methods; seed s earns s more everywhere."""
    rows, cells, found = [], [], []
    for method in HOME:
        for seed in range(seeds):
            slot = {"suite": "g", "budget": "desk", "family": "f", "split": "id"}
            slot |= {"method": method, "variant": "", "seed": seed}
            name = f"{method}{seed}"
            cells.append({**slot, "adapt_id": name, "train_id": None, "status": status})
            ours = []
            for b, home, less in zip(STEPS, HOME[method], cost[method], strict=True):
                for task in range(tasks):
                    # tasks differ by 10, around the mean
                    mine = home + seed + 10 * task - 5 * (tasks - 1)
                    same = {"family_version": "1", "method_version": 1, "config_hash": "c"}
                    same |= {"suite_version": 1, "stage": "adapt", "env_steps": b}
                    rows.append((name, Row(**slot, **same, task_index=task, return_mean=mine)))
                    at = {"env_steps": b, "task_index": task}
                    for share, extra in zip(SHARES, (-1, 1), strict=True):
                        value = mine - less - extra
                        ours.append(Measure(name=NEIGHBOURS, at=share, value=value, **at))
                    ours.append(Measure(name=ACTION_NOISE, at=0.2, value=mine - 3, **at))
            ours.append(Measure(name=ZERO_RETURN, env_steps=0, value=-1.0))
            found.append((name, measures.to_frame(ours)))
    frame = to_frame([row for _, row in rows]).assign(
        cell_id=pd.array([name for name, _ in rows], dtype="string")
    )
    known = pd.DataFrame(cells).astype({"adapt_id": "string", "status": "string"})
    return frame, known, measures.joined(found)


def scored(**kwargs):
    rows, cells, found = tables(**kwargs)
    elsewhere = tried_elsewhere(rows, cells, found)
    return with_neighbours(adaptation_scores(rows, cells), elsewhere), elsewhere, coverage(cells)


def test_a_return_elsewhere_is_the_mean_over_tasks_of_a_finished_seed():
    rows, cells, found = tables()
    elsewhere = tried_elsewhere(rows, cells, found)
    assert len(elsewhere) == 2 * 2 * 3 * (2 + 1) and set(elsewhere["name"]) <= set(PLACES)
    by = elsewhere.set_index(["method", "seed", "env_steps", "name", "at"])["return_mean"]
    assert by["td3", 1, 200, NEIGHBOURS, 1.0] == -10 + 1 - 30 - 1
    assert by["apb", 0, 100, ACTION_NOISE, 0.2] == -40 - 3
    assert tried_elsewhere(rows, cells.assign(status="missing"), found).empty
    assert tried_elsewhere(rows, cells, None).empty
    bare = found[found["name"] == ZERO_RETURN]
    assert tried_elsewhere(rows, cells, bare).empty


def test_what_is_kept_is_judged_at_the_end():
    kept = kept_on_neighbours(scored()[0]).set_index(["method", "seed"])["kept"]
    assert kept.to_dict() == {("apb", 0): -4, ("apb", 1): -4, ("td3", 0): -30, ("td3", 1): -30}


def test_at_equal_return_a_policy_is_taken_where_it_first_earns_what_all_seeds_earn():
    """apb ends at −20 + seed, td3 at −10 + seed: the return that all reach is −20."""
    equal = at_equal_return(scored()[0]).set_index(["method", "seed"])
    assert set(equal["home"]) == {-20.0}
    assert equal.loc[("apb", 0), "equal"] == -24
    # between −39 and −19 at home, where neighbours have −41 and −23
    assert equal.loc[("apb", 1), "equal"] == pytest.approx(np.interp(-20, [-39, -19], [-41, -23]))
    assert equal.loc[("td3", 0), "equal"] == pytest.approx(np.interp(-20, [-50, -10], [-60, -40]))
    assert equal.loc[("td3", 1), "equal"] == pytest.approx(np.interp(-20, [-49, -9], [-59, -39]))


def test_bounds_do_not_lower_that_return_and_who_begins_above_it_has_none():
    table = scored()[0]
    zero = table[table["method"] == "td3"].assign(method="zero", return_mean=-99.0)
    both = at_equal_return(pd.concat([table, zero], ignore_index=True))
    assert set(both["home"]) == {-20.0} and set(both["method"]) == {"apb", "td3"}
    higher = table["return_mean"].where(table["method"] != "td3", table["return_mean"] + 100)
    equal = at_equal_return(table.assign(return_mean=higher)).set_index(["method", "seed"])["equal"]
    assert equal["td3"].isna().all() and equal["apb"].notna().all()


def test_the_claim_is_tested_by_both():
    (general,) = [claim for claim in CLAIMS if claim.suite == "generalisation"]
    assert general.statistics == (KEPT, EQUAL)
    claim = Claim("", "", "g", arms=("apb",), others=("td3",), statistics=(KEPT, EQUAL))
    scores = scored(seeds=6)[0]
    tests = claim_tests(claim, scores).set_index("statistic")
    assert tests.loc[KEPT, "difference"] == 26 and tests.loc[KEPT, "favours"]
    assert tests.loc[KEPT, "p"] == pytest.approx(2 / 924)
    assert tests.loc[EQUAL, ["n_seeds", "n_other"]].tolist() == [6, 6]
    other = scores[scores["method"] == "td3"].assign(
        method="finetune", return_mean=scores["return_mean"] - 30
    )
    among = claim_tests(claim, pd.concat([scores, other], ignore_index=True))
    assert among.set_index("statistic").loc[EQUAL, "p"] == tests.loc[EQUAL, "p"]
    before = claim_tests(claim, scores.drop(columns="neighbours"))
    assert before["p"].isna().all() and len(before) == 2


def test_the_table_says_both_and_how_many_seeds_got_there():
    scores, _, expected = scored()
    lines = [
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in generalisation_table(scores, expected).splitlines()
    ]
    assert lines[0][-1] == "on neighbours, at −20.0 on own task"
    assert lines[2][0] == "apb" and lines[2][-1].startswith("−23.9")
    above = scores.assign(
        return_mean=scores["return_mean"] + 100 * (scores["method"] == "td3") * scores["seed"]
    )
    assert "(1 of 2 seeds)" in generalisation_table(above, expected)
    assert lines[3][3].startswith("−30")


def test_the_figure_starts_each_curve_at_the_task_itself():
    scores, elsewhere, expected = scored()
    points = generalisation_points(scores, elsewhere)
    assert points[points["at"] == 0].groupby("method")["mean"].unique().to_dict() == {
        "apb": [-19.5],
        "td3": [-9.5],
    }
    styles = method_styles([("apb", ""), ("td3", "")])
    figure = generalisation_figure(points, expected, styles=styles, title="t", end=200)
    panels = figure.get_axes()
    assert [axes.get_xlabel() for axes in panels] == list(PLACES.values())
    (apb, td3) = [line for line in panels[0].lines if (line.get_gid() or "").startswith("curve")]
    assert apb.get_xdata().tolist() == [0, 0.5, 1]
    assert td3.get_ydata().tolist() == [-9.5, -9.5 - 29, -9.5 - 31]
    assert panels[0].get_ylabel() == "return at b = 200"
