"""Bad input: exit code 2, one line on stderr naming the fault and the fix, nothing written."""

import json
import os
import re
import shutil
import signal
import subprocess

import pytest

from benchmark.exits import exit_code
from results.store import Store

RUN = {
    "--suite oood": "unknown suite 'oood'; did you mean ood",
    "--suite": "--suite",
    "--budget quik": "unknown budget 'quik'; did you mean quick",
    "--budget zzzzz": (
        "unknown budget 'zzzzz'; known: smoke, quick, desk, paper, oracle-fast, oracle-desk, oracle"
    ),
    "--families point-gaol": "unknown family 'point-gaol'; did you mean point-goal",
    "--families permuted-point-gaol": (
        "unknown family 'permuted-point-gaol'; did you mean permuted-point-goal"
    ),
    "--families ,": "the list of families is empty",
    "--families cheetah-dir": (
        "family 'cheetah-dir' has no split 'ood', which suite 'ood' needs; leave it out"
    ),
    "--budget oracle-fast": (
        "suite 'ood' has no families of its own at budget 'oracle-fast', only at smoke, quick,"
        " desk, paper"
    ),
    "--methods maml --set maml.episodes=1000": (
        "maml on point-goal: one iteration of its meta-training takes 400,000 env"
    ),
    "--methods rl2 --set rl2.copies=100": (
        "takes 40,000 environment steps, but budget 'smoke' has 4,000"
    ),
    "--budget oracle-fast --families point-goal": (
        "has no meta-training; leave out apb, maml, maml+ft, cavia, cavia+ft, pearl, pearl+ft,"
        " varibad, varibad+ft, finetune"
    ),
    "--methods abp": "unknown method 'abp'; did you mean apb",
    "--methods apb,xyzzy": "unknown method 'xyzzy'; known: apb",
    "--methods=": "the list of methods is empty",
    "--methods none": "--methods none leaves nothing to run; add a method of your own",
    "--methods none,td3": "--methods none must be given alone",
    "--methods all,nonsense": "--methods all must be given alone",
    "--methods all,none": "--methods all must be given alone",
    "--set td3.layers=2": "unknown setting of td3 'layers'; known: hidden, depth",
    "--store=": "it is empty; name a folder",
    "--store published": "stands for the results that came with the program; name another folder",
    "--set abp.hidden=3": "unknown method of this run in --set 'abp'; did you mean apb",
    "--set random.hidden=3": "random has no settings",
    "--set apb.hiden=3": "unknown setting of apb 'hiden'; did you mean hidden",
    "--set apb.hidden": "is not of the form method.key=value",
    "--set hidden=3": "is not of the form method.key=value",
    "--set apb.=3": "unknown setting of apb ''",
    "--set apb.hidden=wide": "'wide' is not a whole number",
    "--set apb.hidden=1.5": "'1.5' is not a whole number",
    "--set apb.hidden=1e9": "'1e9' is not a whole number",
    "--set apb.hidden=": "'' is not a whole number",
    "--set apb.hidden=64 --set apb.hidden=128": "apb.hidden is set twice",
    "--suite id --suite ood": "--suite was given 2 times; a run takes one",
    "--unpublished --published nowhere": "--published nowhere: there is no such folder",
    "--set apb.tau=small": "'small' is not a number",
    "--set apb.tau=nan": "'nan' is not a number",
    "--set td3.gamma=-inf": "'-inf' is not a number",
    "--set td3.compile=maybe": "'maybe' is not true or false",
    "--set td3.precision=fp8": "precision must be fp32 or bf16, not fp8",
    "--set apb.hidden=0": "--set for apb: hidden must be from 1 to",
    "--set apb.hidden=-3": "--set for apb: hidden must be from 1 to",
    "--set apb.hidden=1000000000": "--set for apb: hidden must be from 1 to",
    "--set td3.batch=0": "--set for td3: batch must be from 1 to",
    "--set td3.learning_rate=0": "--set for td3: learning_rate must be from",
    "--set td3.gamma=1.1": "--set for td3: gamma must be from 0.0 to 1.0",
    "--set td3.policy_delay=0": "--set for td3: policy_delay must be from 1 to",
    "--set td3.warmup_episodes=-1": "--set for td3: warmup_episodes must be from 0 to",
    "--set td3.replay=0": "--set for td3: replay must be from 1 to",
    "--set apb-reset.reset_period=0 --methods apb-reset": (
        "reset_period must be from 1 to 1000000000"
    ),
    "--seeds 0": "give a number from 1 to 1000",
    "--seeds -1": "give a number from 1 to 1000",
    "--seeds 99999999": "give a number from 1 to 1000",
    "--seeds x": "--seeds",
    "--jobs 0": "this process may use",
    "--jobs 999": "this process may use",
    "--jobs x": "--jobs",
    "--time-limit soon": "'soon' is not a duration; write for example 90m",
    "--time-limit -5m": "'-5m' is not a duration",
    "--time-limit 0s": "'0s' is not a duration",
    "--time-limit=": "'' is not a duration",
    f"--time-limit {'9' * 400}h": "is not a duration",
    "--method nowhere": "'nowhere' is not of the form module:Class",
    "--method nowhere:Class": "there is no module 'nowhere'",
    "--method methods.core.td3:TD3": (
        "does not fit methods.api.Method: it does not inherit methods.api.Method"
    ),
    "--method methods.td3:Td3": "would be named 'td3', like another method",
    "--method methods.bounds:Random": "would be named 'random', like another method",
    "--nonsense 3": "--nonsense",
    "extra": "extra",
}


