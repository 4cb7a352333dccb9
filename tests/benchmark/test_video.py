"""Films of policies: what they show is what was measured, they are made once, and no OpenGL is one clear line."""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmark.cells import expand
from benchmark.film import SIZE, goal_of
from benchmark.suites import BUDGETS, SUITES
from benchmark.video import _caption
from envs import load_family
from methods import METHODS

PROBE = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 8, 8).close()"


@cache
def works(backend):
    variables = os.environ | {"MUJOCO_GL": backend}
    return subprocess.run([sys.executable, "-c", PROBE], env=variables, capture_output=True, timeout=120).returncode == 0


@pytest.fixture
def report(here):
    """Run `report` in a process of its own, since MuJoCo chooses its OpenGL as it is imported."""

    def report(backend, *words):
        variables = {key: value for key, value in os.environ.items() if key != "DISPLAY"} | {"MUJOCO_GL": backend}
        command = [sys.executable, "-m", "benchmark", "report", *map(str, words)]
        return subprocess.run(command, cwd=here, env=variables, capture_output=True, text=True, timeout=300, check=False)

    return report


@pytest.fixture
def backend():
    found = next(filter(works, ["cgl"] if sys.platform == "darwin" else ["egl", "osmesa"]), None)
    if found is None:
        pytest.skip("MuJoCo has nothing to draw with here")
    return found


def test_films_are_made_once_and_embedded(report, backend, sanity, here):
    words = ("--store", sanity, "--out", "out", "--format", "html,md", "--videos")
    done = report(backend, *words)
    assert done.returncode == 0, done.stderr
    films = sorted((here / "out/films").glob("*.webp"))
    assert len(films) == 3 and done.stdout.count("filming") == 3  # one seed of each method, on one split
    page = (here / "out/report.md").read_text(encoding="utf-8")
    assert page.count("##### Before and after adaptation") == 1 and all(f"(films/{film.name})" in page for film in films)
    assert page.count("before any step its episode returns") == 3
    assert "was run again and ends at" not in page  # the same program on the same machine scores the same
    assert (here / "out/report.html").read_text(encoding="utf-8").count("data:image/webp;base64,") == 3
    with Image.open(films[0]) as film:
        assert film.size == (2 * SIZE + 4, SIZE) and film.n_frames == 51  # 50 steps of a tenth of a second
    made = [film.stat().st_mtime_ns for film in films]
    next((here / "out/films").glob("*.json")).unlink()  # as if it was killed between a film and its caption
    assert report(backend, *words).returncode == 0
    again = [film.stat().st_mtime_ns for film in films]
    assert sum(old != new for old, new in zip(made, again, strict=True)) == 1


def test_both_sides_start_alike_and_part(report, backend, sanity, here):
    assert report(backend, "--store", sanity, "--out", "out", "--format", "md", "--videos").returncode == 0
    parted = 0
    for path in (here / "out/films").glob("*.webp"):
        with Image.open(path) as film:
            halves = []
            for frame in (0, film.n_frames - 1):
                film.seek(frame)
                pixels = np.asarray(film.convert("RGB"), dtype=float)[20:]  # below the labels
                halves.append(abs(pixels[:, :SIZE] - pixels[:, SIZE + 4 :]).max())
        assert halves[0] < 60  # but for compression
        parted += halves[1] > 100
    assert parted >= 2


def test_nothing_to_draw_with_is_one_line_before_anything_runs(report, sanity, here):
    done = report("disabled", "--store", sanity, "--out", "out", "--videos")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and not done.stdout
    assert done.stderr.startswith("error: --videos: MuJoCo cannot draw") and "libosmesa6" in done.stderr
    assert not (here / "out").exists()


def test_a_cell_of_another_version_is_left_out_and_said(report, backend, sanity, here):
    shutil.copytree(sanity, here / "store")
    for path in (here / "store/train").glob("*"):
        shutil.rmtree(path)  # what apb was trained to is lost
    done = report(backend, "--store", "store", "--out", "out", "--format", "md", "--videos")
    assert done.returncode == 0 and "no film of apb on point-goal/ood seed 0: there is no trained state of it" in done.stdout
    assert len(list((here / "out/films").glob("*.webp"))) == 2


def caption(returns, known):
    cell = expand(SUITES["ood"], BUDGETS["smoke"], {"td3": METHODS["td3"]}, ["point-goal"], 1, {})[0]
    evaluation = SimpleNamespace(returns=np.array(returns, dtype=float))
    filmed = SimpleNamespace(evaluations=(evaluation, evaluation), steps=200)
    task = load_family("point-goal").split("ood")[1]
    return _caption(cell, task, 1, filmed, pd.DataFrame({"return_mean": known}))


def test_a_caption_says_if_the_adaptation_is_not_the_measured_one():
    same = caption([[-10, -20], [-30, -50]], [-15.0, -40.0])
    assert "task 1 (angle 3.53, radius 1, 0.393 from the training law along angle)" in same
    assert "before any step its episode returns −30.0, after 200 steps −30.0." in same and "run again" not in same
    other = caption([[-10, -20], [-30, -50]], [-15.0, -41.0])
    assert "ends at −27.5 over all tasks, the measured one at −28.0" in other
    assert "the measured one at –" in caption([[-10, -20], [-30, -50]], [])


def test_goals_are_where_tasks_have_them():
    task = load_family("point-goal").split("ood")[3]
    assert goal_of("point-goal", task) == pytest.approx((0.0, -1.0), abs=1e-9)
    assert goal_of("point-rand", load_family("point-rand").split("ood")[0]) == (1.0, 0.0)
    assert goal_of("cheetah-vel", load_family("cheetah-vel").split("ood")[0]) is None


def test_help_says_what_it_costs(cli):
    text = " ".join(cli("report", "--help").out.split())
    assert "--videos" in text and "OpenGL" in text and json
