"""Films of policies: they show what was measured, are made once, and say if OpenGL is missing."""

import os
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmark import film as film_module
from benchmark import video
from benchmark.cells import expand
from benchmark.film import LARGEST, SIZE, adapt_again, goal_of
from benchmark.suites import BUDGETS, SUITES
from envs import load_family
from methods import METHODS
from results.store import Store

EXAMPLE = Path(__file__).with_name("example_method.py")
PROBE = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 8, 8).close()"


@cache
def works(backend):
    variables = os.environ | {"MUJOCO_GL": backend}
    return (
        subprocess.run(
            [sys.executable, "-c", PROBE], env=variables, capture_output=True, timeout=120
        ).returncode
        == 0
    )


def report_in(folder, backend, *words):
    """Run `report` in a process of its own, since MuJoCo chooses its OpenGL when imported."""
    variables = {key: value for key, value in os.environ.items() if key != "DISPLAY"} | {
        "MUJOCO_GL": backend
    }
    command = [sys.executable, "-m", "benchmark", "report", *map(str, words)]
    return subprocess.run(
        command,
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="session")
def backend():
    found = next(filter(works, ["cgl"] if sys.platform == "darwin" else ["egl", "osmesa"]), None)
    if found is None:
        pytest.skip("MuJoCo has nothing to draw with here")
    return found


@pytest.fixture(scope="session")
def filmed(made_once, backend, sanity):
    """A folder with `out`, a report with films of `sanity`, and what was printed; read-only."""

    def make(folder):
        done = report_in(folder, backend, *FILMED, "--store", sanity)
        assert done.returncode == 0, done.stderr
        (folder / "told.txt").write_text(done.stdout, encoding="utf-8")

    return made_once("filmed", make)


FILMED = ("--out", "out", "--format", "html,md", "--videos")


def test_films_are_made_once_and_embedded(filmed, cli, undrawn, no_figures, sanity, here):
    shutil.copytree(filmed / "out", here / "out")
    films = sorted((here / "out/films").glob("*.webp"))
    # one seed of each method, on one split
    assert len(films) == 3 and (filmed / "told.txt").read_text().count("filming") == 3
    page = (here / "out/report.md").read_text(encoding="utf-8")
    assert page.count("##### Before and after adaptation") == 1 and all(
        f"(films/{film.name})" in page for film in films
    )
    assert page.count("the return of its episode is") == 3
    # the same program on the same machine scores the same
    assert "differs from the measured one" not in page
    assert (here / "out/report.html").read_text(encoding="utf-8").count(
        "data:image/webp;base64,"
    ) == 3
    with Image.open(films[0]) as film:
        # the start and 50 steps of a tenth of a second
        assert film.size == (2 * SIZE + 4, SIZE) and film.n_frames == 51
    assert all(film.stat().st_size <= LARGEST for film in films)
    made = [film.stat().st_mtime_ns for film in films]
    # as if killed between writing a film and its caption
    next((here / "out/films").glob("*.json")).unlink()
    words = ("--out", "out", "--format", "md", "--videos", "--store", sanity)
    assert cli("report", *words).code == 0
    again = [film.stat().st_mtime_ns for film in films]
    assert sum(old != new for old, new in zip(made, again, strict=True)) == 1


def test_both_sides_start_alike_and_part(filmed):
    parted = 0
    for path in (filmed / "out/films").glob("*.webp"):
        with Image.open(path) as film:
            halves = []
            for frame in (0, film.n_frames - 1):
                film.seek(frame)
                pixels = np.asarray(film.convert("RGB"), dtype=float)[20:]  # below the labels
                halves.append(abs(pixels[:, :SIZE] - pixels[:, SIZE + 4 :]).max())
        assert halves[0] < 60  # equal but for compression
        parted += halves[1] > 100
    assert parted >= 2


def test_nothing_to_draw_with_is_one_line_before_anything_runs(sanity, here):
    done = report_in(here, "disabled", "--store", sanity, "--out", "out", "--videos")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and not done.stdout
    assert (
        done.stderr.startswith("error: --videos: MuJoCo cannot draw")
        and "libosmesa6" in done.stderr
    )
    assert not (here / "out").exists()


