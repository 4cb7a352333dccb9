"""Levels 2 and 3 of `verify`: runs the current code and compares it with what was published."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark import run, states
from benchmark.arguments import InputError, choose_jobs
from benchmark.cells import Cell, expand
from benchmark.executors import Means
from benchmark.isolation import settle
from benchmark.local import LocalExecutor, Progress, stages_of
from benchmark.plugins import registered_methods
from benchmark.provenance import provenance
from benchmark.publish import STATES_OF_ALL
from benchmark.suites import BUDGETS, SUITES
from benchmark.verify import fingerprints
from benchmark.verify.published import Check, Outcome
from methods import METHODS
from reports.stats.regression import BETTER, PLACE, TOO_FEW, WORSE, regressions
from reports.stats.scores import adaptation_scores, last_scores
from reports.text import number
from results.files import read
from results.publication import STATES, Publication
from results.store import Store

# suite/family/method of the cells that are run again: one of each kind of method, and one with
# varying dynamics
CELLS = (
    *(
        "ood/point-goal/apb",
        "ood/point-goal/td3",
        "ood/point-goal/maml",
        "ood/point-goal/pearl",
        "ood/point-goal/varibad",
    ),
    "ood/point-rand/apb",
)
FIRST_SEED = 1_000  # beyond any published seed
Show = Callable[[list[Progress]], None]


def known_fingerprints(
    store: Store, folder: Path, record: bool, show: Show, deadline: float | None = None
) -> Iterator[Check]:
    """Compare this machine's fingerprints with those in `folder`; `record` saves them first."""
    cells = expand(
        SUITES["ood"], BUDGETS["smoke"], METHODS, families=["point-goal"], seeds=1, settings={}
    )
    rows = _run(store, cells, show, deadline)
    found: dict[str, tuple[str, dict[str, Any]]] = {
        "simulator": (fingerprints.simulator_key(), fingerprints.simulator_fingerprints()),
        "learner": (fingerprints.learner_key(), fingerprints.learner_fingerprints(rows)),
        "weights": (fingerprints.learner_key(), _weights(store, cells)),
    }
    tolerance = {"weights": fingerprints.WEIGHTS_TOLERANCE}
    for kind, (key, ours) in found.items():
        if record:
            fingerprints.record(folder, kind, key, ours)
        known = fingerprints.load(folder).get(kind, {}).get(key)
        if known is None:
            detail = (
                f"none is recorded for {key}; if you trust the code, record this machine's with"
                " --record"
            )
            yield Check(2, f"fingerprints of the {kind}", "skipped", detail)
            continue
        # another version counts as another learner, and its fingerprint may not have been recorded
        # on such a machine yet
        names = {*ours, *known} if kind == "simulator" else ours.keys() & known.keys()
        wrong = [
            name
            for name in sorted(names)
            if fingerprints.differs(
                ours.get(name, ""),
                known.get(name, ""),
                tolerance.get(kind, fingerprints.TOLERANCE),
            )
        ]
        detail = f"{', '.join(wrong)} differ" if wrong else f"{len(names)} of {len(ours)}, of {key}"
        yield Check(
            2,
            f"fingerprints of the {kind}",
            "failed" if wrong else "passed" if names else "skipped",
            detail,
        )


def _weights(store: Store, cells: Iterable[Cell]) -> dict[str, list[float]]:
    """Return each meta-training's weights fingerprint, by method@version; empty if it failed."""
    trained = {cell.train_key: cell.trainer for cell in cells if cell.train_key is not None}
    return {
        f"{trainer.method}@{trainer.method_version}": (
            fingerprints.weights_fingerprint(store.state(key))
            if store.status(key) == "done"
            else []
        )
        for key, trainer in trained.items()
    }


