"""Films of the policy before and after adaptation, side by side, for a report to embed.

A store keeps meta-trained states but no adapted ones, so the adaptation of a cell is run again with
the cell's seed. Its scores are compared with the cell's rows, and the caption says if they differ.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmark.arguments import InputError, own_methods
from benchmark.exits import is_stop
from benchmark.isolation import undisturbed
from benchmark.plugins import registered_methods
from benchmark.suites import BUDGETS, SUITES
from envs import load_family
from reports import ReportError
from reports.files import write_bytes
from reports.parts.films import Clip
from reports.stats.scores import ARM, BOUNDS, TABLE
from reports.text import method_name, number, one_line, steps
from results.files import DamageError, read
from results.publication import Publication, results_at
from results.store import CellKey, Store, StoreError

if TYPE_CHECKING:
    from benchmark.cells import Cell

FILMS = "films"  # subfolder of the report
_TOLERANCE = 1e-3  # for returns; relative where a return is larger than 1
_MOST_NAMED = 3  # most task parameters that a caption lists; of more it gives the number
_TELL_EVERY_S = 30.0  # between progress reports of an adaptation
# facts of a film: returns of the two episodes, adaptation steps between them, and the mean return
# of every task at the end
FACTS = {"before", "after", "steps", "ends"}


def films(
    place: Path,
    out: Path,
    suites: Sequence[str] | None,
    tell: Callable[[str], None],
    own: Sequence[str] = (),
) -> list[Clip]:
    """Film each arm's first finished seed per split, on the task farthest from the training law.

    Films that are in `out` already are not made again.

    Args:
      place: folder of results, or `published`.
      suites: None for all.
      tell: called with lines on the progress and on what cannot be filmed.
      own: methods that are not registered, as module:Class.
    Raises:
      InputError: if MuJoCo has nothing to draw with (the message says what to install), or a method
        in `own` is given twice or has the name of another one.
      PluginError: if an entry of `own` is not a method.
      StoreError, ReportError: if results cannot be read, or films cannot be written.
    """
    # first, because MuJoCo chooses its OpenGL when it is imported
    draw_off_screen()
    from benchmark.progress import duration

    known = registered_methods() | own_methods(own)
    results = results_at(place)
    _, cells = results.read(suites)
    shown = cells[(cells["status"] == "done") & ~cells["method"].isin(BOUNDS)].sort_values(
        "seed", kind="stable"
    )
    chosen = shown.drop_duplicates([*TABLE, *ARM]).to_dict("records")
    new = [one for one in chosen if _known_facts(out, one["adapt_id"]) is None]
    clips = []
    began = time.monotonic()
    made = 0
    for one in chosen:
        method = method_name(one["method"], one["variant"])
        # one_line, because a terminal would obey control characters
        name = one_line(f"{method} on {one['family']}/{one['split']} seed {one['seed']}")
        try:
            cell = _cell_of(results, one, known)
            facts = _known_facts(out, one["adapt_id"])
            if facts is None:
                left = (
                    f", {duration((time.monotonic() - began) / made * (len(new) - made))} left"
                    if made
                    else ""
                )
                tell(f"[{made + 1}/{len(new)}{left}] filming {name}")
                made += 1
                facts = _filmed(results, cell, out, lambda text: tell(f"    {text}"))
            caption = _caption(cell, facts, _published(results, cell))
        except (StoreError, ReportError):
            raise
        except _NotFilmedError as reason:
            tell(f"no film of {name}: {one_line(str(reason))}")
            continue
        # an error of a method must not cost the report
        except BaseException as error:
            if is_stop(error):
                raise
            tell(f"no film of {name}: {one_line(f'{type(error).__name__}: {error}')}")
            continue
        where = {part: str(one[part]) for part in (*TABLE, *ARM)}
        clips.append(Clip(**where, file=f"{FILMS}/{one['adapt_id']}.webp", caption=caption))
    return clips


class _NotFilmedError(Exception):
    """Raised where a cell cannot be run again here."""


def draw_off_screen() -> None:
    """Choose an OpenGL that needs no display, and try it.

    Raises:
      InputError: if none works.
    """
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        from envs.batch import BatchEnv
        from envs.pictures import Pictures

        family = load_family("point-goal")
        env = BatchEnv(family, family.split("id")[:1])
        Pictures(env.batch, 8).close()
    # PyOpenGL raises AttributeError where its library is missing
    except (AttributeError, RuntimeError, ImportError, OSError) as error:
        raise InputError(
            f"--videos: MuJoCo cannot draw with MUJOCO_GL={os.environ.get('MUJOCO_GL', '')};"
            " apt-get install libegl1 and set MUJOCO_GL=egl, or apt-get install libosmesa6 and set"
            " MUJOCO_GL=osmesa"
        ) from error


def _cell_of(results: Store | Publication, one: dict[str, Any], known: Mapping[str, str]) -> "Cell":
    """Return planned cell `one` as the current code defines it; `known` maps names to methods."""
    from benchmark.cells import expand

    suite = SUITES.get(one["suite"])
    budget = BUDGETS.get(one["budget"])
    method = one["method"]
    if suite is None or budget is None:
        raise _NotFilmedError("its suite or budget is not known here")
    if method not in known:
        raise _NotFilmedError(
            "its method is not known here; name one of your own with --method module:Class"
        )
    cells = expand(
        suite, budget, {method: known[method]}, families=[one["family"]], seeds=1, settings={}
    )
    cell = next((cell for cell in cells if cell.split == one["split"]), None)
    if cell is None:
        raise _NotFilmedError("its split is not known here")
    cell = replace(cell, seed=int(one["seed"]))
    if one["variant"]:
        key = CellKey("adapt", one["suite"], int(one["suite_version"]), one["adapt_id"])
        config = results.record(key).get("config")
        if config is None:
            # published results hold only a hash of them
            raise _NotFilmedError("its settings are not stored")
        cell = replace(cell, variant=one["variant"], config=config)
    if cell.adapt_key.id != one["adapt_id"]:
        raise _NotFilmedError("it was measured with another version of this program")
    return cell


def _known_facts(out: Path, adapt_id: str) -> dict[str, Any] | None:
    """Return the `FACTS` of an existing film; None if the film has to be made."""
    film, facts = (out / FILMS / f"{adapt_id}.{kind}" for kind in ("webp", "json"))
    try:
        known: dict[str, Any] = json.loads(read(facts))
    except (OSError, ValueError, DamageError):
        return None
    return known if film.exists() and isinstance(known, dict) and set(known) == FACTS else None


def _filmed(
    results: "Store | Publication", cell: "Cell", out: Path, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Make the film of a cell and return its `FACTS`."""
    from benchmark.film import adapt_again, film

    place = _farthest(cell)
    told = time.monotonic()

    def progress(used: int) -> None:
        """Report the steps from time to time."""
        nonlocal told
        if time.monotonic() - told > _TELL_EVERY_S:
            told = time.monotonic()
            tell(f"{steps(used)} of {steps(cell.adapt_steps)} steps")

    threads = int(results.record(cell.adapt_key).get("torch_threads") or 1)
    with undisturbed():
        filmed = adapt_again(cell, place, _trained_state(results, cell), threads, progress)
    before, after = filmed.evaluations
    facts = {
        "before": float(before.returns[place, 0]),
        "after": float(after.returns[place, 0]),
        "steps": filmed.steps,
        "ends": [float(value) for value in after.returns.mean(1)],
    }
    name = cell.adapt_key.id
    write_bytes(out / FILMS / f"{name}.webp", film(cell, place, filmed.paths))
    # written last: a film without facts is made again
    write_bytes(out / FILMS / f"{name}.json", json.dumps(facts).encode())
    return facts


