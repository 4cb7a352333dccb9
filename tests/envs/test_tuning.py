"""Tuning laws are narrower than the family's training law.

Validation tasks lie outside the tuning law and inside the family's law; none is a test task.
"""

from dataclasses import replace

import numpy as np
import pytest

from envs import FAMILIES, FIDELITY, TUNING, is_family, load_family
from envs.api import Task, TaskFamily
from envs.batch import BatchEnv

TUNED = [name for name in FAMILIES if name not in FIDELITY]
DRAWS = 400


def drawn(family: TaskFamily) -> list[Task]:
    return [
        task for seed in range(4) for task in family.sample(DRAWS // 4, np.random.default_rng(seed))
    ]


def distance(family: str, one: Task, other: Task) -> float:
    """Distance between two tasks on the axis that the family's shift measures."""
    a, b = one.params, other.params
    match family.removeprefix(TUNING):
        case "point-goal":
            return abs(a["angle"] - b["angle"])
        case "point-rand":
            return abs(a["rotation"] - b["rotation"])
        case "cheetah-joints":
            return sum(a[joint] != b[joint] for joint in a)
        case "ant-goal" | "ant-goal-gap":
            return abs(a["radius"] - b["radius"])
        case "ant-dir" | "ant-dir-4":
            turn = abs(a["direction"] - b["direction"]) % (2 * np.pi)
            return min(turn, 2 * np.pi - turn)
        case _:
            return max(abs(a[name] - b[name]) for name in a)


@pytest.mark.parametrize("base", TUNED)
def test_validation_tasks_are_as_far_from_the_tuning_law_as_they_say_and_inside_the_own_one(
    base: str,
) -> None:
    own, tuning = load_family(base), load_family(TUNING + base)
    law, wide = drawn(tuning), drawn(own)
    near = 0.02 if base not in ("hopper-rand", "walker-rand") else None
    for task in tuning.split("validation"):
        assert task.shift > 0 and task.shift_axis in {
            t.shift_axis for s in own.splits() for t in own.split(s)
        }
        if near is None:  # a box of exponents
            assert (
                max(map(abs, task.params.values())) == pytest.approx(1 + task.shift)
                and 1 + task.shift <= 2
            )
            assert all(max(map(abs, t.params.values())) <= 1 for t in law)
            continue
        closest = min(distance(base, task, t) for t in law)
        assert task.shift - 1e-9 <= closest <= task.shift + near, task
        assert min(distance(base, task, t) for t in wide) <= near, task  # within the family's law


@pytest.mark.parametrize("base", TUNED)
def test_the_tuning_law_lies_within_the_own_one(base: str) -> None:
    own, tuning = load_family(base), load_family(TUNING + base)
    wide, law = drawn(own), drawn(tuning)
    for name in wide[0].params:
        low, high = (pick(task.params[name] for task in wide) for pick in (min, max))
        slack = 0.02 * (high - low)
        assert all(low - slack <= task.params[name] <= high + slack for task in law)
    assert len({tuple(t.params.values()) for t in law}) == (tuning.law_size or DRAWS)


@pytest.mark.parametrize("base", TUNED)
def test_no_validation_task_is_a_test_task(base: str) -> None:
    own = load_family(base)
    # where the law has only a few tasks, the split `id` holds all of them, seen in training
    splits = [split for split in own.splits() if split != "id" or own.law_size is None]
    tested = {tuple(sorted(task.params.items())) for split in splits for task in own.split(split)}
    validated = [
        tuple(sorted(task.params.items()))
        for task in load_family(TUNING + base).split("validation")
    ]
    assert len(set(validated)) == len(validated) and not tested & set(validated)


@pytest.mark.parametrize(
    "base", ["point-goal", "point-rand", "cheetah-vel", "hopper-rand", "ant-dir-4"]
)
def test_they_are_simulated_as_the_family_is(base: str) -> None:
    own, tuning = load_family(base), load_family(TUNING + base)
    tasks = [replace(task, family=base) for task in tuning.split("validation")]
    tuning.id = base  # starts are drawn by this name
    one, other = (BatchEnv(family, tasks, 1, 1, seed=0) for family in (own, tuning))
    assert np.array_equal(one.reset(), other.reset())
    for _ in range(3):
        steps = [
            env.step(np.full((len(tasks), 1, own.action_size), 0.3, np.float32))
            for env in (one, other)
        ]
        assert all(np.array_equal(left, right) for left, right in zip(*steps, strict=True))


def test_families_to_compare_with_published_scores_have_none() -> None:
    assert set(FIDELITY) < set(FAMILIES)
    for base in FIDELITY:
        assert not is_family(TUNING + base)
        with pytest.raises(KeyError, match="no family 'tuning-"):
            load_family(TUNING + base)
    with pytest.raises(ValueError, match="has no split 'ood'; it has validation"):
        load_family("tuning-cheetah-vel").split("ood")
