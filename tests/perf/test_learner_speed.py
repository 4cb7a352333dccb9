"""The batched learner's speed, against Stable-Baselines3 and the machine's own matrix products.

Run it on an idle machine: two threads that must share a core prove nothing.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.pool import TaskPool
from benchmark.seeding import Streams
from benchmark.worker import keep_memory
from envs.cheetah import CheetahVel
from methods.apb import Apb, ApbConfig, ApbRandom
from methods.api import Spec
from methods.core.adapt import TD3Loop
from methods.core.replay import Batch
from methods.td3 import Td3

FAMILY = CheetahVel()
SPEC = Spec(FAMILY.observation_size, FAMILY.action_size, FAMILY.horizon)
N, WIDTH, BATCH, THREADS = 16, 256, 256, 2
NEEDS_BF16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="this processor emulates bfloat16, some 30 times more slowly",
)
TURNS = 15


@pytest.fixture(autouse=True)
def _as_a_worker() -> None:
    keep_memory()
    torch.set_num_threads(THREADS)


def loop_of(kind: str, precision: str) -> TD3Loop:
    """A loop past its warm-up: TD3 or APB adapting to 16 tasks, or APB meta-training on them."""
    config = ApbConfig(
        hidden=WIDTH,
        batch=BATCH,
        precision=precision,
        compile=True,
        warmup_episodes=2,
        replay=2_000,
    )
    pool = TaskPool(
        FAMILY, FAMILY.sample(N, np.random.default_rng(0)), Streams(0), THREADS, allowed=10**9
    )
    if kind == "apb meta-training":
        pool.pooled = True
        loop = Apb(SPEC, config).trainer(pool.make_env, N, 10**9, Streams(0))._loop
    else:
        method = Td3(SPEC, config) if kind == "td3" else ApbRandom(SPEC, config)
        loop = method.adapter(pool.make_env, N, Streams(0)).loop
    while loop.learner.updates < 6:  # compiled by then
        loop.step()
    return loop


def stable_baselines() -> Callable[[int], None]:
    """Stable-Baselines3's TD3 on one HalfCheetah past warm-up: same sizes, one update per step."""
    import gymnasium
    import stable_baselines3

    model = stable_baselines3.TD3(
        "MlpPolicy",
        gymnasium.make("HalfCheetah-v5"),
        batch_size=BATCH,
        learning_starts=300,
        train_freq=1,
        gradient_steps=1,
        policy_kwargs={"net_arch": [WIDTH, WIDTH]},
        device="cpu",
        seed=0,
    )
    model.learn(320)

    def run(steps: int) -> None:
        model.learn(steps, reset_num_timesteps=False)

    return run


def seconds(run: Callable[[int], Any], steps: int) -> float:
    start = time.perf_counter()
    run(steps)
    return time.perf_counter() - start


@pytest.mark.parametrize(
    ("precision", "goal", "guard"),
    [("fp32", 1.8, 1.7), pytest.param("bf16", 4.0, 4.1, marks=NEEDS_BF16)],
)
@pytest.mark.parametrize("kind", ["td3", "apb adaptation", "apb meta-training"])
def test_a_network_step_is_faster_than_stable_baselines(
    benchmark: Any,
    judge: Callable[..., None],
    kind: str,
    precision: str,
    goal: float,
    guard: float,
) -> None:
    loop, theirs = loop_of(kind, precision), stable_baselines()

    def ours(steps: int) -> None:
        for _ in range(steps):
            loop.step()

    ratios, own = [], []
    for _ in range(TURNS):
        own.append(seconds(ours, 5) / (5 * N))
        ratios.append(seconds(theirs, 40) / 40 / own[-1])
    benchmark.pedantic(ours, args=(5,), rounds=5)
    taken = f"{1e3 * statistics.median(own):.2f} ms per network and step"
    judge(statistics.median(ratios), taken, "Stable-Baselines3", goal, guard)


def products_seconds(dtype: torch.dtype) -> float:
    """Time of 2N matrix products of the widest layer, the yardstick for an update's arithmetic."""
    x, w = torch.randn(2 * N, BATCH, WIDTH).to(dtype), torch.randn(2 * N, WIDTH, WIDTH).to(dtype)
    return seconds(lambda steps: [torch.bmm(x, w) for _ in range(steps)], 4) / 4


def multiplications() -> float:
    """Multiply-adds of one TD3 update of N networks, with the delayed part counted half.

    Forward: target actor, two target critics, two critics. Backward: two critics, twice their
    forward less the gradient of the input. Half of: actor and one critic forward, the critic's
    input gradient, and the actor backward.
    """
    n_obs, n_act = FAMILY.observation_size, FAMILY.action_size
    actor = n_obs * WIDTH + WIDTH**2 + WIDTH * n_act
    critic = (n_obs + n_act) * WIDTH + WIDTH**2 + WIDTH
    whole = actor + 2 * critic + 2 * critic + 4 * critic - 2 * (n_obs + n_act) * WIDTH
    delayed = actor + critic + critic + 2 * actor - n_obs * WIDTH
    return N * BATCH * (whole + 0.5 * delayed)


@pytest.mark.parametrize(
    ("precision", "guard"), [("fp32", 0.59), pytest.param("bf16", 0.32, marks=NEEDS_BF16)]
)
def test_the_update_uses_most_of_what_matrix_products_allow(
    benchmark: Any, judge: Callable[..., None], precision: str, guard: float
) -> None:
    """In bfloat16 the products are twice as fast; casts, ReLUs and Adam are not."""
    loop = loop_of("td3", precision)
    generator = torch.Generator().manual_seed(0)
    shapes = [(SPEC.observation_size,), (SPEC.action_size,), (), (SPEC.observation_size,), ()]
    batch = Batch(*(torch.randn(N, BATCH, *shape, generator=generator) for shape in shapes))
    noise = 0.2 * torch.randn(N, BATCH, SPEC.action_size, generator=generator)

    def update(times: int = 2) -> None:
        for _ in range(times):
            loop.learner.update(batch, noise)

    shares, own = [], []
    share_of_one_pass = multiplications() / (2 * N * BATCH * WIDTH**2)
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    for _ in range(TURNS):
        own.append(seconds(update, 4) / 4)
        shares.append(products_seconds(dtype) * share_of_one_pass / own[-1])
    benchmark.pedantic(update, rounds=5)
    taken = f"{1e3 * statistics.median(own) / N:.2f} ms per network and update"
    judge(statistics.median(shares), taken, "its matrix products alone", goal=0.7, guard=guard)
