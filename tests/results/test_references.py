"""Reference returns: their rule on rows made by hand, their files, and the normalised score."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from envs import FAMILIES, load_family
from envs.api import TASKS
from results.files import StoreError
from results.references import REFERENCES, collect, load_references, normalised, write_references
from results.schema import PROTOCOL_VERSION, Row, to_frame


def row(
    method: str,
    mean: float,
    std: float = 1.0,
    seed: int = 0,
    env_steps: int = 0,
    task: int = 0,
    **changes: Any,
) -> Row:
    what = {
        "suite": "oracle",
        "suite_version": 1,
        "budget": "b",
        "family": "f",
        "family_version": "1+a",
        "split": "ood",
    }
    how = {
        "method_version": 1,
        "variant": "",
        "config_hash": "",
        "stage": "adapt",
        "n_episodes": 10,
        "task_params": '{"a": 1.0}',
    }
    return Row(
        **(what | how | changes),
        method=method,
        seed=seed,
        env_steps=env_steps,
        task_index=task,
        return_mean=mean,
        return_std=std,
    )


ROWS = [
    row("random", -60.0, 3.0, seed=0),
    row("random", -50.0, 4.0, seed=1),
    row("zero", -51.0, 0.5),
    row("td3", -1.0, 0.1, seed=1, env_steps=50),  # the best ever, long before the end
    row("td3", -40.0, 0.1, seed=0, env_steps=50),
    row("td3", -20.0, 0.1, seed=0, env_steps=100),  # the best one checkpoint earlier, which decides
    row("td3", -25.0, 0.1, seed=1, env_steps=100),
    row("td3", -30.0, 1.0, seed=0, env_steps=200),
    row("td3", -29.0, 2.0, seed=1, env_steps=200),  # the best at the end
]


def test_the_oracle_is_the_end_of_the_seed_that_was_best_one_checkpoint_earlier() -> None:
    oracle = collect(to_frame(ROWS), "f")["splits"]["ood"][0]["oracle"]
    assert (oracle["mean"], oracle["env_steps"], oracle["seeds"], oracle["episodes"]) == (
        -30.0,
        200,
        2,
        10,
    )
    assert oracle["high"] - oracle["mean"] == pytest.approx(1.96 * 1.0 / np.sqrt(10))


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        (row("td3", -5.0, seed=2, env_steps=200, status="diverged"), "td3 on f has diverged rows"),
        (row("zero", -50.0, seed=1, budget="other"), "must have one budget, got b, other"),
        (
            row("zero", -50.0, seed=1, protocol_version=2),
            "must have one protocol_version, got 1, 2",
        ),
    ],
)
def test_what_cannot_be_a_reference_is_refused(extra: Row, complaint: str) -> None:
    with pytest.raises(StoreError, match=complaint):
        collect(to_frame([*ROWS, extra]), "f")


def test_settings_that_were_tuned_do_not_count() -> None:
    tuned = [
        row("td3", -2.0, seed=seed, env_steps=b, variant="gamma=0.5")
        for seed in (0, 1)
        for b in (50, 100, 200)
    ]
    assert collect(to_frame([*ROWS, *tuned]), "f") == collect(to_frame(ROWS), "f")


def test_references_of_another_protocol_are_not_read(tmp_path: Path) -> None:
    write_references(
        to_frame([replace(r, protocol_version=PROTOCOL_VERSION + 1) for r in ROWS]), tmp_path
    )
    assert load_references(tmp_path).empty


def test_a_bound_averages_all_episodes_of_all_seeds() -> None:
    random = collect(to_frame(ROWS), "f")["splits"]["ood"][0]["random"]
    assert (random["mean"], random["episodes"], random["seeds"]) == (-55.0, 20, 2)
    # the variance of the 20 episodes taken together
    variance = np.mean([3.0**2, 4.0**2]) + np.var([-60.0, -50.0])
    assert random["mean"] - random["low"] == pytest.approx(1.96 * np.sqrt(variance / 20))


def test_files_come_back_as_one_table_with_the_floor(tmp_path: Path) -> None:
    rows = [*ROWS, row("random", -1.0, task=1), row("zero", -2.0, task=1)]
    assert [path.name for path in write_references(to_frame(rows), tmp_path)] == ["f.json"]
    table = load_references(tmp_path)
    assert list(table["task_index"]) == [0, 1]
    assert list(table["floor"]) == [-51.0, -1.0]
    assert table["oracle"].iloc[0] == -30.0 and np.isnan(table["oracle"].iloc[1])
    assert list(table["uncertain"]) == [False, False]


@pytest.mark.parametrize(("oracle", "uncertain"), [(-50.5, True), (-49.0, True), (-48.0, False)])
def test_an_oracle_that_the_floor_may_reach_is_uncertain(
    tmp_path: Path, oracle: float, uncertain: bool
) -> None:
    """The oracle is uncertain if the two intervals meet; here each is its mean ± 1.24."""
    rows = [
        row("random", -60.0),
        row("zero", -51.0, 2.0),
        *(row("td3", oracle, 2.0, env_steps=b) for b in (5, 9)),
    ]
    write_references(to_frame(rows), tmp_path)
    assert load_references(tmp_path)["uncertain"].tolist() == [uncertain]


def test_an_edited_file_is_refused(tmp_path: Path) -> None:
    (path,) = write_references(to_frame(ROWS), tmp_path)
    path.write_text(path.read_text().replace("-30.0", "-29.0", 1))
    with pytest.raises(StoreError, match="restore it"):
        load_references(tmp_path)


def test_a_missing_bound_and_a_mix_of_versions_are_refused() -> None:
    with pytest.raises(StoreError, match="no row of zero"):
        collect(to_frame([ROWS[0]]), "f")
    with pytest.raises(StoreError, match="must have one family_version, got 1\\+a, 2"):
        collect(to_frame([*ROWS, row("zero", 0.0, family_version="2")]), "f")


def test_the_normalised_score_is_0_at_the_floor_and_1_at_the_expert_and_missing_without_one() -> (
    None
):
    value = pd.Series([-51.0, -30.0, -72.0, -40.5, -9.0, 0.0, 0.0])
    floor = pd.Series([-51.0] * 5 + [-1.0] * 2)
    oracle = pd.Series([-30.0] * 5 + [np.nan, -2.0])  # the last expert is worse than the floor
    np.testing.assert_allclose(
        normalised(value, floor, oracle), [0.0, 1.0, -1.0, 0.5, 2.0, np.nan, np.nan]
    )


def test_what_is_shipped_has_a_floor_for_every_test_task_and_an_expert_for_the_point_families() -> (
    None
):
    table = load_references(REFERENCES)
    assert not table.duplicated(["family", "split", "task_index"]).any()
    assert table["floor"].notna().all()
    experts = table[table["oracle"].notna()]
    assert set(experts["family"]) == {"point-goal", "point-rand"}
    assert (experts["oracle"] > experts["floor"] + 20).all() and not experts["uncertain"].any()


def stated() -> dict[tuple[str, str], list[str]]:
    """Cells of the reference score table in envs/README.md, by family and split with its axis."""
    text = (
        (TASKS.parent / "README.md")
        .read_text(encoding="utf-8")
        .partition("## Reference scores")[2]
        .partition("\n## ")[0]
    )
    found, family = {}, ""
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| family"):
            name, split, *numbers = (
                cell.strip().replace("`", "") for cell in line.strip("|").split("|")
            )
            family = name or family
            found[family, split] = numbers
    return found


def test_the_table_of_reference_scores_says_what_is_shipped() -> None:
    table, expected = load_references(REFERENCES), {}
    for family in FAMILIES:
        for split in load_family(family).splits():
            tasks = load_family(family).split(split)
            of_split = table[(table["family"] == family) & (table["split"] == split)].sort_values(
                "task_index"
            )
            assert list(of_split["task_params"]) == [
                json.dumps(dict(task.params), sort_keys=True) for task in tasks
            ]
            for axis in dict.fromkeys(task.shift_axis for task in tasks):
                group = of_split[[task.shift_axis == axis for task in tasks]]
                means = (group[name].mean() for name in ("zero", "random", "oracle"))
                numbers = [
                    "" if np.isnan(mean) else f"{mean:.1f}".replace("-", "−") for mean in means
                ]
                expected[family, f"{split}, {axis}" if axis else split] = [
                    str(len(group)),
                    *numbers,
                ]
    assert stated() == expected
