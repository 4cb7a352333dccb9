"""Hopper and walker: Gymnasium's bodies at frame skip 8, observation, reward, exponents."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from mujoco.batch import MODEL_FIELDS

from envs.api import FloatArray, Task
from envs.batch import BatchEnv
from envs.hopper import Hopper, HopperMass, HopperRand
from envs.legs import CONTROL_DT, Legs
from envs.model import load_model
from envs.walker import Walker, WalkerMass, WalkerRand

RAND = [HopperRand, WalkerRand]
NOMINAL = {
    HopperRand: "Hopper-v5",
    HopperMass: "Hopper-v5",
    WalkerRand: "Walker2d-v5",
    WalkerMass: "Walker2d-v5",
}
# recomputed by `set_const`
REFRESHED = ("body_subtreemass", "body_invweight0", "dof_invweight0", "dof_M0", "actuator_acc0")


def exponents_task(family: Legs, value: float = 0.0, **others: float) -> Task:
    """A task with every exponent `value`, except for `others`."""
    names = family.names() if hasattr(family, "names") else ("exponent",)
    assert set(others) <= set(names)
    return Task(family.id, "here", 0, dict.fromkeys(names, value) | others)


def outside(family: Legs) -> tuple[Task, ...]:
    """The test tasks outside the law."""
    return family.split(family.splits()[-1])


def random_actions(steps: int, env: BatchEnv, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).uniform(
        -1, 1, (steps, env.n_tasks, env.copies, env.action_size)
    )


# --- nominal equality -----------------------------------------------------------------------------


def restart(twin: Any, qpos: FloatArray, qvel: FloatArray) -> None:
    """Reset a Gymnasium environment to a given start."""
    mujoco.mj_resetData(twin.model, twin.data)
    twin.set_state(qpos, qvel)


@pytest.mark.parametrize("cls", NOMINAL)
def test_the_nominal_body_equals_gymnasium_bit_by_bit_over_many_falls(cls: Any) -> None:
    family = cls()
    twins: list[Any] = [gymnasium.make(NOMINAL[cls], frame_skip=8).unwrapped for _ in range(4)]
    env = BatchEnv(family, [exponents_task(family)], copies=len(twins))
    env.reset()
    qpos, qvel = env.batch.bind("qpos"), env.batch.bind("qvel")
    for i, twin in enumerate(twins):
        restart(twin, qpos[i], qvel[i])
    falls = 0
    for action in random_actions(100, env).astype(np.float32):
        step = env.step(action)
        for i, twin in enumerate(twins):
            obs, reward, fallen, _, _ = twin.step(action[0, i])
            np.testing.assert_array_equal(qpos[i], twin.data.qpos)
            np.testing.assert_array_equal(qvel[i], twin.data.qvel)
            np.testing.assert_array_equal(step.obs[0, i], obs.astype(np.float32))
            assert step.terminated[0, i] == fallen
            # v5 withholds the bonus of 1 at a fall
            np.testing.assert_allclose(step.reward[0, i], reward + fallen, rtol=1e-5, atol=1e-5)
        env.reset(step.terminated)
        for i in np.flatnonzero(step.terminated):
            restart(twins[i], qpos[i], qvel[i])
        falls += int(step.terminated.sum())
    assert falls > 20


@pytest.mark.parametrize("cls", [HopperRand, WalkerRand])
def test_it_starts_as_gymnasium_starts_it(cls: Any) -> None:
    twin: Any = gymnasium.make(NOMINAL[cls], frame_skip=8).unwrapped
    twin.np_random = np.random.default_rng(7)
    twin.reset_model()
    qpos, qvel = cls().reset_noise(np.random.default_rng(7))
    np.testing.assert_array_equal(twin.init_qpos + qpos, twin.data.qpos)
    np.testing.assert_array_equal(twin.init_qvel + qvel, twin.data.qvel)
    assert (twin.dt, twin.frame_skip) == (CONTROL_DT, cls.frame_skip)


@pytest.mark.parametrize("cls", [HopperRand, WalkerRand])
def test_it_has_fallen_where_gymnasium_says_so(cls: Any) -> None:
    twin: Any = gymnasium.make(NOMINAL[cls], frame_skip=8).unwrapped
    generator = np.random.default_rng(0)
    near = np.concatenate((twin.init_qpos, twin.init_qvel)) + 0.01 * generator.standard_normal(
        (400, twin.model.nq * 2)
    )
    states = near.copy()
    edges = {
        1: (0.7, 0.8, 2.0),
        2: (-1.0, -0.2, 0.2, 1.0),
        4: (-100.0, 100.0),
        8: (-100.0, 100.0),
        0: (200.0,),
        7: (np.nan,),
    }
    for row, (column, values) in enumerate((c, v) for c, v in edges.items() for _ in range(60)):
        edge = generator.choice(values)
        states[row, column] = generator.choice(
            [np.nextafter(edge, -np.inf), edge, np.nextafter(edge, np.inf)]
        )
    qpos, qvel = states[:, : twin.model.nq], states[:, twin.model.nq :]
    healthy = []
    for row in range(len(states)):
        twin.data.qpos[:], twin.data.qvel[:] = qpos[row], qvel[row]
        healthy.append(twin.is_healthy)
    np.testing.assert_array_equal(cls().terminated(qpos, qvel), ~np.array(healthy))
    assert 50 < np.sum(healthy) < 350


# --- observation and reward -----------------------------------------------------------------------


@pytest.mark.parametrize("cls", NOMINAL)
def test_observation_and_reward_equal_a_naive_formula(cls: Any) -> None:
    family = cls()
    env = BatchEnv(family, outside(family), copies=2)
    env.reset()
    qpos, qvel = env.batch.bind("qpos"), env.batch.bind("qvel")
    qvel *= 1000  # fast enough to be clipped
    for action in 1.5 * random_actions(6, env):
        before = qpos.copy()
        step = env.step(action)
        a = np.clip(action, -1, 1)
        expected = (qpos - before)[:, 0] / 0.016 + 1 - 0.001 * np.square(a).sum(axis=-1).ravel()
        np.testing.assert_allclose(step.reward.ravel(), expected, rtol=1e-4, atol=1e-4)
        for i, obs in enumerate(step.obs.reshape(-1, env.observation_size)):
            seen = [*qpos[i][1:], *(min(max(v, -10), 10) for v in qvel[i])]
            np.testing.assert_array_equal(obs, np.array(seen, np.float32))
        env.reset(step.terminated)


# --- every exponent does what its law says --------------------------------------------------------


@pytest.mark.parametrize("cls", [Hopper, Walker])
def test_names_are_the_models_in_its_order(cls: Any) -> None:
    model = load_model(cls().xml())
    assert ("world", *cls.bodies) == tuple(model.body(i).name for i in range(model.nbody))
    assert cls.hinges == tuple(model.joint(i).name for i in range(3, model.njnt))
    np.testing.assert_array_equal(model.jnt_dofadr, np.arange(model.nv))
    np.testing.assert_array_equal(model.dof_damping[:3], 0)


def edited(family: Legs, params: Mapping[str, float]) -> mujoco.MjModel:
    """The model of one task, edited by name, one value at a time."""
    model = load_model(family.xml())
    for name, e in params.items():
        what, _, part = name.partition("_")
        if what == "mass":
            model.body(part).mass *= 1.5**e
        elif what == "inertia":
            model.body(part).inertia *= 1.5**e
        elif what == "damping":
            model.joint(part).damping *= 1.3**e
        elif what == "friction":
            for i in range(model.ngeom):
                model.geom_friction[i, 0] *= 1.5**e
        else:
            assert name == "exponent"
            model.body_mass[:] *= 1.5**e
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def extremes(family: Legs) -> list[Task]:
    """Each exponent alone at ±4, all at once, and the test tasks outside the law."""
    names = exponents_task(family).params
    alone = [exponents_task(family, **{name: e}) for name in names for e in (-4.0, 4.0)]
    return [*alone, exponents_task(family, -4.0), exponents_task(family, 4.0), *outside(family)]


@pytest.mark.parametrize("cls", NOMINAL)
def test_every_model_field_is_that_of_a_model_edited_by_name(cls: Any) -> None:
    family = cls()
    tasks = extremes(family)
    env = BatchEnv(family, tasks)
    nominal = load_model(family.xml())
    varied = set(
        family.model_fields(
            {n: getattr(nominal, n) for n in MODEL_FIELDS if "." not in n}, env._params
        )
    )
    fields = {name: env.batch.expand(name) for name in (*varied, *REFRESHED)}
    for i, task in enumerate(tasks):
        model = edited(family, task.params)
        for name, values in fields.items():
            np.testing.assert_allclose(
                values[i], getattr(model, name), rtol=1e-12, err_msg=f"{name} of {task}"
            )
        assert (model.body_mass[1:] > 0).all() and (model.body_inertia[1:] > 0).all()
    assert varied <= {"body_mass", "body_inertia", "dof_damping", "geom_friction"}
    for name in fields:  # and every one of them varies
        assert len(np.unique(fields[name].reshape(len(tasks), -1), axis=0)) > 1
        np.testing.assert_array_equal(getattr(env.batch.model, name), getattr(nominal, name))


@pytest.mark.parametrize("cls", NOMINAL)
def test_the_motion_is_that_of_a_single_simulation_of_the_edited_model(cls: Any) -> None:
    family = cls()
    tasks = [*outside(family)[::4], exponents_task(family, 1.0), exponents_task(family, -2.0)]
    env = BatchEnv(family, tasks)
    env.reset()
    qpos, qvel = env.batch.bind("qpos"), env.batch.bind("qvel")
    singles = []
    for i, task in enumerate(tasks):
        model = edited(family, task.params)
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:] = qpos[i], qvel[i]
        mujoco.mj_forward(model, data)
        singles.append((model, data))
    for action in random_actions(8, env):
        ended = env.step(action).terminated
        for i, (model, data) in enumerate(singles):
            data.ctrl[:] = action[i, 0]
            mujoco.mj_step(model, data, 8)
            np.testing.assert_allclose(qpos[i], data.qpos, rtol=1e-7, atol=1e-9)
            np.testing.assert_allclose(qvel[i], data.qvel, rtol=1e-7, atol=1e-7)
        if ended.any():
            break


@pytest.mark.parametrize("cls", RAND)
def test_every_exponent_changes_the_motion(cls: Any) -> None:
    family = cls()
    names = list(exponents_task(family).params)
    tasks = [exponents_task(family), *(exponents_task(family, **{name: 2.0}) for name in names)]
    env = BatchEnv(family, tasks)
    env.reset()
    for field in ("qpos", "qvel"):
        env.batch.bind(field)[...] = env.batch.bind(field)[0]  # one start for all
    for action in random_actions(4, env)[:, :1]:
        env.batch.bind("ctrl")[...] = action[0, 0]
        env.batch.step(nstep=8)
    moved = np.abs(env.batch.bind("qvel") - env.batch.bind("qvel")[0]).max(axis=1)
    assert dict(zip(names, moved[1:] > 1e-6, strict=True)) == dict.fromkeys(names, True)


@pytest.mark.parametrize("cls", NOMINAL)
def test_changing_tasks_back_and_forth_compounds_nothing(cls: Any) -> None:
    family = cls()
    one, other = outside(family)[:4], family.sample(4, np.random.default_rng(3))
    env = BatchEnv(family, one)
    names = list(
        family.model_fields(
            {n: getattr(env.batch.model, n) for n in MODEL_FIELDS if "." not in n}, env._params
        )
    )

    def first_steps(tasks: Sequence[Task]) -> list[FloatArray]:
        env.set_tasks(tasks)
        env.reset()
        fields = [env.batch.expand(name).copy() for name in (*names, *REFRESHED)]
        return [*fields, *env.step(random_actions(1, env)[0])[:2], env.batch.state.copy()]

    before = first_steps(one)
    between = [first_steps(other), first_steps(other)]
    for a, b, c in zip(before, first_steps(one), between[0], strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()


@pytest.mark.parametrize("exponent", [-1e4, 1e4])
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_a_body_that_cannot_be_is_refused(exponent: float) -> None:
    with pytest.raises(ValueError, match="body_mass that no body can have"):
        BatchEnv(HopperMass(), [exponents_task(HopperMass(), exponent)])
