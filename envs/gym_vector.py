"""Gymnasium interface to many tasks at once; `gymnasium.make_vec` finds it via `envs.gym`."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs import load_family
from envs.api import BoolArray, FloatArray, Task
from envs.batch import BatchEnv
from envs.gym import RENDER_MODES, checked_mode, describe, render_fps, spaces
from envs.pictures import Pictures
from envs.sources import NEW_TASK, TaskSource, frozen_tasks

# Gymnasium's key of the reset option that selects the sub-environments to reset
RESET_MASK = "reset_mask"


class TaskVectorEnv(VectorEnv[FloatArray, FloatArray, NDArray[Any]]):
    """Many tasks of a family, on one `BatchEnv`: test tasks of a split in order, or training tasks
    stratified over the law.

    `reset(seed=s)` starts over, as in `TaskEnv`; what follows equals that of `BatchEnv(family,
    tasks, copies, seed=s)`, bit for bit. Nothing resets by itself (`AutoresetMode.DISABLED`):
    before the next step, `reset(options={"reset_mask": terminated | truncated})` starts a new
    episode where the mask is true, and returns the observations of all.

    Attributes:
      tasks: the tasks; sub-environment i has task i // copies.
      batch_env: the underlying environment.
    """

    def __init__(
        self,
        family: str,
        num_envs: int,
        split: str | None = None,
        indices: Sequence[int] | None = None,
        copies: int = 1,
        threads: int = 1,
        render_mode: str | None = None,
    ) -> None:
        """Make the environments; the first call must be `reset`.

        Args:
          family: id of the family.
          num_envs: number of tasks × copies.
          split: name of a test split; None for training tasks.
          indices: which tasks of the split, each once; None for the first ones.
          copies: how many neighbouring sub-environments share a task; their starts differ.
          threads: number of threads that step them.
          render_mode: "rgb_array", or None for no pictures.
        Raises:
          ValueError: if there are no such tasks, too few of them, or no such render mode.
        """
        law = load_family(family)
        if copies < 1 or num_envs < 1 or num_envs % copies:
            raise ValueError(
                f"num_envs must be a positive multiple of copies, got {num_envs} and {copies}"
            )
        n_tasks = num_envs // copies
        if indices is not None and (
            split is None or len(indices) != n_tasks or len(set(indices)) != n_tasks
        ):
            raise ValueError(
                f"indices must be {n_tasks} different task indices of a split, got {list(indices)}"
                f" of split {split}"
            )
        self._source = TaskSource(
            law, n_tasks, frozen_tasks(law, split, range(n_tasks) if indices is None else indices)
        )
        self.batch_env = BatchEnv(
            law, self._source.first(self.np_random), copies, threads, self.np_random_seed or 0
        )
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = spaces(law)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = {
            "render_modes": RENDER_MODES,
            "render_fps": render_fps(self.batch_env),
            "autoreset_mode": AutoresetMode.DISABLED,
        }
        self.render_mode = checked_mode(render_mode)
        self._pictures: Pictures | None = None
        self._infos = self._described()

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The current tasks."""
        return self.batch_env.tasks

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Start episodes; return all observations [num_envs, O] and the tasks.

        Args:
          seed: start over from this seed.
          options: {"reset_mask": bool [num_envs]} to start episodes only where it is true;
            {"new_task": True} for fresh training tasks everywhere.
        Raises:
          ValueError: if the mask has another shape or type, or comes with a seed or new tasks,
            which start over; or if new tasks are asked for, but the tasks are fixed.
        """
        mask = (options or {}).get(RESET_MASK)
        if mask is not None and (seed is not None or (options or {}).get(NEW_TASK)):
            raise ValueError(f"a seed or new tasks restart every episode; leave out {RESET_MASK}")
        super().reset(seed=seed)
        tasks = self._source.due(self.np_random, seed, options)
        if tasks is not None:
            self.batch_env.set_tasks(tasks, seed)
            self._infos = self._described()
        obs = self.batch_env.reset(None if mask is None else self._episodes(mask))
        return self._flat(obs), deepcopy(self._infos)

    def step(
        self, actions: FloatArray
    ) -> tuple[
        FloatArray, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
    ]:
        """Apply `actions` [num_envs, A], clipped to [−1, 1], for one control step.

        Raises:
          ValueError: if an ended episode was not followed by a reset, or an action has another
            shape or is not finite.
        """
        actions = np.asarray(actions)
        if actions.shape != self.action_space.shape:
            raise ValueError(
                f"actions must have shape {self.action_space.shape}, got {actions.shape}"
            )
        step = self.batch_env.step(
            actions.reshape(self.batch_env.n_tasks, self.batch_env.copies, -1)
        )
        obs, reward, terminated, truncated = map(self._flat, step)
        return obs, reward.astype(np.float64), terminated, truncated, deepcopy(self._infos)

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Pictures [480, 480, 3] of the current states, or None without a render mode.

        Raises:
          RuntimeError: if there is no OpenGL to draw with.
        """
        if self.render_mode is None:
            gymnasium.logger.warn('render() returns None without render_mode="rgb_array"')
            return None
        self._pictures = self._pictures or Pictures(self.batch_env.batch)
        return tuple(map(self._pictures, range(self.num_envs)))

    def __getstate__(self) -> dict[str, Any]:
        """See `TaskEnv.__getstate__`."""
        return {**self.__dict__, "_pictures": None}

    def close_extras(self, **kwargs: Any) -> None:
        """Free the graphics memory; calling it again does no harm."""
        if self._pictures is not None:
            self._pictures.close()
            self._pictures = None

    def _flat(self, values: NDArray[Any]) -> NDArray[Any]:
        """Reshape [N, E, …] to [num_envs, …]."""
        return values.reshape(self.num_envs, *values.shape[2:])

    def _episodes(self, mask: BoolArray) -> BoolArray:
        """Check a mask [num_envs] and reshape it to [N, E]."""
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise ValueError(
                f"{RESET_MASK} must be bool [{self.num_envs}], got {mask.dtype} {list(mask.shape)}"
            )
        return mask.reshape(self.batch_env.n_tasks, self.batch_env.copies)

    def _described(self) -> dict[str, Any]:
        """The info of all sub-environments, as arrays."""
        infos: dict[str, Any] = {}
        for i in range(self.num_envs):
            infos = self._add_info(infos, describe(self.tasks[i // self.batch_env.copies]), i)
        return infos
