"""How much of the simulator's speed is left where every simulation has a dynamics of its own.

Only the ratio is asserted, and kept in the benchmark's `extra_info`. Run it on an idle machine.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from mujoco.batch import Batch

from envs.batch import BatchEnv
from envs.hopper import HopperRand
from envs.model import load_model

N, STEPS, STRETCH = 64, 30, 10  # no hopper of the law has fallen after 30 control steps of small actions


def seconds(run: Callable[[], Any]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


@pytest.mark.parametrize("threads", [1, 2])
def test_hoppers_with_their_own_dynamics_keep_the_speed_of_a_bare_batch(benchmark: Any, threads: int) -> None:
    """30 control steps and our reset, against `Batch.step` alone with the same fields, starts and actions, in turns."""
    family = HopperRand()
    env = BatchEnv(family, family.sample(N, np.random.default_rng(0)), threads=threads)
    bare = Batch(load_model(family.xml()), N, threads)
    for name in ("body_mass", "body_inertia", "dof_damping", "geom_friction"):
        bare.expand(name)[...] = env.batch.expand(name)
    bare.set_const()
    actions = np.random.default_rng(1).uniform(-0.02, 0.02, (STEPS, N, 1, 3)).astype(np.float32)
    ctrl = bare.bind("ctrl")
    times: list[list[tuple[float, float]]] = []

    def both() -> None:
        reset = seconds(env.reset)
        bare.state[...] = env.batch.state
        row = [(reset, 0.0)]
        for begin in range(0, STEPS, STRETCH):
            stretch, pair = actions[begin : begin + STRETCH], {}

            def ours(stretch: Any = stretch) -> None:
                for action in stretch:
                    env.step(action)

            def theirs(stretch: Any = stretch) -> None:
                for action in stretch:
                    ctrl[...] = action[:, 0]
                    bare.step(nstep=family.frame_skip)

            for run in (ours, theirs) if (len(times) + begin // STRETCH) % 2 else (theirs, ours):
                pair[run] = seconds(run)
            row.append((pair[ours], pair[theirs]))
        np.testing.assert_array_equal(bare.bind("qpos"), env.batch.bind("qpos"))  # or they did not do the same work
        times.append(row)

    benchmark.pedantic(both, rounds=15, warmup_rounds=1)
    ours_time, theirs_time = np.median(times[1:], axis=0).sum(axis=0)
    ratio = float(theirs_time / ours_time)
    benchmark.extra_info["speed over bare Batch"] = ratio
    assert ratio >= 0.9
