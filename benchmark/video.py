"""The policy before and after adaptation, side by side, as films that a report embeds.

A store keeps what was meta-trained, not what was adapted, so the adaptation of a cell is run again, with its own seed; what it
scores is compared with the cell's rows, and the caption says if it is not the same.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmark.choices import InputError
from benchmark.plugins import registered_methods
from benchmark.suites import BUDGETS, SUITES
from reports.clips import Clip
from reports.drawing import BOUNDS
from reports.files import write_bytes
from reports.scores import ARM, TABLE
from reports.text import number, steps
from results.publication import Publication, results_at
from results.store import CellKey, Store, StoreError

if TYPE_CHECKING:
    from benchmark.cells import Cell
    from benchmark.film import Filmed
    from envs.api import Task

FILMS = "films"  # folder of the report
_TOLERANCE = 1e-3  # of a return, relative where that is larger than 1
_MOST_NAMED = 3  # parameters of a task in a caption


def films(place: Path, out: Path, suites: Sequence[str] | None, tell: Callable[[str], None]) -> list[Clip]:
    """Film the first finished seed of every arm on every split, on its task farthest from the training law.

    What was filmed into `out` before is not filmed again.

    Args:
      place: folder of results, or `published`. suites: None for all. tell: told how far it is, and what cannot be filmed.
    Raises:
      InputError: if MuJoCo has nothing to draw with; it says what to install.
      StoreError, ReportError: if results cannot be read, or films cannot be written.
    """
    draw_off_screen()  # before anything else brings MuJoCo, which chooses its OpenGL as it is imported
    from benchmark.progress import duration

    results = results_at(place)
    _, cells = results.read(suites)
    shown = cells[(cells["status"] == "done") & ~cells["method"].isin(BOUNDS)].sort_values("seed", kind="stable")
    chosen = shown.drop_duplicates([*TABLE, *ARM]).to_dict("records")
    clips, began = [], time.monotonic()
    for i, one in enumerate(chosen):
        left = f", {duration((time.monotonic() - began) / i * (len(chosen) - i))} left" if i else ""
        name = f"{one['method']} on {one['family']}/{one['split']} seed {one['seed']}"
        try:
            cell = _cell_of(results, one)
            tell(f"[{i + 1}/{len(chosen)}{left}] filming {name}")
            caption = _filmed(results, cell, one["adapt_id"], out)
        except _NotFilmedError as reason:
            tell(f"[{i + 1}/{len(chosen)}] no film of {name}: {reason}")
            continue
        where = {part: str(one[part]) for part in (*TABLE, *ARM)}
        clips.append(Clip(**where, file=f"{FILMS}/{one['adapt_id']}.webp", caption=caption))
    return clips


class _NotFilmedError(Exception):
    """A cell cannot be run again here."""


def draw_off_screen() -> None:
    """Choose an OpenGL that needs no display, and try it.

    Raises:
      InputError: if there is none.
    """
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        from envs import load_family
        from envs.batch import BatchEnv
        from envs.pictures import Pictures

        family = load_family("point-goal")
        env = BatchEnv(family, family.split("id")[:1])
        Pictures(env.batch, 8).close()
    except (AttributeError, RuntimeError, ImportError, OSError) as error:  # AttributeError is PyOpenGL's without its library
        raise InputError(
            f"--videos: MuJoCo cannot draw with MUJOCO_GL={os.environ.get('MUJOCO_GL', '')}; apt-get install libegl1 and set "
            "MUJOCO_GL=egl, or apt-get install libosmesa6 and set MUJOCO_GL=osmesa"
        ) from error


def _cell_of(results: Store | Publication, one: dict[str, Any]) -> "Cell":
    """The planned cell `one`, as the code of today has it."""
    from benchmark.cells import expand

    suite, budget, method = SUITES.get(one["suite"]), BUDGETS.get(one["budget"]), one["method"]
    if suite is None or budget is None or method not in (known := registered_methods()):
        raise _NotFilmedError("its suite, budget or method is not known here")
    cells = expand(suite, budget, {method: known[method]}, [one["family"]], 1, {})
    cell = replace(next(cell for cell in cells if cell.split == one["split"]), seed=int(one["seed"]))
    if one["variant"]:
        key = CellKey("adapt", one["suite"], int(one["suite_version"]), one["adapt_id"])
        config = results.record(key).get("config")
        cell = replace(cell, variant=one["variant"], config=cell.config if config is None else config)
    if cell.adapt_key.id != one["adapt_id"]:
        raise _NotFilmedError("it was measured with another version of this program")
    return cell


def _filmed(results: Store | Publication, cell: "Cell", adapt_id: str, out: Path) -> str:
    """Make the film of a cell unless it is there, and give its caption."""
    film, said = (out / FILMS / f"{adapt_id}.{kind}" for kind in ("webp", "json"))
    if film.exists() and said.exists():
        return str(json.loads(said.read_text(encoding="utf-8"))["caption"])
    from benchmark.film import adapt_again
    from benchmark.film import film as make
    from envs import load_family

    tasks = load_family(cell.family).split(cell.split)
    place = max(range(len(tasks)), key=lambda n: tasks[n].shift)
    filmed = adapt_again(cell, _trained_state(results, cell))
    write_bytes(film, make(cell, place, filmed.policies))
    caption = _caption(cell, tasks[place], place, filmed, _published(results, cell))
    write_bytes(said, json.dumps({"caption": caption}).encode())  # last: a film without it is made again
    return caption


def _trained_state(results: Store | Publication, cell: "Cell") -> bytes | None:
    if cell.train_key is None:
        return None
    try:
        return results.checkpoint(cell.train_key)
    except StoreError as error:
        raise _NotFilmedError(f"there is no trained state of it ({error})") from error


def _published(results: Store | Publication, cell: "Cell") -> pd.DataFrame:
    """The rows of the cell's last checkpoint, by task."""
    rows, _ = results.read([cell.suite])
    mine = rows[rows["cell_id"] == cell.adapt_key.id]
    return mine[mine["env_steps"] == mine["env_steps"].max()].sort_values("task_index")


def _caption(cell: "Cell", task: "Task", place: int, filmed: "Filmed", rows: pd.DataFrame) -> str:
    before, after = (float(evaluation.returns[place, 0]) for evaluation in filmed.evaluations)
    named = [f"{name} {value:.3g}" for name, value in task.params.items()]
    params = ", ".join(named if len(named) <= _MOST_NAMED else [f"{len(named)} parameters"])
    shift = f", {task.shift:.3g} from the training law along {task.shift_axis}" if task.shift_axis else ""
    said = [
        f"seed {cell.seed}, task {task.index} ({params}{shift}); before any step its episode returns {number(before)}, after",
        f"{steps(filmed.steps)} steps {number(after)}.",
    ]
    ours, known = filmed.evaluations[1].returns.mean(1), rows["return_mean"].to_numpy(float)
    worst = abs(ours - known).max() if len(ours) == len(known) else float("inf")
    if not worst <= _TOLERANCE * max(1.0, abs(known).max(initial=0.0)):
        said.append(
            f"This adaptation was run again and ends at {number(ours.mean())} over all tasks, the measured one at "
            f"{number(known.mean()) if len(known) else '–'}: other versions or another processor."
        )
    return " ".join(said)