def trained_states(publication: Publication, suites: Sequence[str]) -> Iterator[Check]:
    """Evaluate published trained states on the test tasks at step 0 and compare with their rows.

    At budgets where the states of every seed are published, one per method is checked; at the
    others, such as quick, all.
    """
    for suite in suites:
        rows, cells = publication.read([suite])
        folder = publication.root / suite / STATES
        names = {path.stem for path in folder.glob("*.safetensors")}
        found = cells[cells["train_id"].isin(names) & (cells["variant"] == "")]
        large = found["budget"].isin(STATES_OF_ALL)
        some = found[large].drop_duplicates(["budget", "method"])
        for one in pd.concat([found[~large], some]).to_dict("records"):
            mine = rows[(rows["cell_id"] == one["adapt_id"]) & (rows["env_steps"] == 0)]
            path = folder / f"{one['train_id']}.safetensors"
            yield _evaluated(_cell_of(one), path, mine.sort_values("task_index"))
        if found.empty and cells["train_id"].notna().any():
            yield Check(
                2,
                f"trained states of {suite}",
                "failed",
                "none is published; publish the suite again",
            )


def _cell_of(one: dict[str, object]) -> Cell:
    suite = SUITES[str(one["suite"])]
    method = str(one["method"])
    paths = {method: registered_methods()[method]}
    cells = expand(
        suite,
        BUDGETS[str(one["budget"])],
        paths,
        families=[str(one["family"])],
        seeds=1,
        settings={},
    )
    (cell,) = (cell for cell in cells if cell.split == one["split"])
    return replace(cell, seed=int(str(one["seed"])))


def _evaluated(cell: Cell, path: Path, published: pd.DataFrame) -> Check:
    name = f"trained state: {cell.suite}/{cell.family}/{cell.split}/{cell.method} seed {cell.seed}"
    settle()
    method = cell.build()
    try:
        method.load_state_dict(states.from_bytes(read(path)))
    except Exception as error:  # a broken file may raise anything
        return Check(
            2,
            name,
            "failed",
            f"it cannot be loaded ({type(error).__name__}: {' '.join(str(error).split())[:120]})",
        )
    rows = run.rows_of(run.Adaptation(cell, method, None))
    ours = np.array([row.return_mean for row in islice(rows, cell.test_tasks)], dtype=float)
    rows.close()
    theirs = published["return_mean"].to_numpy(dtype=float)
    if len(ours) != len(theirs):
        return Check(2, name, "failed", f"{len(ours)} test tasks, published {len(theirs)}")
    gap = np.abs(ours - theirs) - fingerprints.TOLERANCE * np.maximum(1.0, np.abs(theirs))
    if not (gap <= 0).all():  # NaN fails too
        worst = int(np.nan_to_num(gap, nan=np.inf).argmax())
        return Check(
            2,
            name,
            "failed",
            f"task {worst} returns {ours[worst]:.4f}, published {theirs[worst]:.4f}",
        )
    return Check(
        2,
        name,
        "passed",
        f"{len(ours)} tasks, largest difference {np.abs(ours - theirs).max():.2g}",
    )


def chosen_cells(
    publication: Publication, names: Sequence[str], budget: str, seeds: int, first_seed: int
) -> list[Cell]:
    """Return the cells to run again for `names`, each suite/family/method.

    Raises:
      InputError: if one of them is not published, or one of the seeds is published already.
    """
    cells: list[Cell] = []
    for name in names:
        suite, family, method = (*name.split("/"), "", "")[:3]
        if suite not in publication.suites or name.count("/") != 2:
            known = ", ".join(publication.suites)
            raise InputError(
                f"--cells {name!r}: write suite/family/method, such as {CELLS[0]}; published"
                f" suites: {known}"
            )
        _, there = publication.read([suite])
        mine = there[
            (there["budget"] == budget) & (there["family"] == family) & (there["method"] == method)
        ]
        if mine.empty:
            at = there[there["budget"] == budget]
            known = (
                f"families {', '.join(sorted(set(at['family'])))}, methods"
                f" {', '.join(sorted(set(at['method'])))}"
            )
            raise InputError(
                f"--cells {name!r} is not published at budget {budget}; in suite {suite}"
                f" {'nothing is' if at.empty else f'there are {known}'}"
            )
        if set(mine["seed"]) & set(range(first_seed, first_seed + seeds)):
            raise InputError(
                f"--first-seed {first_seed}: some of those seeds are published; choose larger ones"
            )
        of_splits = expand(
            SUITES[suite],
            BUDGETS[budget],
            {method: registered_methods()[method]},
            families=[family],
            seeds=1,
            settings={},
        )
        cells += [replace(cell, seed=first_seed + i) for i in range(seeds) for cell in of_splits]
    return cells


