"""APB and other meta-RL methods, compared in and out of distribution on shared MuJoCo tasks."""

import sys
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
from pathlib import Path

__version__ = "0.1.0"


def _check(name: str) -> None:
    """Make sure that `name` imports this distribution's package, which lies beside this one.

    A folder of that name in the current directory, such as the user's own package or the results of
    an earlier run, would otherwise take precedence over what is installed.
    """
    here = Path(__file__).parents[1]
    spec = find_spec(name)
    if name not in sys.modules and not (spec and _same(spec.origin, here / name / "__init__.py")):
        sys.path.insert(0, str(here))
        invalidate_caches()
    package = import_module(name)
    if getattr(package, "APB_BENCHMARK_PACKAGE", None) != name:
        raise ImportError(
            f"the package {name!r} at {', '.join(getattr(package, '__path__', '?'))} does not"
            f" belong to apb-benchmark and hides its {name!r}: import benchmark before it, or, if"
            " another distribution installed it, install apb-benchmark in a virtual environment of"
            " its own"
        )


def _same(origin: str | None, file: Path) -> bool:
    return origin is not None and Path(origin).resolve() == file.resolve()


# `python -m benchmark`, whose argv[0] is "-m" at this point, puts the current folder first. Move it
# to the end: the user's own methods are still found, and a `random.py` or `torch.py` there hides
# nothing.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))
for _name in ("envs", "methods", "reports", "results"):
    _check(_name)
