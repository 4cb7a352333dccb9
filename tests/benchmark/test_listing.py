"""What the command line says about itself and about a store."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import entry_points

import pytest

from benchmark import __version__
from benchmark import publish as publishing
from benchmark.cli import main
from benchmark.suites import BUDGETS, SUITES
from envs import FAMILIES
from methods import METHODS

COMMANDS = ("run", "worker", "status", "report", "list", "show", "references", "rates")


def test_list_is_complete_as_json(cli):
    result = cli("list", "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    assert {key: list(entries) for key, entries in found.items()} == {
        "suites": list(SUITES),
        "budgets": list(BUDGETS),
        "families": list(FAMILIES),
        "methods": list(METHODS),
    }
    assert found["suites"]["ood"]["question"].endswith("?")
    assert len(found["suites"]["coverage"]["variants"]) == 6
    assert found["budgets"]["smoke"]["adapt_steps"] == 200
    assert found["families"]["point-goal"]["splits"]["ood"][0]["params"]["radius"] == 1
    assert found["methods"]["apb"]["defaults"]["hidden"] == 256


def test_list_is_complete_for_a_person(cli):
    text = cli("list").out
    for name in (
        *SUITES,
        *BUDGETS,
        *FAMILIES,
        *METHODS,
        "hidden=256",
        "ood (8 tasks)",
        "3,000 per test task",
    ):
        assert name in text


def test_list_tells_the_variants_of_a_suite_apart(cli):
    lines = cli("list").out.splitlines()
    for suite in ("coverage", "architecture", "diversity"):
        at = next(i for i, line in enumerate(lines) if line.startswith(f"  {suite}: "))
        told = next(line for line in lines[at:] if "each as: " in line).partition("each as: ")[2]
        variants = told.split("; ")
        assert len(set(variants)) == len(variants) == len(SUITES[suite].variants)


def test_list_shows_methods_of_other_distributions(cli, plugin, monkeypatch):
    source = """
    @dataclass(frozen=True)
    class Sizes:
        layers: tuple[int, ...] = field(default_factory=lambda: (64, 64))
    class Method(Still):
        Config = Sizes
    """
    path = f"{plugin(source)}:Method"
    monkeypatch.setattr("benchmark.catalogue.registered_methods", lambda: {"theirs": path})
    found = json.loads(cli("list", "--json").out)["methods"]["theirs"]
    assert found["defaults"] == {"layers": [64, 64]}


def test_version(cli):
    assert cli("--version").out == f"apb-benchmark {__version__}\n"


def test_the_console_script_is_the_same_command_line():
    scripts = entry_points(group="console_scripts", name="apb-benchmark")
    if not scripts:
        pytest.skip("not installed")
    assert [script.load() for script in scripts] == [main]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(cli, command):
    assert command in cli("--help").out
    result = cli(command, "--help")
    assert (result.code, result.err) == (0, "")
    assert "Usage" in result.out


def test_help_is_quick_and_loads_nothing_heavy(tmp_path):
    script = f"""
import sys
from benchmark.cli import main
for command in {COMMANDS} + ("",):
    try:
        main([*command.split(), "--help"])
    except SystemExit as ended:
        assert ended.code == 0
heavy = {{"torch", "mujoco", "gymnasium", "pandas", "matplotlib", "pyarrow"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    times = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "benchmark", "run", "--help"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
        times.append(time.monotonic() - began)
    assert min(times) < 2


def test_a_terminal_without_our_letters(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", "run", "--help"],
        cwd=tmp_path,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_reader_that_leaves_early(tmp_path):
    """`… | head -1` neither hangs nor prints a traceback."""
    script = f"{sys.executable} -m benchmark list --json | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.stdout == "{\n"


class TestShow:
    def test_every_cell_of_a_store(self, cli, reference):
        lines = cli("show", "--store", reference[0]).out.splitlines()
        assert lines[0].split() == [
            "cell",
            "suite",
            "budget",
            "family",
            "split",
            "method",
            "variant",
            "seed",
            "status",
        ]
        assert len(lines) == 1 + 6 * 2
        assert all(line.endswith("done") for line in lines[1:])

    @pytest.mark.parametrize("stage", ["adapt/ood@1", "train"])
    def test_all_about_one(self, cli, reference, stage):
        folder = next((reference[0] / stage).iterdir())
        text = cli("show", folder.name[:9], "--store", reference[0]).out
        for part in (
            str(folder),
            '"status": "ok"',
            '"commit"',
            "env_steps",
            "environment steps, settings {",
        ):
            assert part in text

    def test_report(self, cli, reference, here):
        done = cli("report", "--store", reference[0])
        assert done.code == 0
        assert "hill-climbing" in (here / "report/report.md").read_text()


class TestJson:
    def test_run_tells_what_came_of_each_stage(self, smoke):
        done = smoke("--methods", "apb,zero", "--jobs", "1", "--json")
        told = json.loads(done.out)
        assert (told["exit_code"], told["store"]) == (0, "store") and "3 of 3 stages" in done.err
        assert {(stage["stage"], stage["state"], stage["before"]) for stage in told["stages"]} == {
            ("apb point-goal seed 0 train", "done", False),
            ("apb point-goal/ood seed 0 adapt", "done", False),
            ("zero point-goal/ood seed 0 adapt", "done", False),
        }
        planned = json.loads(smoke("--methods", "td3", "--plan", "--json").out)
        assert [stage["state"] for stage in planned["stages"]] == ["waiting"]

    def test_show_tells_cells_and_one_of_them(self, smoke, cli):
        smoke("--methods", "zero", "--jobs", "1")
        (cell,) = json.loads(cli("show", "--store", "store", "--json").out)
        assert (cell["method"], cell["status"]) == ("zero", "done")
        one = json.loads(cli("show", cell["cell"], "--store", "store", "--json").out)
        assert one["record"]["status"] == "ok" and len(one["rows"]) > 0 and "zero" in one["log"]

    def test_publish_tells_the_folder(self, cli, sanity, here, monkeypatch):
        monkeypatch.setitem(
            publishing.BUDGETS, "smoke", replace(BUDGETS["smoke"], published_seeds=2)
        )
        suite = replace(SUITES["sanity"], families={"smoke": ("point-goal",)})
        monkeypatch.setitem(SUITES, "sanity", suite)
        done = cli(
            "publish", "--suite", "sanity", "--store", sanity, "--out", "out", "--dirty", "--json"
        )
        assert json.loads(done.out)["folders"] == ["out/sanity"], done