def test_a_cell_of_another_version_is_left_out_and_said(cli, undrawn, no_figures, sanity, here):
    shutil.copytree(sanity, here / "store")
    for path in (here / "store/train").glob("*"):
        shutil.rmtree(path)  # the trained state of apb is lost
    done = cli("report", "--store", "store", "--out", "out", "--format", "md", "--videos")
    assert (
        done.code == 0
        and "no film of apb on point-goal/ood seed 0: it has no trained state" in done.out
    )
    assert len(list((here / "out/films").glob("*.webp"))) == 2


def test_ctrl_c_leaves_no_half_film(start, finish, backend, sanity, here, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", backend)
    process = start("report", "--store", sanity, "--out", "out", "--videos")
    while "[2/3" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    ended = finish(process)
    assert ended.code == 130 and "Traceback" not in ended.err, ended.err
    assert sorted(path.suffix for path in (here / "out/films").iterdir()) == [".json", ".webp"]


@pytest.fixture
def undrawn(monkeypatch):
    """Make films without pictures or OpenGL."""
    draw_nothing(monkeypatch)


def draw_nothing(monkeypatch):
    monkeypatch.setattr(video, "draw_off_screen", lambda: None)
    monkeypatch.setattr(film_module, "film", lambda cell, place, paths: b"RIFF")


@pytest.fixture
def told(undrawn):
    """A function that makes films without pictures and returns them and what was reported."""
    return films_of


def films_of(store, out, own=()):
    lines = []
    return video.films(store, out, None, lines.append, own), lines


@pytest.fixture(scope="session")
def filmed_reference(made_once, reference):
    """A folder with `out`, films of `reference` without pictures, and what was told; read-only."""

    def make(folder):
        with pytest.MonkeyPatch.context() as patch:
            draw_nothing(patch)
            (folder / "told.txt").write_text("\n".join(films_of(reference[0], folder / "out")[1]))

    return made_once("filmed-reference", make)


@pytest.fixture
def out(filmed_reference, here):
    """A copy of those films."""
    return shutil.copytree(filmed_reference / "out", here / "out")


def cell_of(store, **wanted):
    """The planned cell of a store that has these values, as the code defines it, and the store."""
    results = Store(store, create=False)
    _, cells = results.read()
    (one,) = (one for one in cells.to_dict("records") if wanted.items() <= one.items())
    return video._cell_of(results, one, METHODS), results


NOT_KNOWN = (
    "no film of hill-climbing on point-goal/ood seed 0: its method is not known here; "
    "name one of your own with --method module:Class"
)


def test_a_plug_in_that_is_not_there_is_left_out_and_said(told, reference, filmed_reference, out):
    lines = (filmed_reference / "told.txt").read_text().splitlines()
    assert sum("filming" in line for line in lines) == 3
    assert [line for line in lines if "no film" in line] == [NOT_KNOWN]
    clips, again = told(reference[0], out)
    # the bounds have nothing to show
    assert {clip.method for clip in clips} == {"td3", "apb", "apb-random"}
    assert again == [NOT_KNOWN]


def test_a_plug_in_that_is_named_is_filmed(told, reference, out, here, monkeypatch):
    shutil.copy(EXAMPLE, here)
    monkeypatch.syspath_prepend(here)
    clips, lines = told(reference[0], out, ["example_method:HillClimbing"])
    assert {clip.method for clip in clips} == {"td3", "apb", "apb-random", "hill-climbing"}
    assert not any("no film" in line for line in lines)
    assert "differs from the measured one" not in "".join(clip.caption for clip in clips)


def test_a_method_that_raises_costs_its_film_only_and_cannot_write_to_the_terminal(
    told, sanity, here, monkeypatch
):
    def fail(cell, *_):
        if cell.method == "td3":
            raise ValueError("odd\n\x1b[31m")
        return adapt_again(cell, *_)

    monkeypatch.setattr(film_module, "adapt_again", fail)
    clips, lines = told(sanity, here / "out")
    assert [clip.method for clip in clips] == ["apb", "apb-random"]
    assert [line for line in lines if "no film" in line] == [
        "no film of td3 on point-goal/ood seed 0: ValueError: odd [31m"
    ]


def test_a_variant_is_run_again_with_its_settings(told, smoke, here):
    smoke("--methods", "td3", "--set", "td3.hidden=8")
    (clip,), lines = told(here / "store", here / "out")
    assert clip.variant == "hidden=8" and "td3 (hidden=8)" in lines[0]
    assert "differs from" not in clip.caption


def test_a_film_shows_the_episode_that_was_scored_even_of_a_policy_that_draws():
    (cell,) = expand(
        SUITES["ood"],
        BUDGETS["smoke"],
        {"random": METHODS["random"]},
        families=["point-goal"],
        seeds=1,
        settings={},
    )
    filmed = adapt_again(cell, 3, None)
    path = np.array(filmed.paths[0])
    x, y = goal_of("point-goal", load_family("point-goal").split("ood")[3])
    assert len(path) == 51
    np.testing.assert_allclose(
        filmed.evaluations[0].returns[3, 0],
        -np.hypot(path[1:, 0] - x, path[1:, 1] - y).sum(),
        rtol=1e-5,
    )


def test_the_policy_before_starts_where_the_one_after_does(sanity):
    cell, _ = cell_of(sanity, method="td3", seed=0)
    (before, after) = adapt_again(cell, 0, None).paths
    np.testing.assert_array_equal(before[0], after[0])
    assert abs(np.array(before) - np.array(after)).max() > 0.1


def test_the_caption_says_if_another_trained_state_was_adapted(sanity):
    cell, results = cell_of(sanity, method="apb", seed=0)
    rows = video._published(results, cell)
    other, _ = cell_of(sanity, method="apb", seed=1)
    captions = []
    for trained in (cell, other):
        after = adapt_again(cell, 3, results.state(trained.train_key)).evaluations[1]
        facts = {"before": 0.0, "after": 0.0, "steps": 200, "ends": after.returns.mean(1).tolist()}
        captions.append(video._caption(cell, facts, rows))
    assert "differs from the measured one" not in captions[0]
    assert "differs from the measured one" in captions[1]


def caption(ends, known):
    cell = expand(
        SUITES["ood"],
        BUDGETS["smoke"],
        {"td3": METHODS["td3"]},
        families=["point-goal"],
        seeds=1,
        settings={},
    )[0]
    facts = {"before": -30.0, "after": -20.5, "steps": 3000, "ends": ends}
    return video._caption(cell, facts, pd.DataFrame({"return_mean": known}))


def test_a_caption_says_if_the_adaptation_is_not_the_measured_one():
    same = caption([-15.0, -40.0], [-15.0, -40.0])
    assert "task 3 (angle -1.57, radius 1, 1.57 from the training law along angle)" in same
    assert same.endswith(
        "the return of its episode is −30.0 before any step and −20.5 after 3\u202f000 steps."
    )
    assert "on task 1 the mean return is −40.0, not −41.0" in caption(
        [-15.0, -40.0], [-15.0, -41.0]
    )
    assert "cannot be compared" in caption([-15.0, -40.0], [])


def test_a_changed_row_is_noticed_without_filming_again(told, reference, out, monkeypatch):
    rows = video._published

    def moved(results, cell):
        return rows(results, cell).assign(return_mean=lambda table: table["return_mean"] - 1)

    monkeypatch.setattr(video, "_published", moved)
    clips, lines = told(reference[0], out)
    assert lines == [NOT_KNOWN] and len(clips) == 3
    assert all("differs from the measured one" in clip.caption for clip in clips)


def test_nothing_is_filmed_for_a_format_without_films(cli, no_figures, sanity, monkeypatch):
    monkeypatch.setattr(video, "films", lambda *_: pytest.fail("filmed"))
    assert cli("report", "--store", sanity, "--format", "latex", "--videos").code == 0


def test_a_report_without_films_brings_neither_torch_nor_mujoco(sanity, here):
    code = f"""import sys
from benchmark.cli import main
try:
    main(["report", "--store", {str(sanity)!r}, "--format", "latex"])
except SystemExit as ended:
    print(ended.code, {{"torch", "mujoco", "gymnasium", "PIL.WebPImagePlugin"}} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=here,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "0 set()", done


def test_goals_are_where_tasks_have_them():
    task = load_family("point-goal").split("ood")[3]
    assert goal_of("point-goal", task) == pytest.approx((0.0, -1.0), abs=1e-9)
    assert goal_of("point-rand", load_family("point-rand").split("ood")[0]) == (1.0, 0.0)
    assert goal_of("cheetah-vel", load_family("cheetah-vel").split("ood")[0]) is None


def test_help_says_what_it_costs(cli):
    text = " ".join(cli("report", "--help").out.split())
    assert "--videos" in text and "OpenGL" in text and "Reruns the adaptation" in text
