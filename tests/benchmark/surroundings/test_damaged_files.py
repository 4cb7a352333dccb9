"""Every file of a store, damaged in every way: each command mends it or names it, in one line."""

import os
import shutil
from pathlib import Path

import pytest

# meta-trains in a moment, so that its store has every kind of file
TRAINED = """
class Trained(Still):
    meta_trains = True
"""
TRAIN_CELL = "train/*/"
ADAPT_CELL = "adapt/*/*/"
FILES = [
    "store.json",
    ".lock",
    "suite-ood.json",
    *(TRAIN_CELL + name for name in ("cell.json", "rows.parquet", "state.safetensors", "log.txt")),
    *(ADAPT_CELL + name for name in ("cell.json", "rows.parquet", "log.txt")),
    *(ADAPT_CELL + name for name in (".claim.lock", ".write.lock")),
]
HARMS = ["cut", "flipped", "gone", "folder", "pipe", "dangling link"]


def harm(path: Path, how: str) -> None:
    sound = path.read_bytes()
    path.unlink()
    match how:
        case "cut":
            path.write_bytes(sound[: len(sound) // 2])
        case "flipped":
            middle = len(sound) // 2
            path.write_bytes(sound[:middle] + bytes(b ^ 1 for b in sound[middle:]))
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "dangling link":
            path.symlink_to("nowhere")


@pytest.fixture
def words(plugin, monkeypatch, here):
    """Of a run of one plug-in that meta-trains; figures are not drawn."""
    from reports.page import page

    drawn = page.opened
    monkeypatch.setattr(page, "opened", lambda out, jobs, pdf: drawn(out, 0, pdf))
    monkeypatch.syspath_prepend(here)
    return ("--methods", "none", "--method", f"{plugin(TRAINED)}:Trained", "--jobs", "1")


@pytest.mark.parametrize("how", HARMS)
def test_a_damaged_file_is_mended_or_named(smoke, cli, here, words, how):
    assert smoke(*words).code == 0
    sound = here / "sound"
    (here / "store").rename(sound)
    for pattern in FILES:
        shutil.rmtree(here / "store", ignore_errors=True)
        shutil.copytree(sound, here / "store")
        (path,) = (here / "store").glob(pattern)
        (cell,) = (path.name for path in (here / "store").glob("adapt/*/*"))
        harm(path, how)
        where = str(path.relative_to(here))
        for command in (("show",), ("show", cell), ("report", "--format", "md")):
            done = cli(*command, "--store", "store")
            unknown = not path.exists() and path.name == "suite-ood.json"
            assert done.code == 0 or unknown or names(done, path), (where, command, done)
        again = smoke(*words)
        if again.code:
            assert names(again, path), (where, again)
        else:
            assert "2 of 2 stages done" in again.out, (where, again)
            assert cli("show", cell, "--store", "store").code == 0, where


def names(done, path):
    """Whether a command was refused in one line that names a damaged file, or its folder."""
    said = done.err if (done.code, done.err.count("\n")) == (2, 1) else ""
    return said.startswith("error: ") and (path.name in said or path.parent.name in said)
