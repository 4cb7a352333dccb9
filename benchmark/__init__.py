"""APB and other meta-RL methods, compared in and out of distribution on shared MuJoCo tasks."""

import sys
from importlib import import_module, invalidate_caches
from pathlib import Path

__version__ = "0.1.0"


def _check(name: str) -> None:
    """Make sure that the package `name` is ours.

    A folder of that name in the current directory, such as the results of an earlier run, is a
    package without code to Python, and comes before what an editable install finds.
    """
    package = import_module(name)
    if package.__file__ is None:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        del sys.modules[name]
        invalidate_caches()
        package = import_module(name)
    if getattr(package, "APB_BENCHMARK_PACKAGE", None) != name:
        raise ImportError(
            f"the package {name!r} at {getattr(package, '__path__', '?')} belongs to another"
            " distribution and hides that of apb-benchmark: install apb-benchmark in a virtual"
            " environment of its own"
        )


for _name in ("envs", "methods", "reports", "results"):
    _check(_name)
