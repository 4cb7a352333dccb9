"""Sealed tasks: fresh, at the distances of the frozen ones, the same for the same seed."""

import numpy as np
import pytest

from envs import FAMILIES, load_family
from envs.sealed import JITTER, frozen_name, is_sealed, sealed_name

SPLITS = [(name, split) for name in FAMILIES for split in load_family(name).splits()]


def levels(tasks):
    return sorted((str(task.shift_axis), task.shift) for task in tasks)


@pytest.mark.parametrize(("name", "split"), [*SPLITS, ("permuted-point-goal", "ood")])
def test_there_is_one_for_every_frozen_task_at_its_shift(name, split):
    family = load_family(name)
    frozen = family.split(split)
    drawn = [family.split(sealed_name(split, seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert levels(drawn[0]) == levels(frozen)
    assert [task.index for task in drawn[0]] == list(range(len(frozen)))
    assert {task.split for task in drawn[0]} == {f"{split}-sealed-1"}
    if family.law_size is None or name.startswith("permuted"):  # more tasks than the frozen ones
        params = [[dict(task.params) for task in tasks] for tasks in (frozen, drawn[0], drawn[2])]
        assert all(one not in params[0] for one in params[1])
        assert params[1] != params[2]
    assert family.splits() == load_family(name).splits() and len(family.splits()) < 4


def test_the_true_distance_is_near_the_label_and_the_order_is_drawn():
    family = load_family("cheetah-vel")
    orders = []
    for seed in range(20):
        tasks = family.split(sealed_name("ood", seed))
        for task in tasks:
            assert task.params["target_speed"] - 2.5 == pytest.approx(task.shift, rel=JITTER)
        orders.append([task.shift for task in tasks])
    assert len(np.unique(orders, axis=0)) > 5


def test_names():
    assert is_sealed("ood-sealed-12") and frozen_name("ood-sealed-12") == "ood"
    assert not is_sealed("ood") and not is_sealed("ood-sealed-x") and frozen_name("ood") == "ood"
    with pytest.raises(ValueError, match="no split 'odo'"):
        load_family("cheetah-vel").split("odo-sealed-1")
    with pytest.raises(ValueError, match="no split 'ood-sealed-x'"):
        load_family("cheetah-vel").split("ood-sealed-x")
