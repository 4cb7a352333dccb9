"""What a report rests on: versions, budgets, and which cells are finished."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from reports.stats.scores import CELL, coverage
from reports.text import escape_markdown, listing, markdown_table, method_name, steps

if TYPE_CHECKING:
    from results.store import CellKey

CELLS = "cells"  # name of the table of `origins`
# entries of a stage's record
_FACTS = ("commit", "benchmark", "python", "device", "torch_threads", "mujoco_threads", "finished")


def origins(
    cells: pd.DataFrame, record_of: "Callable[[CellKey], Mapping[str, Any]]"
) -> pd.DataFrame:
    """List where numbers come from: the stages of every planned cell, in the order of the plans.

    Args:
      record_of: returns the record of a stage; a StoreError means that there is none.

    Returns:
      One line per stage: CELL's columns and `seed`, `stage`, `id` (the stage's folder in the
      store), `status`, and the commit, versions, threads, machine and time from its record, missing
      where the stage has not run or its record lacks them.
    """
    from results.store import CellKey, StoreError

    found = []
    for cell in cells.to_dict("records"):
        keys = {}
        if pd.notna(cell["train_id"]):
            keys["train"] = CellKey("train", None, None, cell["train_id"])
        if pd.notna(cell["adapt_id"]):  # missing for a seed that nobody has planned
            keys["adapt"] = CellKey("adapt", cell["suite"], cell["suite_version"], cell["adapt_id"])
        for stage, key in keys.items():
            try:
                record = record_of(key)
            except StoreError:
                record = {}
            status = cell["status"] if stage == "adapt" else cell["train_status"]
            place = {name: cell[name] for name in (*CELL, "seed")} | {
                "stage": stage,
                "id": key.id,
                "status": status,
            }
            facts = {name: record.get(name) for name in _FACTS}
            found.append(
                {
                    **place,
                    **facts,
                    **(record.get("packages") or {}),
                    **(record.get("machine") or {}),
                }
            )
    return pd.DataFrame(found)


def provenance(rows: pd.DataFrame, cells: pd.DataFrame, plans: list[dict[str, Any]]) -> str:
    """The closing section of a report in Markdown, which links to the table of `origins`."""
    told = f"Commit, versions, threads and machine of every cell: [CSV](data/{CELLS}.csv).\n"
    parts = [told, _suites(cells, plans), _budgets(rows), _methods(rows)]
    versions = (_values(rows[column]) or "–" for column in ("protocol_version", "schema_version"))
    return "\n".join([*parts, "Protocol version {}, row schema version {}.\n".format(*versions)])


def shortfalls(cells: pd.DataFrame, published: str | None = None) -> Iterator[str]:
    """Yield lines on suites with cells that are not done, or whose meta-training cannot be read.

    Args:
      published: for published results, the options with which `run` runs what they lack;
        None for a store.
    """
    again = f"`run {published}` runs what is missing" if published else "run it again to continue"
    for suite, of_suite in cells.groupby("suite", sort=False):
        counts = of_suite["status"].value_counts()
        kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items() if kind != "done")
        if kinds:
            yield (
                f"suite {suite}: {counts.get('done', 0)} of {len(of_suite)} cells are done"
                f" ({kinds}); {again}"
            )
        lost = of_suite[of_suite["train_status"].isin(["corrupt", "missing"])]
        if stages := lost.loc[lost["status"] == "done", "train_id"].nunique():
            yield (
                f"suite {suite}: meta-trainings of finished cells that cannot be read: {stages};"
                f" {'they are lost' if published else 'run it again to repeat them'}"
            )


def finished(expected: pd.DataFrame) -> str:
    """How many cells are done, as a sentence; `expected` is `coverage`."""
    n_expected, n_done, n_failed = expected[["n_expected", "n_done", "n_failed"]].sum()
    return f"{n_done} of {n_expected} cells are done{f', {n_failed} failed' if n_failed else ''}."


def unfinished_list(missing: pd.DataFrame) -> str:
    """The cells that are not done, as a Markdown list under a heading; "" where there are none."""
    if missing.empty:
        return ""
    lines = []
    alike = ["family", "split", "budget", "method", "variant", "status", "error"]
    for key, cells in missing.groupby(alike, sort=False):
        family, split, budget, method, variant, status, error = map(str, key)
        seeds = f"seed{'s' * (len(cells) > 1)} {listing(map(str, cells['seed']))}"
        place = f"{method_name(method, variant)}, {family}, split {split}, budget {budget}, {seeds}"
        reason = f" ({error})" if error else ""
        lines.append(f"- {escape_markdown(f'{place}: {status}{reason}')}\n")
    return f"### Not finished\n\nThese cells are still to be run:\n\n{''.join(lines)}"


def _suites(cells: pd.DataFrame, plans: list[dict[str, Any]]) -> str:
    counts = coverage(cells).groupby("suite")[["n_expected", "n_done", "n_failed"]].sum()
    lines = []
    for plan in plans:
        n = (
            counts.loc[plan["suite"]]
            if plan["suite"] in counts.index
            else dict.fromkeys(counts.columns, 0)
        )
        open_cells = n["n_expected"] - n["n_done"] - n["n_failed"]
        figures = (plan["suite_version"], n["n_expected"], n["n_done"], n["n_failed"], open_cells)
        lines.append([escape_markdown(plan["suite"]), *map(str, figures)])
    return markdown_table(["suite", "version", "cells", "done", "failed", "unfinished"], lines)


def _budgets(rows: pd.DataFrame) -> str:
    adapt = rows[rows["stage"] == "adapt"]
    lines = []
    for (budget, family), of_family in adapt.groupby(["budget", "family"]):
        checkpoints = ", ".join(steps(b) for b in sorted(of_family["env_steps"].unique()))
        lines.append(
            [
                escape_markdown(str(family)),
                escape_markdown(str(budget)),
                _values(of_family["family_version"]),
                checkpoints,
            ]
        )
    return markdown_table(
        ["family", "budget", "version", "checkpoints (environment steps per test task)"],
        lines,
        words=(1, 2, 3),
    )


def _methods(rows: pd.DataFrame) -> str:
    lines = []
    for (method, variant), of_method in rows.assign(variant=rows["variant"].fillna("")).groupby(
        ["method", "variant"]
    ):
        modes = _values(of_method["eval_mode"])
        name = escape_markdown(method_name(str(method), str(variant)))
        lines.append(
            [
                name,
                _values(of_method["method_version"]),
                _values(of_method["config_hash"]),
                modes or "–",
            ]
        )
    return markdown_table(
        ["method", "version", "configuration", "evaluation actions"], lines, words=(2, 3)
    )


def _values(column: pd.Series) -> str:
    """The distinct values of a column; usually there is one, so several are worth showing."""
    return ", ".join(escape_markdown(str(value)) for value in sorted(column.dropna().unique()))
