"""Peers that only tox's `parity` environment installs: missing ones fail there, skip elsewhere."""

import importlib
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def peer() -> Callable[[str], ModuleType]:
    """`peer("scipy.stats")`: import a module of a library that may not be installed."""

    def imported(name: str) -> ModuleType:
        library = name.split(".")[0]
        if find_spec(library) is None and "TOX_ENV_NAME" not in os.environ:
            pytest.skip(f"{library} is not installed; tox run -e parity installs it")
        return importlib.import_module(name)

    return imported


@pytest.fixture(scope="session")
def rliable(peer: Callable[[str], ModuleType]) -> tuple[ModuleType, ModuleType]:
    """rliable's `metrics` and `library`.

    They use arch's bootstrap; arch's own `__init__` never runs, since its volatility models need
    pandas 2.
    """
    peer("rliable")
    spec = find_spec("arch")
    assert spec and spec.origin
    bare = ModuleType("arch")
    bare.__path__ = [str(Path(spec.origin).parent)]
    sys.modules["arch"] = bare
    return peer("rliable.metrics"), peer("rliable.library")
