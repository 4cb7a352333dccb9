"""Definitions of a task, a task family and an environment: plain data and NumPy, no simulator.

Array axes, throughout: `N` tasks side by side, `E` copies of each, `O` observation entries, `A`
action entries; `S = N·E` simulations in row-major order. Units are SI; one step is one control
step.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.floating[Any]]
BoolArray: TypeAlias = NDArray[np.bool_]

# a shift axis of every family: rewards × 10^±shift, set by the task parameter of this name
REWARD_SCALE = "reward_scale"
# the same in one direction only: returns of enlarged and of reduced rewards should not be averaged
REWARD_UP, REWARD_DOWN = "reward_scale_up", "reward_scale_down"
AND = "+"  # joins shift axes that are shifted together

TASKS = Path(__file__).parent / "tasks"  # the frozen test tasks, one file per family


@dataclass(frozen=True)
class Task:
    """One task: a point in a family's parameter space, and how far it lies from the training law.

    Attributes:
      family: id of its family, such as "cheetah-vel".
      split: "train", or the name of a frozen test split.
      index: position within the split.
      params: named numbers in SI units (angles in radians).
      shift: distance from the support of the training law; 0 inside it.
      shift_axis: what `shift` measures, such as "angle"; None inside the law.
    """

    family: str
    split: str
    index: int
    params: Mapping[str, float] = field(hash=False)
    shift: float = 0.0
    shift_axis: str | None = None

    def __post_init__(self) -> None:
        # plain floats, which JSON and checkpoints accept
        object.__setattr__(
            self,
            "params",
            MappingProxyType({name: float(value) for name, value in self.params.items()}),
        )

    def __reduce__(self) -> tuple[Any, ...]:  # a mapping proxy does not pickle
        return Task, (
            self.family,
            self.split,
            self.index,
            dict(self.params),
            self.shift,
            self.shift_axis,
        )


class Step(NamedTuple):
    """The outcome of one control step; `terminated` by the dynamics, `truncated` by the clock."""

    obs: FloatArray  # [N, E, O] float32
    reward: FloatArray  # [N, E] float32, in the family's units
    terminated: BoolArray  # [N, E]
    truncated: BoolArray  # [N, E]


class Env(Protocol):
    """N tasks × E copies, stepped together. It never resets by itself."""

    @property
    def n_tasks(self) -> int:
        """N."""
        ...

    @property
    def copies(self) -> int:
        """E."""
        ...

    @property
    def observation_size(self) -> int:
        """O."""
        ...

    @property
    def action_size(self) -> int:
        """A."""
        ...

    @property
    def horizon(self) -> int:
        """Control steps after which an episode is truncated."""
        ...

    def reset(self, mask: BoolArray | None = None) -> FloatArray:
        """Start episodes where `mask` [N, E] is true (None: all); return observations [N, E, O]."""
        ...

    def step(self, action: FloatArray) -> Step:
        """Apply `action` [N, E, A], clipped to [−1, 1].

        Raises:
          ValueError: if an ended simulation was not reset, or the shape is wrong.
        """
        ...


class TrainEnv(Env, Protocol):
    """An environment of training tasks."""

    def draw(self) -> None:
        """Draw a fresh training task for every slot; the next call must be a full `reset`."""
        ...


class TaskFamily(Protocol):
    """A law of tasks and the physics they share; stateless, so one object serves every environment.

    The physical methods are vectorised over simulations: `qpos` [S, nq], `qvel` [S, nv], `action`
    [S, A] float64, already clipped; `params` maps each task parameter to [S].
    """

    id: ClassVar[str]
    version: ClassVar[int]
    kind: ClassVar[str]  # "reward" or "transition": what varies from task to task
    horizon: ClassVar[int]  # control steps
    observation_size: ClassVar[int]
    action_size: ClassVar[int]
    frame_skip: ClassVar[int]  # simulator steps per control step
    # number of distinct tasks in the training law; None if it is continuous
    law_size: ClassVar[int | None]
    shift_axes: ClassVar[tuple[str, ...]]  # axes to measure shifts on, besides REWARD_SCALE
    # shift axes whose test tasks are exact linear images of tasks in the law
    isomorphic: ClassVar[frozenset[str]]

    def xml(self) -> Path:
        """The model's MJCF file."""
        ...

    def split(self, name: str) -> tuple[Task, ...]:
        """The frozen test tasks of a split.

        Raises:
          ValueError: if the family has no such split.
        """
        ...

    def splits(self) -> tuple[str, ...]:
        """Names of the test splits."""
        ...

    def sample(self, n: int, generator: np.random.Generator) -> tuple[Task, ...]:
        """`n` training tasks, stratified over the training law."""
        ...

    def at_shift(self, axis: str, shift: float, generator: np.random.Generator) -> Task:
        """Draw a task at a distance from the training law; frozen test tasks are possible draws.

        What `axis` leaves open, such as the side or the other parameters, is drawn at random.

        Args:
          axis: one of `shift_axes`, REWARD_SCALE, REWARD_UP or REWARD_DOWN, or several of them
            joined by AND.
          shift: the distance, in the unit of the axis; for a reward scale, its decimal logarithm.
        Raises:
          ValueError: if there is no such axis, or no task lies so far out.
        """
        ...

    def model_fields(
        self, nominal: Mapping[str, FloatArray], params: Mapping[str, FloatArray]
    ) -> dict[str, FloatArray]:
        """Values [S, …] of the model fields that vary, computed from the nominal ones."""
        ...

    def reset_noise(self, generator: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Offsets (qpos [nq], qvel [nv]) from the model's initial state."""
        ...

    def control(self, action: FloatArray, params: Mapping[str, FloatArray]) -> FloatArray:
        """Actuator inputs [S, A] for the policy's `action`, each within its range."""
        ...

    def observe(
        self, qpos: FloatArray, qvel: FloatArray, params: Mapping[str, FloatArray]
    ) -> FloatArray:
        """Observations [S, O], in a fresh array."""
        ...

    def reward(
        self,
        before: FloatArray,
        qpos: FloatArray,
        qvel: FloatArray,
        action: FloatArray,
        params: Mapping[str, FloatArray],
    ) -> FloatArray:
        """Rewards [S]; `before` is the previous qpos [S, nq], `action` what `control` returned."""
        ...

    def terminated(self, qpos: FloatArray, qvel: FloatArray) -> BoolArray:
        """Whether the episode ended for a reason other than time [S], in a fresh array."""
        ...


def family_version(family: TaskFamily) -> str:
    """The family's version with the first digits of its model's SHA-256, as "1+3f2a9c01"."""
    digest = hashlib.sha256(family.xml().read_bytes()).hexdigest()
    return f"{family.version}+{digest[:8]}"


class TaskFileError(ValueError):
    """A file of frozen test tasks is missing or differs from the distributed one."""


def load_split(path: Path, name: str) -> tuple[Task, ...]:
    """Load the tasks of one split from a frozen task file.

    Raises:
      TaskFileError: if the file is missing, truncated, or does not match its checksum.
      ValueError: if it has no such split.
    """
    document = _task_file(path)
    if name not in document["splits"]:
        known = ", ".join(document["splits"])
        raise ValueError(f"family {document['family']} has no split {name!r}; it has {known}")
    return tuple(
        Task(
            document["family"],
            name,
            index,
            params=row["params"],
            shift=row["shift"],
            shift_axis=row["shift_axis"],
        )
        for index, row in enumerate(document["splits"][name])
    )


def split_names(path: Path) -> tuple[str, ...]:
    """Names of the splits in a frozen task file."""
    return tuple(_task_file(path)["splits"])


def _task_file(path: Path) -> dict[str, Any]:
    """Read a frozen task file and check it against its checksum."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        intact = document["sha256"] == checksum(document["splits"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TaskFileError(
            f"{path} cannot be read ({type(error).__name__}); restore it from the distribution"
        ) from error
    if not intact:
        raise TaskFileError(
            f"{path} was edited: its tasks do not match its checksum; restore it from the"
            " distribution"
        )
    return document


def checksum(splits: Mapping[str, Iterable[Any]]) -> str:
    """SHA-256 of the canonical JSON of a task file's splits."""
    return hashlib.sha256(
        json.dumps(splits, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()
