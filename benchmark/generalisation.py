"""How an adapted policy performs where it was not adapted: on neighbouring tasks and under noise.

Nothing is learned meanwhile. Neighbours of a task lie on the way to other tasks of the training
law, and their distance is the share of that way: 0 is the task itself, 1 the other task. Which
tasks these are depends on the family, the split and the seed, not on the method.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmark.cells import Cell
from benchmark.protocol import EPISODES, Evaluator
from benchmark.seeding import Streams
from envs.api import BoolArray, FloatArray, Step, Task, TaskFamily
from envs.batch import BatchEnv
from methods.api import Adapter, Method, Policy
from results.measures import ACTION_NOISE, NEIGHBOURS, OBSERVATION_NOISE, Measure

OTHERS = 4  # tasks of the training law towards which neighbours lie
SHARES = (0.25, 0.5, 1.0)  # of the way to them
ACTION_NOISES = (0.1, 0.2, 0.4)  # standard deviations in action units
# standard deviations in units of each observation entry's under random actions on the same tasks
OBSERVATION_NOISES = (0.05, 0.1, 0.2)


class Generalisation:
    """Evaluates policies of N tasks on `OTHERS` neighbours at each distance and with each noise.

    Args:
      cell: the cell of the adaptation. method: ignored.
      tasks: the tasks that the policies were adapted to.
      streams: the stage's streams.
      threads: the simulator's threads.
    """

    def __init__(
        self, cell: Cell, method: Method, tasks: Sequence[Task], streams: Streams, threads: int = 1
    ) -> None:
        family = cell.seen_family()
        self._streams = streams.child("generalisation")
        others = family.sample(OTHERS, self._streams.numpy("others"))
        self._n_tasks = len(tasks)
        noises = len(ACTION_NOISES) + len(OBSERVATION_NOISES)
        places = [
            place
            for task in tasks
            for place in (
                *(between(task, other, share) for share in SHARES for other in others),
                *[task] * noises,
            )
        ]
        # a distinct index gives every place its own reset states
        places = [replace(place, index=i) for i, place in enumerate(places)]
        self._evaluate = Evaluator(family, places, self._streams, threads)
        near = len(SHARES) * OTHERS
        self._action_noise = _by_place([0.0] * near, ACTION_NOISES, [0.0] * len(OBSERVATION_NOISES))
        noise = _by_place([0.0] * near, [0.0] * len(ACTION_NOISES), OBSERVATION_NOISES)
        scale = random_deviation(family, tasks, self._streams, threads)
        self._observation_noise = noise * scale
        self._indices = [task.index for task in tasks]

    def __call__(self, adapter: Adapter, used: int) -> list[Measure]:
        """Return the mean return of the current policies by task, at each distance and noise."""
        policy = adapter.policy(self._streams.numpy(f"policy{used}"))
        noisy = Spread(
            policy,
            self._n_tasks,
            self._action_noise,
            self._observation_noise,
            self._streams.numpy(f"noise{used}"),
        )
        returns = self._evaluate(noisy).returns.reshape(self._n_tasks, -1, EPISODES).mean(2)
        near, under_action, under_observation = np.split(
            returns,
            [len(SHARES) * OTHERS, len(SHARES) * OTHERS + len(ACTION_NOISES)],
            axis=1,
        )
        near = near.reshape(self._n_tasks, len(SHARES), OTHERS).mean(2)
        found = (
            (NEIGHBOURS, SHARES, near),
            (ACTION_NOISE, ACTION_NOISES, under_action),
            (OBSERVATION_NOISE, OBSERVATION_NOISES, under_observation),
        )
        return [
            Measure(name=name, env_steps=used, task_index=index, at=at, value=float(value))
            for name, places, values in found
            for index, of_task in zip(self._indices, values, strict=True)
            for at, value in zip(places, of_task, strict=True)
        ]


class Spread:
    """One policy per task, used on K places of each task, with noise that depends on the place.

    Args:
      policy: acts on [N, K·E, O].
      n_tasks: N.
      action_noise: [K, 1, 1] standard deviations. observation_noise: [K, 1, O].
      generator: draws the noise.
    """

    def __init__(
        self,
        policy: Policy,
        n_tasks: int,
        action_noise: FloatArray,
        observation_noise: FloatArray,
        generator: np.random.Generator,
    ) -> None:
        self._policy = policy
        self._n_tasks = n_tasks
        self._action_noise = action_noise
        self._observation_noise = observation_noise
        self._generator = generator

    def reset(self, mask: BoolArray) -> None:
        """A new episode begins where `mask` [N·K, E] is true."""
        self._policy.reset(mask.reshape(self._n_tasks, -1))

    def act(self, obs: FloatArray) -> FloatArray:
        """Actions [N·K, E, A] for observations [N·K, E, O]."""
        seen = self._with_noise(obs, self._observation_noise)
        action = self._policy.act(seen.reshape(self._n_tasks, -1, obs.shape[-1]))
        within = np.clip(action.reshape(*obs.shape[:2], -1), -1.0, 1.0)  # as environments do
        return self._with_noise(within, self._action_noise)

    def observe(self, step: Step) -> None:
        """See the outcome of the last action, without noise."""
        n_tasks = self._n_tasks
        self._policy.observe(
            Step(
                step.obs.reshape(n_tasks, -1, step.obs.shape[-1]),
                reward=step.reward.reshape(n_tasks, -1),
                terminated=step.terminated.reshape(n_tasks, -1),
                truncated=step.truncated.reshape(n_tasks, -1),
            )
        )

    def _with_noise(self, values: FloatArray, deviation: FloatArray) -> FloatArray:
        noise = np.tile(deviation, (self._n_tasks, 1, 1)) * self._generator.standard_normal(
            values.shape
        )
        return (values + noise).astype(values.dtype)


def between(task: Task, other: Task, share: float) -> Task:
    """Return the task whose parameters lie a share of the way from one task to another."""
    params = {
        name: (1 - share) * value + share * other.params.get(name, value)
        for name, value in task.params.items()
    }
    return replace(task, params=params)


def random_deviation(
    family: TaskFamily, tasks: Sequence[Task], streams: Streams, threads: int = 1
) -> FloatArray:
    """Standard deviation [O] of each observation entry over an episode of random actions."""
    env = BatchEnv(family, tasks, EPISODES, threads, streams.integer("deviation"))
    generator = streams.numpy("deviation")
    seen = [env.reset()]
    for _ in range(family.horizon - 1):
        step = env.step(generator.uniform(-1, 1, (env.n_tasks, env.copies, env.action_size)))
        ended = step.terminated | step.truncated
        seen.append(env.reset(ended) if ended.any() else step.obs)
    deviation: FloatArray = np.stack(seen).std((0, 1, 2))
    return deviation


def _by_place(*parts: Sequence[float]) -> FloatArray:
    return np.array([value for part in parts for value in part])[:, None, None]
