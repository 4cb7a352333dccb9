"""How environments are measured: against a bare `Batch`, vectorised Gymnasium and EnvPool.

Meta-training is measured an iteration at a time.

Both sides of a ratio take turns in short stretches and the median counts; it is kept in the
benchmark's `extra_info`. Peers are imported where they are measured, so that a file without them
does not carry their threads.
"""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from mujoco.batch import Batch

from envs.api import FloatArray, TaskFamily
from envs.batch import BatchEnv
from envs.model import load_model
from methods.api import Event

Stretch = Callable[[int], Any]  # run this many control steps

N = 64  # tasks of ours, and environments of EnvPool
PEERS = 16  # environments of Gymnasium
STRETCH = 10  # control steps between turns
THREADS = 2


def seconds(run: Stretch, steps: int) -> float:
    start = perf_counter()
    run(steps)
    return perf_counter() - start


def speed_ratio(
    ours: Stretch, theirs: Stretch, repeats: int, steps: int, share: float = 1.0
) -> float:
    """Their time per simulated step over ours: the median over pairs of stretches taken in turns.

    Args:
      ours, theirs: run a number of control steps.
      repeats: stretches of each.
      steps: control steps of a stretch.
      share: our simulations over theirs.
    """
    pairs = [(seconds(ours, steps), seconds(theirs, steps)) for _ in range(repeats)]
    return float(np.median([their_time / our_time for our_time, their_time in pairs]) * share)


def our_stepper(family: TaskFamily) -> Stretch:
    """Random actions in N training tasks, resetting what ends, as a learner does."""
    env = BatchEnv(family, family.sample(N, np.random.default_rng(0)), threads=THREADS)
    actions = (
        np.random.default_rng(1).uniform(-1, 1, (200, N, 1, env.action_size)).astype(np.float32)
    )
    env.reset()
    clock = 0

    def run(steps: int) -> None:
        nonlocal clock
        for _ in range(steps):
            step = env.step(actions[clock % 200])
            clock += 1
            ended = step.terminated | step.truncated
            if ended.any():
                env.reset(ended)

    return run


def their_stepper(step: Callable[[FloatArray], Any], actions: FloatArray) -> Stretch:
    """A peer's `step` under actions [T, n, A], over and over; peers reset ended ones themselves."""
    clock = 0

    def run(steps: int) -> None:
        nonlocal clock
        for _ in range(steps):
            step(actions[clock % len(actions)])
            clock += 1

    return run


