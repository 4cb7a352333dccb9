"""What a film shows: a cell adapted again, with a scored episode from before and one from after."""

import io
from collections.abc import Callable, Sequence
from math import cos, sin
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmark import states
from benchmark.cells import Cell
from benchmark.isolation import settle
from benchmark.pool import TaskPool
from benchmark.protocol import EPISODES, Evaluation, Evaluator, adapt
from benchmark.run import streams_of
from benchmark.seeding import seed_globals
from envs import load_family
from envs.api import FloatArray, Step, Task
from envs.batch import BatchEnv
from envs.gym import render_fps
from envs.permuted import PREFIX
from envs.pictures import Pictures
from envs.point import FIXED_GOAL
from methods.api import Policy

SIZE = 240  # pixels: height and width of one policy's picture
GAP = 4  # pixels between the two
FRAME_S = 0.05  # simulated time between two pictures, where a control step is shorter
LARGEST = 400_000  # bytes of a film; a page holds many
# (n, quality): keep every n-th picture, at this WebP quality. The first pair that makes the film
# small enough is used, or the last one.
_ENCODINGS = ((1, 50), (2, 40), (2, 20), (3, 20))

# positions [nq] at the start and after every control step of an episode
Path = list[NDArray[np.float64]]


class Filmed(NamedTuple):
    """A policy before and after adaptation."""

    paths: tuple[Path, Path]  # of the first evaluated episode of one task
    evaluations: tuple[Evaluation, Evaluation]
    steps: int  # environment steps per task used by the adapted policy


def adapt_again(
    cell: Cell,
    place: int,
    state: bytes | None,
    threads: int = 1,
    progress: Callable[[int], None] = lambda used: None,
) -> Filmed:
    """Adapt as the cell did; record the task at `place` in the evaluations at b = 0 and at the end.

    Args:
      state: the trained state, None without meta-training.
      threads: torch's threads; as many as the cell had, since sums depend on them.
      progress: called with the environment steps used per task.
    """
    settle()
    torch.set_num_threads(threads)
    streams = streams_of(cell, "adapt")
    seed_globals(streams)
    method = cell.build()
    if state is not None:
        method.load_state_dict(states.from_bytes(state))
    family = cell.seen_family()
    tasks = family.split(cell.split)
    pool = TaskPool(family, tasks, streams, progress=progress)
    watch = _Watch(family, tasks, streams)
    watch.simulation = place * EPISODES
    adapter = method.adapter(pool.make_env, len(tasks), streams.child("method"))
    pool.settle()
    kept: list[tuple[Path, Evaluation]] = []
    for checkpoint in adapt(adapter, pool, watch, streams, cell.adapt_steps):
        kept = [*kept[:1], (watch.path, checkpoint.evaluation)]
    (before, first), (after, last) = kept[0], kept[-1]
    return Filmed((before, after), (first, last), int(pool.used.max()))


class _Watch(Evaluator):
    """Also records one simulation's first episode, which a stochastic policy would not repeat."""

    simulation = 0

    def __call__(self, policy: Policy) -> Evaluation:
        watched = _Watched(policy, self._env, self.simulation)
        evaluation = super().__call__(watched)
        self.path = watched.path
        return evaluation


class _Watched:
    """A policy that records the path of one of the simulations it acts in."""

    def __init__(self, policy: Policy, env: BatchEnv, simulation: int) -> None:
        self._policy = policy
        self._positions = env.batch.bind("qpos")[simulation]
        self._at = divmod(simulation, env.copies)
        self._over = False
        self.path: Path = []

    def reset(self, mask: NDArray[np.bool_]) -> None:
        self.path.append(self._positions.copy())  # the evaluator has just reset the simulation
        self._policy.reset(mask)

    def act(self, obs: FloatArray) -> FloatArray:
        action = self._policy.act(obs)
        self._over |= not np.isfinite(action[self._at]).all()
        return action

    def observe(self, step: Step) -> None:
        """Record the positions of the simulation until its first episode ends."""
        if not self._over and np.isfinite(self._positions).all():
            self.path.append(self._positions.copy())
        self._over |= bool(step.terminated[self._at] or step.truncated[self._at])
        self._policy.observe(step)


def film(cell: Cell, place: int, paths: tuple[Path, Path]) -> bytes:
    """Draw two episodes side by side as a real-time WebP; the shorter one holds its last frame."""
    env = BatchEnv(load_family(cell.family), [load_family(cell.family).split(cell.split)[place]])
    env.reset()
    if env.batch.model.vis.headlight.active and _plain_id(cell.family).startswith("point-"):
        # the table is seen from above and would be white in the headlight
        env.batch.model.vis.headlight.active = 0
    every = max(1, round(FRAME_S * render_fps(env)))
    draw = Pictures(env.batch, SIZE, goal_of(cell.family, env.tasks[0]), plain=True)
    positions = env.batch.bind("qpos")
    sides: list[list[NDArray[np.uint8]]] = [[], []]
    try:
        for path, side in zip(paths, sides, strict=True):
            for positions[0] in (*path[:-1:every], path[-1]):
                side.append(draw(0))
    finally:
        draw.close()  # if freed only when the interpreter exits, it complains
    length = max(map(len, sides))
    pictures = [_beside(*(side[min(t, len(side) - 1)] for side in sides)) for t in range(length)]
    for kept, quality in _ENCODINGS:
        content = _webp(
            [*pictures[:-1:kept], pictures[-1]], 1000 * kept * every / render_fps(env), quality
        )
        if len(content) <= LARGEST:
            break
    return content


def _beside(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Image.Image:
    both = Image.new("RGB", (2 * SIZE + GAP, SIZE), "white")
    for left, picture, label in ((0, before, "before"), (SIZE + GAP, after, "after")):
        both.paste(Image.fromarray(picture), (left, 0))
        ImageDraw.Draw(both).text(
            (left + 6, 4), label, fill="white", stroke_width=2, stroke_fill="black"
        )
    return both


def _webp(pictures: Sequence[Image.Image], duration_ms: float, quality: int) -> bytes:
    buffer = io.BytesIO()
    how = {
        "save_all": True,
        "duration": round(duration_ms),
        "loop": 0,
        "quality": quality,
        "method": 4,
    }
    pictures[0].save(buffer, "WEBP", append_images=pictures[1:], **how)
    return buffer.getvalue()


def goal_of(family: str, task: Task) -> tuple[float, float] | None:
    """Position of a task's goal in the plane, in m; None for a family without goals."""
    if {"radius", "angle"} <= set(task.params):
        radius = task.params["radius"]
        angle = task.params["angle"]
        return radius * cos(angle), radius * sin(angle)
    return FIXED_GOAL if _plain_id(family) == "point-rand" else None


def _plain_id(family: str) -> str:
    return family.removeprefix(PREFIX)
