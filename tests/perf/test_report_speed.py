"""Time to report on a large store (12 methods × 8 families, 10 000 rows) and to show its help."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from results.schema import Row
from results.store import CellKey, Store

METHODS = (
    "apb",
    "apb-random",
    "maml",
    "maml+ft",
    "cavia",
    "pearl",
    "varibad",
    "rl2",
    "td3",
    "finetune",
    "random",
    "zero",
)
FAMILIES = tuple(f"family-{i}" for i in range(8))
SEEDS, TASKS = 2, 6
CHECKPOINTS = (0, 200, 400, 1000, 2000, 4000, 10_000, 20_000)
LIMIT_S, HELP_S = 10.0, 1.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: Any) -> Path:
    """A store as a finished run at desk leaves it, without the trained states."""
    root = tmp_path_factory.mktemp("large")
    store, cells = Store(root, create=True), []
    for i, family in enumerate(FAMILIES):
        for j, method in enumerate(METHODS):
            for seed in range(SEEDS):
                slot = {
                    "budget": "desk",
                    "family": family,
                    "method": method,
                    "variant": "",
                    "seed": seed,
                }
                known = {**slot, "family_version": "1", "method_version": 1, "config_hash": "c"}
                train = CellKey("train", None, None, f"t{i}-{j}-{seed}")
                adapt = CellKey("adapt", "ood", 1, f"a{i}-{j}-{seed}")
                curve = [
                    Row(**known, stage="train", env_steps=1000 * k, online_return=float(k + j))
                    for k in range(1, 5)
                ]
                rows = [
                    Row(
                        **known,
                        stage="adapt",
                        split="ood",
                        task_index=task,
                        shift=float(1 + task // 2),
                        shift_axis="speed",
                        env_steps=b,
                        return_mean=-100.0 + j + seed + b / 1000 - task,
                        updates=b,
                        wall_s=b / 100,
                        meta_env_steps=800_000,
                    )
                    for b in CHECKPOINTS
                    for task in range(TASKS)
                ]
                store.write(train, curve, state=b"", log="", record={"status": "ok"})
                store.write(adapt, rows, state=None, log="", record={"status": "ok"})
                cells.append(
                    {
                        "slot": {**slot, "split": "ood"},
                        "key": asdict(adapt),
                        "train_key": asdict(train),
                    }
                )
    store.write_plan(
        {
            "suite": "ood",
            "suite_version": 1,
            "question": "Who adapts?",
            "arms": list(METHODS),
            "cells": cells,
        }
    )
    return root


def seconds(*words: str, cwd: Path) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "benchmark", *words], cwd=cwd, check=True, capture_output=True
    )
    return time.perf_counter() - start


def test_a_report_of_ten_thousand_rows_takes_seconds(
    benchmark: Any, judge: Callable[..., None], store: Path, tmp_path: Path
) -> None:
    rows, _ = Store(store, create=False).read()
    assert len(rows) >= 9_900
    taken = benchmark.pedantic(
        lambda: seconds("report", "--store", str(store), cwd=tmp_path), rounds=1
    )
    judge(LIMIT_S / taken, f"{taken:.1f} s", f"{LIMIT_S:g} s", goal=1.0, guard=0.5)


def test_help_comes_at_once(benchmark: Any, judge: Callable[..., None], tmp_path: Path) -> None:
    seconds("report", "--help", cwd=tmp_path)
    taken = min(
        benchmark.pedantic(
            lambda: [seconds("report", "--help", cwd=tmp_path) for _ in range(3)], rounds=1
        )
    )
    judge(HELP_S / taken, f"{taken:.2f} s", f"{HELP_S:g} s", goal=1.0, guard=1.0)
