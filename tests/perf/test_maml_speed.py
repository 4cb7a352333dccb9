"""Speed of MAML's meta-gradient against learn2learn's task-by-task one, and where time goes."""

import time
from collections.abc import Callable
from functools import partial
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
from methods.core import gradient_loop
from methods.core.gradient_steps import GradientConfig, MetaObjective
from methods.core.nets import Params
from methods.core.policy_gradient import Samples, init_gaussian_policy, reinforce_loss, surrogate
from methods.maml import LEARNER, Maml, MamlConfig

N, O, A, HIDDEN, THREADS, TURNS = 20, 17, 6, 64, 2, 15
CONFIG = GradientConfig(hidden=HIDDEN)


@pytest.fixture(autouse=True)
def _as_a_worker() -> None:
    keep_memory()
    torch.set_num_threads(THREADS)


def batch(steps: int, generator: torch.Generator) -> Samples:
    return Samples(
        *(torch.randn(N, steps, *shape, generator=generator) for shape in ((O,), (A,), ()))
    )


def of_tasks(samples: Samples) -> list[Samples]:
    return [Samples(*tensors) for tensors in zip(*samples, strict=True)]


def peer(
    module: Any, maml: Any, seen: Samples, validation: Samples
) -> Callable[[], list[torch.Tensor]]:
    """The meta-gradient as in learn2learn's examples: a clone, step and backward pass per task."""
    learner = maml(module, CONFIG.inner_rate)
    tasks = list(zip(of_tasks(seen), of_tasks(validation), strict=True))

    def gradient() -> list[torch.Tensor]:
        learner.zero_grad()
        for before, after in tasks:
            clone = learner.clone()
            clone.adapt(reinforce_loss(clone(before.obs), before))
            now = clone(after.obs)
            (surrogate(now, (now[0].detach(), now[1].detach()), after) / N).backward()
        return [parameter.grad for parameter in learner.module.parameters()]

    return gradient


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@pytest.mark.parametrize(
    ("trajectories", "horizon", "goal", "guard"), [(2, 50, 3.0, 3.7), (20, 200, 1.0, 0.79)]
)
def test_a_meta_gradient_is_faster_than_learn2learns(
    benchmark: Any,
    judge: Callable[..., None],
    their_maml: Any,
    twin: Callable[[Params], Any],
    trajectories: int,
    horizon: int,
    goal: float,
    guard: float,
) -> None:
    generator = torch.Generator().manual_seed(0)
    theta = init_gaussian_policy(O, A, HIDDEN, generator)
    seen, validation = (batch(trajectories * horizon, generator) for _ in range(2))
    module = twin(theta)
    theirs = peer(module, their_maml, seen, validation)

    def ours() -> torch.Tensor:
        return MetaObjective(LEARNER, theta, [seen], validation, CONFIG).gradient()

    named = module.named(theirs())
    torch.testing.assert_close(
        ours(), torch.cat([named[name].reshape(-1) for name in theta]), rtol=1e-3, atol=1e-6
    )
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(TURNS)]
    ratio = median(their_time / our_time for our_time, their_time in pairs)
    benchmark.pedantic(ours, rounds=5)
    taken = f"{1e3 * median(our_time for our_time, _ in pairs):.0f} ms per meta-gradient"
    judge(ratio, taken, "learn2learn", goal, guard)


class Timed:
    """An environment that records the seconds its simulator takes."""

    def __init__(self, env: Any, spent: dict[str, float]) -> None:
        self._env, self._spent = env, spent

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._env, name)
        return (
            timed(found, "simulator", self._spent) if name in ("step", "reset", "draw") else found
        )


def timed(call: Callable[..., Any], part: str, spent: dict[str, float]) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*args)
        finally:
            spent[part] += time.perf_counter() - start

    return run


def test_an_iteration_on_the_cheetah_is_physics_and_gradients(
    benchmark: Any, iterations: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time split of an outer step at official size: 2 × (20 tasks × 20 episodes × 200 steps)."""
    family, spent = CheetahVel(), dict.fromkeys(("simulator", "update"), 0.0)
    draw = partial(family.sample, N, np.random.default_rng(0))
    budget = 2 * 2 * N * 20 * family.horizon  # two iterations, the first to warm up
    pool = TaskPool(family, draw(), Streams(0), THREADS, pooled=True, allowed=budget, draw=draw)
    monkeypatch.setattr(gradient_loop, "meta_step", timed(gradient_loop.meta_step, "update", spent))
    maml = Maml(Spec(family.observation_size, family.action_size, family.horizon), MamlConfig())
    make_env = pool.make_env
    monkeypatch.setattr(pool, "make_env", lambda copies: Timed(make_env(copies), spent))
    iterate = iterations(maml, pool, N, budget, Streams(0, "method"))
    iterate()
    spent.update(simulator=0.0, update=0.0)
    whole = benchmark.pedantic(lambda: seconds(iterate), rounds=1)
    spent["policy"] = whole - sum(spent.values())  # acting, advantages and the inner step
    benchmark.extra_info.update(
        {part: share / whole for part, share in spent.items()}, seconds=whole
    )
    assert spent["policy"] < whole / 3
