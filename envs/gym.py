"""Gymnasium interface: importing this registers every family as `apb/<family>-v<version>`.

    gymnasium.make("envs.gym:apb/cheetah-vel-v1", split="ood", index=2)
    gymnasium.make_vec("envs.gym:apb/cheetah-vel-v1", num_envs=4, split="ood")

A policy is not told its task: observations do not contain it. Every `info` from `reset` and `step`
does: `info["task"]["params"]` are its parameters in SI units, and `info["task"]["shift"]` is its
distance from the training law.
"""

import os
from collections.abc import Mapping
from copy import copy
from math import isnan
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from numpy.typing import NDArray

from envs import FAMILIES, load_family
from envs.api import FloatArray, Task, TaskFamily
from envs.sources import TaskSource, frozen_tasks, own_task

try:
    from envs.batch import BatchEnv
    from envs.pictures import Pictures
# from PyOpenGL, on importing MuJoCo when the library that MUJOCO_GL names is not installed
except AttributeError as error:
    raise RuntimeError(
        f"MuJoCo cannot load the OpenGL library that MUJOCO_GL={os.environ.get('MUJOCO_GL')} names."
        " Install it (Debian package libegl1 for egl, libosmesa6 for osmesa), or unset the"
        " variable if you need no pictures"
    ) from error

RENDER_MODES = ["rgb_array"]


def register_family(family_id: str) -> str:
    """Register a family of `FAMILIES` that was added after this module was imported.

    Returns:
      The id under which it is registered: `apb/<family>-v<version>`.
    Raises:
      KeyError: if there is no such family.
    """
    name = f"apb/{family_id}-v{load_family(family_id).version}"
    # The horizon is not passed to Gymnasium, which would truncate a second time.
    gymnasium.register(
        name,
        entry_point="envs.gym:TaskEnv",
        vector_entry_point="envs.gym_vector:TaskVectorEnv",
        kwargs={"family": family_id},
    )
    return name


class TaskEnv(gymnasium.Env[FloatArray, FloatArray]):
    """One task of a family: a frozen test task, given parameters, or a draw from the training law.

    `reset(seed=s)` starts over: it draws a training task from `np_random`, unless the task is
    fixed, and starts its first episode; what follows equals that of `BatchEnv(family, [task],
    seed=s)`, bit for bit. Without a seed, `reset()` starts another episode of the same task, and
    `reset(options={"new_task": True})` the first one of a fresh training task.

    `terminated` means that the body's state ended the episode (or that the simulation diverged),
    `truncated` that the clock did.

    Attributes:
      task: the current task.
      batch_env: the underlying environment, with one task and one copy.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES}  # noqa: RUF012 -- as Gymnasium declares it; an instance's has fps

    def __init__(
        self,
        family: str,
        split: str | None = None,
        index: int = 0,
        params: Mapping[str, float] | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Make the environment; the first call must be `reset`.

        Args:
          family: id of the family.
          split: name of a test split; None for a training task.
          index: which task of the split.
          params: the parameters of a task of your own, in SI units; its shift is unknown (None in
            the info).
          render_mode: "rgb_array", or None for no pictures.
        Raises:
          ValueError: if there is no such task or render mode.
        """
        law = load_family(family)
        if params is not None and split is not None:
            raise ValueError(
                f"give a split or params, not both; got split {split!r} and params {dict(params)}"
            )
        if split is None and index != 0:
            raise ValueError(
                f"index {index} selects a test task, which needs a split: {', '.join(law.splits())}"
            )
        fixed = [own_task(law, params)] if params is not None else frozen_tasks(law, split, [index])
        self._source = TaskSource(law, 1, fixed)
        self.batch_env = BatchEnv(law, self._source.first(self.np_random), seed=self.np_random_seed)
        self.observation_space, self.action_space = spaces(law)
        self.metadata = {"render_modes": RENDER_MODES, "render_fps": render_fps(self.batch_env)}
        self.render_mode = checked_mode(render_mode)
        self._pictures: Pictures | None = None
        self._spec: EnvSpec | None = None

    @property
    def task(self) -> Task:
        """The current task."""
        return self.batch_env.tasks[0]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Start an episode; return its first observation [O] and the task.

        Args:
          seed: start over from this seed.
          options: {"new_task": True} for a fresh training task.
        Raises:
          ValueError: if a new task is asked for, but the task is fixed.
        """
        super().reset(seed=seed)
        tasks = self._source.due(self.np_random, seed, options)
        if tasks is not None:
            self.batch_env.set_tasks(tasks, seed)
        return self.batch_env.reset()[0, 0], describe(self.task)

    def step(self, action: FloatArray) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Apply `action` [A], clipped to [−1, 1], for one control step.

        Raises:
          ValueError: if the episode has ended, or the action has another shape or is not finite.
        """
        obs, reward, terminated, truncated = (
            part[0, 0] for part in self.batch_env.step(np.asarray(action)[None, None])
        )
        return obs, float(reward), bool(terminated), bool(truncated), describe(self.task)

    def render(self) -> NDArray[np.uint8] | None:
        """A picture [480, 480, 3] of the current state, or None without a render mode.

        Raises:
          RuntimeError: if there is no OpenGL to draw with.
        """
        if self.render_mode is None:
            gymnasium.logger.warn('render() returns None without render_mode="rgb_array"')
            return None
        self._pictures = self._pictures or Pictures(self.batch_env.batch)
        return self._pictures(0)

    @property
    def spec(self) -> EnvSpec | None:
        """How the environment was made, plus the horizon, which wrappers read from here.

        The horizon is not registered, because `make` would then truncate a second time.
        """
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = copy(spec)
        if self._spec is not None:
            self._spec.max_episode_steps = self.batch_env.horizon

    def __getstate__(self) -> dict[str, Any]:
        """Leave out `Pictures`: copies and pickles make their own."""
        return {**self.__dict__, "_pictures": None}

    def close(self) -> None:
        """Free the graphics memory; calling it again does no harm."""
        if self._pictures is not None:
            self._pictures.close()
            self._pictures = None


def spaces(law: TaskFamily) -> tuple[gymnasium.Space[FloatArray], gymnasium.Space[FloatArray]]:
    """Spaces of one observation and of one action."""
    return Box(-np.inf, np.inf, (law.observation_size,), np.float32), Box(
        -1.0, 1.0, (law.action_size,), np.float32
    )


def render_fps(env: BatchEnv) -> float:
    """Pictures per second of a real-time video: one for each control step."""
    return 1 / (float(env.batch.model.opt.timestep) * env.frame_skip)


def checked_mode(render_mode: str | None) -> str | None:
    """Return the render mode.

    Raises:
      ValueError: if there is no such mode.
    """
    if render_mode not in (None, *RENDER_MODES):
        raise ValueError(f"render_mode must be None or one of {RENDER_MODES}, got {render_mode!r}")
    return render_mode


def describe(task: Task) -> dict[str, Any]:
    """The info of a task, which a policy is not told. An unknown shift is None."""
    return {
        "task": {"params": dict(task.params), "shift": None if isnan(task.shift) else task.shift}
    }


for _family_id in FAMILIES:
    register_family(_family_id)
