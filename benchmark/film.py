"""What a film shows: a cell adapted once more, and an episode of its policy before and after."""

import io
from itertools import count
from math import cos, sin
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmark.cells import Cell
from benchmark.protocol import EPISODES, Evaluation, Evaluator, TaskPool, adapt, finite_actions
from benchmark.seeding import Streams
from envs import load_family
from envs.api import Task
from envs.batch import BatchEnv
from envs.gym import render_fps
from envs.pictures import Pictures
from envs.point import FIXED_GOAL
from methods.api import Policy

SIZE = 240  # pixels: height and width of one policy's picture
FRAME_S = 0.1  # of simulated time between two pictures, where a control step is shorter
_QUALITY = 50  # of WebP


class Filmed(NamedTuple):
    """A policy before and after adaptation."""

    policies: tuple[Policy, Policy]
    evaluations: tuple[Evaluation, Evaluation]
    steps: int  # used by the one after


def adapt_again(cell: Cell, state: bytes | None) -> Filmed:
    """Adapt as the cell did, and keep the policy at b = 0 and the one at the end; `state` is what was meta-trained."""
    method = cell.build()
    if state is not None:
        method.load_state_dict(torch.load(io.BytesIO(state), weights_only=True))
    torch.set_num_threads(1)  # what the cell had, as sums depend on it
    family, streams = load_family(cell.family), Streams(cell.seed, "adapt", cell.family, cell.split)
    tasks = family.split(cell.split)
    pool, evaluator = TaskPool(family, tasks, streams), Evaluator(family, tasks, streams)
    kept: list[tuple[Policy, Evaluation]] = []

    def evaluate(policy: Policy) -> Evaluation:
        kept.append((policy, evaluator(policy)))
        return kept[-1][1]

    adapter = method.adapter(pool.make_env, len(tasks), streams.child("method"))
    for _ in adapt(adapter, pool, evaluate, streams, cell.adapt_steps):
        del kept[1:-1]
    (before, first), (after, last) = kept[0], kept[-1]
    return Filmed((before, after), (first, last), int(pool.used.max()))


def film(cell: Cell, place: int, policies: tuple[Policy, Policy]) -> bytes:
    """An animated WebP of both policies from the same start, the first one that they are evaluated from."""
    (seconds, before), (_, after) = (_episode(cell, place, policy) for policy in policies)
    pictures = []
    for t in range(max(len(before), len(after))):
        both = Image.new("RGB", (2 * SIZE + 4, SIZE), "white")
        for side, (frames, label) in enumerate(((before, "before"), (after, "after"))):
            both.paste(Image.fromarray(frames[min(t, len(frames) - 1)]), (side * (SIZE + 4), 0))
            ImageDraw.Draw(both).text((side * (SIZE + 4) + 6, 4), label, fill="white", stroke_width=2, stroke_fill="black")
        pictures.append(both)
    buffer = io.BytesIO()
    how = {"save_all": True, "duration": round(1000 * seconds), "loop": 0, "quality": _QUALITY}
    pictures[0].save(buffer, "WEBP", append_images=pictures[1:], **how)
    return buffer.getvalue()


def _episode(cell: Cell, place: int, policy: Policy) -> tuple[float, list[NDArray[np.uint8]]]:
    """An episode of the task at `place` from its first evaluated start: seconds between pictures, and the pictures.

    A policy that draws, draws anew, so that its episode is not the one that was scored.
    """
    family, streams = load_family(cell.family), Streams(cell.seed, "adapt", cell.family, cell.split)
    tasks = family.split(cell.split)
    env = BatchEnv(family, tasks, EPISODES, 1, streams.integer("evaluation"))
    every = max(1, round(FRAME_S * render_fps(env)))
    draw = Pictures(env.batch, SIZE, goal=goal_of(cell.family, tasks[place]))
    obs, running = env.reset(), np.ones((env.n_tasks, env.copies), bool)
    policy.reset(running.copy())
    frames, over = [draw(place * EPISODES)], False
    for t in count(1):
        step = env.step(finite_actions(policy.act(obs))[0])
        ended = step.terminated | step.truncated
        over = bool(ended[place, 0] or env.diverged[place, 0])
        if over or t % every == 0:
            frames.append(draw(place * EPISODES))
        if over:
            break
        policy.observe(step)
        obs = env.reset(ended) if ended.any() else step.obs
    draw.close()
    return every / render_fps(env), frames


def goal_of(family: str, task: Task) -> tuple[float, float] | None:
    """Where a task's goal lies in the plane, in m; None for a family without."""
    if {"radius", "angle"} <= set(task.params):
        radius, angle = task.params["radius"], task.params["angle"]
        return radius * cos(angle), radius * sin(angle)
    return FIXED_GOAL if family == "point-rand" else None
