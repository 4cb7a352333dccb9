"""A result's versions, commit and machine; recorded beside it, never part of its identity."""

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
    """Commit of this package's folder, plus "+dirty" if it was changed; None outside a checkout."""
    folder = Path(__file__).parent
    git = ["git", "-C", str(folder)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
        # an installed package may lie inside a checkout of something else, which does not track it
        tracked = subprocess.run(
            [*git, "ls-files", "--error-unmatch", __file__], capture_output=True, timeout=10
        )
        if tracked.returncode != 0:
            return None
        # published results are not code: publishing one suite must not block the next
        status = [*git, "status", "--porcelain", "-uno", "--", ":(top,exclude)results/published"]
        changes = subprocess.run(status, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+dirty" if changes.stdout.strip() else "")


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
