"""Is a test task possible, and is it new? `python -m envs.screening.evidence cheetah-vel ood`
answers without a learner.

On every task of a split it compares three policies, each on episodes that the search did not see:

- still: the zero action;
- range: the best, for this task, of the policies that `envs.screening.search` finds for the tasks
  of the split `id`, one for each: what an agent would earn that masters the training range and
  picks the right one of its policies;
- own: the better of two policies that the search finds on the task itself, one starting from
  scratch and one from the range policy.

Where own is above both, a policy can do better there than standing still and than the training
range. The search is weak, so own is a lower bound on what can be done; an own no better than range
shows nothing.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from envs import FAMILIES, load_family
from envs.api import FloatArray, Task, TaskFamily
from envs.batch import BatchEnv
from envs.screening.search import Gait, Knots, rollout, search

RESETS = 10  # episodes of each policy on each task
GAIN = 0.2  # of the gaits' feedback
# widths of a search from scratch and of one from a policy
WIDTH = 0.3
NEAR = 0.1


def compare(
    family: TaskFamily, split: str, generator: np.random.Generator, population: int, iterations: int
) -> pd.DataFrame:
    """One row per task of the split: `shift_axis`, `shift`, returns `still`, `range` and `own`."""
    gait = Gait(family.observation_size, family.action_size, GAIN)
    tasks = family.split(split)
    known = family.split("id")
    find = partial(search, family, population=population, elites=8, iterations=iterations)
    trained = find(known, gait, generator, width=WIDTH).theta  # [M, P]
    # [N, M]
    ranged = returns(family, tasks, gait, np.broadcast_to(trained, (len(tasks), *trained.shape)))
    tries = (
        find(tasks, gait, generator, width=WIDTH),
        find(tasks, gait, generator, width=NEAR, start=trained[ranged.argmax(axis=1)]),
    )
    better = np.argmax([found.outcome.returns.mean(axis=1) for found in tries], axis=0)
    own = np.choose(better[:, None], [found.theta for found in tries])  # [N, P]
    zero = Knots(family.action_size, 1, 1)
    lines = {
        "shift_axis": [task.shift_axis for task in tasks],
        "shift": [task.shift for task in tasks],
        "still": returns(family, tasks, zero, np.zeros((len(tasks), 1, zero.size)))[:, 0],
        "range": ranged.max(axis=1),
        "own": returns(family, tasks, gait, own[:, None])[:, 0],
    }
    return pd.DataFrame(lines)


def returns(
    family: TaskFamily, tasks: tuple[Task, ...], policy: Gait | Knots, theta: FloatArray
) -> FloatArray:
    """Mean return [N, M] of M policies per task, of parameters [N, M, P], from the same starts."""
    columns = []
    for m in range(theta.shape[1]):
        env = BatchEnv(family, tasks, RESETS, seed=1)
        columns.append(
            rollout(
                env, policy, np.repeat(theta[:, m : m + 1], RESETS, axis=1), family.horizon
            ).returns.mean(axis=1)
        )
    return np.stack(columns, axis=1)


def main(words: Sequence[str]) -> None:
    """Print the mean over the tasks of each level of shift."""
    parser = argparse.ArgumentParser(
        prog="python -m envs.screening.evidence",
        description=(
            "Is a test task possible, and is it new? Answers without a learner, by comparing"
            " policies found by a search."
        ),
    )
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("split", help="a split of tasks outside the law, such as ood or gap")
    parser.add_argument(
        "--population", type=int, default=64, help="simulations of each task, a multiple of 8"
    )
    parser.add_argument("--iterations", type=int, default=15, help="generations of the search")
    chosen = parser.parse_args(words)
    family = load_family(chosen.family)
    if chosen.split == "id" or chosen.split not in family.splits():
        parser.error(
            f"{chosen.family} has these splits outside the law:"
            f" {', '.join(set(family.splits()) - {'id'}) or 'none'}"
        )
    if chosen.iterations < 1 or chosen.population < 8 or chosen.population % 8:
        parser.error("the population must be a multiple of 8, and iterations at least 1")
    found = compare(
        family, chosen.split, np.random.default_rng(0), chosen.population, chosen.iterations
    )
    levels = found.groupby(["shift_axis", "shift"])
    better = (
        (found["own"] > found[["still", "range"]].max(axis=1))
        .groupby([found["shift_axis"], found["shift"]])
        .sum()
    )
    print(
        levels.mean()
        .round(1)
        .assign(**{"own is best in": better, "tasks": levels.size()})
        .to_string()
    )


if __name__ == "__main__":
    main(sys.argv[1:])
