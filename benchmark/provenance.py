"""A result's versions, commit and machine; recorded beside it, never part of its identity."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmark import __version__

PACKAGES = ("torch", "mujoco", "gymnasium", "numpy", "pandas")


@cache
def provenance() -> dict[str, Any]:
    """Versions of the suite and its packages, the source commit (None if unknown), the machine."""
    return {
        "benchmark": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "processor": _processor(),
        },
    }


def commit() -> str | None:
    """Commit of this package's folder, plus "+dirty" if it was changed.

    None outside a checkout, and where git cannot tell.
    """
    try:
        return _commit()
    except (OSError, subprocess.SubprocessError):
        return None


def why_unknown() -> str | None:
    """Why git cannot tell a checkout's commit, in git's words; None if it can, or outside one."""
    if not any((folder / ".git").exists() for folder in Path(__file__).parents):
        return None
    try:
        _commit()
    except subprocess.CalledProcessError as error:
        return " ".join(str(error.stderr).split())
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None


def _commit() -> str | None:
    head = _git("rev-parse", "HEAD").strip()
    # an installed package may lie inside a checkout of something else, which does not track it
    if not _git("ls-files", "--", __file__):
        return None
    # published results are not code: publishing one suite must not block the next
    changes = _git("status", "--porcelain", "-uno", "--", ":(top,exclude)results/published")
    return head + ("+dirty" if changes.strip() else "")


def _git(*words: str) -> str:
    """Run git on the checkout that this file lies in, and return its output.

    A checkout that somebody else owns is accepted too, since its code is running already.
    """
    command = ["git", "-c", "safe.directory=*", "-C", str(Path(__file__).parent), *words]
    # when a git hook calls this program, GIT_DIR and the like refer to another checkout
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=10, env=env
    ).stdout


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
