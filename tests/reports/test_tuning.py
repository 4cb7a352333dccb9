"""The table of tuning: what was tried, and what the usual and the best settings score."""

from pathlib import Path

import pandas as pd
import pytest

from reports.parts.tuning import tuning_section
from results.store import StoreError
from results.trials import COLUMNS, load_trials


def log(folder: Path, method: str = "apb") -> None:
    """Write three trials at a quarter and two at half; the usual settings do not go on to half."""
    lines = [
        (0, 0.25, 0, "{}", -30.0, 60.0),
        (0, 0.25, 1, '{"depth": 2}', -20.0, 60.0),
        (0, 0.25, 2, '{"tau": 0.02}', -25.0, 60.0),
        (1, 0.5, 1, '{"depth": 2}', -15.0, 120.0),
        (1, 0.5, 2, '{"depth": 3, "tau": 0.02}', -12.34, 120.0),
    ]
    columns = ["rung", "fraction", "trial", "settings", "score", "core_s"]
    table = pd.DataFrame(lines, columns=columns).assign(
        budget="desk", family="cheetah-vel", method=method, seed=1_000_000, status="ok"
    )
    table.to_csv(folder / f"desk_cheetah-vel_{method}.csv", index=False)


def test_a_line_per_method_with_usual_and_best(tmp_path: Path) -> None:
    log(tmp_path, "apb")
    log(tmp_path, "td3")
    trials = load_trials(tmp_path)
    assert len(trials) == 10 and set(COLUMNS) <= set(trials)
    lines = [line for line in tuning_section(trials).splitlines() if line.startswith("| desk")]
    settings = "depth = 3, tau = 0.02"
    assert (
        lines[0]
        == "| desk | cheetah-vel | apb | 3 at 0.25, 2 at 0.5 | −30.0 at 0.25 | −12.3 at 0.5 |"
        f" {settings} | 7 |"
    )
    assert len(lines) == 2 and "td3" in lines[1]


def test_nothing_tuned_is_no_section(tmp_path: Path) -> None:
    assert tuning_section(load_trials(tmp_path / "nowhere")) == ""


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "", '"'])
def test_what_is_no_log_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(StoreError, match=r"x\.csv: it is not a tuning log"):
        load_trials(tmp_path)
