"""What `isomorphic` claims of the point families, constructed: linear images in the law.

Those of the half-cheetah and of the permuted families have tests of their own.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from envs import FAMILIES, load_family
from envs.api import TASKS, FloatArray, Task
from envs.batch import BatchEnv
from envs.point import PointGoal, PointRand

PI = np.pi
STEPS = 50
IDENTITY, MIRROR, QUARTER = np.eye(2), np.diag([1.0, -1.0]), np.array([[0.0, -1.0], [1.0, 0.0]])
MAPS = {"mirror": MIRROR, "quarter turn": QUARTER, "quarter turn back": QUARTER.T}


@pytest.mark.parametrize("family_id", [*FAMILIES, *(f"permuted-{name}" for name in FAMILIES)])
def test_isomorphic_names_only_axes_on_which_test_tasks_are_shifted(family_id: str) -> None:
    family = load_family(family_id)
    assert family.isomorphic <= {
        task.shift_axis for split in family.splits() for task in family.split(split)
    } - {None}


def test_the_labels_are_those_whose_maps_the_readme_states() -> None:
    text = (TASKS.parent / "README.md").read_text(encoding="utf-8")
    table = text.partition("| family, axis | the map |")[2].partition("\n\n")[0].splitlines()
    rows = [
        line.split("|")[1].replace("`", "").strip().split(", ")
        for line in table
        if line.startswith("| `")
    ]
    labelled = {(name, axis) for name in FAMILIES for axis in load_family(name).isomorphic} | {
        ("permuted-…", "permutation")
    }
    assert {tuple(row) for row in rows} == labelled


def rewards_and_states(
    family: PointGoal | PointRand, task: Task, start: FloatArray, actions: FloatArray
) -> tuple[FloatArray, ...]:
    """Rewards [T], positions, velocities [T, 2] from rest at `start` (m) under `actions` [T, 2]."""
    family.reset_noise = lambda generator: (start, np.zeros(2))  # type: ignore[method-assign]
    env = BatchEnv(family, [task])
    env.reset()
    rows = []
    for action in actions:
        reward = env.step(action[None, None]).reward[0, 0]
        rows.append((reward, env.batch.bind("qpos")[0].copy(), env.batch.bind("qvel")[0].copy()))
    return tuple(map(np.array, zip(*rows, strict=True)))


def start_and_actions() -> tuple[FloatArray, FloatArray]:
    generator = np.random.default_rng(0)
    return generator.uniform(-0.05, 0.05, 2), generator.uniform(-1, 1, (STEPS, 2))


def image_in_law(
    task: Task, parameter: str, images: dict[str, float], inside: Callable[[float], bool]
) -> tuple[Task, FloatArray]:
    """Return the first of the task's images that lies in the law, and its map."""
    for name, value in images.items():
        if inside(value):
            return replace(
                task, params=dict(task.params) | {parameter: value}, shift=0.0, shift_axis=None
            ), MAPS[name]
    raise AssertionError(f"no image of {task} lies in the law")


def on_the_arcs(angle: float) -> bool:
    turns = (angle + 2 * PI * k for k in (-1, 0, 1))
    return any(
        low - 1e-12 <= turn <= high + 1e-12
        for turn in turns
        for low, high in ((0, PI / 3), (2 * PI / 3, PI))
    )


@pytest.mark.parametrize(
    "task",
    [
        task
        for name in ("gap", "ood")
        for task in PointGoal().split(name)
        if task.shift_axis == "angle"
    ],
)
def test_a_goal_at_another_angle_is_the_mirror_image_or_a_quarter_turn_of_one_on_the_arcs(
    task: Task,
) -> None:
    """The map M between goals also maps starts, states and actions: x′ = M x, a′ = M a, r′ = r."""
    angle = task.params["angle"]
    images = {"mirror": -angle, "quarter turn": angle + PI / 2, "quarter turn back": angle - PI / 2}
    image, m = image_in_law(task, "angle", images, on_the_arcs)
    start, actions = start_and_actions()
    reward, qpos, qvel = rewards_and_states(PointGoal(), task, start, actions)
    reward_, qpos_, qvel_ = rewards_and_states(PointGoal(), image, m @ start, actions @ m.T)
    np.testing.assert_array_equal(qpos_, qpos @ m.T)
    np.testing.assert_array_equal(qvel_, qvel @ m.T)
    np.testing.assert_allclose(reward_, reward, rtol=1e-6)  # the goals are rounded


@pytest.mark.parametrize(
    "task", [task for task in PointRand().split("ood") if task.shift_axis == "rotation"]
)
def test_actuators_turned_further_are_a_quarter_turn_of_the_actions_away_from_the_law(
    task: Task,
) -> None:
    """R(φ) a = R(φ ∓ π/2) R(±π/2) a: the same forces, so the same states and rewards."""
    rotation = task.params["rotation"]
    images = {"quarter turn": rotation - PI / 2, "quarter turn back": rotation + PI / 2}
    image, m = image_in_law(task, "rotation", images, lambda value: abs(value) <= PI / 3 + 1e-12)
    start, actions = start_and_actions()
    theirs = rewards_and_states(PointRand(), image, start, actions @ m.T)
    for one, other in zip(
        rewards_and_states(PointRand(), task, start, actions), theirs, strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-7)


def test_a_map_that_is_not_the_tasks_own_gives_another_trajectory() -> None:
    start, actions = start_and_actions()
    first = PointGoal().split("ood")[0]
    mirrored = replace(first, params=dict(first.params) | {"angle": -first.params["angle"]})
    reward, *_ = rewards_and_states(PointGoal(), first, start, actions)
    for wrong in (IDENTITY, QUARTER):
        other, *_ = rewards_and_states(PointGoal(), mirrored, wrong @ start, actions @ wrong.T)
        assert np.abs(other - reward).max() > 0.01
