"""Does it adapt? Adaptive Policy Backbone and other meta-RL methods, in and out of distribution, on shared MuJoCo tasks."""

from importlib import import_module

__version__ = "0.1.0"

for _name in ("envs", "methods", "reports", "results"):
    _package = import_module(_name)
    if getattr(_package, "APB_BENCHMARK_PACKAGE", None) != _name:
        raise ImportError(
            f"the package {_name!r} at {getattr(_package, '__path__', '?')} belongs to another distribution and hides that of"
            " apb-benchmark: install apb-benchmark in a virtual environment of its own"
        )