@pytest.mark.parametrize(("words", "complaint"), RUN.items())
def test_run_refuses(words, complaint, cli, here):
    suite = () if words.startswith("--suite") else ("--suite", "ood")
    result = cli("run", *suite, "--budget", "smoke", "--store", "store", *words.split())
    assert complaint in result.complaint
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    {
        "report --method a:B": "--method is for --videos",
        "report --store published --compare published": (
            "--compare published: these are the report's own results"
        ),
        "report --store published --compare nowhere": "--compare: nowhere: no results there",
        "report --store published --compare=": "it is empty; name a folder",
        "publish --suite ood --store published --out out": (
            "stands for the results that came with the program"
        ),
        "show --store published": "stands for the results that came with the program",
        "publish --suite ood --store nowhere --out /dev/null/out": (
            "--out /dev/null/out: nothing can be written to /dev/null"
        ),
    }.items(),
)
def test_other_commands_refuse(words, complaint, cli, here):
    assert complaint in cli(*words.split()).complaint
    assert list(here.iterdir()) == []


def test_suite_must_be_given(cli):
    assert "--suite" in cli("run").complaint


def test_a_plug_in_is_checked_before_anything_is_written(cli, plugin, here):
    bad = plugin("class Method(Still): ...\ndel Still.adapter")
    assert (
        "it has no method adapter"
        in cli("run", "--suite", "ood", "--method", f"{bad}:Method").complaint
    )
    first, second = plugin("class Method(Still): ..."), plugin("class Method(Still): ...")
    words = ["--method", f"{first}:Method"] * 2
    assert f"{first}:Method was given twice" in cli("run", "--suite", "ood", *words).complaint
    words[-1] = f"{second}:Method"
    assert "would be named 'method'" in cli("run", "--suite", "ood", *words).complaint
    assert {path.name for path in here.iterdir()} - {"__pycache__"} == {
        f"{name}.py" for name in (bad, first, second)
    }


def test_a_family_without_the_split(cli, here, monkeypatch):
    monkeypatch.setattr("envs.point.PointGoal.splits", lambda self: ("id",))
    result = cli("run", "--suite", "ood", "--families", "point-goal")
    assert "family 'point-goal' has no split 'ood'" in result.complaint


