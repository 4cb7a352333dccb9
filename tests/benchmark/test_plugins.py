"""Methods from outside the package: their faults are named before anything runs."""

from importlib.metadata import EntryPoint

import pytest

import benchmark.plugins
from benchmark.plugins import PluginError, load_method, registered_methods
from methods import METHODS
from methods.bounds import Zero

METHOD = "class Method(Still): pass\n"
BARE = "class Method(methods.api.Method):\n"  # with nothing but the defaults
PLAIN = "Config must hold plain numbers, strings and booleans"


def config(body):
    """Source of a method whose Config is a frozen dataclass with the body `body`."""
    return f"{METHOD}@dataclass(frozen=True)\nclass C:\n    {body}\nMethod.Config = C"


PATHS = {
    "nowhere_at_all:Method": "there is no module 'nowhere_at_all'",
    "nowhere_at_all": "is not of the form module:Class",
    ":Method": "is not of the form module:Class",
    "methods.apb:": "is not of the form module:Class",
    "./my_method.py:Mine": (
        "names a file: give my_method:Mine, and run the command in the folder that contains the"
        " file"
    ),
    ".apb:Apb": "does not import: TypeError",
    "methods.apb:Nothing": "has no attribute 'Nothing'",
    "methods.apb:Apb.version": "has no attribute 'Apb.version'",
}
SOURCES = {
    "a module that needs another": ("import nowhere_at_all", "there is no module 'nowhere_at_all'"),
    "no class of that name": ("", "has no attribute 'Method'"),
    "no class but a function": ("def Method(spec, config): pass", "it is not a class"),
    "raises": (
        "raise RuntimeError('out of\\n\\norder')",
        "does not import: RuntimeError: out of\\s+order",
    ),
    "syntax": ("def Method(:", "does not import: SyntaxError"),
    "leaves": ("sys.exit(0)", "does not import: SystemExit"),
    "of another family": ("class Method: pass", r"it does not inherit methods\.api\.Method$"),
    "empty": (BARE + "    pass", "it has no method adapter;"),
    "empty and to be meta-trained": (
        BARE + "    meta_trains = True",
        "it has no method trainer, adapter;",
    ),
    "no trainer": (
        METHOD + "Method.meta_trains = True\ndel Still.trainer",
        "it has no method trainer$",
    ),
    "a trainer that is none": (
        METHOD + "Method.meta_trains, Method.trainer = True, None",
        "it has no method trainer$",
    ),
    "no adapter": (METHOD + "del Still.adapter", "it has no method adapter$"),
    "an adapter that is none": (METHOD + "Method.adapter = None", "it has no method adapter$"),
    "no state_dict": (METHOD + "Method.state_dict = None", "it has no method state_dict$"),
    "no load_state_dict": (
        METHOD + "Method.load_state_dict = 3",
        "it has no method load_state_dict$",
    ),
    "no version": (METHOD + "del Still.version", "attribute version must be int, not 'missing'"),
    "version of another type": (
        METHOD + "Method.version = '1'",
        "attribute version must be int, not '1'",
    ),
    "no meta_trains": (
        METHOD + "del Still.meta_trains",
        "attribute meta_trains must be bool, not 'missing'",
    ),
    "no eval_mode": (
        METHOD + "Method.eval_mode = None",
        "attribute eval_mode must be deterministic or stochastic, not None",
    ),
    "an eval_mode of another name": (
        METHOD + "Method.eval_mode = 'greedy'",
        "attribute eval_mode must be deterministic or stochastic, not 'greedy'",
    ),
    "a version that no table holds": (
        METHOD + "Method.version = 2**70",
        "attribute version must fit into 64 bits",
    ),
    "no Config": (METHOD + "Method.Config = None", "Config must be a frozen dataclass"),
    "a Config of no kind": (METHOD + "Method.Config = dict", "Config must be a frozen dataclass"),
    "a Config that can change": (
        METHOD + "@dataclass\nclass C: a: int = 1\nMethod.Config = C",
        "Config must be a frozen dataclass",
    ),
    "a Config without defaults": (
        config("a: int; b: int; c: int = 1"),
        "Config needs a default for a, b",
    ),
    "a Config that raises": (
        config("def __post_init__(self): raise ValueError('no a')"),
        rf"{PLAIN} \(ValueError: no a\)",
    ),
    "a Config that cannot be written": (
        config("a: Path = Path('.')"),
        f"{PLAIN} .*not JSON serializable",
    ),
    "a Config with NaN": (config("a: float = float('nan')"), f"{PLAIN} .*not JSON compliant"),
    "a Config in a Config": (config("a: Still.Config = Still.Config()"), f"{PLAIN} .*its own copy"),
    "a Config of unknown types": (config("a: 'Nowhere' = 1"), f"{PLAIN} .*NameError"),
}


