"""Which files a plug-in consists of: its own and the user's files that it imports."""

import ast
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_SCRIPTS = {"__main__", "__mp_main__"}  # names of a program's script, there and in its workers
_OURS = {"benchmark", "envs", "methods", "reports", "results"}


def sources(module: str) -> set[Path]:
    """Return the files of `module` and of all it imports, at any depth, that are not installed.

    Modules of the top-level package that `module` is in count even if they are installed. Imports
    inside functions count; imports by a computed name cannot be seen.
    """
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        top = name.partition(".")[0]
        if name in found or not (top == module.partition(".")[0] or _is_users(top)):
            continue
        if (file := _file(name)) is not None:
            found[name] = file
            waiting += _imported(name, file)
    return set(found.values())


@cache
def _is_users(top: str) -> bool:
    """Whether a top-level module or package is the user's, that is, not an installed one."""
    # "" and "__main__" do not name files
    if top in _OURS or top in sys.stdlib_module_names or top in ("", "__main__"):
        return False
    if (spec := find_spec(top)) is None:
        return False
    places = [spec.origin] if spec.has_location else spec.submodule_search_locations or []
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    installed = [Path(sysconfig.get_path(kind)).resolve() for kind in kinds]
    return not any(
        Path(place or "").resolve().is_relative_to(folder)
        for place in places
        for folder in installed
    )


def _file(module: str) -> Path | None:
    """Return the Python file of a module, None if it has none."""
    if module in _SCRIPTS:
        script = getattr(sys.modules.get(module), "__file__", None)
        return Path(script).absolute() if script else None
    try:
        spec = find_spec(module)
    except (ImportError, ValueError, AttributeError):
        # as for the name in `from module import name`, which may not be a module
        return None
    file = spec.origin if spec else None
    return Path(file) if file and file.endswith(".py") else None


def _imported(module: str, file: Path) -> Iterator[str]:
    """Yield the names of modules that a file may import, and of the packages around them."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # importing it will report that
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (above, node.module or "") if part)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:n]) for n in range(1, len(parts) + 1))
