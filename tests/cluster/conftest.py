"""A slow method, the same cells run on this machine, and rows that can be compared."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from results.schema import NOT_COMPARED
from results.store import Store

# Meta-trains and adapts slowly enough to be stopped on the way.
SLOW = '''
import time
from dataclasses import dataclass
from methods.finetune import Finetune, FinetuneConfig

class Slow:
    """A learner that takes its time."""
    def __init__(self, learner): self.__dict__["learner"] = learner
    def __getattr__(self, name): return getattr(self.learner, name)
    def step(self, limit):
        time.sleep(0.02)
        return self.learner.step(limit)

class Patient(Finetune):
    """Fine-tuning, a step every 20 ms."""
    version = 1
    Config = FinetuneConfig
    def trainer(self, *arguments): return Slow(super().trainer(*arguments))
    def adapter(self, *arguments): return Slow(super().adapter(*arguments))
'''
RUN = ("run", "--suite", "ood", "--budget", "smoke", "--families", "point-goal", "--seeds", "2")
METHODS = ("--methods", "td3,zero", "--method", "patient_method:Patient")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the slow method, on the path of every process that is started."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "patient_method.py").write_text(SLOW)
    sys.path.append(str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(folder), os.environ.get("PYTHONPATH", "")])
    )
    os.environ["OMP_NUM_THREADS"] = "1"
    return folder


@pytest.fixture(scope="session")
def command(folder: Path) -> Callable[..., str]:
    """Run the command line in a process of its own; return its standard output."""

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", *words],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    return run


@pytest.fixture(scope="session")
def rows_of() -> Callable[[Path], pd.DataFrame]:
    """Return the rows of a store, sorted, without the columns in which equal runs may differ."""

    def rows_of(store: Path) -> pd.DataFrame:
        rows = Store(store, create=False).read()[0].drop(columns=[*NOT_COMPARED, "cell_id"])
        by = ["method", "seed", "stage", "env_steps", "task_index"]
        return rows.sort_values(by, kind="stable").reset_index(drop=True)

    return rows_of


@pytest.fixture(scope="session")
def expected(folder: Path, command: Any, rows_of: Any) -> pd.DataFrame:
    """The rows of a run on this machine."""
    command(*RUN, *METHODS, "--jobs", "1", "--store", "local")
    return rows_of(folder / "local")
