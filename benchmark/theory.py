"""The terms of APB's bound on the error of an adapted policy, measured.

    error ≤ 2 L ‖ρₜ‖ |X_OOD| ε_max

The actor is π(s) = tanh(ρₜ ψ(z)) with z = ρₕ s. L is a Lipschitz constant of ψ; X_OOD is the set
of inputs z of ten episodes that lie outside the support of meta-training; ε(z) is the distance of z
from the nearest point of the support, ε_max its maximum over X_OOD. The support is the set of
inputs that ψ gets when each meta-trained policy plays its own training task: two episodes, without
noise.

The paper leaves open when an input is outside. Our criterion: it lies farther from the support than
99 % of the support's own points lie from the nearest one of another episode. A bound with a count
as a factor grows with the number of inputs examined, so L ‖ρₜ‖ ε_max is measured beside it.

Source: Park and Lee 2025 (arXiv 2509.22310), Theorem 2; the details are ours.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import jacrev, vmap

from benchmark.cells import Cell
from benchmark.pool import finite_actions
from benchmark.protocol import EPISODES
from benchmark.run import streams_of, training_tasks
from benchmark.seeding import Streams
from envs.api import Env, Task
from envs.batch import BatchEnv
from methods.apb import Apb
from methods.api import Adapter, Method
from methods.core.nets import LAYERS, actor, linear, mlp
from methods.core.td3 import TD3
from results.measures import (
    BOUND,
    COUNT_FREE_BOUND,
    FARTHEST,
    HEAD_NORM,
    LIPSCHITZ,
    LIPSCHITZ_SEEN,
    OUTSIDE,
    Measure,
)

Weights: TypeAlias = Mapping[str, Tensor]

QUANTILE = 0.99  # of distances within the support
SUPPORT_EPISODES = 2  # per training task
SUPPORT_POINTS = 4_096  # at most; evenly spaced among all
JACOBIANS = 256  # inputs per task, at most, at which the gradient is taken; evenly spaced


class Theory:
    """Measures the terms for the policies that a TD3-type method has adapted.

    Args:
      cell: the cell of the adaptation.
      method: the method as adaptation begins. Only what APB meta-trained has a support; for other
        TD3-type methods only L and ‖ρₜ‖ are measured, and for those without (ρₕ, ψ, ρₜ) nothing.
      tasks: N test tasks.
      streams: the stage's streams. threads: number of simulator threads.
    """

    def __init__(
        self, cell: Cell, method: Method, tasks: Sequence[Task], streams: Streams, threads: int = 1
    ) -> None:
        self._cell = cell
        self._tasks = tasks
        self._threads = threads
        self._seed = streams.child("theory").integer("episodes")
        self._support: Support | None = None
        if isinstance(method, Apb) and method.meta_trains and method.own:
            if not method.rho:
                logging.getLogger(__name__).warning(
                    "the trained state does not hold the training tasks' own layers (older versions"
                    " did not save them), so the bound is not measured: run the meta-training again"
                    " with --force"
                )
            # if all tasks share ρₕ, no task has its own, and the inputs of ψ lie in one space
            elif "rho_h.w" in method.rho:
                self._support = support(cell, _on_cpu(method.rho, method.shared), threads)

    def __call__(self, adapter: Adapter, used: int) -> list[Measure]:
        """Return the terms for each task after `used` steps."""
        learner = getattr(adapter, "learner", None)
        if not isinstance(learner, TD3):
            return []
        weights = _on_cpu(learner.pi, learner.frozen)
        if not all(any(name.startswith(layer) for name in weights) for layer in LAYERS):
            return []
        env = BatchEnv(self._cell.seen_family(), self._tasks, EPISODES, self._threads, self._seed)
        with torch.no_grad():
            inputs = inputs_of(env, weights, self._cell.config)
        found = [
            terms(weights, i, z, support=self._support, config=self._cell.config)
            if _finite(weights, i)
            else {}
            for i, (z, _) in enumerate(inputs)
        ]
        return [
            Measure(name=name, env_steps=used, task_index=task.index, value=value)
            for task, of_task in zip(self._tasks, found, strict=True)
            for name, value in of_task.items()
        ]


@dataclass(frozen=True)
class Support:
    """Inputs of ψ in meta-training [points, D], and the distance beyond which one is outside."""

    points: Tensor
    threshold: float


def support(cell: Cell, weights: Weights, threads: int = 1) -> Support:
    """The inputs that ψ gets when each training task is played by its own meta-trained policy.

    Args:
      cell: a cell that builds on the meta-training, whose training tasks are drawn again.
      weights: the meta-trained actor; layers that each training task has for itself have a leading
        axis of the training tasks.
    """
    trainer, streams = cell.trainer, streams_of(cell.trainer, "train")
    family = trainer.seen_family()
    drawn = training_tasks(trainer, family, streams.numpy("tasks"))
    seed = streams.child("theory").integer("support")
    env = BatchEnv(family, drawn, SUPPORT_EPISODES, threads, seed)
    with torch.no_grad():
        inputs = inputs_of(env, weights, cell.config)
        points = _spaced(torch.cat([z for z, _ in inputs]), SUPPORT_POINTS)
        episodes = [i * SUPPORT_EPISODES + copy for i, (_, copy) in enumerate(inputs)]
        episode = _spaced(torch.cat(episodes), SUPPORT_POINTS)
        distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        distances[episode[:, None] == episode] = float("inf")
        nearest = distances.amin(1)
    return Support(points, float(torch.quantile(nearest, QUANTILE)))


def inputs_of(env: Env, weights: Weights, config: Mapping[str, Any]) -> list[tuple[Tensor, Tensor]]:
    """Return z = ρₕ s at every step of one episode in each copy of each task.

    Actions are the policy's own, without noise; those that are not finite are replaced by 0.

    Returns:
      For each task, the inputs z [points, D] and the copy [points] that each comes from.
    """
    depth, first = config["depth"], config.get("activate_first", True)
    obs = env.reset()
    running = np.ones(obs.shape[:2], bool)
    seen: list[list[Tensor]] = [[] for _ in range(env.n_tasks)]
    copies: list[list[Tensor]] = [[] for _ in range(env.n_tasks)]
    while running.any():
        s = torch.from_numpy(obs)
        z = linear(weights, "rho_h", s)
        for i in range(env.n_tasks):
            seen[i].append(z[i, running[i]])
            copies[i].append(torch.from_numpy(np.flatnonzero(running[i])))
        action, _ = finite_actions(actor(weights, s, depth, activate_first=first).numpy())
        step = env.step(action)
        ended = step.terminated | step.truncated
        running &= ~ended
        obs = env.reset(ended) if ended.any() and running.any() else step.obs
    return [(torch.cat(z), torch.cat(of)) for z, of in zip(seen, copies, strict=True)]


def terms(
    weights: Weights, i: int, z: Tensor, support: Support | None, config: Mapping[str, Any]
) -> dict[str, float]:
    """Return the terms of the bound for task i, whose policy gave ψ the inputs z [points, D]."""
    own = {name: tensor[i] if tensor.ndim == 3 else tensor for name, tensor in weights.items()}
    layers = tuple(f"psi{layer}" for layer in range(config["depth"]))
    lipschitz = float(np.prod([_norm(own[f"{name}.w"]) for name in layers]))
    head = _norm(own["rho_t.w"])
    seen = input_gradient(
        own, layers, _spaced(z, JACOBIANS), first=config.get("activate_first", True)
    )
    found = {LIPSCHITZ: lipschitz, LIPSCHITZ_SEEN: seen, HEAD_NORM: head}
    if support is None:
        return found
    nearest = torch.cdist(z, support.points, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    outside = nearest[nearest > support.threshold]
    farthest = float(outside.max()) if len(outside) else 0.0
    return found | {
        OUTSIDE: float(len(outside)),
        FARTHEST: farthest,
        BOUND: 2 * lipschitz * head * len(outside) * farthest,
        COUNT_FREE_BOUND: lipschitz * head * farthest,
    }


def input_gradient(weights: Weights, layers: tuple[str, ...], z: Tensor, first: bool) -> float:
    """The largest spectral norm of ∂ψ/∂z over inputs z [points, D]: a lower bound of L."""

    def psi(one: Tensor) -> Tensor:
        h = one[None].relu() if first else one[None]
        return mlp(weights, layers, h).relu()[0]

    jacobian: Tensor = vmap(jacrev(psi))(z)
    return float(torch.linalg.matrix_norm(jacobian, 2).max())


def _on_cpu(*parts: Weights) -> Weights:
    """The parts of an actor's weights as one tree on the CPU, where they are measured."""
    return {name: tensor.cpu() for part in parts for name, tensor in part.items()}


def _finite(weights: Weights, i: int) -> bool:
    """Whether all weights of the policy of task i are finite."""
    own = (tensor[i] if tensor.ndim == 3 else tensor for tensor in weights.values())
    return all(bool(tensor.isfinite().all()) for tensor in own)


def _norm(w: Tensor) -> float:
    return float(torch.linalg.matrix_norm(w, 2))


def _spaced(points: Tensor, n: int) -> Tensor:
    """At most n of the points, evenly spaced."""
    if len(points) <= n:
        return points
    places: NDArray[np.int64] = np.linspace(0, len(points) - 1, n).round().astype(np.int64)
    return points[torch.from_numpy(places)]
