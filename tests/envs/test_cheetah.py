"""The cheetah families: laws and splits from the definition, rewards, and joint signs."""

from itertools import combinations

import gymnasium
import numpy as np
import pytest

from envs import load_family
from envs.api import Task, TaskFamily
from envs.batch import BatchEnv
from envs.cheetah import CheetahDir, CheetahJoints, CheetahVelGap

LAWS = {  # m/s: bands of training speeds
    "cheetah-vel": ((0.0, 2.5),),
    "cheetah-vel-2": ((0.0, 2.0),),
    "cheetah-vel-3": ((0.0, 3.0),),
    "cheetah-vel-7": ((0.0, 7.0),),
    "cheetah-vel-gap": ((0.0, 0.5), (3.0, 3.5)),
}
SPLITS = {
    "cheetah-vel-2": {"id": 40},
    "cheetah-vel-3": {"id": 30},
    "cheetah-vel-7": {"id": 50},
    "cheetah-vel-gap": {"id": 4, "gap": 5},
    "cheetah-dir": {"id": 2},
    "cheetah-joints": {"id": 10, "ood": 26},
}
JOINTS = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")


def signs(task: Task) -> tuple[float, ...]:
    """The sign of each joint, in the model's order."""
    return tuple(task.params[joint] for joint in JOINTS)


def negated(task: Task) -> frozenset[int]:
    """The negated joints, numbered from 1."""
    return frozenset(number for number, sign in enumerate(signs(task), start=1) if sign < 0)


def from_one_start(family: TaskFamily, tasks: list[Task]) -> BatchEnv:
    """The tasks side by side, all from the same noisy start."""
    start = family.reset_noise(np.random.default_rng(3))
    family.reset_noise = lambda generator: start  # type: ignore[method-assign]
    env = BatchEnv(family, tasks)
    env.reset()
    return env


# --- laws and splits ------------------------------------------------------------------------------


@pytest.mark.parametrize("family_id", SPLITS)
def test_splits_have_the_agreed_sizes(family_id: str) -> None:
    family = load_family(family_id)
    assert {name: len(family.split(name)) for name in family.splits()} == SPLITS[family_id]


@pytest.mark.parametrize("family_id", LAWS)
def test_a_speeds_shift_is_its_distance_to_the_nearest_band(family_id: str) -> None:
    family = load_family(family_id)
    tasks = [task for name in family.splits() for task in family.split(name)]
    for task in (*tasks, *family.sample(40, np.random.default_rng(0))):
        speed = task.params["target_speed"]
        distance = min(max(low - speed, speed - high, 0.0) for low, high in LAWS[family_id])
        assert task.shift == pytest.approx(distance, abs=1e-12)
        assert task.shift_axis == ("speed" if distance else None)


@pytest.mark.parametrize("family_id", LAWS)
@pytest.mark.parametrize("n", [1, 4, 16])
def test_training_speeds_are_stratified_over_the_bands_laid_end_to_end(
    family_id: str, n: int
) -> None:
    bands = LAWS[family_id]
    total, places = sum(high - low for low, high in bands), []
    for task in load_family(family_id).sample(n, np.random.default_rng(n)):
        speed = task.params["target_speed"]
        places.append(sum(min(max(speed - low, 0.0), high - low) for low, high in bands) / total)
    np.testing.assert_array_equal(np.sort(np.floor(np.array(places) * n)), np.arange(n))


@pytest.mark.parametrize(
    ("family_id", "n", "seed"),
    [("cheetah-vel-2", 40, 108), ("cheetah-vel-3", 30, 109), ("cheetah-vel-7", 50, 110)],
)
def test_the_id_split_was_drawn_as_its_note_says(family_id: str, n: int, seed: int) -> None:
    family = load_family(family_id)
    for frozen, drawn in zip(
        family.split("id"), family.sample(n, np.random.default_rng(seed)), strict=True
    ):
        assert dict(frozen.params) == pytest.approx(dict(drawn.params), rel=1e-12)


def test_the_gap_is_tested_where_the_literature_tests_it() -> None:
    speeds = {
        name: [task.params["target_speed"] for task in CheetahVelGap().split(name)]
        for name in ("id", "gap")
    }
    assert speeds == {"id": [0.1, 0.25, 3.1, 3.25], "gap": [0.75, 1.25, 1.75, 2.25, 2.75]}


@pytest.mark.parametrize("n", [1, 2, 7, 16])
def test_both_directions_are_trained_and_the_same_two_tested(n: int) -> None:
    drawn = [task.params["direction"] for task in CheetahDir().sample(n, np.random.default_rng(n))]
    assert set(drawn) <= {-1.0, 1.0} and abs(sum(drawn)) == n % 2
    assert {task.params["direction"] for task in CheetahDir().split("id")} == {-1.0, 1.0}


def test_training_negates_three_of_the_first_five_joints_each_choice_equally_often() -> None:
    choices = {frozenset(some) for some in combinations(range(1, 6), 3)}
    for n, rounds in ((10, 1), (30, 3)):
        drawn = [negated(task) for task in CheetahJoints().sample(n, np.random.default_rng(0))]
        assert set(drawn) == choices and all(drawn.count(choice) == rounds for choice in choices)
    some = [negated(task) for task in CheetahJoints().sample(7, np.random.default_rng(1))]
    assert len(set(some)) == 7 and set(some) < choices
    assert {negated(task) for task in CheetahJoints().split("id")} == choices  # as in training


