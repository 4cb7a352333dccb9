"""The point families seen from above: 64 × 64 pictures, passed through a convolutional encoder with
frozen random weights.

`load_family("pixels-<id>")` gives this version of `point-goal` or `point-rand`. Pictures are drawn
here and not by OpenGL, whose pictures differ from driver to driver: they show what a camera high
above sees of MuJoCo's model, and are the same on every machine, with or without a display.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from envs.api import FloatArray, Task
from envs.point import Point, PointGoal, PointRand

PREFIX = "pixels-"
VERSION = 1  # of pictures and encoder; the hundreds of a family's version
SIZE = 64  # pixels: height and width
REACH = 2.5  # m: from the middle of a picture to its edges
PUCK = 0.2  # m: radius of the disc that marks the puck, three times the puck's own
LAYERS = ((16, 8, 4), (32, 4, 2))  # filters, width and stride of each convolution
FEATURES = 64
_SEED = 0
_GRID = 21  # places along each axis, for the mean and deviation of the features


def pictures(position: FloatArray) -> FloatArray:
    """Pictures [S, 64, 64] of pucks at positions [S, 2] in m: 1 on a puck, 0 off it, and in
    between where its edge crosses a pixel. Row 0 is at the top, where y is largest.
    """
    pixel = 2 * REACH / SIZE
    centres = (np.arange(SIZE, dtype=np.float32) + 0.5) * np.float32(pixel) - np.float32(REACH)
    across = (centres - position[:, :1].astype(np.float32)) ** 2  # [S, 64]
    along = (-centres - position[:, 1:].astype(np.float32)) ** 2
    distance = np.sqrt(along[:, :, None] + across[:, None, :])
    seen: FloatArray = np.clip((np.float32(PUCK) - distance) / np.float32(pixel) + 0.5, 0, 1)
    return seen


@lru_cache(maxsize=1)
def weights() -> tuple[list[FloatArray], FloatArray]:
    """Filters [c·w·w, filters] of each convolution, and the last layer; all N(0, 2 / inputs)."""
    generator = np.random.default_rng(_SEED)
    filters, channels, side = list[FloatArray](), 1, SIZE
    for n, width, stride in LAYERS:
        inputs = channels * width * width
        drawn = generator.normal(0.0, np.sqrt(2 / inputs), (inputs, n))
        filters.append(drawn.astype(np.float32))
        channels, side = n, (side - width) // stride + 1
    inputs = channels * side * side
    last = generator.normal(0.0, np.sqrt(2 / inputs), (inputs, FEATURES))
    return filters, last.astype(np.float32)


def encode(seen: FloatArray) -> FloatArray:
    """Two convolutions, each followed by a ReLU, and a linear layer: [S, 1, 64, 64] → [S, 64]."""
    filters, last = weights()
    for (_, width, stride), own in zip(LAYERS, filters, strict=True):
        windows = sliding_window_view(seen, (width, width), axis=(2, 3))[:, :, ::stride, ::stride]
        rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(*_places(windows), -1)
        seen = np.maximum(rows @ own, 0.0).transpose(0, 3, 1, 2)
    features: FloatArray = seen.reshape(len(seen), -1) @ last
    return features


def _places(windows: FloatArray) -> tuple[int, int, int]:
    return len(windows), windows.shape[2], windows.shape[3]


@lru_cache(maxsize=1)
def _statistics() -> tuple[FloatArray, FloatArray]:
    """Mean and deviation of the features, over a grid of places with random velocities."""
    side = np.linspace(-1.0, 1.0, _GRID)
    places = np.stack(np.meshgrid(2 * side, 2 * side), -1).reshape(-1, 2)
    speeds = np.random.default_rng(_SEED).uniform(-1.0, 1.0, places.shape)  # m/s
    features = _features(places, speeds)
    return features.mean(axis=0), features.std(axis=0)


def _features(qpos: FloatArray, qvel: FloatArray) -> FloatArray:
    """Features of a picture, and the velocity, which a single picture does not show."""
    return np.concatenate((encode(pictures(qpos)[:, None]), qvel), axis=1, dtype=np.float32)


class Pixels:
    """Mixin of the families with pictures, listed before the point family that they show.

    An observation consists of the features of a picture and the velocity, which a single picture
    does not show. Each entry is shifted and scaled to mean 0 and deviation 1 over places on the
    table and velocities. No picture shows a goal.
    """

    id: ClassVar[str]
    base: ClassVar[type[Point]]
    observation_size: ClassVar[int] = FEATURES + 2
    isomorphic: ClassVar[frozenset[str]] = frozenset()  # turned pictures give no linear images

    def observe(
        self, qpos: FloatArray, qvel: FloatArray, params: Mapping[str, FloatArray]
    ) -> FloatArray:
        """Features and velocity, [S, 66]."""
        mean, deviation = _statistics()
        features: FloatArray = (_features(qpos, qvel) - mean) / deviation
        return features

    def split(self, name: str) -> tuple[Task, ...]:
        """The point family's tasks, those of `shift` and of sealed splits included."""
        return tuple(replace(task, family=self.id) for task in self.base().split(name))

    def splits(self) -> tuple[str, ...]:
        """Names of the test splits."""
        return self.base().splits()


class PixelsPointGoal(Pixels, PointGoal):
    """`point-goal` seen from above."""

    id: ClassVar[str] = PREFIX + PointGoal.id
    version: ClassVar[int] = 100 * VERSION + PointGoal.version
    base = PointGoal


class PixelsPointRand(Pixels, PointRand):
    """`point-rand` seen from above."""

    id: ClassVar[str] = PREFIX + PointRand.id
    version: ClassVar[int] = 100 * VERSION + PointRand.version
    base = PointRand


PIXELS = {family.id: family for family in (PixelsPointGoal, PixelsPointRand)}
