"""What a desk-sized stage keeps in memory."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os
import numpy as np, torch
from envs.batch import BatchEnv
from envs.cheetah import CheetahVel
from methods.core.replay import Replay

def resident_mb():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20

family = CheetahVel()
torch.ones(1) + 1
before = resident_mb()
env = BatchEnv(family, family.sample(16, np.random.default_rng(0)))
env.reset()
env.step(np.zeros((16, 1, 6), np.float32))
replay = Replay(16, 100_000, family.observation_size, family.action_size, torch.device("cpu"))
replay._data.fill_(1.0)  # every page of it
print(resident_mb() - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the system does not say how much is resident"
)
def test_replay_and_simulators_of_16_tasks_and_100_000_steps_fit_in_400_mb(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert 250 < float(done.stdout) < 400
