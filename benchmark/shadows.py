"""Files in the current folder that are called like a module that this program needs."""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

DEPENDENCIES = frozenset(
    ("filelock", "gymnasium", "jinja2", "markdown_it", "matplotlib", "mujoco", "numpy", "pandas")
) | {"pyarrow", "rich", "safetensors", "seaborn", "torch", "typer"}


class _Elsewhere:
    """Finds modules of some names anywhere but in one folder."""

    def __init__(self, names: frozenset[str], folder: Path) -> None:
        self._names = names
        self._folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder.find_spec`; None leaves the module to other finders."""
        if name not in self._names:
            return None
        places = [place for place in sys.path if Path(place).absolute() != self._folder]
        return PathFinder.find_spec(name, places)


def pass_over() -> None:
    """Let Python's own modules and our dependencies be found where `random.py` or `torch.py` lies
    in the current folder, which Python searches first.
    """
    try:
        folder = Path.cwd()
        files = {path.stem for path in folder.glob("*.py")}
        packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    except OSError:  # the folder is gone, or not to be read
        return
    if names := (files | packages) & (sys.stdlib_module_names | DEPENDENCIES):
        sys.meta_path.insert(0, _Elsewhere(frozenset(names), folder))
        os.environ["PYTHONSAFEPATH"] = "1"  # of processes that we start
