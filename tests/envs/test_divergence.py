"""A diverging simulation ends alone, is counted, stays finite, and is as new once it is reset."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
import pytest
from mujoco.batch import SimulationError

from envs.batch import BatchEnv
from envs.cheetah import CheetahVel
from envs.model import load_model

LOST = 2  # which of the N simulations diverges
N = 5


def make() -> BatchEnv:
    family = CheetahVel()
    env = BatchEnv(family, family.sample(N, np.random.default_rng(0)), threads=2)
    env.reset()
    return env


def actions(steps: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (steps, N, 1, 6))


def overwrite(field: str, value: float, entry: int = 3) -> Callable[[BatchEnv], None]:
    def breakage(env: BatchEnv) -> None:
        env.batch.bind(field)[LOST, entry] = value

    return breakage


def raise_in_mujoco(env: BatchEnv) -> None:
    """Make the next step of one simulation fail as a Batch reports it."""
    real = env.batch.step

    def step(nstep: int) -> None:
        object.__setattr__(env.batch, "step", real)
        real(np.flatnonzero(np.arange(N) != LOST), nstep=nstep)
        raise SimulationError(np.array([LOST]), "stack overflow")

    object.__setattr__(env.batch, "step", step)


BREAKAGES = {
    "nan joint": overwrite("qpos", np.nan),
    "nan place, which only the reward sees": overwrite("qpos", np.nan, entry=0),
    "infinite velocity": overwrite("qvel", np.inf),
    "huge but finite position": overwrite("qpos", 1e11),
    "velocity that MuJoCo calls unstable": overwrite("qvel", 1e11),
    "physics that blow up within the step": overwrite("qvel", 1e8),
    "nan force": overwrite("qfrc_applied", np.nan),
    "error": raise_in_mujoco,
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_it_ends_alone_and_is_as_good_as_new_after_its_reset(breakage: str) -> None:
    env, healthy = make(), make()
    plan = actions(12)
    for action in plan[:3]:
        before = env.step(action)
        healthy.step(action)
    BREAKAGES[breakage](env)
    step, expected = env.step(plan[3]), healthy.step(plan[3])
    lost = np.arange(N)[:, None] == LOST

    np.testing.assert_array_equal(step.terminated, lost)
    assert not step.truncated.any()
    np.testing.assert_array_equal(env.diverged, lost.astype(int))
    np.testing.assert_array_equal(step.obs[lost], before.obs[lost])
    assert np.isfinite(step.reward).all()
    assert np.isfinite(env.batch.bind("qpos")).all() and np.isfinite(env.batch.bind("qvel")).all()
    for one, other in zip(step, expected, strict=True):
        np.testing.assert_array_equal(one[~lost], other[~lost])

    with pytest.raises(ValueError, match="1 simulations have ended"):
        env.step(plan[4])
    np.testing.assert_array_equal(env.reset(lost), healthy.reset(lost))
    for action in plan[4:]:
        for one, other in zip(env.step(action), healthy.step(action), strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(env.batch.state, healthy.batch.state)
    assert env.diverged.sum() == 1


def test_a_state_loaded_over_a_diverged_simulation_is_healthy() -> None:
    env = make()
    state = env.state_dict()
    overwrite("qpos", np.nan)(env)
    assert env.step(actions(1)[0]).terminated.any()
    env.load_state_dict(state)
    assert not env.step(actions(1)[0]).terminated.any()
    assert not env.diverged.any()


def test_models_do_not_reset_themselves_and_a_users_warning_handler_is_kept() -> None:
    model = make().batch.model
    assert model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_AUTORESET
    ours, seen = mujoco.get_mju_user_warning(), []
    mujoco.set_mju_user_warning(seen.append)
    try:
        load_model(CheetahVel().xml())
    finally:
        mujoco.set_mju_user_warning(ours)
    assert ours is not None and len(seen) == 1  # a deprecated attribute in Gymnasium's file


def test_warnings_of_many_threads_neither_hang_nor_print_nor_leave_a_file(tmp_path: Path) -> None:
    script = """
        import numpy as np
        from envs.batch import BatchEnv
        from envs.cheetah import CheetahVel

        env = BatchEnv(CheetahVel(), CheetahVel().split("id"), copies=8, threads=2)
        for _ in range(20):
            env.reset()
            env.batch.bind("qvel")[:, 2:] = 1e9
            assert env.step(np.zeros((8, 8, 6))).terminated.all()
        assert (env.diverged == 20).all()
    """
    paths = [str(Path(sys.modules["envs"].__file__).parents[1])]
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n" + textwrap.dedent(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout + run.stderr == ""
    assert not list(tmp_path.iterdir())
