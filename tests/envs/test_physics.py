"""Physics and rewards match Gymnasium's, closed forms, and a naive formula per simulation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from envs import FAMILIES, load_family
from envs.api import FloatArray, Step, Task, TaskFamily
from envs.batch import BatchEnv
from envs.cheetah import CONTROL_DT, CheetahVel
from envs.point import PointGoal, PointRand

H = 0.02  # s, the point's simulator step


def without_noise(family: TaskFamily) -> TaskFamily:
    """The family, with every episode starting at the model's initial state."""
    zeros = [np.zeros_like(part) for part in family.reset_noise(np.random.default_rng(0))]
    still = type("Still", (type(family),), {"reset_noise": lambda self, generator: zeros})
    return still()


def with_params(task: Task, **params: float) -> Task:
    return replace(task, params=dict(task.params) | params)


def play(env: BatchEnv, actions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Observations [T, N, O] and rewards [T, N] under shared actions [T, A], until a task ends."""
    env.reset()
    steps: list[Step] = []
    for a in actions:
        if steps and (steps[-1].terminated | steps[-1].truncated).any():
            break
        steps.append(env.step(np.broadcast_to(a, (env.n_tasks, 1, len(a)))))
    return np.array([step.obs[:, 0] for step in steps]), np.array(
        [step.reward[:, 0] for step in steps]
    )


def random_actions(steps: int, size: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, size))


# --- the cheetah is Gymnasium's -------------------------------------------------------------------


def test_the_cheetah_equals_gymnasium_bit_by_bit() -> None:
    twins = [gymnasium.make("HalfCheetah-v5").unwrapped for _ in range(3)]
    for seed, twin in enumerate(twins):
        twin.reset(seed=seed)
    starts = iter([(twin.data.qpos.copy(), twin.data.qvel.copy()) for twin in twins])
    family = CheetahVel()
    family.reset_noise = lambda generator: next(starts)  # type: ignore[method-assign]
    env = BatchEnv(family, family.split("id")[:3], threads=2)
    derived = env.batch.bind("xpos")
    env.reset()
    for i, twin in enumerate(twins):
        np.testing.assert_array_equal(derived[i], twin.data.xpos)
    for action in np.random.default_rng(0).uniform(-1, 1, (150, 3, 6)).astype(np.float32):
        step = env.step(action[:, None])
        for i, twin in enumerate(twins):
            obs, _, _, _, info = twin.step(action[i])
            np.testing.assert_array_equal(env.batch.bind("qpos")[i], twin.data.qpos)
            np.testing.assert_array_equal(env.batch.bind("qvel")[i], twin.data.qvel)
            np.testing.assert_array_equal(step.obs[i, 0], obs.astype(np.float32))
            error = abs(info["x_velocity"] - env.tasks[i].params["target_speed"])
            cost = 0.05 * np.sum(np.square(action[i], dtype=np.float64))
            np.testing.assert_allclose(step.reward[i, 0], -error - cost, rtol=1e-6)


def test_the_cheetah_starts_as_gymnasium_starts_it() -> None:
    twin = gymnasium.make("HalfCheetah-v5").unwrapped
    twin.np_random = np.random.default_rng(7)
    twin.reset_model()
    qpos, qvel = CheetahVel().reset_noise(np.random.default_rng(7))
    np.testing.assert_array_equal(twin.init_qpos + qpos, twin.data.qpos)
    np.testing.assert_array_equal(twin.init_qvel + qvel, twin.data.qvel)
    assert twin.dt == CONTROL_DT and twin.frame_skip == CheetahVel.frame_skip


# --- every parameter does what its law says -------------------------------------------------------


@pytest.mark.parametrize("family_id", FAMILIES)
def test_every_parameter_changes_reward_or_motion_as_its_kind_says(family_id: str) -> None:
    family = without_noise(load_family(family_id))
    task = family.split("id")[0]
    for name in task.params:
        other = with_params(task, **{name: task.params[name] * 1.3 + 0.1})
        obs, reward = play(BatchEnv(family, [task, other]), random_actions(20, family.action_size))
        assert (reward[:, 0] != reward[:, 1]).any(), name
        assert (obs[:, 0] != obs[:, 1]).any() == (family.kind == "transition"), name


def test_the_target_speed_shifts_the_reward_exactly() -> None:
    family = without_noise(CheetahVel())
    task = family.split("id")[0]
    tasks = [with_params(task, target_speed=v) for v in (20.0, 21.0, 23.5)]  # speeds never reached
    _, reward = play(BatchEnv(family, tasks), random_actions(30, 6))
    np.testing.assert_allclose(reward[:, 1] - reward[:, 0], -1.0, atol=1e-5)
    np.testing.assert_allclose(reward[:, 2] - reward[:, 0], -3.5, atol=1e-5)


def point_motion(actions: FloatArray, params: Mapping[str, float]) -> FloatArray:
    """Observations [T, 4] from rest, by the recursion vₜ₊₁ = (vₜ + h·R(φ)a / m) / (1 + h·d / m)."""
    cos, sin = np.cos(params["rotation"]), np.sin(params["rotation"])
    ratio = H / params["mass"]
    x, v, rows = np.zeros(2), np.zeros(2), []
    for a in actions:
        force = np.array([cos * a[0] - sin * a[1], sin * a[0] + cos * a[1]])
        for _ in range(PointRand.frame_skip):
            v = (v + ratio * force) / (1 + ratio * params["damping"])
            x = x + H * v
        rows.append(np.concatenate((x, v)))
    return np.array(rows)


def rand_task(rotation: float = 0.0, mass: float = 0.25, damping: float = 1.0) -> Task:
    return Task("point-rand", "here", 0, {"rotation": rotation, "mass": mass, "damping": damping})


def test_rotation_mass_and_damping_follow_the_equation_of_motion() -> None:
    family = without_noise(PointRand())
    tasks = family.split("id") + family.split("ood")
    actions = random_actions(50, 2)
    obs, _ = play(BatchEnv(family, tasks), actions)
    for i, task in enumerate(tasks):
        np.testing.assert_allclose(obs[:, i], point_motion(actions, task.params), atol=1e-6)


def test_the_nominal_point_rand_is_the_point_of_point_goal() -> None:
    actions = random_actions(50, 2)
    goal, _ = play(BatchEnv(without_noise(PointGoal()), PointGoal().split("id")[:1]), actions)
    rand, _ = play(BatchEnv(without_noise(PointRand()), [rand_task()]), actions)
    np.testing.assert_array_equal(goal, rand)


@pytest.mark.parametrize("factor", [0.5, 2.0, 3.0])
def test_mass_divides_the_acceleration_and_damping_the_top_speed(factor: float) -> None:
    family = without_noise(PointRand())
    push = np.tile([1.0, 0.0], (50, 1))
    tasks = [rand_task(), rand_task(mass=0.25 * factor, damping=factor), rand_task(damping=factor)]
    obs, _ = play(BatchEnv(family, tasks), push)
    # the time constant is the same, the motion is scaled
    np.testing.assert_allclose(obs[:, 1], obs[:, 0] / factor, rtol=1e-5)
    np.testing.assert_allclose(obs[-1, 2, 2], 1 / factor, rtol=1e-3)  # top speed in m/s
    env = BatchEnv(family, tasks)
    np.testing.assert_allclose(
        env.batch.expand("body_inertia")[1], factor * env.batch.model.body_inertia
    )
    # the nominal model is untouched
    np.testing.assert_array_equal(env.batch.model.body_mass, [0, 0.25])


@pytest.mark.parametrize("angle", [0.3, np.pi / 2, -2.0, np.pi])
def test_turning_the_actuators_turns_the_motion(angle: float) -> None:
    family = without_noise(PointRand())
    obs, _ = play(BatchEnv(family, [rand_task(), rand_task(rotation=angle)]), random_actions(50, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(obs[:, 1, :2], obs[:, 0, :2] @ turn.T, atol=1e-6)
    np.testing.assert_allclose(obs[:, 1, 2:], obs[:, 0, 2:] @ turn.T, atol=1e-6)


def test_a_quarter_turn_is_a_linear_image_of_an_unturned_task() -> None:
    family = without_noise(PointRand())
    actions = random_actions(50, 2)
    turned = np.stack((actions[:, 1], -actions[:, 0]), axis=1)  # R(−π/2) a stays within the bounds
    one, _ = play(BatchEnv(family, [rand_task(rotation=0.2)]), actions)
    other, _ = play(BatchEnv(family, [rand_task(rotation=0.2 + np.pi / 2)]), turned)
    np.testing.assert_allclose(one, other, atol=1e-6)


# --- rewards --------------------------------------------------------------------------------------


def naive_reward(task: Task, before: FloatArray, after: FloatArray, action: FloatArray) -> float:
    """One simulation's reward from its positions, as the table of families states it."""
    p = task.params
    if task.family == "cheetah-vel":
        return -abs((after[0] - before[0]) / 0.05 - p["target_speed"]) - 0.05 * sum(
            a * a for a in action
        )
    goal = goal_of(task) if task.family == "point-goal" else (1.0, 0.0)
    return -float(np.sqrt((after[0] - goal[0]) ** 2 + (after[1] - goal[1]) ** 2))


def goal_of(task: Task) -> tuple[float, float]:
    """A point-goal task's goal in m."""
    p = task.params
    return p["radius"] * np.cos(p["angle"]), p["radius"] * np.sin(p["angle"])


@pytest.mark.parametrize("family_id", ["point-goal", "point-rand", "cheetah-vel"])
def test_rewards_equal_a_naive_formula(family_id: str) -> None:
    family = load_family(family_id)
    env = BatchEnv(family, family.split("ood"), copies=2)
    env.reset()
    for action in np.random.default_rng(0).uniform(
        -1.5, 1.5, (30, env.n_tasks, 2, env.action_size)
    ):
        before = env.batch.bind("qpos").copy()
        step = env.step(action)
        after = env.batch.bind("qpos")
        for i, task in enumerate(env.tasks):
            for j in range(2):
                expected = naive_reward(
                    task, before[2 * i + j], after[2 * i + j], np.clip(action[i, j], -1, 1)
                )
                np.testing.assert_allclose(step.reward[i, j], expected, rtol=1e-5)


# --- known optimum --------------------------------------------------------------------------------


def episode_return(env: BatchEnv, goals: FloatArray, gain: float) -> FloatArray:
    """Returns [N, E] of u = gain·(g − x) − gain/10·v, a near-optimal PD law (gain 0: stay)."""
    obs, total = env.reset(), np.zeros((env.n_tasks, env.copies))
    for _ in range(env.horizon):
        step = env.step(gain * (goals[:, None] - obs[..., :2]) - gain / 10 * obs[..., 2:])
        obs, total = step.obs, total + step.reward
    return total


def least_loss(goal: Sequence[float]) -> float:
    """A loss no policy can beat: per axis, full force until the goal is reached, then stay."""
    x, _ = np.split(point_motion(np.ones((PointGoal.horizon, 2)), rand_task().params), 2, axis=1)
    return -float(np.hypot(*(np.maximum(abs(g) - x[:, 0] - 0.05, 0) for g in goal)).sum())


@pytest.mark.parametrize("split", ["id", "gap", "ood"])
def test_a_pd_law_comes_close_to_the_optimum_of_point_goal(split: str) -> None:
    tasks = PointGoal().split(split)
    env = BatchEnv(PointGoal(), tasks, copies=10)
    goals = np.array([goal_of(task) for task in tasks])
    radius = np.array([task.params["radius"] for task in tasks])
    np.testing.assert_allclose(
        episode_return(env, goals, 0.0).mean(axis=1), -50 * radius, rtol=0.03
    )
    best = episode_return(env, goals, 40.0)
    bound = np.array([least_loss(goal) for goal in goals])
    assert (best <= bound[:, None]).all()
    assert (best.mean(axis=1) >= 1.35 * bound - 0.5).all()
    for r, score in ((1.0, -6.0), (1.5, -10.5), (2.0, -17.6)):
        if (radius == r).any():
            np.testing.assert_allclose(best.mean(axis=1)[radius == r].mean(), score, atol=0.7)
