"""The split `shift`: finer levels on every axis, and scales of the reward."""

import numpy as np
import pytest

from envs import FAMILIES, load_family
from envs.api import REWARD_DOWN, REWARD_SCALE, REWARD_UP, TASKS, split_names
from envs.batch import BatchEnv
from envs.levels import SCALES, SHARES, SHIFT, has_split, shift_tasks
from envs.permuted import PREFIX
from envs.sealed import sealed_name

SHIFTED = [name for name in FAMILIES if "ood" in load_family(name).splits()]


@pytest.mark.parametrize("family_id", [*SHIFTED, PREFIX + "point-rand"])
def test_levels_lie_at_shares_of_the_farthest_frozen_task(family_id: str) -> None:
    family = load_family(family_id)
    tasks = family.split(SHIFT)
    assert [task.index for task in tasks] == list(range(len(tasks)))
    assert {task.split for task in tasks} == {SHIFT}
    frozen = [task for task in family.split("ood") if task.shift_axis is not None]
    for axis in {task.shift_axis for task in frozen}:
        farthest = max(task.shift for task in frozen if task.shift_axis == axis)
        levels = {task.shift for task in tasks if task.shift_axis == axis}
        assert levels <= {share * farthest for share in SHARES} and farthest in levels
    for way, sign in ((REWARD_UP, 1), (REWARD_DOWN, -1)):
        scaled = [task for task in tasks if task.shift_axis == way]
        assert {task.shift for task in scaled} == set(SCALES)
        for task in scaled:
            assert task.params[REWARD_SCALE] == pytest.approx(10 ** (sign * task.shift))
    assert len({(task.shift_axis, *task.params.items()) for task in tasks}) == len(tasks)


def test_they_follow_from_the_family_alone_and_can_be_stepped() -> None:
    for name in ("point-goal", "hopper-rand"):
        family = load_family(name)
        tasks = shift_tasks(family)
        assert [dict(task.params) for task in tasks] == [
            dict(task.params) for task in family.split(SHIFT)
        ]
        env = BatchEnv(family, tasks)
        env.reset()
        step = env.step(np.zeros((len(tasks), 1, family.action_size)))
        assert np.isfinite(step.reward).all()


def test_who_has_no_distances_has_no_such_split() -> None:
    family = load_family("cheetah-dir")
    assert not has_split(family, SHIFT)
    with pytest.raises(ValueError, match="has no split 'shift'"):
        family.split(SHIFT)
    one = load_family("point-goal")
    assert has_split(one, SHIFT) and has_split(one, sealed_name(SHIFT, 7)) and has_split(one, "id")
    assert not has_split(one, "nonsense")


def test_no_file_of_frozen_tasks_has_a_split_of_that_name() -> None:
    for path in TASKS.glob("*.json"):
        assert SHIFT not in split_names(path)


def test_sealed_rewards_are_scaled_the_same_way() -> None:
    family = load_family("cheetah-vel")
    frozen, sealed = family.split(SHIFT), family.split(sealed_name(SHIFT, 5))
    for way in (REWARD_UP, REWARD_DOWN):
        found = [
            [task.params[REWARD_SCALE] for task in tasks if task.shift_axis == way]
            for tasks in (frozen, sealed)
        ]
        assert len(found[0]) == len(found[1])
        assert all((scale > 1) == (way == REWARD_UP) for scale in found[0] + found[1])
