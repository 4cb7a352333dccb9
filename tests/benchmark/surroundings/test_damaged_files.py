"""Every file of a store, damaged in every way: each command repairs it or names it in one line."""

import os
import pickle
import shutil
from pathlib import Path

import pytest

# a method that meta-trains in a moment, so that its store has every kind of file
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
def words(plugin, monkeypatch, here, no_figures):
    """Words for a run of one plug-in that meta-trains.

    A report of known rows, as when the damaged file is one that it does not read, is not computed
    again.
    """
    from reports.page import page

    compute, sections, known = page.compute, page._sections, {}

    def computed(rows, cells, plans, *, measures, **more):
        read = pickle.dumps((rows, cells, plans, measures))
        if read not in known:
            known[read] = compute(rows, cells, plans, measures=measures, **more)
        return known[read]

    def written(numbers, other, output):
        if id(numbers) not in known:
            known[id(numbers)] = list(sections(numbers, other, output))
        return known[id(numbers)]

    monkeypatch.setattr(page, "compute", computed)
    monkeypatch.setattr(page, "_sections", written)
    monkeypatch.syspath_prepend(here)
    return ("--methods", "none", "--method", f"{plugin(TRAINED)}:Trained", "--jobs", "1")


@pytest.fixture
def trained(smoke, here, words):
    """The folder of a finished store, and the id of its cell."""
    assert smoke(*words).code == 0
    (here / "store").rename(here / "sound")
    (cell,) = (path.name for path in (here / "sound").glob("adapt/*/*"))
    return here / "sound", cell


@pytest.mark.parametrize("how", HARMS)
def test_a_damaged_file_is_mended_or_named(smoke, cli, here, words, trained, how):
    sound, cell = trained
    for pattern in FILES:
        shutil.rmtree(here / "store", ignore_errors=True)
        shutil.copytree(sound, here / "store")
        (path,) = (here / "store").glob(pattern)
        harm(path, how)
        where = str(path.relative_to(here))
        for command in (("show",), ("show", cell), ("report", "--format", "md")):
            done = cli(*command, "--store", "store")
            unknown = not path.exists() and path.name == "suite-ood.json"
            assert done.code == 0 or unknown or names(done, path), (where, command, done)
    # a run with all files of the cells damaged
    shutil.rmtree(here / "store")
    shutil.copytree(sound, here / "store")
    paths = [next((here / "store").glob(pattern)) for pattern in FILES[3:]]
    for path in paths:
        harm(path, how)
    again = smoke(*words)
    if again.code:
        assert any(names(again, path) for path in paths), again
    else:
        assert "2 of 2 stages done" in again.out
        assert cli("show", cell, "--store", "store").code == 0


@pytest.mark.parametrize("lock", [".claim.lock", ".write.lock"])
def test_a_pipe_in_the_place_of_a_lock_keeps_nobody_waiting(cli, here, trained, lock):
    sound, _ = trained
    for pattern in (TRAIN_CELL, ADAPT_CELL):
        (folder,) = sound.glob(pattern)
        (folder / "cell.json").unlink()  # a cell that is not done may be running
        (folder / lock).unlink()
        os.mkfifo(folder / lock)
    assert cli("show", "--store", sound).code == 0


@pytest.mark.parametrize("kind", ["folder", "loop"])
def test_store_json_may_be_a_folder_or_a_loop(cli, smoke, here, words, trained, kind):
    sound, cell = trained
    (sound / "store.json").unlink()
    if kind == "folder":
        (sound / "store.json").mkdir()
    else:
        (sound / "store.json").symlink_to("store.json")
    assert cli("show", cell, "--store", sound).code == 0
    sound.rename(here / "store")
    done = smoke(*words)
    if kind == "folder":
        assert (
            "store.json: a folder, or a link to itself, is where a file is needed" in done.complaint
        )
    else:
        assert done.code == 0


def names(done, path):
    """Whether a command was refused in one line that names a damaged file, or its folder."""
    said = done.err if (done.code, done.err.count("\n")) == (2, 1) else ""
    return said.startswith("error: ") and (path.name in said or path.parent.name in said)
