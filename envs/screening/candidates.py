"""Draws the frozen test tasks of hopper-rand or walker-rand and writes their file: `python -m
envs.screening hopper-rand`.

Outside the law a candidate may be impossible, or too easy to tell methods apart. It is rejected,
and listed, only if a cross-entropy search cannot keep the body up for 1 s, or if the zero action
keeps it up for the whole horizon; no method of the benchmark is involved.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from envs import load_family
from envs.api import TASKS, BoolArray, FloatArray, Task, TaskFamily, checksum
from envs.batch import BatchEnv
from envs.legs import MAX_EXPONENT, RandomDynamics
from envs.screening.search import Gait, Knots, Outcome, rollout, search

# seeds of the id split and of the candidates
SEEDS = {"hopper-rand": (106, 206), "walker-rand": (107, 207)}
LEVELS = ((2.0, 2.5), (2.5, 3.0), (3.0, 3.5), (3.5, 4.0))  # ranges of the exponents' sizes
PER_LEVEL = 4
ENOUGH = 63  # control steps: 1 s
# the search aims higher: otherwise staying up for 1 s by luck would already be a perfect score
SEARCHED = 80
# population, iterations and width of the search; the second effort is made where the first fails
EFFORTS = ((32, 6, 0.25), (64, 12, 0.4))
RESETS = 20  # episodes of the zero action


def candidate(
    family: TaskFamily, level: tuple[float, float], generator: np.random.Generator
) -> Task:
    """Draw a task whose exponents have random signs and sizes uniform in `level`, except that the
    largest is set to the level's top.

    Its shift, the distance of the largest exponent from the law's box, is then the same for a whole
    level.
    """
    low, high = level
    names = cast(RandomDynamics, family).names()
    size = generator.uniform(low, high, len(names))
    size[size.argmax()] = high
    exponents = size * generator.choice((-1.0, 1.0), len(names))
    params = dict(zip(names, exponents.tolist(), strict=True))
    return Task(family.id, "ood", 0, params, shift=high - MAX_EXPONENT, shift_axis="dynamics")


def lengths(outcome: Outcome) -> FloatArray:
    """Control steps until the fall or the last step, [N, E]."""
    return outcome.lengths


def kept_up(family: TaskFamily, tasks: Sequence[Task], generator: np.random.Generator) -> BoolArray:
    """Whether the policy found keeps each task's body up for 1 s in the median episode, [N]."""
    gait = Gait(family.observation_size, family.action_size, gain=0.2)
    up = np.zeros(len(tasks), bool)
    for population, iterations, width in EFFORTS:
        left = np.flatnonzero(~up).tolist()
        if left:
            found = search(
                family,
                [tasks[i] for i in left],
                gait,
                generator,
                population=population,
                elites=4,
                iterations=iterations,
                width=width,
                steps=SEARCHED,
                score=lengths,
            )
            up[left] = np.median(found.outcome.lengths, axis=1) >= ENOUGH
    return up


def faults(
    family: TaskFamily, tasks: Sequence[Task], generator: np.random.Generator
) -> list[str | None]:
    """Why each task is rejected, or None; standing still is judged by the median episode, too."""
    up = kept_up(family, tasks, generator)
    zero = np.zeros((len(tasks), RESETS, family.action_size))
    still = rollout(
        BatchEnv(family, tasks, RESETS), Knots(family.action_size, 1, 1), zero, family.horizon
    )
    stands = np.median(still.lengths, axis=1) >= family.horizon
    reasons = {
        (False, False): "cannot be kept up for 1 s",
        (True, True): "stands still to the end",
        (False, True): "both",
    }
    return [reasons.get(pair) for pair in zip(up.tolist(), stands.tolist(), strict=True)]


def draw(
    family: TaskFamily, generator: np.random.Generator
) -> tuple[list[Task], list[dict[str, Any]]]:
    """Draw the test tasks outside the law, level by level; also return the rejected candidates."""
    accepted: dict[tuple[float, float], list[Task]] = {level: [] for level in LEVELS}
    rejected = []
    while missing := [level for level in LEVELS for _ in range(PER_LEVEL - len(accepted[level]))]:
        tasks = [candidate(family, level, generator) for level in missing]
        # a separate stream, so that the candidates do not depend on the search
        reasons = faults(family, tasks, generator.spawn(1)[0])
        for level, task, fault in zip(missing, tasks, reasons, strict=True):
            if fault is None:
                accepted[level].append(task)
            else:
                rejected.append(row(task) | {"reason": fault})
    return [task for tasks in accepted.values() for task in tasks], rejected


def row(task: Task) -> dict[str, Any]:
    """A task as stored in its file."""
    return {"params": dict(task.params), "shift": task.shift, "shift_axis": task.shift_axis}


def document(
    family: TaskFamily, splits: Mapping[str, Sequence[Any]], note: str, rejected: Sequence[Any]
) -> str:
    """The text of a task file, with one line per task."""
    head = {
        "family": family.id,
        "version": family.version,
        "note": note,
        "sha256": checksum(splits),
    }
    lines = [
        f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},"
        for key, value in head.items()
    ]
    parts = [f"    {json.dumps(name)}: {_listed(rows, 4)}" for name, rows in splits.items()]
    body = ",\n".join(parts)
    return "\n".join(
        [
            "{",
            *lines,
            f'  "splits": {{\n{body}\n  }},',
            f'  "rejected": {_listed(rejected, 2)}',
            "}",
            "",
        ]
    )


def _listed(rows: Sequence[Any], indent: int) -> str:
    """A JSON list with one line per row."""
    if not rows:
        return "[]"
    inner = ",\n".join(" " * (indent + 2) + json.dumps(row) for row in rows)
    return f"[\n{inner}\n{' ' * indent}]"


def main(family_id: str) -> None:
    """Draw, screen and write the test tasks of a family."""
    family = load_family(family_id)
    seen, unseen = SEEDS[family_id]
    inside = family.sample(8, np.random.default_rng(seen))
    outside, rejected = draw(family, np.random.default_rng(unseen))
    note = (
        f"Exponents e of value = nominal × baseᵉ. id: {type(family).__name__}().sample(8,"
        f" numpy.random.default_rng({seen})). ood: python -m envs.screening {family_id}, candidates"
        f" from numpy.random.default_rng({unseen}); every |e| uniform in [2, 2.5], [2.5, 3], [3,"
        " 3.5], [3.5, 4], four tasks each, random signs, the largest |e| set to the top; shift"
        " from the box |e| ≤ 2, in the largest exponent. rejected: candidates that a cross-entropy"
        " search could not keep up for 1 s, or that standing still kept up for the whole horizon."
    )
    splits = {"id": [row(task) for task in inside], "ood": [row(task) for task in outside]}
    (TASKS / f"{family_id}.json").write_text(
        document(family, splits, note, rejected), encoding="utf-8"
    )
    print(f"{family_id}: {len(outside)} tasks outside the law, {len(rejected)} candidates rejected")
