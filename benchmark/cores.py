"""The cores of the machine that this process may use, and the memory that a process takes."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path

_CFS = ("quota", "period")


def available_cores() -> int:
    """Cores this process may use: those it may run on, within the quota of its control groups."""
    allowed = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, int(min(allowed, cpu_quota())))


def cpu_quota(system: Path = Path("/")) -> float:
    """Processor time that Linux's control groups allow, in cores; infinite without a limit.

    A container has a limit if it was started with one, such as `docker run --cpus 2`.

    Args:
      system: folder that holds `proc` and `sys`.
    """
    quotas = [inf]
    for group in _control_groups(system):
        with suppress(OSError, ValueError):  # control groups of version 1, or no limit
            quota, period = (group / "cpu.max").read_text().split()
            quotas.append(int(quota) / int(period))
        with suppress(OSError, ValueError):
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in _CFS)
            if int(quota) > 0:  # −1 without a limit
                quotas.append(int(quota) / int(period))
    return min(quotas)


def _control_groups(system: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups and their parents, for both versions."""
    try:
        lines = (system / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds and "cpu" not in kinds.split(","):
            continue
        mount = system / "sys/fs/cgroup" / ("cpu" if kinds else "")
        group = mount / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(mount))


def memory_of(process: int) -> int:
    """Resident memory of a process in bytes, 0 if it has ended or the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError, subprocess.SubprocessError):  # as on macOS
        found = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(process)], capture_output=True, text=True, timeout=5
        )
        return int(found.stdout) * 1024
    return 0