class TestStore:
    """A folder that cannot be the store stays as it was."""

    def refused(
        self, cli, here, command=("run", "--suite", "ood", "--budget", "smoke"), store="store"
    ):
        before = {path: path.is_file() and path.read_bytes() for path in here.rglob("*")}
        complaint = cli(*command, "--store", store).complaint
        assert {path: path.is_file() and path.read_bytes() for path in here.rglob("*")} == before
        return complaint

    @pytest.mark.parametrize("command", [("run", "--suite", "ood"), ("report",), ("show",)])
    def test_another_version(self, cli, here, command):
        Store(here / "store", create=True)
        (here / "store/store.json").write_text(json.dumps({"schema_version": 99}))
        assert "schema version 99" in self.refused(cli, here, command)

    @pytest.mark.parametrize("command", [("run", "--suite", "ood"), ("report",), ("show",)])
    def test_something_else(self, cli, here, command):
        (here / "store").mkdir()
        (here / "store/thesis.tex").write_text("precious")
        assert "not a store, because it holds thesis.tex" in self.refused(cli, here, command)

    @pytest.mark.parametrize("command", [("run", "--suite", "ood"), ("report",), ("show",)])
    def test_a_file(self, cli, here, command):
        (here / "store").write_text("precious")
        assert re.search(
            "file is where a folder is needed|no results there", self.refused(cli, here, command)
        )

    @pytest.mark.parametrize("command", [("report",), ("show",)])
    def test_nothing(self, cli, here, command):
        assert "no results there: run a suite first" in self.refused(cli, here, command)

    def test_no_suite_yet(self, cli, here):
        Store(here / "store", create=True)
        assert "holds no suite yet" in self.refused(cli, here, ("report",))
        assert cli("show", "--store", "store").out == "no cells\n"

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_no_permission(self, cli, here):
        (here / "sealed").mkdir(mode=0o555)
        assert "permission denied" in self.refused(cli, here, store="sealed/store")


class TestReportAndShow:
    @pytest.fixture
    def store(self, reference, here):
        shutil.copytree(reference[0], here / "store")

    def test_report_cannot_be_written(self, cli, here, store):
        (here / "out").write_text("in the way")
        assert "out" in cli("report", "--store", "store", "--out", "out").complaint

    def test_report_of_an_unknown_suite(self, cli, store):
        assert (
            "has no suite 'id'; it has ood"
            in cli("report", "--store", "store", "--suite", "id").complaint
        )

    def test_show_of_an_unknown_cell(self, cli, store):
        assert "no cell's id begins with 'zzz'" in cli("show", "zzz", "--store", "store").complaint

    def test_show_of_many_cells(self, cli, store):
        assert "cell ids begin with ''" in cli("show", "", "--store", "store").complaint

    def test_show_of_a_damaged_cell(self, cli, here, store):
        log = next((here / "store").glob("adapt/*/*/log.txt"))
        log.unlink()
        shown = cli("show", log.parent.name, "--store", "store")
        assert (shown.code, shown.err) == (0, "")
        assert "return_mean" in shown.out
        assert "it cannot be read (No such file or directory)" in shown.out
        (log.parent / "rows.parquet").write_bytes(b"")
        assert (
            "rows.parquet was altered" in cli("show", log.parent.name, "--store", "store").complaint
        )


def test_unknown_command_and_no_command(cli):
    assert "rnu" in cli("rnu").complaint
    nothing = cli()
    assert (nothing.code, nothing.err) == (2, "")
    assert "Usage" in nothing.out
    told = " ".join(nothing.out.split())
    assert "0 done, 1 failed cells or a regression, 2 bad input, 3 time limit" in told
    assert "4 disk or memory full, 70 a bug in the program, 129 SIGHUP, 130 Ctrl-C" in told
    assert "143 SIGTERM" in told


def test_a_defect_is_no_failed_cell(cli, monkeypatch):
    monkeypatch.setattr("benchmark.catalogue.catalogue", lambda: 1 / 0)
    result = cli("list")
    assert (result.code, result.out) == (70, "")
    assert result.err.startswith("Traceback") and "ZeroDivisionError" in result.err
    assert result.err.splitlines()[-1].startswith("error: this is a bug in the program")


