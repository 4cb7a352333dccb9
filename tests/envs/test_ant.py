"""The ant: equality with Gymnasium's, laws and frozen tasks by definition, rewards and ends."""

import gymnasium
import numpy as np
import pytest

from envs import load_family
from envs.ant import CONTROL_DT, AntDir, AntDir4, AntGoal, AntGoalGap
from envs.api import FloatArray, Task
from envs.batch import BatchEnv

PI = np.pi
IDS = ("ant-goal", "ant-goal-gap", "ant-dir", "ant-dir-4")


# --- laws -----------------------------------------------------------------------------------------


def uniforms(task: Task) -> list[float]:
    """The uniform numbers in [0, 1) behind a training task: angles by arc, radii by area."""
    p = task.params
    if task.family == "ant-dir":
        return [p["direction"] / (1.5 * PI)]
    area = p["radius"] ** 2
    if task.family == "ant-goal":
        return [p["angle"] / (2 * PI), area / 4]
    return [p["angle"] / (2 * PI), (area if area <= 1 else 1 + area - 2.5**2) / (1 + 3**2 - 2.5**2)]


@pytest.mark.parametrize("family_id", IDS[:3])
@pytest.mark.parametrize("n", [1, 7, 16])
def test_training_tasks_are_stratified_over_the_law(family_id: str, n: int) -> None:
    tasks = load_family(family_id).sample(n, np.random.default_rng(n))
    draws = np.array([uniforms(task) for task in tasks])
    for column in draws.T:
        np.testing.assert_array_equal(np.sort(np.floor(column * n)), np.arange(n))
    if n == 16 and draws.shape[1] > 1:  # a Latin hypercube, not its diagonal
        assert abs(np.corrcoef(draws.T)[0, 1]) < 0.8
    assert {(task.split, task.shift, task.shift_axis) for task in tasks} == {("train", 0.0, None)}


def test_the_gap_has_no_goals_and_the_disc_its_share_of_the_area() -> None:
    radii = np.array(
        [task.params["radius"] for task in AntGoalGap().sample(15, np.random.default_rng(0))]
    )
    assert (radii <= 1).sum() == 4 and ((radii >= 2.5) & (radii <= 3)).sum() == 11


def test_the_four_directions_take_turns() -> None:
    samples = [
        [task.params["direction"] for task in AntDir4().sample(8, np.random.default_rng(seed))]
        for seed in range(5)
    ]
    for sample in samples:
        for half in (sample[:4], sample[4:]):
            np.testing.assert_allclose(sorted(half), [0, PI / 2, PI, 3 * PI / 2])
    assert len({tuple(sample) for sample in samples}) > 1
    # the id split has the training directions
    assert [task.params for task in AntDir4().split("id")] == [
        {"direction": k * PI / 2} for k in range(4)
    ]


# --- frozen splits --------------------------------------------------------------------------------


def distance(task: Task) -> float:
    """Distance from a task to the support of its family's law, on the axis that varies."""
    p = task.params
    if task.family == "ant-dir":
        return max(min(p["direction"] - 1.5 * PI, 2 * PI - p["direction"]), 0.0)
    if task.family == "ant-dir-4":
        return min(abs(p["direction"] - k * PI / 2) for k in range(5))
    bands = [(0.0, 2.0)] if task.family == "ant-goal" else [(0.0, 1.0), (2.5, 3.0)]
    return min(max(low - p["radius"], p["radius"] - high, 0.0) for low, high in bands)


@pytest.mark.parametrize("family_id", IDS)
def test_shift_is_the_distance_to_the_law(family_id: str) -> None:
    family = load_family(family_id)
    axis = "direction" if family_id.startswith("ant-dir") else "radius"
    outside = "gap" if family_id in ("ant-goal-gap", "ant-dir-4") else "ood"
    assert set(family.splits()) == {"id", outside}
    for task in family.split("id"):
        assert (task.shift, task.shift_axis, distance(task)) == (0, None, 0)
    for task in family.split(outside):
        assert task.shift > 0 and task.shift_axis == axis
        assert distance(task) == pytest.approx(task.shift, abs=1e-12)