def test_a_joints_shift_is_the_hamming_distance_to_the_nearest_training_task() -> None:
    law = [signs(task) for task in CheetahJoints().sample(10, np.random.default_rng(0))]
    for split, axis in (("id", None), ("ood", "joints")):
        for task in CheetahJoints().split(split):
            distances = [
                sum(one != other for one, other in zip(signs(task), trained, strict=True))
                for trained in law
            ]
            assert (task.shift, task.shift_axis) == (min(distances), axis)


def test_joint_six_is_negated_out_of_distribution_with_any_one_to_three_others_or_alone() -> None:
    tasks = CheetahJoints().split("ood")
    expected = [
        frozenset({6, *some}) for n in (3, 2, 1, 0) for some in combinations(range(1, 6), n)
    ]
    assert [negated(task) for task in tasks] == expected
    assert [task.shift for task in tasks] == [1] * 10 + [2] * 10 + [3] * 5 + [4]
    assert {abs(sign) for task in tasks for sign in signs(task)} == {1.0}


# --- physics --------------------------------------------------------------------------------------


def test_an_unflipped_cheetah_equals_gymnasium_bit_by_bit_rewards_included() -> None:
    family = CheetahJoints()
    env = BatchEnv(
        family, [*family.split("id")[:2], Task(family.id, "here", 0, dict.fromkeys(JOINTS, 1.0))]
    )
    twin = gymnasium.make("HalfCheetah-v5").unwrapped
    twin.reset(seed=0)
    start = twin.data.qpos.copy(), twin.data.qvel.copy()
    family.reset_noise = lambda generator: start  # type: ignore[method-assign]
    env.reset()
    for action in np.random.default_rng(0).uniform(-1, 1, (150, 6)).astype(np.float32):
        step = env.step(np.broadcast_to(action, (3, 1, 6)))
        obs, reward, *_ = twin.step(action)
        np.testing.assert_array_equal(env.batch.bind("qpos")[2], twin.data.qpos)
        np.testing.assert_array_equal(env.batch.bind("qvel")[2], twin.data.qvel)
        np.testing.assert_array_equal(step.obs[2, 0], obs.astype(np.float32))
        np.testing.assert_allclose(step.reward[2, 0], reward, rtol=1e-6, atol=1e-6)


def test_the_parameters_are_the_models_actuators_in_order() -> None:
    model = BatchEnv(CheetahJoints(), CheetahJoints().split("id")[:1]).batch.model
    assert tuple(model.actuator(i).name for i in range(model.nu)) == JOINTS


def test_each_sign_turns_the_force_on_its_own_joint_and_on_no_other() -> None:
    family = CheetahJoints()
    tasks = [
        Task(
            family.id, "here", i, dict.fromkeys(JOINTS, 1.0) | ({JOINTS[i - 1]: -1.0} if i else {})
        )
        for i in range(7)
    ]
    env = from_one_start(family, tasks)
    # of the nine degrees of freedom, the joints are the last six
    force = env.batch.bind("qfrc_actuator")
    env.step(np.broadcast_to([0.3, -0.9, 0.5, 0.7, -0.2, 0.4], (7, 1, 6)))
    env.batch.forward()
    nominal = force[0].copy()
    assert (nominal[3:] != 0).all()
    for i in range(1, 7):
        flipped = np.where(np.arange(9) == 2 + i, -1.0, 1.0)
        np.testing.assert_array_equal(force[i], flipped * nominal)


def test_reversed_joints_under_reversed_actions_are_the_unflipped_body_bit_by_bit() -> None:
    family = CheetahJoints()
    nominal = Task(family.id, "here", 0, dict.fromkeys(JOINTS, 1.0))
    tasks = [nominal, *family.split("id"), *family.split("ood")]
    env = from_one_start(family, tasks)
    sign = np.array([signs(task) for task in tasks])[:, None]  # [N, 1, A]
    for action in np.random.default_rng(0).uniform(-1.2, 1.2, (60, 6)):
        step = env.step(sign * action)
        assert (step.obs == step.obs[0]).all() and (step.reward == step.reward[0]).all()
    motion = env.batch.bind("qpos"), env.batch.bind("qvel")
    assert all((part == part[0]).all() and np.abs(part[0]).max() > 0.5 for part in motion)


# --- rewards --------------------------------------------------------------------------------------


def naive_reward(task: Task, before: float, after: float, action: np.ndarray) -> float:
    """One simulation's reward from its position x in m, as the table of families gives it."""
    speed, effort = (after - before) / 0.05, sum(a * a for a in action)
    if task.family == "cheetah-joints":
        return speed - 0.1 * effort
    if task.family == "cheetah-dir":
        return (speed if task.params["direction"] > 0 else -speed) - 0.05 * effort
    return -abs(speed - task.params["target_speed"]) - 0.05 * effort


@pytest.mark.parametrize("family_id", SPLITS)
def test_rewards_equal_a_naive_formula(family_id: str) -> None:
    family = load_family(family_id)
    tasks = [task for name in family.splits() for task in family.split(name)]
    env = BatchEnv(family, tasks)
    env.reset()
    place = env.batch.bind("qpos")[:, 0]
    for action in np.random.default_rng(0).uniform(-1.5, 1.5, (20, len(tasks), 1, 6)):
        before = place.copy()
        reward = env.step(action).reward[:, 0]
        expected = [
            naive_reward(*row)
            for row in zip(tasks, before, place, np.clip(action[:, 0], -1, 1), strict=True)
        ]
        np.testing.assert_allclose(reward, expected, rtol=1e-5, atol=1e-6)
