"""How much of the simulator's speed is left, and how it compares with what people use instead.

Only ratios are asserted, and kept in the benchmark's `extra_info`: both sides take turns in short stretches and the median
counts. Run it on an idle machine: where two threads share a core, a peer of another thread count meets half of us.
"""

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import envpool
import gymnasium
import numpy as np
import pytest
from mujoco.batch import Batch

from envs.api import FloatArray
from envs.batch import BatchEnv
from envs.cheetah import CheetahVel
from envs.model import load_model

Stretch = Callable[[int], Any]  # run this many control steps

N = 64
STRETCH = 10  # control steps between turns
THREADS = 2
SKIP = CheetahVel.frame_skip


class HeavyCheetah(CheetahVel):
    """The cheetah with masses and dampings of its own in every simulation."""

    def model_fields(self, nominal: Mapping[str, FloatArray], params: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        factor = 1 + 0.2 * params["target_speed"]
        return {
            "body_mass": nominal["body_mass"] * factor[:, None],
            "body_inertia": nominal["body_inertia"] * factor[:, None, None],
            "dof_damping": nominal["dof_damping"] * factor[:, None],
        }


def seconds(run: Stretch, steps: int) -> float:
    start = perf_counter()
    run(steps)
    return perf_counter() - start


def speed_ratio(ours: Stretch, theirs: Stretch, repeats: int, steps: int, share: float = 1.0) -> float:
    """Their time per simulated step over ours: the median over pairs of stretches taken in turns.

    Args:
      ours, theirs: run a number of control steps.
      repeats: stretches of each.
      steps: control steps of a stretch.
      share: our simulations over theirs.
    """
    pairs = [(seconds(ours, steps), seconds(theirs, steps)) for _ in range(repeats)]
    return float(np.median([their_time / our_time for our_time, their_time in pairs]) * share)


def our_stepper(env: BatchEnv) -> Stretch:
    """Random actions, resetting what ends, as a learner does."""
    actions = np.random.default_rng(1).uniform(-1, 1, (200, env.n_tasks, env.copies, env.action_size)).astype(np.float32)
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


def episode_times(env: BatchEnv, bare: Batch, start: Mapping[str, Any], ours_first: bool) -> FloatArray:
    """Seconds of each stretch of one episode [stretches, 2], ours and the bare batch's; same start, same actions."""
    actions = np.random.default_rng(1).uniform(-1, 1, (env.horizon, N, 1, 6)).astype(np.float32)
    ctrl = bare.bind("ctrl")
    env.load_state_dict(start)
    bare.state[...] = env.batch.state

    def ours(stretch: FloatArray) -> None:
        for action in stretch:
            env.step(action)

    def theirs(stretch: FloatArray) -> None:
        for action in stretch:
            ctrl[...] = action[:, 0]
            bare.step(nstep=SKIP)

    times = []
    for begin in range(0, env.horizon, STRETCH):
        stretch, pair = actions[begin : begin + STRETCH], {}
        for run in (ours, theirs) if ours_first == (begin // STRETCH % 2 == 0) else (theirs, ours):
            pair[run] = seconds(lambda _, run=run, stretch=stretch: run(stretch), STRETCH)
        times.append((pair[ours], pair[theirs]))
    np.testing.assert_array_equal(bare.bind("qpos"), env.batch.bind("qpos"))  # or they did not do the same work
    return np.array(times)


@pytest.mark.parametrize("family", [CheetahVel(), HeavyCheetah()], ids=["same model", "own masses and dampings"])
@pytest.mark.parametrize("threads", [1, THREADS])
def test_it_keeps_the_speed_of_a_bare_batch(benchmark: Any, family: CheetahVel, threads: int) -> None:
    """A whole episode and its reset, against `Batch.step` alone from the same state under the same actions.

    Every repeat does the same work, so each stretch has a median over the repeats; an episode is the sum of its stretches.
    """
    env = BatchEnv(family, family.sample(N, np.random.default_rng(0)), threads=threads)
    bare = Batch(load_model(family.xml()), N, threads)
    if isinstance(family, HeavyCheetah):
        for name in ("body_mass", "body_inertia", "dof_damping"):
            bare.expand(name)[...] = env.batch.expand(name)
        bare.set_const()
    env.reset()
    start = env.state_dict()
    resets = [seconds(lambda _: env.reset(), 1) for _ in range(10)]
    times: list[FloatArray] = []
    benchmark.pedantic(lambda: times.append(episode_times(env, bare, start, len(times) % 2 == 0)), rounds=14, warmup_rounds=1)
    ours, theirs = np.median(times[1:], axis=0).sum(axis=0)
    ratio = float(theirs / (ours + np.median(resets)))
    benchmark.extra_info["speed over bare Batch"] = ratio
    assert ratio >= 0.9


@pytest.mark.parametrize(("vectorization", "least"), [("sync", 2.5), ("async", 10.0)])
def test_it_beats_gymnasium(benchmark: Any, vectorization: str, least: float) -> None:
    """Steps per second at 64 cheetahs over those of 16 HalfCheetah-v5 in Gymnasium's vector environments."""
    family = CheetahVel()
    ours = our_stepper(BatchEnv(family, family.sample(N, np.random.default_rng(0)), threads=THREADS))
    theirs_env = gymnasium.make_vec("HalfCheetah-v5", num_envs=16, vectorization_mode=vectorization)
    theirs_env.reset(seed=0)
    actions = np.random.default_rng(1).uniform(-1, 1, (16, 6)).astype(np.float32)

    def theirs(steps: int) -> None:
        for _ in range(steps):
            theirs_env.step(actions)

    try:
        ratio = speed_ratio(ours, theirs, repeats=15, steps=30, share=N / 16)
    finally:
        theirs_env.close()
    benchmark.extra_info[f"speed over Gymnasium {vectorization}"] = ratio
    benchmark.pedantic(ours, args=(40,), rounds=5)
    assert ratio >= least


def test_it_beats_envpool(benchmark: Any) -> None:
    """Steps per second at 64 cheetahs on two threads each."""
    family = CheetahVel()
    ours = our_stepper(BatchEnv(family, family.sample(N, np.random.default_rng(0)), threads=THREADS))
    theirs_env = envpool.make("HalfCheetah-v5", env_type="gymnasium", num_envs=N, num_threads=THREADS)
    theirs_env.reset()
    actions = np.random.default_rng(1).uniform(-1, 1, (N, 6))

    def theirs(steps: int) -> None:
        for _ in range(steps):
            theirs_env.step(actions)

    ratio = speed_ratio(ours, theirs, repeats=20, steps=50)
    benchmark.extra_info["speed over EnvPool"] = ratio
    benchmark.pedantic(ours, args=(50,), rounds=5)
    assert ratio >= 1.2
