"""What a score cost, worked out by hand, and its figure."""

import pandas as pd
import pytest

from reports.parts.cost import COSTS, cost_figure, cost_points, costs_of
from reports.parts.styles import method_styles
from reports.stats.scores import adaptation_scores, coverage
from results.schema import Row, to_frame

BASE = {
    "budget": "quick",
    "family": "f",
    "family_version": "1",
    "method_version": 1,
    "variant": "",
    "config_hash": "c",
}
TABLE = ("s", "quick", "f", "ood")


def store(**changed):
    """Two seeds of `m`, which meta-trains; one of `m+ft` on the first, of `td3` and of `zero`."""
    rows, ids, cells = [], [], []
    for method, seed, train in (
        ("m", 0, "a"),
        ("m", 1, "b"),
        ("m+ft", 0, "a"),
        ("td3", 0, None),
        ("zero", 0, None),
    ):
        same = {"suite": "s", "budget": "quick", "family": "f", "split": "ood", "variant": ""}
        cells.append(
            {
                **same,
                "method": method,
                "seed": seed,
                "status": "done",
                "train_id": train,
                "train_status": "done",
            }
        )
        for task in range(3):
            for b in (0, 100):
                if method == "zero" and b:
                    continue
                spent = {
                    "wall_s": 1.0 + b / 10 + task,
                    "updates": b // 2,
                    "meta_env_steps": 5000 if train else None,
                }
                where = {
                    "task_index": task,
                    "shift_axis": "angle",
                    "shift": 0.5,
                    "env_steps": b,
                    "return_mean": -50.0 + b / 10,
                }
                rows.append(
                    Row(
                        **BASE,
                        suite="s",
                        suite_version=1,
                        split="ood",
                        stage="adapt",
                        method=method,
                        seed=seed,
                        **where,
                        **spent,
                    )
                )
                ids.append("")
    for train, seed in (("a", 0), ("b", 1)):
        for k in (1, 2):
            spent = {
                "env_steps": 2500 * k,
                "updates": 40 * k,
                "wall_s": 30.0 * k + seed,
                "online_return": -3.0,
            }
            rows.append(Row(**BASE, stage="train", method="m", seed=seed, **spent))
            ids.append(train)
    return to_frame(rows).assign(cell_id=pd.array(ids, dtype="string"), **changed), pd.DataFrame(
        cells
    )


def points_of(rows, cells):
    return cost_points(rows, cells, adaptation_scores(rows, cells)).set_index("method")


def test_meta_training_and_adaptation_count_together():
    points = points_of(*store())
    # the seconds of meta-training are the mean over two seeds
    assert points.loc["m", list(COSTS)].tolist() == [60.5 + 13.0, 5000 + 3 * 100, 80 + 50]
    # its meta-training is the other arm's
    assert points.loc["m+ft", list(COSTS)].tolist() == [60.0 + 13.0, 5300, 130]
    assert points.loc["td3", list(COSTS)].tolist() == [13.0, 300, 50]
    assert points.loc["zero", list(COSTS)].tolist() == [3.0, 0, 0]
    assert points["mean"].to_dict() == {"m": -40.0, "m+ft": -40.0, "td3": -40.0, "zero": -50.0}
    assert points["n_seeds"].to_dict() == {"m": 2, "m+ft": 1, "td3": 1, "zero": 1}


def test_each_split_and_suite_counts_its_own_cost():
    rows, cells = store()
    other = rows[rows["stage"] == "adapt"].assign(split="id", wall_s=1000.0, updates=7)
    other["cell_id"] = "later"
    trained = rows[rows["stage"] == "train"].assign(
        wall_s=9000.0, cell_id=lambda table: table["cell_id"] + "2"
    )
    again = cells.assign(split="id", train_id=cells["train_id"] + "2")
    both = pd.concat([rows, other, trained], ignore_index=True)
    expected = pd.concat([cells, again], ignore_index=True)
    points = cost_points(both, expected, adaptation_scores(both, expected)).set_index(
        ["split", "method"]
    )
    pd.testing.assert_frame_equal(
        points.loc["ood", list(COSTS)], points_of(rows, cells)[list(COSTS)]
    )
    assert (
        points.loc[("id", "m"), "seconds"] == 10_000.0 and points.loc[("id", "td3"), "updates"] == 7
    )


def test_a_seed_without_a_score_costs_nothing():
    rows, cells = store()
    lost = (
        (rows["method"] == "m")
        & (rows["seed"] == 1)
        & (rows["stage"] == "adapt")
        & (rows["task_index"] == 2)
    )
    points = points_of(rows[~lost], cells)
    assert points.loc["m", "seconds"] == 60.0 + 13.0 and points.loc["m", "n_seeds"] == 1


def test_what_no_row_tells_is_missing_and_not_nothing():
    rows, cells = store(wall_s=pd.NA)
    points = points_of(rows.astype({"wall_s": "Float64"}), cells)
    assert points["seconds"].isna().all() and points["steps"].notna().all()


@pytest.mark.parametrize("arms", [("m", "m+ft", "td3", "zero"), ("zero",)])
def test_the_figure_has_a_point_for_every_learner_in_each_panel(arms):
    rows, cells = store()
    rows, cells = rows[rows["method"].isin(arms)], cells[cells["method"].isin(arms)]
    points = costs_of(points_of(rows, cells).reset_index(), TABLE)
    expected = coverage(cells)
    styles = method_styles([(arm, "") for arm in arms])
    figure = cost_figure(points, expected, styles, "title", exact=("angle",))
    for axes in figure.axes:
        drawn = [line for line in axes.get_lines() if line.get_gid().startswith("cost:")]
        assert (
            len(drawn) == len(arms) - 1
            and sum(line.get_gid() == "bound:zero" for line in axes.get_lines()) == 1
        )
        for line in drawn:
            (x,) = line.get_xdata()
            assert axes.get_xlim()[0] <= x <= axes.get_xlim()[1]
    assert "exact linear images" in figure.axes[1].get_title()
