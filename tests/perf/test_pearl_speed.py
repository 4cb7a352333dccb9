"""Speed of a PEARL gradient step against a port of the official one, and where time goes.

Both sides sample their batches. The port computes in float32. Ours does too, or has its products in
bfloat16 on processors that support it.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.pool import TaskPool
from benchmark.seeding import Streams
from benchmark.worker import keep_memory
from envs.cheetah import CheetahVel
from methods.api import Spec
from methods.core.replay import Batch, TaskReplay
from methods.pearl import Pearl, PearlAgent, PearlConfig, init

N, HELD, O, A, THREADS, TURNS = 100, 2000, 17, 6, 2, 7
CONFIG = PearlConfig()  # the official sizes
SPEC = Spec(O, A, 200)
BF16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.fixture(autouse=True)
def _as_a_worker() -> None:
    keep_memory()
    torch.set_num_threads(THREADS)


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def filled() -> tuple[TaskReplay, list[np.ndarray]]:
    """The same transitions of a hundred tasks in our replay and in the port's arrays."""
    g = torch.Generator().manual_seed(0)
    obs, action, reward, next_obs = (
        torch.randn(N, HELD, size, generator=g) for size in (O, A, 1, O)
    )
    replay, ended = TaskReplay(N, HELD, O, A, torch.device("cpu")), torch.zeros(N, HELD, 1)
    replay.add(
        torch.arange(N),
        Batch(obs, action.tanh(), reward[..., 0], next_obs, ended[..., 0]),
        context=True,
    )
    return replay, list(torch.cat([obs, action.tanh(), reward, next_obs, ended], -1).numpy())


@pytest.mark.parametrize(
    ("precision", "goal", "guard"),
    [
        ("fp32", 1.0, 1.02),
        pytest.param(
            *("bf16", 2.0, 2.6),
            marks=pytest.mark.skipif(not BF16, reason="this processor has no bfloat16"),
        ),
    ],
)
def test_a_gradient_step_is_faster_than_a_plain_port(
    benchmark: Any,
    judge: Callable[..., None],
    ported_pearl: Any,
    precision: str,
    goal: float,
    guard: float,
) -> None:
    config = replace(CONFIG, precision=precision)
    agent = PearlAgent(
        init(SPEC, config, torch.Generator().manual_seed(0)), SPEC, config, Streams(0)
    )
    peer = ported_pearl(agent.params, CONFIG, O, A)
    (replay, arrays), g = filled(), torch.Generator().manual_seed(1)

    def ours() -> None:
        ids = torch.randint(N, (config.meta_batch,), generator=g)
        agent.learn(
            replay.sample(ids, config.batch, g), replay.sample_context(ids, config.context, g)
        )

    def theirs() -> None:
        tasks = np.random.choice(N, config.meta_batch)
        context = peer.sample(arrays, tasks, config.context)
        batch = peer.sample(arrays, tasks, config.batch)
        rows = config.meta_batch * config.batch
        peer.step(
            batch, context, torch.randn(config.meta_batch, config.latent), torch.randn(rows, A)
        )

    ours(), theirs()
    pairs = [
        (seconds(lambda: [ours() for _ in range(3)]), seconds(lambda: [theirs() for _ in range(3)]))
        for _ in range(TURNS)
    ]
    ratio = median(their_time / our_time for our_time, their_time in pairs)
    benchmark.pedantic(ours, rounds=5)
    taken = f"{1e3 / 3 * median(our_time for our_time, _ in pairs):.0f} ms per gradient step"
    judge(ratio, taken, "a plain port in fp32", goal, guard)


def test_an_iteration_on_the_cheetah_is_gradient_steps(
    benchmark: Any, iterations: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an official-size iteration spends its time, at 1/10 of the official gradient steps."""
    family, spent = CheetahVel(), {"learning": 0.0, "sampling": 0.0}
    config = replace(
        CONFIG, initial_steps=600, updates_per_step=0.04, precision="bf16" if BF16 else "fp32"
    )
    tasks = family.sample(10, np.random.default_rng(0))
    budget = 10 * 600 + 2 * 5 * 1000  # two iterations, the first to warm up
    pool = TaskPool(family, tasks, Streams(0), THREADS, pooled=True, allowed=budget)

    def timed(part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            start = time.perf_counter()
            result = call(*args)
            spent[part] += time.perf_counter() - start
            return result

        return run

    monkeypatch.setattr(PearlAgent, "learn", timed("learning", PearlAgent.learn))
    for name in ("sample", "sample_context"):
        monkeypatch.setattr(TaskReplay, name, timed("sampling", getattr(TaskReplay, name)))
    iterate = iterations(Pearl(SPEC, config), pool, 10, budget, Streams(0, "method"))
    iterate()  # to warm up; includes the initial steps
    spent.update(learning=0.0, sampling=0.0)
    whole = benchmark.pedantic(lambda: seconds(iterate), rounds=1)
    spent["collecting"] = whole - sum(spent.values())  # acting and the simulator
    benchmark.extra_info.update(
        {part: share / whole for part, share in spent.items()}, seconds=whole
    )
    assert spent["sampling"] < 0.1 * spent["learning"]
