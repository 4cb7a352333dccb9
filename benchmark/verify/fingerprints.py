"""Fingerprints of simulator and learners: the result of a fixed short run, kept for comparison.

Simulator fingerprints are exact and hold for one version of MuJoCo on one processor architecture.
Learner fingerprints are the returns and meta-trained weights of a run at smoke, compared with a
tolerance because their sums also depend on the processor: they hold for one version of the method
and of torch, one processor with one instruction set, and one number of threads. Weights are
included because a few gradient steps change them long before they change a return. Where none is
recorded for this machine, nothing is known and no check passes.
"""

import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pandas as pd
import torch
from safetensors.torch import load as load_tensors

from benchmark.provenance import provenance
from envs import FAMILIES, load_family
from envs.batch import BatchEnv
from results.files import DamageError, StoreError, commit, explained, read, seal, unseal

FILE = "fingerprints.json"
TOLERANCE = 1e-4  # for returns; relative where a return is larger than 1
WEIGHTS_TOLERANCE = 1e-5  # likewise, for sums over weights
_STEPS = 40
_TASKS = 2
_COPIES = 2


def simulator_key() -> str:
    """Return what a simulator fingerprint holds for: versions and machine."""
    return f"mujoco {mujoco.__version__}, {platform.machine()}"


def learner_key() -> str:
    """Return what a learner fingerprint holds for; runs use one thread of torch each."""
    capability = torch.backends.cpu.get_cpu_capability()
    processor = provenance()["machine"]["processor"]
    return f"torch {torch.__version__.partition('+')[0]}, {capability}, {processor}, 1 thread"


def simulator_fingerprints() -> dict[str, str]:
    """Return a bitwise digest per family: observations, rewards and ends under fixed actions."""
    return {name: _digest(name) for name in FAMILIES}


def _digest(name: str) -> str:
    family = load_family(name)
    tasks = family.split(next(iter(family.splits())))[:_TASKS]
    env = BatchEnv(family, tasks, _COPIES, 1, seed=0)
    seen = hashlib.sha256()
    obs = env.reset()
    seen.update(obs.tobytes())
    shape = (len(tasks), _COPIES, family.action_size)
    phase = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    for t in range(_STEPS):
        step = env.step(np.sin(0.3 * t + phase).astype(np.float32))
        for part in step:
            seen.update(part.tobytes())
        ended = step.terminated | step.truncated
        if ended.any():
            seen.update(env.reset(ended).tobytes())
    return seen.hexdigest()[:16]


def learner_fingerprints(rows: pd.DataFrame) -> dict[str, list[float]]:
    """Return the fingerprints of a smoke run, by method@version.

    Each lists the return of every task at the last checkpoint, the mean returns over tasks of the
    evaluated episodes and of the method's own at every checkpoint, and the number of updates.

    Args:
      rows: rows of one seed of each method on one family.
    """
    found = {}
    for (method, version), of_method in rows[rows["stage"] == "adapt"].groupby(
        ["method", "method_version"]
    ):
        at = of_method.groupby("env_steps")
        means = [
            at[name].mean().astype("Float64").dropna().round(6)
            for name in ("return_mean", "online_return")
        ]
        last = (
            of_method[of_method["env_steps"] == of_method["env_steps"].max()]
            .sort_values("task_index")["return_mean"]
            .round(6)
        )
        returns = pd.concat([last.astype("Float64"), *means]).to_numpy(dtype=float, na_value=np.nan)
        found[f"{method}@{version}"] = [*map(float, returns), float(at["updates"].max().iloc[-1])]
    return found


def weights_fingerprint(state: bytes) -> list[float]:
    """Return Σ w² and Σᵢ wᵢ cos i over the floating-point numbers of a meta-trained state."""
    tensors = load_tensors(state)
    floats = (tensors[name] for name in sorted(tensors) if tensors[name].is_floating_point())
    w = torch.cat([torch.zeros(0).double(), *(tensor.double().flatten() for tensor in floats)])
    i = torch.arange(len(w), dtype=torch.float64)
    return [float(w @ w), float(w @ i.cos())]


def differs(ours: Any, known: Any, tolerance: float = TOLERANCE) -> bool:
    """Return whether a fingerprint differs from the known one."""
    if isinstance(ours, str) or isinstance(known, str):
        return bool(ours != known)
    return len(ours) != len(known) or not np.allclose(ours, known, rtol=tolerance, atol=tolerance)


def load(folder: Path) -> dict[str, Any]:
    """Return the fingerprints in a folder: by kind, then by key, then by family or method.

    The kinds are `simulator`, `learner` (returns), and `weights`.

    Raises:
      StoreError: if the file was altered.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        with explained(path):
            return unseal(read(path))
    except DamageError as damage:
        raise StoreError(
            f"{path}: {damage}: restore it, or record it again with --record"
        ) from damage


def record(folder: Path, kind: str, key: str, found: Mapping[str, Any]) -> None:
    """Store the fingerprints of this machine, replacing any earlier ones of the same key."""
    known = load(folder)
    known.setdefault(kind, {})[key] = dict(found)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        commit(folder, {FILE: seal(known)})
