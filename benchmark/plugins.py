"""Finds methods: built in, from other distributions, or `module:Class` on the command line."""

import hashlib
import inspect
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_type_hints

from benchmark.exits import is_stop
from benchmark.imports import sources
from benchmark.isolation import undisturbed
from methods import METHODS

if TYPE_CHECKING:  # imports torch; a typo is reported without waiting for that
    from methods.api import Method

ENTRY_POINTS = "apb_benchmark.methods"  # the group in which other distributions register methods

EVAL_MODES = ("deterministic", "stochastic")
_DECLARES = {"version": int, "meta_trains": bool}


class PluginError(Exception):
    """A method that cannot be used; the message is one line that says why."""


def registered_methods() -> dict[str, str]:
    """Name → module:Class of built-in methods and those registered elsewhere; built-in ones win."""
    return {name: point.value for name, point in _of_others().items()} | METHODS


def origin(path: str) -> str:
    """The distribution that registered the method at `path`; "" if none did."""
    points = (point for point in _of_others().values() if point.value == path)
    return next((point.dist.name for point in points if point.dist), "")


@cache
def _of_others() -> dict[str, EntryPoint]:
    """What other distributions register; cached, as a scan of all of them takes milliseconds."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


@cache
def load_method(path: str) -> "type[Method]":
    """The method class at `module:Class`, checked against the contract.

    Raises:
      PluginError: if it does not import, or lacks part of `methods.api.Method`.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise PluginError(f"method {path!r} is not of the form module:Class")
    if module.endswith(".py"):
        raise PluginError(
            f"method {path!r} names a file: give {Path(module).stem}:{name}, and run the command in"
            " the folder that contains the file"
        )
    with _explained(path), _guarded(path):
        found = getattr(import_module(module), name)
    if faults := list(_faults(found)):
        raise PluginError(
            f"method {path}{_from(path)} does not fit methods.api.Method: {'; '.join(faults)}"
        )
    return cast("type[Method]", found)


def source_digest(path: str) -> str:
    """SHA-256 of a plug-in's code, which may change without a new version; "" for built-in ones.

    Its code is its file and the user's own files that this one imports, at any depth.
    """
    if path in METHODS.values():
        return ""
    files = sorted(sources(load_method(path).__module__))
    if not files:
        raise PluginError(
            f"method {path}{_from(path)} has no Python file, without which its versions cannot be"
            " told apart: put it into one"
        )
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def _guarded(path: str) -> AbstractContextManager[None]:
    """Undo what importing a plug-in does to this process, unless this is a worker for it alone."""
    foreign = path not in METHODS.values() and parent_process() is None
    return undisturbed() if foreign else nullcontext()


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise PluginError(
            f"method {path}{_from(path)}: there is no module {error.name!r} (the current folder is"
            " searched too)"
        ) from error
    except BaseException as error:  # a script without a main guard may exit
        if is_stop(error):
            raise
        raise PluginError(
            f"method {path}{_from(path)} does not import: {type(error).__name__}: {error}"
        ) from error


def _from(path: str) -> str:
    """Say which distribution a method is from, for a message; "" if from none."""
    return f" of the distribution {name}" if (name := origin(path)) else ""


def _faults(found: Any) -> Iterator[str]:
    if not inspect.isclass(found):
        yield "it is not a class"
        return
    from methods.api import Method

    if not issubclass(found, Method):
        yield "it does not inherit methods.api.Method"
        return
    if missing := [name for name in _needs(found) if not _has(found, name)]:
        yield f"it has no method {', '.join(missing)}"
    for name, kind in _DECLARES.items():
        if not isinstance(getattr(found, name, None), kind):
            yield (
                f"its class attribute {name} must be {kind.__name__}, not"
                f" {getattr(found, name, 'missing')!r}"
            )
    version = getattr(found, "version", 0)
    if isinstance(version, int) and not -(2**63) <= version < 2**63:
        yield "its class attribute version must fit into 64 bits"
    if (mode := getattr(found, "eval_mode", None)) not in EVAL_MODES:
        yield f"its class attribute eval_mode must be {' or '.join(EVAL_MODES)}, not {mode!r}"
    yield from _config_faults(getattr(found, "Config", None))


def _needs(method: "type[Method]") -> tuple[str, ...]:
    trainer = ("trainer",) if getattr(method, "meta_trains", False) else ()
    return (*trainer, "adapter", "state_dict", "load_state_dict")


def _has(method: "type[Method]", name: str) -> bool:
    """Whether a class has a method other than the inherited placeholder that raises."""
    from methods.api import Method

    found = getattr(method, name)
    return callable(found) and (
        name not in ("trainer", "adapter") or found is not getattr(Method, name)
    )


def _config_faults(config: Any) -> Iterator[str]:
    frozen = getattr(getattr(config, "__dataclass_params__", None), "frozen", False)
    if not (inspect.isclass(config) and is_dataclass(config) and frozen):
        yield "its Config must be a frozen dataclass"
    elif required := [
        f.name for f in fields(config) if f.default is MISSING and f.default_factory is MISSING
    ]:
        yield f"its Config needs a default for {', '.join(required)}"
    elif trouble := _trouble(config):
        yield f"its Config must hold plain numbers, strings and booleans ({trouble})"


def _trouble(config: Any) -> str | None:
    """Why settings cannot be written and read back, None if they can."""
    try:
        get_type_hints(config)
        default = config()
        json.dumps(asdict(default), allow_nan=False)
        return None if config(**asdict(default)) == default else "it does not equal its own copy"
    except BaseException as error:
        if is_stop(error):
            raise
        return f"{type(error).__name__}: {error}"
