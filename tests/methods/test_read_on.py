"""Each method says which core files hold the rest of its algorithm, and it uses them."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

import methods
from methods import METHODS

ROOT = Path(methods.__file__).parents[1]
MODULES = sorted({path.split(":")[0] for path in METHODS.values()} - {"methods.bounds"})


def imported(path):
    """The files of `methods.core` that a file imports, and those that they import in turn."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("methods.core."):
            name = f"{node.module.replace('.', '/')}.py"
            found |= {name, *imported(name)}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_the_files_to_read_on_in_are_there_and_used(module):
    last = " ".join(import_module(module).__doc__.strip().split("\n\n")[-1].split())
    (listed,) = re.findall(r"^Read on in: (.*)\.$", last)
    files = listed.split(", ")
    assert 2 <= len(files) <= 3 and set(files) <= imported(f"{module.replace('.', '/')}.py")
