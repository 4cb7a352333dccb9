"""Laws of the hopper's and the walker's dynamics, and their frozen test tasks."""

from typing import Any

import numpy as np
import pytest

from envs.hopper import HopperMass, HopperRand
from envs.walker import WalkerMass, WalkerRand

RAND = [HopperRand, WalkerRand]
MASS = [HopperMass, WalkerMass]
SEEDS = {"hopper-rand": 106, "walker-rand": 107}
PARAMETERS = {"hopper-rand": 12, "walker-rand": 21}


@pytest.mark.parametrize("cls", RAND)
def test_random_dynamics_are_stratified_over_a_box_of_exponents(cls: Any) -> None:
    for n in (1, 6, 16):
        tasks = cls().sample(n, np.random.default_rng(n))
        draws = np.array([list(task.params.values()) for task in tasks])
        assert draws.shape == (n, PARAMETERS[cls.id])
        for column in draws.T:  # every exponent ~ U(−2, 2)
            np.testing.assert_array_equal(np.sort(np.floor((column + 2) / 4 * n)), np.arange(n))
    # a Latin hypercube, not its diagonal
    assert np.abs(np.corrcoef(draws.T) - np.eye(draws.shape[1])).max() < 0.95


@pytest.mark.parametrize("cls", MASS)
def test_common_masses_are_stratified_over_two_bands(cls: Any) -> None:
    tasks = cls().sample(16, np.random.default_rng(0))
    exponents = np.sort([task.params["exponent"] for task in tasks])
    assert (exponents[:8] <= 0.5).all() and (exponents[8:] >= 3).all()
    uniform = np.concatenate((exponents[:8], exponents[8:] - 2.5))
    np.testing.assert_array_equal(np.floor(uniform * 16), np.arange(16))


@pytest.mark.parametrize("cls", RAND)
def test_random_dynamics_have_eight_tasks_inside_and_four_on_each_of_four_levels_outside(
    cls: Any,
) -> None:
    family = cls()
    assert family.splits() == ("id", "ood")
    for frozen, drawn in zip(
        family.split("id"), family.sample(8, np.random.default_rng(SEEDS[cls.id])), strict=True
    ):
        assert dict(frozen.params) == pytest.approx(dict(drawn.params), rel=1e-12)
        assert (frozen.shift, frozen.shift_axis) == (0, None)
    tasks = family.split("ood")
    assert [task.shift for task in tasks] == [
        level for level in (0.5, 1.0, 1.5, 2.0) for _ in range(4)
    ]
    assert {task.shift_axis for task in tasks} == {"dynamics"}
    sizes = np.abs([list(task.params.values()) for task in tasks])
    assert sizes.shape[1] == PARAMETERS[cls.id]
    for task, row in zip(tasks, sizes, strict=True):
        assert row.max() - 2 == task.shift  # distance from the box, in the largest exponent
        assert row.min() >= 2 + task.shift - 0.5
    signs = np.sign([list(task.params.values()) for task in tasks])
    assert np.abs(signs.mean(axis=0)).max() < 0.9 and np.abs(signs.mean()) < 0.3


@pytest.mark.parametrize("cls", MASS)
def test_common_masses_are_tested_at_the_published_points(cls: Any) -> None:
    family = cls()
    splits = {
        name: [task.params["exponent"] for task in family.split(name)] for name in family.splits()
    }
    assert splits == {"id": [0.1, 0.25, 3.1, 3.25], "gap": [0.75, 1.25, 1.75, 2.25, 2.75]}
    for task in family.split("gap"):
        c = task.params["exponent"]
        assert (task.shift, task.shift_axis) == (min(c - 0.5, 3 - c), "mass")
    assert {(task.shift, task.shift_axis) for task in family.split("id")} == {(0, None)}
