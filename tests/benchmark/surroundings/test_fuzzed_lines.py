"""Generated command lines: each ends as the help says and without a traceback.

Words are drawn from the options that the commands have. Stages do not run, and films and figures
are not drawn; everything else is real.
"""

import random
import shutil
from unittest.mock import patch

import pytest
import typer

from benchmark.cli import app
from benchmark.local import LocalExecutor, TimeLimitError
from reports.files import write_text
from results import publication

N_LINES = 200
N_GROUPS = 4
COMMANDS = typer.main.get_command(app).commands
NASTY = [
    "",
    " ",
    ",",
    "-1",
    "0",
    "nan",
    "1e999",
    "٣",
    "../..",
    "a" * 300,
    "\x1b[2J",
    "ü",
    "--",
    "=",
]
# the first two values of each are valid
KNOWN = {
    "--suite": ["ood", "id", "sanity", "placement", "shift", "oracle", "odo"],
    "--budget": ["smoke", "quick", "desk", "paper", "oracle-fast"],
    "--methods": ["td3", "td3,apb", "all", "zero", "none", "all,none", "apb-random, zero", "tdd3"],
    "--families": ["point-goal", "cheetah-vel,point-goal", "permuted-point-goal", "pointgoal"],
    "--family": ["point-goal", "cheetah-vel", "permuted-point-goal", "cheetah-vel-7"],
    "--method": ["td3", "apb", "example:Method", "os:path", "a.py:B", "methods.td3:Td3", ":"],
    "--set": ["td3.depth=1", "apb.tau=2", "td3.x=1", "td3", "apb.hidden=", "=", "maml.episodes=9"],
    "--seeds": ["1", "2", "1001", "x"],
    "--trials": ["2", "3", "1"],
    "--seed": ["0", "7", "-1"],
    "--first-seed": ["0", "1000", "-1"],
    "--jobs": ["1", "2", "99"],
    "--time-limit": ["1m", "1h1m", "1", "0s"],
    "--save-every": ["5m", "1s", "never"],
    "--store": ["store", "new", "damaged", "file", "published", "nowhere/store", "/dev/null"],
    "--compare": ["./shipped", "published", "store", "damaged", "nowhere"],
    "--published": ["published", "./shipped", "store", "nowhere"],
    "--out": ["out", "out/deeper", "file", "/dev/null/out"],
    "--format": ["md", "html", "latex", "md,latex", "pdf"],
    "--level": ["1", "2", "3", "4"],
    "--cells": ["sanity/point-goal/td3", "sanity/point-goal/zero", "a/b/c", "//"],
}


def line(rng):
    """A command with some of its options, most of them with values in `KNOWN`."""
    name = rng.choice([*COMMANDS])
    words = [name if rng.random() < 0.98 else rng.choice(NASTY)]
    for option in COMMANDS[name].params:
        # options without a default are mostly given
        if rng.random() > (0.9 if option.required else 0.3):
            continue
        flag = option.opts[0]
        known = rng.random() < 0.95 and flag in KNOWN
        value = rng.choice(KNOWN[flag][: rng.choice([2, None])] if known else NASTY)
        if option.param_type_name == "argument":
            words.append(value)
        elif option.is_flag:
            words.append(flag)
        else:
            words += [flag, value] if rng.random() < 0.9 else [f"{flag}={value}"]
    if rng.random() < 0.05:
        words.insert(rng.randrange(len(words) + 1), rng.choice([*NASTY, "--nonsense", "-v"]))
    return words


@pytest.fixture
def prepared(here, reference, published_sanity, monkeypatch):
    """A folder with sound and damaged results; whatever takes long is replaced."""
    from reports.page import page

    drawn = page.opened
    monkeypatch.setattr(page, "opened", lambda out, jobs, pdf: drawn(out, 1, pdf))
    monkeypatch.setattr("reports.page.output._draw", _draw_nothing)
    monkeypatch.setattr("benchmark.video.films", lambda *args: ())
    monkeypatch.setattr(LocalExecutor, "run", _reach_the_limit)
    shipped = here / "shipped"
    shutil.copytree(published_sanity, shipped)
    for module in ("results.publication", "benchmark.publish"):
        monkeypatch.setattr(f"{module}.PUBLISHED", shipped)
    monkeypatch.setattr(publication.Publication.__init__, "__defaults__", (shipped,))
    for name in ("store", "damaged"):
        shutil.copytree(reference[0], here / name)
    for number, path in enumerate(sorted((here / "damaged").rglob("*.*"))):
        if path.is_file() and number % 5 == 0:
            path.write_bytes(path.read_bytes()[:-20])
    (here / "file").write_text("precious")
    return here


def _draw_nothing(stem, make, pdf):
    write_text(stem.with_name(f"{stem.name}.svg"), '<svg xmlns="http://www.w3.org/2000/svg"/>')


def _reach_the_limit(executor, stages, show):
    executor.table = []
    raise TimeLimitError


@pytest.mark.parametrize("group", range(N_GROUPS))
def test_every_line_ends_as_the_help_says(prepared, cli, group):
    rng = random.Random(group)
    ends = []
    for _ in range(N_LINES // N_GROUPS):
        before = content(prepared, "store", "file", "shipped")
        words = line(rng)
        with patch("sys.stdin", None):
            done = cli(*words)
        ends.append(done.code)
        told = (words, done)
        assert done.code in (0, 1, 2, 3), told
        assert "\x1b" not in done.out + done.err, told
        if done.code == 2 and "-v" not in words:
            assert "Usage" in done.out or done.err.startswith("error: "), told
            assert done.err.count("\n") <= 1, told
        assert "Traceback" not in done.out + done.err or "-v" in words, told
        after = content(prepared, "store", "file", "shipped")
        assert done.code != 2 or after == before, told
    assert len({*ends}) > 1, ends


def content(folder, *names):
    """The content of all files below the named paths, which must not change."""
    paths = (path for name in names for path in [folder / name, *(folder / name).rglob("*")])
    return {path: path.read_bytes() for path in paths if path.is_file()}
