"""Stores that a run could have left, written by hand."""

from dataclasses import asdict
from zlib import crc32

import pytest

from results.schema import Row
from results.store import CellKey, Store

CURVE = (0, 50, 100, 200)
CHECKPOINTS = {"apb": CURVE, "apb-random": CURVE, "td3": CURVE, "maml": (0, 50), "zero": (0,)}
METHODS = ("apb", "td3", "maml", "zero")
TASKS = {
    "id": [(None, 0.0)] * 3,
    "ood": [("angle", 0.2), ("angle", 0.2), ("angle", 0.8), ("radius", 0.5)],
}
HOSTILE = "evil|<script>alert(1)</script>\n# [x](http://x) $\\frac$ ../../up"


def returned(method, shift, seed, b):
    return (
        {"apb": -20.0, "td3": -30.0, "maml": -40.0}.get(method, -60.0)
        - 30 * 0.99**b
        - 10 * shift
        + seed
    )


def adapt_rows(base, task, method, b, seed):
    tasks = enumerate(TASKS[base["split"]]) if task is None else [task]
    for index, (axis, shift) in tasks:
        where = {
            "task_index": index,
            "shift_axis": axis,
            "shift": shift,
            "env_steps": b,
            "meta_env_steps": 20_000,
        }
        yield Row(
            **base,
            **where,
            stage="adapt",
            return_mean=returned(method, shift, seed, b),
            n_train_tasks=8,
        )


def _id(method):
    return f"{crc32(method.encode()):08x}"


def fill(root, methods=METHODS, seeds=2, splits=("id", "ood"), ended=None, suite="ood"):
    """Write a store; `ended` maps (method, seed) to "failed", or to "missing" if it never ran."""
    store, cells = Store(root, create=True), []
    for method in methods:
        for seed in range(seeds):
            base = {
                "budget": "quick",
                "family": "point-goal",
                "method": method,
                "variant": "",
                "seed": seed,
            }
            known = {**base, "family_version": "1+ab", "method_version": 1, "config_hash": "c0ffee"}
            train = CellKey("train", None, None, f"t{_id(method)}-{seed}")
            curve = [
                Row(**known, stage="train", env_steps=5_000 * i, online_return=-70.0 + 10 * i)
                for i in range(1, 5)
            ]
            store.write(train, curve, state=b"", log="", record={"status": "ok"})
            for split in splits:
                key = CellKey("adapt", suite, 1, f"a{_id(method)}-{split}-{seed}")
                slot = {"slot": {**base, "split": split}, "isomorphic_axes": ["angle"]}
                cells.append({**slot, "key": asdict(key), "train_key": asdict(train)})
                status = (ended or {}).get((method, seed), "ok")
                at = {**known, "split": split}
                rows = [
                    row
                    for b in CHECKPOINTS.get(method, (0, 200))
                    for row in adapt_rows(at, None, method, b, seed)
                ]
                if status == "failed":
                    rows = [
                        Row(
                            **at,
                            stage="adapt",
                            env_steps=0,
                            status="failed",
                            error="loss is | not finite",
                        )
                    ]
                if status != "missing":
                    store.write(key, rows, state=None, log="", record={"status": status})
    question = "Who adapts out of distribution?"
    store.write_plan(
        {
            "suite": suite,
            "suite_version": 1,
            "question": question,
            "arms": list(methods),
            "cells": cells,
        }
    )
    return root


@pytest.fixture(name="fill", scope="session")
def fill_fixture():
    """`fill(root, …)`: write a store and return its folder."""
    return fill


@pytest.fixture(name="returned", scope="session")
def returned_fixture():
    """`returned(method, shift, seed, b)`: the return that such a store has."""
    return returned


@pytest.fixture(scope="session")
def hostile():
    """A method name with special characters of HTML, Markdown, TeX and file systems."""
    return HOSTILE