UNBUILT = """
class Unbuilt(Still):
    meta_trains = True
    def __init__(self, spec, config): {how}
"""


@pytest.mark.parametrize("how", ["raise ValueError('a size')", "sys.exit(0)"])
def test_a_method_that_cannot_be_built_is_named(smoke, plugin, how):
    path = f"{plugin(UNBUILT.format(how=how))}:Unbuilt"
    said = smoke("--methods", "none", "--method", path).complaint
    assert "unbuilt on point-goal cannot be built: " in said
    assert "ValueError: a size" in said or "SystemExit: 0" in said


UNSURE = """
class Unsure(Still):
    meta_trains = True
    def least_budget(self, n_tasks): return """


@pytest.mark.parametrize("least", ["'many'", "None", "float('nan')", "10**5000"])
def test_a_budget_that_is_no_number_is_named(smoke, plugin, least):
    path = f"{plugin(f'{UNSURE}{least}')}:Unsure"
    assert "unsure on point-goal cannot be built: " in (
        smoke("--methods", "none", "--method", path).complaint
    )


SETTINGS = """
@dataclass(frozen=True)
class C:
    {kind} = {value}
    def __post_init__(self):
        if self.size == 3:
            sys.exit(0)
class Set(Still): Config = C
"""


@pytest.mark.parametrize(
    ("kind", "value", "complaint"),
    [
        ("size: tuple[int, ...]", (64, 64), "a setting of type tuple[int, ...] cannot be given"),
        ("size: tuple", (64, 64), "a setting of type tuple cannot be given here, only numbers"),
        ("size: int | None", None, "a setting of type int | None cannot be given here"),
        ("size: int", 1, "--set for set: SystemExit: 0"),
    ],
)
def test_a_setting_of_another_type_cannot_be_given(smoke, plugin, kind, value, complaint):
    path = f"{plugin(SETTINGS.format(kind=kind, value=value))}:Set"
    said = smoke("--methods", "none", "--method", path, "--set", "set.size=3").complaint
    assert complaint in said


@pytest.mark.parametrize("kind", [RuntimeError, OSError])
def test_what_a_signal_has_become_is_still_a_signal(capsys, kind):
    def command():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            raise kind("while it was cleaned up")

    assert exit_code(command, verbose=False, resumes=False) == 143
    assert capsys.readouterr().err == "terminated; run the same command again\n"


def test_verbose_adds_the_traceback(cli):
    result = cli("-v", "show", "--store", "store")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Traceback")
    assert result.err.splitlines()[-1].startswith("error: store: no results there")


def test_a_real_process_says_the_same(start, finish, tmp_path):
    assert "did you mean ood" in finish(start("run", "--suite", "odo", before=["env"])).complaint
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def disk():
    """`disk(options)`: words before a command that make the folder `disk` a small file system."""

    def disk(options):
        mount = f'mkdir -p disk && mount -t tmpfs -o {options} tmpfs disk && exec "$@"'
        command = ["unshare", "-rm", "sh", "-c", mount, "sh"]
        if (
            not shutil.which("unshare")
            or subprocess.run([*command, "true"], capture_output=True, check=False).returncode
        ):
            pytest.skip("needs a file system of its own")
        return command

    return disk


def test_a_disk_that_cannot_be_written_to(start, finish, disk):
    done = finish(
        start("run", "--suite", "ood", "--store", "disk/store", before=disk("size=64k,ro"))
    )
    assert "permission denied" in done.complaint


def test_a_disk_that_fills_up(start, finish, disk):
    """The run ends with one line, whichever worker runs out of space."""
    words = (
        "run",
        "--suite",
        "ood",
        "--budget",
        "smoke",
        "--methods",
        "zero",
        "--seeds",
        "9",
        "--store",
        "disk/store",
    )
    done = finish(start(*words, before=disk("size=64k")))
    assert done.code == 4
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert "the disk or the quota is full: free some space and run again" in done.err