@pytest.mark.parametrize(("family_id", "seed"), [("ant-goal", 104), ("ant-dir", 105)])
def test_the_id_split_was_drawn_as_its_note_says(family_id: str, seed: int) -> None:
    family = load_family(family_id)
    for frozen, drawn in zip(
        family.split("id"), family.sample(8, np.random.default_rng(seed)), strict=True
    ):
        assert dict(frozen.params) == pytest.approx(dict(drawn.params), rel=1e-12)


def test_the_other_test_tasks_are_the_agreed_ones() -> None:
    def goals(family: AntGoal, split: str) -> list[tuple[float, float]]:
        return [(task.params["radius"], task.params["angle"]) for task in family.split(split)]

    axes = [0, PI / 2, PI, 3 * PI / 2]
    np.testing.assert_allclose(
        goals(AntGoal(), "ood"), [(r, a) for r in (2.25, 2.5, 3, 4) for a in (PI / 6, 5 * PI / 4)]
    )
    np.testing.assert_allclose(
        goals(AntGoalGap(), "id"), [(r, a) for r in (0.5, 2.75) for a in axes]
    )
    np.testing.assert_allclose(goals(AntGoalGap(), "gap"), [(1.75, a) for a in axes])
    directions = [task.params["direction"] for task in AntDir().split("ood")]
    np.testing.assert_allclose(directions, [(24 + k) * PI / 16 for k in range(1, 8)])
    diagonals = [task.params["direction"] for task in AntDir4().split("gap")]
    np.testing.assert_allclose(diagonals, [(1 + 2 * k) * PI / 4 for k in range(4)])


# --- the body is Gymnasium's ----------------------------------------------------------------------


def test_the_ant_equals_gymnasium_bit_by_bit() -> None:
    twins = [
        gymnasium.make(
            "Ant-v5",
            include_cfrc_ext_in_observation=False,
            exclude_current_positions_from_observation=False,
        )
        for _ in range(3)
    ]
    twins = [twin.unwrapped for twin in twins]
    for seed, twin in enumerate(twins):
        twin.reset(seed=seed)
    starts = iter(
        [(twin.data.qpos - twin.init_qpos, twin.data.qvel - twin.init_qvel) for twin in twins]
    )
    family = AntGoal()  # it never terminates
    family.reset_noise = lambda generator: next(starts)  # type: ignore[method-assign]
    env = BatchEnv(family, family.split("id")[:3], threads=2)
    qpos, qvel, derived = (env.batch.bind(name) for name in ("qpos", "qvel", "xpos"))
    env.reset()
    for i, twin in enumerate(twins):
        # our start, which may differ from the twin's by rounding
        twin.set_state(qpos[i].copy(), qvel[i].copy())
        np.testing.assert_array_equal(derived[i], twin.data.xpos)
    ends = 0
    for action in np.random.default_rng(0).uniform(-1, 1, (150, 3, 8)).astype(np.float32):
        step = env.step(action[:, None])
        for i, twin in enumerate(twins):
            obs, _, terminated, _, _ = twin.step(action[i])
            np.testing.assert_array_equal(qpos[i], twin.data.qpos)
            np.testing.assert_array_equal(qvel[i], twin.data.qvel)
            np.testing.assert_array_equal(step.obs[i, 0], obs.astype(np.float32))
            np.testing.assert_array_equal(
                AntDir().observe(qpos[[i]], qvel[[i]], {})[0], obs[2:].astype(np.float32)
            )
            assert AntDir().terminated(qpos[[i]], qvel[[i]])[0] == terminated
            ends += terminated
    assert 0 < ends < 450  # both outcomes occurred


