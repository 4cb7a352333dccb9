"""Pictures, each in an interpreter of its own, since MuJoCo chooses its OpenGL on import."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path

import gymnasium
import pytest

import envs.gym
from envs import FAMILIES, load_family

ROOT = str(Path(envs.__file__).parents[1])
PROBE = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 8, 8).close()"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run Python code with a given OpenGL backend and without a display."""

    def run(code: str, backend: str) -> subprocess.CompletedProcess[str]:
        variables = {
            key: value
            for key, value in os.environ.items()
            if key not in ("DISPLAY", "WAYLAND_DISPLAY")
        }
        code = f"import sys; sys.path.insert(0, {ROOT!r})\n" + textwrap.dedent(code)
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=variables | {"MUJOCO_GL": backend},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@cache
def works(backend: str) -> bool:
    variables = os.environ | {"MUJOCO_GL": backend}
    return (
        subprocess.run(
            [sys.executable, "-c", PROBE], env=variables, capture_output=True, timeout=120
        ).returncode
        == 0
    )


@pytest.fixture
def draw(run: Run) -> Callable[[str], None]:
    """Run code that draws and must neither fail nor print anything."""
    backends = ["cgl"] if sys.platform == "darwin" else ["egl", "osmesa"]
    backend = next(filter(works, backends), None)
    if backend is None:
        pytest.skip(f"MuJoCo draws with none of {backends} here")

    def draw(code: str) -> None:
        done = run(code, backend)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    return draw


@pytest.mark.parametrize("family_id", FAMILIES)
def test_check_env_is_content_with_the_pictures(
    draw: Callable[[str], None], family_id: str
) -> None:
    name = f"apb/{family_id}-v{load_family(family_id).version}"
    draw(f"""
        import warnings
        import gymnasium, numpy as np
        from gymnasium.utils.env_checker import check_env
        import envs.gym

        env = gymnasium.make({name!r}, render_mode="rgb_array", split="id")
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            check_env(env.unwrapped)
        messages = [str(warning.message) for warning in seen]
        assert len(messages) == 2 and all("infinity" in message for message in messages), messages
        env.reset(seed=0)
        first = env.render()
        assert first.shape == (480, 480, 3) and first.dtype == np.uint8
        assert first.std() > 1, first.std()
        for _ in range(3):
            env.step(np.ones(env.action_space.shape))
        assert (env.render() != first).any()
        env.reset(seed=0)
        assert (env.render() == first).all()
        env.close()
        env.close()
    """)


def test_drawing_moves_nothing(draw: Callable[[str], None]) -> None:
    draw("""
        import gymnasium, numpy as np
        import envs.gym

        how = {"split": "ood", "render_mode": "rgb_array"}
        seen, unseen = (gymnasium.make("apb/cheetah-vel-v1", **how) for _ in range(2))
        seen.reset(seed=0), unseen.reset(seed=0)
        for action in np.random.default_rng(0).uniform(-1, 1, (4, 6)):
            seen.render()
            np.testing.assert_array_equal(seen.step(action)[0], unseen.step(action)[0])
        seen.close()
    """)


def test_the_camera_follows_the_body(draw: Callable[[str], None]) -> None:
    draw("""
        import gymnasium, numpy as np
        import envs.gym

        env = gymnasium.make("apb/cheetah-vel-v1", split="ood", render_mode="rgb_array")
        env.reset(seed=0)
        env.unwrapped.batch_env.batch.qpos[0, 0] = 8.0  # a whole number of the floor's squares
        body = env.render().astype(int)
        # the body is brown, floor and sky are not
        brown = (body[..., 0] - body[..., 2] > 40).nonzero()[1]
        assert brown.size > 1000 and abs(brown.mean() - 240) < 60, (brown.size, brown.mean())
        env.close()
    """)


def test_many_tasks_are_drawn_each_with_its_own_model(draw: Callable[[str], None]) -> None:
    draw("""
        import gymnasium, numpy as np
        import envs.gym
        from envs.point import PointGoal

        def colours(self, nominal, params):
            colour = np.repeat(nominal["geom_rgba"][None], len(params["angle"]), axis=0)
            colour[:, :, 0] = np.arange(len(colour))[:, None] / len(colour)
            return {"geom_rgba": colour}

        make = dict(split="gap", render_mode="rgb_array")
        env = gymnasium.make_vec("apb/point-goal-v1", num_envs=3, **make)
        env.reset(seed=0)
        frames = env.render()
        for i, frame in enumerate(frames):
            single = gymnasium.make("apb/point-goal-v1", index=i, **make)
            single.reset(seed=0)
            np.testing.assert_array_equal(single.render(), frame)
            single.close()
        env.close(), env.close()

        PointGoal.model_fields = colours
        env = gymnasium.make_vec("apb/point-goal-v1", num_envs=3, **make)
        env.reset(seed=0)
        red = [frame[..., 0].mean() for frame in env.render()]
        assert red[0] < red[1] - 10 < red[2] - 20, red
        env.close()
    """)