def fresh_seeds(
    publication: Publication,
    cells: Sequence[Cell],
    store: Store,
    level: int,
    show: Show,
    deadline: float | None = None,
) -> Iterator[Check]:
    """Compare fresh seeds with published ones: permutation test, Holm correction, least effect."""
    suites = sorted({cell.suite for cell in cells})
    rows = _run(store, cells, show, deadline)
    plans = pd.DataFrame(
        [{**cell.plan()["slot"], "suite": cell.suite, "status": "done"} for cell in cells]
    )
    if (failed := rows[rows["status"] == "failed"]).size:
        for one in failed.to_dict("records"):
            yield Check(
                level,
                f"fresh: {one['family']}/{one['method']} seed {one['seed']}",
                "failed",
                str(one["error"]),
            )
        rows = rows[~rows["cell_id"].isin(failed["cell_id"])]
    mine = last_scores(adaptation_scores(rows, plans))
    theirs = last_scores(adaptation_scores(*publication.read(suites)))
    found = regressions(mine, theirs)
    yield from _not_compared(cells, theirs, found, level)
    for one in found.to_dict("records"):
        name = f"fresh: {one['suite']}/{one['family']}/{one['method']} {one['split']} {one['axis']}"
        power = (
            "none with so few seeds" if np.isinf(one["detectable"]) else number(one["detectable"])
        )
        known = (
            f"{number(one['known_mean'])} ({number(one['known_low'])} to"
            f" {number(one['known_high'])}, {one['n_known']} seeds)"
        )
        detail = (
            f"{one['verdict']}: {number(one['mean'])} ({one['n_seeds']} seeds) against {known}, p"
            f" {one['p_holm']:.2g}, least effect {number(one['least_effect'])}, detectable {power}"
        )
        outcomes: dict[str, Outcome] = {WORSE: "failed", BETTER: "failed", TOO_FEW: "skipped"}
        yield Check(level, name, outcomes.get(one["verdict"], "passed"), detail)


def _not_compared(
    cells: Sequence[Cell], known: pd.DataFrame, found: pd.DataFrame, level: int
) -> Iterator[Check]:
    """Yield a failure for every published score of the cells that no fresh score matches."""
    chosen = {(cell.suite, cell.budget, cell.family, cell.split, cell.method) for cell in cells}
    there = (
        known[known["variant"] == ""][list(PLACE)]
        .drop_duplicates()
        .itertuples(index=False, name=None)
    )
    compared = set(found[list(PLACE)].itertuples(index=False, name=None))
    for place in there:
        suite, budget, family, split, axis, method, _ = place
        if (suite, budget, family, split, method) in chosen and place not in compared:
            yield Check(
                level,
                f"fresh: {suite}/{family}/{method} {split} {axis}",
                "failed",
                "no fresh seed has a score there",
            )


def _run(store: Store, cells: Iterable[Cell], show: Show, deadline: float | None) -> pd.DataFrame:
    """Run the cells that the store lacks and return all rows; a failed cell has a row saying so."""
    stages = stages_of(list(cells))
    for stage in stages:
        record = store.record(stage.key) if store.status(stage.key) == "done" else {}
        parts = [record, *record.get("resumed", ())] if record else []
        now = provenance()["commit"]
        # the commit is None for an installed package
        if others := [part["commit"] for part in parts if part["commit"] != now]:
            raise InputError(
                f"{store.root} holds runs of commit {others[0]}, but this is {now}; choose another"
                " folder with --store"
            )
    left = None if deadline is None else deadline - time.monotonic()
    LocalExecutor(store, Means(*choose_jobs(None), left)).run(stages, show)
    return pd.concat(
        [store.rows(stage.key).assign(cell_id=stage.key.id) for stage in stages], ignore_index=True
    )
