"""How speed is measured and judged.

Both sides of a ratio take turns in short stretches, so that a busy machine slows both, and the
median counts. `judge` notes the ratio beside its goal for the table that `run.py` prints, and fails
below the guard, a tenth under what was measured: a goal may be missed for years, but a guard says
that something became slower. Peers are imported where they are measured, so that a file without
them does not carry their threads.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import pytest
from mujoco.batch import Batch

from envs.api import FloatArray, TaskFamily
from envs.batch import BatchEnv
from envs.model import load_model
from methods.api import Event

Stretch = Callable[[int], Any]  # run this many control steps

N = 64  # our tasks, and EnvPool's environments
PEERS = 16  # Gymnasium's environments
STRETCH = 10  # control steps between turns
THREADS = 2
LOOK_S = 0.5  # seconds of watching other processes, before and after a measurement


def load_of_others() -> float | None:
    """Share of the machine in use while this process sleeps; None where /proc does not say."""
    try:
        before = ticks_of_all()
        sleep(LOOK_S)
        used = (ticks_of_all() - before) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return None
    return used / LOOK_S / (os.cpu_count() or 1)


def ticks_of_all() -> int:
    """Processor time that all processes together have used since boot, in ticks."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _, _, irq, softirq, steal = map(int, words[1:9])
    return user + nice + system + irq + softirq + steal


@pytest.fixture
def judge(benchmark: Any) -> Iterator[Callable[..., None]]:
    """`(ratio, ours, peer, goal, guard)`: note a measurement for the table; fail below `guard`.

    `ratio` is our speed over the peer's, and `ours` says in words how fast we are. The load of
    other processes is measured before and after.
    """
    before = load_of_others()

    def note(ratio: float, ours: str, peer: str, goal: float, guard: float) -> None:
        benchmark.extra_info.update(ratio=ratio, ours=ours, peer=peer, goal=goal, guard=guard)
        assert ratio >= guard, (
            f"{ratio:.2f} times the speed of {peer}, below the guard of {guard:g}"
        )

    yield note
    loads = [load for load in (before, load_of_others()) if load is not None]
    benchmark.extra_info["load of others"] = max(loads, default=0.0)


def seconds(run: Stretch, steps: int) -> float:
    start = perf_counter()
    run(steps)
    return perf_counter() - start


def speed_ratio(
    ours: Stretch, theirs: Stretch, repeats: int, steps: int, share: float = 1.0
) -> float:
    """Their time per simulated step over ours: the median over pairs of stretches taken in turns.

    Args:
      ours, theirs: each runs a given number of control steps.
      repeats: stretches of each.
      steps: control steps of a stretch.
      share: number of our simulations over that of theirs.
    """
    pairs = [(seconds(ours, steps), seconds(theirs, steps)) for _ in range(repeats)]
    return float(np.median([their_time / our_time for our_time, their_time in pairs]) * share)


def our_stepper(family: TaskFamily) -> Stretch:
    """Random actions in N training tasks; episodes that end are reset, as by a learner."""
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
    """A peer's `step` under actions [T, n, A], over and over; peers reset by themselves."""
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
    """Seconds [stretches, 2] of each stretch of one horizon, ours and the bare batch's; same start,
    same actions.

    Episodes that end early are reset at once, which counts as our time; between stretches the bare
    batch takes over the states of those simulations.
    """
    actions = (
        np.random.default_rng(1)
        .uniform(-1, 1, (env.horizon, N, 1, env.action_size))
        .astype(np.float32)
    )
    ctrl, qpos, our_qpos = bare.bind("ctrl"), bare.bind("qpos"), env.batch.bind("qpos")
    env.load_state_dict(start)
    bare.state[...] = env.batch.state
    apart = np.zeros(N, bool)  # tasks that were reset in this stretch

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
        # both must have done the same work
        np.testing.assert_array_equal(qpos[~apart], our_qpos[~apart])
        bare.state[apart] = env.batch.state[apart]
        apart[:] = False
    return np.array(times)


@pytest.fixture
def speed_over_bare_batch(benchmark: Any, judge: Callable[..., None]) -> Callable[..., None]:
    """`(family, threads, fields=(), *, goal, guard)`: our speed over a bare `Batch.step`'s, at the
    same states and actions.

    `fields` names the model fields that the family varies. Our time covers a whole horizon and a
    full reset. Every repeat does the same work, so each stretch takes its median over the repeats,
    and an episode the sum of its stretches.
    """

    def measure(
        family: TaskFamily, threads: int, fields: Sequence[str] = (), *, goal: float, guard: float
    ) -> None:
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
        whole = ours + np.median(resets)
        steps = N * env.horizon / whole
        judge(float(theirs / whole), f"{steps:,.0f} steps/s", "a bare Batch", goal, guard)

    return measure


def per_second(run: Stretch, steps: int) -> str:
    """Control steps per second of all N tasks, as text."""
    return f"{N * steps / seconds(run, steps):,.0f} steps/s"


@pytest.fixture
def speed_over_gymnasium(benchmark: Any, judge: Callable[..., None]) -> Callable[..., None]:
    """`(family, name, vectorization, kinds, *, goal, guard, **settings)`: our speed at N tasks over
    vectorised Gymnasium's.

    The peer cycles through `kinds` different actions.
    """
    import gymnasium

    def measure(
        family: TaskFamily,
        name: str,
        vectorization: str,
        kinds: int,
        *,
        goal: float,
        guard: float,
        **settings: Any,
    ) -> None:
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
        benchmark.pedantic(ours, args=(40,), rounds=5)
        peers = f"{PEERS} × Gymnasium, {vectorization}"
        judge(ratio, per_second(ours, 40), peers, goal, guard)

    return measure


@pytest.fixture
def speed_over_envpool(benchmark: Any, judge: Callable[..., None]) -> Callable[..., None]:
    """`(family, name, kinds, *, goal, guard, **settings)`: our speed at N tasks over EnvPool's
    `name`, same N and threads.

    The peer cycles through `kinds` different actions.
    """
    import envpool

    def measure(
        family: TaskFamily, name: str, kinds: int, *, goal: float, guard: float, **settings: Any
    ) -> None:
        ours = our_stepper(family)
        peer = envpool.make(name, env_type="gymnasium", num_envs=N, num_threads=THREADS, **settings)
        peer.reset()
        actions = np.random.default_rng(1).uniform(-1, 1, (kinds, N, family.action_size))
        ratio = speed_ratio(ours, their_stepper(peer.step, actions), repeats=20, steps=50)
        benchmark.pedantic(ours, args=(50,), rounds=5)
        judge(ratio, per_second(ours, 50), f"{N} × EnvPool", goal, guard)

    return measure


@pytest.fixture
def iterations() -> Callable[..., Callable[[], None]]:
    """`(method, pool, n_tasks, budget, streams)`: begin meta-training; a call is one iteration."""

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
