"""Is a test task possible, and is it new? `python -m envs.evidence cheetah-vel ood` looks for an answer without a learner.

On every task of a split it compares three policies, each from episodes that the search did not see:

- still: the zero action;
- range: the best, for this task, of the policies that `envs.search` finds for the tasks of the split `id`, one for each: what
  somebody who masters the training range and picks the right one of its policies would earn;
- own: the policy that the search finds on the task itself.

Where own is above both, a policy can do better there than standing still and than the training range. The search is a weak
one, so this is a lower bound on what can be done, and own below range says nothing.
"""

import sys
from functools import partial

import numpy as np
import pandas as pd

from envs import load_family
from envs.api import FloatArray, Task, TaskFamily
from envs.batch import BatchEnv
from envs.search import Gait, Knots, rollout, search

RESETS = 10  # episodes of each policy on each task
GAIN = 0.2  # of the gaits' feedback
find = partial(search, population=64, elites=8, iterations=15, width=0.3)


def compare(family: TaskFamily, split: str, generator: np.random.Generator) -> pd.DataFrame:
    """One line per task of the split: `shift_axis`, `shift`, and the returns `still`, `range` and `own`."""
    gait, tasks, known = Gait(family.observation_size, family.action_size, GAIN), family.split(split), family.split("id")
    own = find(family, tasks, gait, generator).theta  # [N, P]
    trained = find(family, known, gait, generator).theta  # [M, P]
    zero = Knots(family.action_size, 1, 1)
    lines = {
        "shift_axis": [task.shift_axis for task in tasks],
        "shift": [task.shift for task in tasks],
        "still": returns(family, tasks, zero, np.zeros((len(tasks), 1, zero.size)))[:, 0],
        "range": returns(family, tasks, gait, np.broadcast_to(trained, (len(tasks), *trained.shape))).max(axis=1),
        "own": returns(family, tasks, gait, own[:, None])[:, 0],
    }
    return pd.DataFrame(lines)


def returns(family: TaskFamily, tasks: tuple[Task, ...], policy: Gait | Knots, theta: FloatArray) -> FloatArray:
    """Mean return [N, M] of M policies on each task, parameters [N, M, P], from the same starts."""
    columns = []
    for m in range(theta.shape[1]):
        env = BatchEnv(family, tasks, RESETS, seed=1)
        columns.append(
            rollout(env, policy, np.repeat(theta[:, m : m + 1], RESETS, axis=1), family.horizon).returns.mean(axis=1)
        )
    return np.stack(columns, axis=1)


def main(family_id: str, split: str) -> None:
    """Print the mean over the tasks of each level of shift."""
    found = compare(load_family(family_id), split, np.random.default_rng(0))
    levels = found.groupby(["shift_axis", "shift"]).mean().round(1)
    levels["better in"] = (
        (found["own"] > found[["still", "range"]].max(axis=1)).groupby([found["shift_axis"], found["shift"]]).sum()
    )
    levels["tasks"] = found.groupby(["shift_axis", "shift"]).size()
    print(levels.to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