@pytest.fixture
def load(plugin, here, monkeypatch):
    """Load the class `Method` of a module made of `BASE` and `source`."""
    monkeypatch.syspath_prepend(here)
    return lambda source: load_method(f"{plugin(source)}:Method")


@pytest.mark.parametrize(("path", "complaint"), PATHS.items())
def test_a_path_that_leads_nowhere_is_named(path, complaint):
    with pytest.raises(PluginError, match=f"^method '?{path}.*{complaint}"):
        load_method(path)


@pytest.mark.parametrize(("source", "complaint"), SOURCES.values(), ids=SOURCES)
def test_what_does_not_fit_is_named(source, complaint, load):
    with pytest.raises(
        PluginError,
        match=(
            rf"(?s)^method plugin_\w+:Method .*{complaint}|^method plugin_\w+:Method: {complaint}"
        ),
    ):
        load(source)


def test_every_fault_is_named_at_once(load):
    with pytest.raises(PluginError) as refused:
        load(BARE + "    version = 1.5")
    for part in (
        "no method adapter",
        "version must",
        "meta_trains must",
        "eval_mode must",
        "Config must",
    ):
        assert part in str(refused.value)


def test_a_class_that_fits_is_given_back(load):
    assert load(METHOD).__name__ == "Method"
    assert load(METHOD + "del Still.trainer").__name__ == "Method"  # nobody calls it
    assert load_method("methods.bounds:Zero") is Zero


def test_entry_points_add_methods_and_replace_none(monkeypatch):
    points = [
        EntryPoint(name, "my.module:Mine", "apb_benchmark.methods") for name in ("mine", "apb")
    ]
    monkeypatch.setattr(
        benchmark.plugins,
        "entry_points",
        lambda group: points if group == "apb_benchmark.methods" else [],
    )
    benchmark.plugins._of_others.cache_clear()
    assert registered_methods() == {"mine": "my.module:Mine", **METHODS}
    benchmark.plugins._of_others.cache_clear()  # for the tests after this one


def test_code_that_changes_during_a_run_gives_no_scores_under_the_name_of_before(
    smoke, plugin, here, rows_of
):
    """Each stage of a plug-in imports it anew; the run identifies it by its code at the start."""
    source = """
    class Edited(Still):
        def adapter(self, make_env, n_tasks, streams):
            walker, text = Walker(make_env()), Path(__file__).read_text()
            walker.action[:] = {action}
            Path(__file__).write_text(text.replace("{action}", "{action} + 0.5", 1))
            return walker
    """
    path = f"{plugin(source.replace('{action}', '0.25'))}:Edited"
    first = smoke("--methods", "none", "--method", path, "--seeds", "2", "--jobs", "1")
    assert first.code == 1
    changed = f"PluginError: the code of {path} has changed since the run was planned"
    assert first.out.count(f"seed 1 adapt: {changed}") == 1
    assert set(rows_of(here / "store").dropna(subset="return_mean")["seed"]) == {0}