def test_the_ant_starts_as_gymnasium_starts_it() -> None:
    twin = gymnasium.make("Ant-v5").unwrapped
    twin.np_random = np.random.default_rng(7)
    twin.reset_model()
    qpos, qvel = AntDir().reset_noise(np.random.default_rng(7))
    np.testing.assert_array_equal(twin.init_qpos + qpos, twin.data.qpos)
    np.testing.assert_array_equal(twin.init_qvel + qvel, twin.data.qvel)
    assert (twin.dt, twin.frame_skip) == (CONTROL_DT, AntDir.frame_skip)
    env = BatchEnv(AntDir(), AntDir().split("id"))
    np.testing.assert_array_equal(env.batch.model.qpos0, twin.init_qpos)


# --- rewards and ends -----------------------------------------------------------------------------


def naive_reward(task: Task, before: FloatArray, after: FloatArray, action: FloatArray) -> float:
    """One simulation's reward from its positions, written as the table of families gives it."""
    p, effort = task.params, sum(a * a for a in action)
    if "direction" in p:
        velocity = [(after[i] - before[i]) / 0.05 for i in (0, 1)]
        return (
            velocity[0] * np.cos(p["direction"])
            + velocity[1] * np.sin(p["direction"])
            - 0.5 * effort
            + 1
        )
    goal = p["radius"] * np.cos(p["angle"]), p["radius"] * np.sin(p["angle"])
    return -abs(after[0] - goal[0]) - abs(after[1] - goal[1]) - 0.1 * effort


@pytest.mark.parametrize("family_id", IDS)
def test_rewards_equal_a_naive_formula(family_id: str) -> None:
    family = load_family(family_id)
    env = BatchEnv(family, family.split(family.splits()[-1]), copies=2)
    env.reset()
    for action in np.random.default_rng(0).uniform(-1.5, 1.5, (20, env.n_tasks, 2, 8)):
        before = env.batch.bind("qpos").copy()
        step = env.step(action)
        after = env.batch.bind("qpos")
        for i, task in enumerate(env.tasks):
            for j in range(2):
                expected = naive_reward(
                    task, before[2 * i + j], after[2 * i + j], np.clip(action[i, j], -1, 1)
                )
                np.testing.assert_allclose(step.reward[i, j], expected, rtol=1e-5, atol=1e-6)
        env.reset(step.terminated | step.truncated)


@pytest.mark.parametrize(
    ("state", "ends"),
    [
        ((2, 0.199), True),
        ((2, 0.201), False),
        ((2, 0.999), False),
        ((2, 1.001), True),
        ((0, 9.0), False),
    ],
)
def test_only_the_height_of_the_torso_ends_ant_dir(state: tuple[int, float], ends: bool) -> None:
    qpos, qvel = np.full((3, 15), 0.75), np.zeros((3, 14))
    entry, value = state
    qpos[1, entry] = value
    assert AntDir().terminated(qpos, qvel).tolist() == [False, ends, False]
    assert not AntGoal().terminated(qpos, qvel).any()


@pytest.mark.parametrize("family_id", IDS)
def test_a_thrown_ant_ends_alone_in_ant_dir_and_must_be_reset(family_id: str) -> None:
    family, ends = load_family(family_id), family_id in ("ant-dir", "ant-dir-4")
    env = BatchEnv(family, family.split("id")[:3])
    env.reset()
    env.batch.bind("qpos")[1, 2] = 1.5  # height in m; it cannot fall half a metre in one step
    step = env.step(np.zeros((3, 1, 8)))
    assert step.terminated.ravel().tolist() == [False, ends, False]
    assert not step.truncated.any() and not env.diverged.any()
    assert step.obs[1, 0, 0 if family.observation_size == 27 else 2] > 1.4  # the last observation
    if not ends:
        return
    with pytest.raises(ValueError, match="1 simulations have ended"):
        env.step(np.zeros((3, 1, 8)))
    assert env.reset(step.terminated)[1, 0, 0] < 0.9
    assert not env.step(np.zeros((3, 1, 8))).terminated.any()
