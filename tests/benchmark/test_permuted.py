"""A family with permuted entries runs from the command line, although no list names it."""

import json

from benchmark.suites import SUITES


def test_the_suite_runs_on_it(cli, here, rows_of):
    words = (
        "--suite",
        "ood",
        "--budget",
        "smoke",
        "--families",
        "permuted-point-goal",
        "--store",
        "store",
    )
    result = cli("run", *words)
    assert (result.code, result.err) == (0, "")
    rows = rows_of(here / "store")
    assert set(rows["family"]) == {"permuted-point-goal"} and set(rows["status"]) == {"ok"}
    tested = rows[rows["stage"] == "adapt"]
    assert set(tested["method"]) == set(SUITES["ood"].methods)
    assert set(tested["shift_axis"]) == {"permutation"} and set(tested["shift"]) == {1.0}
    for index, params in zip(tested["task_index"], tested["task_params"], strict=True):
        assert json.loads(params)["permutation"] == index + 1


def test_a_base_with_other_splits_is_no_obstacle(cli):
    words = ("--suite", "ood", "--budget", "smoke", "--methods", "zero", "--store", "store")
    assert "has no split 'ood'" in cli("run", *words, "--families", "cheetah-dir").complaint
    assert cli("run", *words, "--families", "permuted-cheetah-dir").code == 0
