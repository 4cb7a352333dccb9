"""Many tasks side by side on MuJoCo's thread pool; the only place that handles episode ends.

Rewards are not defined here but by the `TaskFamily`. Trajectories depend on the seed, the task, the
copy, the episode and the actions, never on neighbouring simulations, the thread count or the order
of resets.
"""

import json
import os
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import mujoco
import numpy as np
from mujoco.batch import MODEL_FIELDS, Batch, SimulationError
from numpy.typing import NDArray

from envs.api import REWARD_SCALE, BoolArray, FloatArray, Step, Task, TaskFamily
from envs.model import checked, load_model
from envs.noise import NamedGenerator

NO_STAGE = int(mujoco.mjtStage.mjSTAGE_NONE)
DIVERGENCE_WARNINGS = slice(
    int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADCTRL) + 1
)
COUNT = 1  # column of `Batch.warning` with the count; the other holds the last warning's detail


class BatchEnv:
    """`N` tasks of one family × `E` copies of each, stepped together.

    It never resets by itself: an ended simulation must be reset before the next step. A simulation
    that diverges (a non-finite or huge state, or an error raised by MuJoCo) ends alone, as
    `terminated`: its positions and velocities are set back to those before the step, so that its
    observation and reward are finite, and `diverged` counts it.

    Attributes:
      family: the tasks' family.
      tasks: the N tasks.
      n_tasks, copies: N and E.
      observation_size, action_size: O and A.
      horizon: control steps until an episode is truncated.
      frame_skip: simulator steps per control step.
      batch: the S = N·E simulations, task by task, for rendering and inspection.
      diverged: [N, E] number of times each simulation has diverged since the environment was made.
    """

    def __init__(
        self,
        family: TaskFamily,
        tasks: Sequence[Task],
        copies: int = 1,
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        """Make the simulations; the first call must be `reset`.

        Args:
          family: the tasks' family.
          tasks: N ≥ 1 tasks.
          copies: E ≥ 1 simulations of each task; they differ in their reset noise only.
          threads: number of threads that step the simulations, including the calling thread.
          seed: root of the reset noise, which is also keyed by task, copy and episode.
        Raises:
          ValueError: if a count is not positive, or a task is of another family.
        """
        if min(len(tasks), copies, threads) < 1:
            raise ValueError(
                f"tasks, copies and threads must be at least 1, got {len(tasks)}, {copies} and"
                f" {threads}"
            )
        self.family = family
        self.n_tasks = len(tasks)
        self.copies = copies
        self.observation_size = family.observation_size
        self.action_size = family.action_size
        self.horizon = family.horizon
        self.frame_skip = family.frame_skip
        self.batch = Batch(load_model(family.xml()), self.n_tasks * copies, threads)
        self._threads = threads
        self._process = os.getpid()
        self._qpos, self._qvel, self._ctrl = (
            self.batch.bind(name) for name in ("qpos", "qvel", "ctrl")
        )
        self._motion = _motion(self.batch)
        self._nq = self._qpos.shape[1]
        # a live view; a reset zeroes it
        self._warnings = self.batch.warning[:, DIVERGENCE_WARNINGS, COUNT]
        self._nominal = {
            name: getattr(self.batch.model, name) for name in MODEL_FIELDS if "." not in name
        }
        self._seed = seed
        self._generator = NamedGenerator()
        self.diverged = np.zeros((self.n_tasks, copies), np.int64)
        self.set_tasks(tasks)

    def set_tasks(self, tasks: Sequence[Task], seed: int | None = None) -> None:
        """Put other tasks in the slots and restart the episode counts; then call a full `reset`.

        Args:
          tasks: N tasks of the family.
          seed: new root of the reset noise; None keeps the current one.
        Raises:
          ValueError: if there are not N of them, or one is of another family.
        """
        if len(tasks) != self.n_tasks:
            raise ValueError(
                f"this environment has {self.n_tasks} slots, got {len(tasks)} tasks; make another"
                " environment"
            )
        if others := {task.family for task in tasks} - {self.family.id}:
            raise ValueError(
                f"tasks of {', '.join(sorted(others))} in an environment of {self.family.id}"
            )
        self.tasks = tuple(tasks)
        self._seed = self._seed if seed is None else seed
        self._names = [_name(task) for task in tasks]
        self._params = {
            key: np.repeat(np.array([task.params[key] for task in tasks], np.float64), self.copies)
            for key in tasks[0].params
            if key != REWARD_SCALE
        }
        scale = np.array([task.params.get(REWARD_SCALE, 1.0) for task in tasks])
        self._reward_scale = None if (scale == 1.0).all() else np.repeat(scale, self.copies)
        self._write_model_fields()
        self._episode = np.zeros(self.batch.nsim, np.int64)
        self._clock = np.zeros(self.batch.nsim, np.int64)
        self._ended = np.ones(self.batch.nsim, bool)
        self._must_reset = True

    def reset(self, mask: BoolArray | None = None) -> FloatArray:
        """Start episodes where `mask` [N, E] is true (None: all); return float32 obs [N, E, O].

        Raises:
          ValueError: if the mask has another shape or type.
        """
        ids = np.flatnonzero(self._check_mask(mask))
        self._check_process()
        if ids.size:
            # as in Gymnasium: defaults, then the initial state, then one forward pass
            self.batch.reset(ids, stage=NO_STAGE)
            qpos, qvel = zip(*map(self._noise, ids.tolist()), strict=True)
            self._qpos[ids] += np.array(qpos)
            self._qvel[ids] += np.array(qvel)
            self.batch.forward(ids)
            self._episode[ids] += 1
            self._clock[ids] = 0
            self._ended[ids] = False
            self._must_reset = bool(self._ended.any())
            self._last = self._motion.copy()
        return self._observe(self._motion)

    def step(self, action: FloatArray) -> Step:
        """Apply `action` [N, E, A], clipped to [−1, 1], for one control step.

        `truncated` means that only the clock ended the episode.

        Raises:
          ValueError: if an ended simulation was not reset, the shape is wrong, or an action is not
            finite (no state changes then; MuJoCo would silently replace it by zero, and ending the
            episode would spare a bad policy the rest of it).
        """
        if self._must_reset:
            raise ValueError(
                f"{int(self._ended.sum())} simulations have ended or were never reset; call reset"
                " with their mask"
            )
        self._check_process()
        self._set_control(action)
        before = self._last
        failed = self._simulate()
        # the pool's threads wrote the state: once copied, it is cheap to read from here on
        after = self._motion.copy()
        lost = self._lost(after, failed)
        if lost is not None:
            self._motion[lost] = after[lost] = before[lost]
            self.diverged += lost.reshape(self.diverged.shape)
        qpos = after[:, : self._nq]
        qvel = after[:, self._nq :]
        reward = self.family.reward(before[:, : self._nq], qpos, qvel, self._ctrl, self._params)
        if self._reward_scale is not None:
            reward = reward * self._reward_scale
        terminated = self.family.terminated(qpos, qvel)
        if lost is not None:
            terminated = terminated | lost
        self._last = after
        self._clock += 1
        late = self._clock >= self.horizon
        self._ended = late | terminated
        self._must_reset = bool(self._ended.any())
        truncated = late > terminated  # late and not terminated
        shape = self.n_tasks, self.copies
        reward = reward.astype(np.float32, copy=False).reshape(shape)
        return Step(
            self._observe(after), reward, terminated.reshape(shape), truncated.reshape(shape)
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to resume, as plain Python and NumPy arrays.

        Model fields are left out: the tasks determine them.
        """
        return {
            "seed": self._seed,
            "tasks": [vars(task) | {"params": dict(task.params)} for task in self.tasks],
            "state": self.batch.state.copy(),  # [S, state size]
            "episode": self._episode.copy(),  # [S] episodes begun
            "clock": self._clock.copy(),  # [S] control steps since the reset
            "ended": self._ended.copy(),  # [S]
            "diverged": self.diverged.copy(),  # [N, E]
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume, bit for bit, from what `state_dict` returned; the thread count may differ.

        Raises:
          ValueError: if the state has another number of tasks or copies, or another family.
        """
        shape = np.shape(state["diverged"])
        if shape != self.diverged.shape:
            raise ValueError(
                f"a state of {shape} tasks × copies does not fit an environment of"
                f" {self.diverged.shape}"
            )
        self._seed = int(state["seed"])
        self.set_tasks([Task(**row) for row in state["tasks"]])
        self.batch.reset(stage=NO_STAGE)  # clears the warnings of the previous simulations
        self.batch.state[...] = np.asarray(state["state"])
        self._episode[...] = np.asarray(state["episode"])
        self._clock[...] = np.asarray(state["clock"])
        self._ended[...] = np.asarray(state["ended"])
        self._must_reset = bool(self._ended.any())
        self.diverged[...] = np.asarray(state["diverged"])
        self._last = self._motion.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle by way of the state, because MuJoCo's `Batch` supports neither."""
        made_of = type(self), self.family, self.tasks, self.copies, self._threads
        return _made_again, (*made_of, self.state_dict())

    def _write_model_fields(self) -> None:
        """Give each simulation its task's model fields, always computed from the compiled model."""
        fields = self.family.model_fields(self._nominal, self._params)
        for name, values in checked(fields).items():
            self.batch.expand(name)[...] = values
        if fields:
            self.batch.set_const()

    def _check_process(self) -> None:
        """Raise in a forked process, where a call would wait for ever for the parent's threads."""
        if self._threads > 1 and os.getpid() != self._process:
            raise RuntimeError(
                "this environment was made before the process was forked, and its threads exist"
                " only in the parent: make it in the child, start processes with the method"
                " `spawn`, or use threads=1"
            )

    def _noise(self, i: int) -> tuple[FloatArray, FloatArray]:
        """Reset noise (qpos [nq], qvel [nv]) of simulation i's next episode."""
        task, copy = divmod(i, self.copies)
        return self.family.reset_noise(
            self._generator(f"{self._seed}/{self._names[task]}/{copy}/{self._episode[i]}")
        )

    def _simulate(self) -> NDArray[np.integer[Any]] | None:
        """Run one control step of physics; return the simulations that raised an error, or None."""
        try:
            self.batch.step(nstep=self.frame_skip)
        except SimulationError as error:
            # the failed simulations kept their state, the others were stepped
            failed: NDArray[np.integer[Any]] = error.ids
            return failed
        return None

    def _lost(
        self, motion: FloatArray, failed: NDArray[np.integer[Any]] | None
    ) -> BoolArray | None:
        """Which simulations diverged in the last step, [S]; None if none did."""
        if failed is None and _all_finite(motion) and not self._warnings.any():
            return None
        lost: BoolArray = self._warnings.any(axis=1) | ~np.isfinite(motion).all(axis=1)
        if failed is not None:
            lost[failed] = True
        return lost

    def _observe(self, motion: FloatArray) -> FloatArray:
        """Observations [N, E, O] float32 for positions and velocities [S, nq + nv]."""
        obs = self.family.observe(motion[:, : self._nq], motion[:, self._nq :], self._params)
        return obs.astype(np.float32, copy=False).reshape(
            self.n_tasks, self.copies, self.observation_size
        )

    def _check_mask(self, mask: BoolArray | None) -> BoolArray:
        if mask is None:
            return np.ones(self.batch.nsim, bool)
        mask = np.asarray(mask)
        if mask.shape != (self.n_tasks, self.copies) or mask.dtype != bool:
            raise ValueError(
                f"mask must be bool [{self.n_tasks}, {self.copies}], got {mask.dtype}"
                f" {list(mask.shape)}"
            )
        return mask.reshape(-1)

    def _set_control(self, action: FloatArray) -> None:
        """Write the actuator inputs of the clipped actions, or nothing if actions are refused."""
        action = np.asarray(action)
        if action.shape != (self.n_tasks, self.copies, self.action_size):
            expected = [self.n_tasks, self.copies, self.action_size]
            raise ValueError(f"action must have shape {expected}, got {list(action.shape)}")
        if (
            not _all_finite(action)
            and (slots := np.flatnonzero(~np.isfinite(action).all(axis=(1, 2)))).size
        ):
            raise ValueError(
                f"actions of the tasks in slots {slots.tolist()} are not finite; the policy has"
                " diverged"
            )
        clipped = np.minimum(np.maximum(action.reshape(self._ctrl.shape), -1.0), 1.0)
        self._ctrl[...] = self.family.control(clipped, self._params)


def _all_finite(values: FloatArray) -> bool:
    """Whether all are finite and small enough to square. One pass, because NumPy calls add up."""
    return isfinite(np.vdot(values, values))


def _name(task: Task) -> str:
    """The string that identifies a task in the key of its reset noise."""
    return (
        f"{task.family}/{task.split}/{task.index}/{json.dumps(dict(task.params), sort_keys=True)}"
    )


def _motion(batch: Batch) -> NDArray[np.float64]:
    """A live view of positions and velocities [S, nq + nv], stored after the time in a state."""
    model = batch.model
    part = mujoco.mjtState
    begin = mujoco.mj_stateSize(model, int(part.mjSTATE_TIME))
    view: NDArray[np.float64] = batch.state[:, begin : begin + model.nq + model.nv]
    return view


def _made_again(
    kind: type[BatchEnv],
    family: TaskFamily,
    tasks: Sequence[Task],
    copies: int,
    threads: int,
    state: Mapping[str, Any],
) -> BatchEnv:
    env = kind(family, tasks, copies, threads)
    env.load_state_dict(state)
    return env
