"""A damaged train stage is done again, even if the scores that build on it are whole."""

import shutil

import pytest


@pytest.mark.parametrize("damage", ["truncated", "gone"])
def test_training_whose_record_was_lost_runs_again_and_its_rows_come_back(
    cli, here, rows_of, damage
):
    words = (
        "run",
        "--suite",
        "ood",
        "--budget",
        "smoke",
        "--families",
        "point-goal",
        "--methods",
        "maml",
        "--store",
        "store",
    )
    assert cli(*words).code == 0
    whole = rows_of(here / "store")
    [state] = (here / "store" / "train").rglob("state.safetensors")
    if damage == "truncated":
        state.write_bytes(state.read_bytes()[:100])
    else:
        shutil.rmtree(state.parent)
    assert len(rows_of(here / "store")) < len(whole)
    again = cli(*words)
    assert again.code == 0 and "1 of them earlier" in again.out
    assert rows_of(here / "store").equals(whole)