def test_goals_are_in_sight_and_do_not_hide_the_body(draw: Callable[[str], None]) -> None:
    draw("""
        import numpy as np
        from envs import load_family
        from envs.batch import BatchEnv
        from envs.pictures import Pictures

        for family_id in ("point-goal", "ant-goal"):
            family = load_family(family_id)
            for task in family.split("ood"):
                env = BatchEnv(family, [task])
                env.reset()
                radius, angle = task.params["radius"], task.params["angle"]
                goal = radius * np.cos(angle), radius * np.sin(angle)
                draw = Pictures(env.batch, 240, goal, plain=True)
                picture = draw(0).astype(int)
                others = picture[..., 1:].max(axis=-1)
                red = picture[..., 0] - others > 100
                assert red.sum() > 10, (task, red.sum())
                assert not red[[0, -1]].any() and not red[:, [0, -1]].any(), task
                env.batch.qpos[0, :2] = goal
                assert (draw(0).astype(int) != picture).any() and env.batch.qpos[0, 0] == goal[0]
                if family_id == "point-goal":
                    blue = picture[..., 2] - picture[..., 0] > 40
                    on_goal = draw(0).astype(int)
                    assert (on_goal[..., 2] - on_goal[..., 0] > 40).sum() > 0.5 * blue.sum() > 0
                draw.close()
    """)


def test_closing_one_environment_leaves_the_graphics_memory_of_another_alone(
    draw: Callable[[str], None],
) -> None:
    draw("""
        import gymnasium, numpy as np
        import envs.gym

        how = {"split": "ood", "render_mode": "rgb_array"}
        one, two = (gymnasium.make("apb/cheetah-vel-v1", **how) for _ in range(2))
        one.reset(seed=0), two.reset(seed=0)
        one.render()
        picture = two.render()
        one.close()
        np.testing.assert_array_equal(two.render(), picture)
        two.close()
    """)


@pytest.mark.skipif(sys.platform != "linux", reason="only there MuJoCo has these to choose from")
@pytest.mark.parametrize("backend", ["disabled", "osmesa", "egl", "glfw"])
def test_without_an_opengl_the_error_says_what_to_install_and_to_set(
    run: Run, backend: str
) -> None:
    done = run(
        """
        import gymnasium
        env = gymnasium.make("envs.gym:apb/point-goal-v1", split="id", render_mode="rgb_array")
        env.reset()
        print(env.render().shape)
        env.close()
        """,
        backend,
    )
    if backend != "disabled" and done.stdout == "(480, 480, 3)\n":
        pytest.skip(f"{backend} draws here")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: MuJoCo ")
    assert all(
        word in last for word in ("OpenGL", "MUJOCO_GL", "libegl1", "libosmesa6", "egl", "osmesa")
    )


def test_everything_but_pictures_works_without_an_opengl(run: Run) -> None:
    done = run(
        "import gymnasium; print(gymnasium.make('envs.gym:apb/point-goal-v1').reset()[0].shape)",
        "disabled",
    )
    assert (done.stdout, done.stderr) == ("(4,)\n", "")


@pytest.mark.parametrize("name", ["apb/point-goal-v1", "apb/cheetah-vel-v1"])
def test_there_are_as_many_pictures_a_second_as_steps(name: str) -> None:
    steps_per_second = {"apb/point-goal-v1": 10, "apb/cheetah-vel-v1": 20}[name]
    for env in (gymnasium.make(name), gymnasium.make_vec(name, num_envs=1)):
        assert env.metadata["render_modes"] == ["rgb_array"]
        assert env.metadata["render_fps"] == pytest.approx(steps_per_second)


def test_without_a_render_mode_there_are_no_pictures() -> None:
    env = gymnasium.make("apb/point-goal-v1")
    many = gymnasium.make_vec("apb/point-goal-v1", num_envs=1)
    env.reset()
    many.reset()
    for each in (env.unwrapped, many):
        with pytest.warns(UserWarning, match="render_mode"):
            assert each.render() is None