def episode_times(
    env: BatchEnv, bare: Batch, start: Mapping[str, Any], ours_first: bool
) -> FloatArray:
    """Seconds of each stretch of one horizon [stretches, 2], ours and the bare batch's; same start,
    same actions.

    What a task ends early is reset at once in our time; between stretches the bare batch takes
    those simulations over.
    """
    actions = (
        np.random.default_rng(1)
        .uniform(-1, 1, (env.horizon, N, 1, env.action_size))
        .astype(np.float32)
    )
    ctrl, qpos, our_qpos = bare.bind("ctrl"), bare.bind("qpos"), env.batch.bind("qpos")
    env.load_state_dict(start)
    bare.state[...] = env.batch.state
    apart = np.zeros(N, bool)  # reset in this stretch

    def ours(stretch: FloatArray) -> None:
        for action in stretch:
            ended = env.step(action).terminated
            if ended.any():
                env.reset(ended)
                apart[ended[:, 0]] = True

    def theirs(stretch: FloatArray) -> None:
        for action in stretch:
            ctrl[...] = action[:, 0]
            bare.step(nstep=env.frame_skip)

    times = []
    for begin in range(0, env.horizon, STRETCH):
        stretch, pair = actions[begin : begin + STRETCH], {}
        for run in (ours, theirs) if ours_first == (begin // STRETCH % 2 == 0) else (theirs, ours):
            pair[run] = seconds(lambda _, run=run, stretch=stretch: run(stretch), STRETCH)
        times.append((pair[ours], pair[theirs]))
        # or they did not do the same work
        np.testing.assert_array_equal(qpos[~apart], our_qpos[~apart])
        bare.state[apart] = env.batch.state[apart]
        apart[:] = False
    return np.array(times)


@pytest.fixture
def speed_over_bare_batch(benchmark: Any) -> Callable[..., float]:
    """`(family, threads, fields=())`: our speed over a bare `Batch.step`, same state and actions.

    `fields` names the model fields that the family varies. Ours is a whole horizon and a full
    reset. Every repeat does the same work, so each stretch has a median over the repeats, and an
    episode is the sum of its stretches.
    """

    def measure(family: TaskFamily, threads: int, fields: Sequence[str] = ()) -> float:
        env = BatchEnv(family, family.sample(N, np.random.default_rng(0)), threads=threads)
        bare = Batch(load_model(family.xml()), N, threads)
        for name in fields:
            bare.expand(name)[...] = env.batch.expand(name)
        if fields:
            bare.set_const()
        env.reset()
        start = env.state_dict()
        resets = [seconds(lambda _: env.reset(), 1) for _ in range(10)]
        times: list[FloatArray] = []
        benchmark.pedantic(
            lambda: times.append(episode_times(env, bare, start, len(times) % 2 == 0)),
            rounds=14,
            warmup_rounds=1,
        )
        ours, theirs = np.median(times[1:], axis=0).sum(axis=0)
        ratio = float(theirs / (ours + np.median(resets)))
        benchmark.extra_info["speed over bare Batch"] = ratio
        return ratio

    return measure


@pytest.fixture
def speed_over_gymnasium(benchmark: Any) -> Callable[..., float]:
    """`(family, name, vectorization, kinds)`: our speed at N tasks over vectorised Gymnasium's.

    The peer cycles through `kinds` different actions.
    """
    import gymnasium

    def measure(
        family: TaskFamily, name: str, vectorization: str, kinds: int, **settings: Any
    ) -> float:
        ours = our_stepper(family)
        peer = gymnasium.make_vec(
            name, num_envs=PEERS, vectorization_mode=vectorization, **settings
        )
        peer.reset(seed=0)
        actions = (
            np.random.default_rng(1)
            .uniform(-1, 1, (kinds, PEERS, family.action_size))
            .astype(np.float32)
        )
        try:
            ratio = speed_ratio(
                ours, their_stepper(peer.step, actions), repeats=15, steps=30, share=N / PEERS
            )
        finally:
            peer.close()
        benchmark.extra_info[f"speed over Gymnasium {vectorization}"] = ratio
        benchmark.pedantic(ours, args=(40,), rounds=5)
        return ratio

    return measure


@pytest.fixture
def speed_over_envpool(benchmark: Any) -> Callable[..., float]:
    """`(family, name, kinds)`: our speed at N tasks over EnvPool's `name`, same N and threads.

    The peer cycles through `kinds` different actions.
    """
    import envpool

    def measure(family: TaskFamily, name: str, kinds: int, **settings: Any) -> float:
        ours = our_stepper(family)
        peer = envpool.make(name, env_type="gymnasium", num_envs=N, num_threads=THREADS, **settings)
        peer.reset()
        actions = np.random.default_rng(1).uniform(-1, 1, (kinds, N, family.action_size))
        ratio = speed_ratio(ours, their_stepper(peer.step, actions), repeats=20, steps=50)
        benchmark.extra_info["speed over EnvPool"] = ratio
        benchmark.pedantic(ours, args=(50,), rounds=5)
        return ratio

    return measure


@pytest.fixture
def iterations() -> Callable[..., Callable[[], None]]:
    """`(method, pool, n_tasks, budget, streams)`: begins meta-training; a call is an iteration."""

    def begin(
        method: Any, pool: Any, n_tasks: int, budget: int, streams: Any
    ) -> Callable[[], None]:
        trainer = method.trainer(pool.make_env, n_tasks, budget, streams)
        pool.settle()

        def iterate() -> None:
            while (event := trainer.step(budget - int(pool.used.sum()))) is not Event.ITERATION:
                assert event is not Event.END

        return iterate

    return begin