def _farthest(cell: "Cell") -> int:
    """Return the index of the task in the cell's split that is farthest from the training law."""
    tasks = load_family(cell.family).split(cell.split)
    return max(range(len(tasks)), key=lambda n: tasks[n].shift)


def _trained_state(results: Store | Publication, cell: "Cell") -> bytes | None:
    if cell.train_key is None:
        return None
    try:
        return results.state(cell.train_key)
    except StoreError as error:
        raise _NotFilmedError(f"it has no trained state ({error})") from error


def _published(results: Store | Publication, cell: "Cell") -> pd.DataFrame:
    """Return the rows of the cell's last checkpoint, sorted by task."""
    rows, _ = results.read([cell.suite])
    mine = rows[rows["cell_id"] == cell.adapt_key.id]
    return mine[mine["env_steps"] == mine["env_steps"].max()].sort_values("task_index")


def _caption(cell: "Cell", facts: dict[str, Any], rows: pd.DataFrame) -> str:
    """Say what a film shows and whether it matches `rows`, the last checkpoint's row per task."""
    task = load_family(cell.family).split(cell.split)[_farthest(cell)]
    named = [f"{name} {value:.3g}" for name, value in task.params.items()]
    params = ", ".join(named if len(named) <= _MOST_NAMED else [f"{len(named)} parameters"])
    shift = (
        f", {task.shift:.3g} from the training law along {task.shift_axis}"
        if task.shift_axis
        else ""
    )
    said = (
        f"seed {cell.seed}, task {task.index} ({params}{shift}); the return of its episode is"
        f" {number(facts['before'])} before any step and {number(facts['after'])} after"
        f" {steps(facts['steps'])} steps."
    )
    ours = np.array(facts["ends"], float)
    known = rows["return_mean"].to_numpy(float)
    if len(ours) != len(known):
        return (
            f"{said} It cannot be compared with the measured results: {len(known)} tasks were"
            f" measured, not {len(ours)}."
        )
    gaps = np.where(ours == known, 0.0, np.abs(ours - known))
    if (gaps <= _TOLERANCE * np.maximum(1.0, np.abs(known))).all():
        return said
    worst = int(np.nan_to_num(gaps, nan=np.inf).argmax())
    return (
        f"{said} This is a new run of the adaptation, which differs from the measured one: on task"
        f" {worst} the mean return is {number(ours[worst])}, not {number(known[worst])} (other"
        " versions, another processor or number of threads)."
    )
