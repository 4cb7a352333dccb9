"""Workers as an array of Slurm jobs, through submitit (extra `slurm`).

A job runs the command `worker` on the store, which all nodes have to share. When Slurm preempts the
job or its time is over, the worker saves its stages, and the job is put in the queue again.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmark.arguments import InputError
from benchmark.local import GRACE_S

FOLDER = "slurm"  # in the store: logs, and what submitit stores about the jobs
_LOOK_S = 0.2
_ENDED_WELL = (0, 1)  # exit codes of a worker that has drained the store; 1 if some cells failed
DEFAULTS = {"timeout_min": 720}
# parameters that submitit has for every kind of cluster; all others are passed as Slurm's own
_SHARED = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "name")


class Drain:
    """What a job runs: a worker in its own process, which saves its stages when asked to end.

    Args:
      words: words of the command after `python -m benchmark`.
      folder: the folder it runs in, because plug-ins may lie there.
    """

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self.words = list(words)
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run the worker, wait for its end, and return its exit code.

        Raises:
          RuntimeError: if it did not drain the store.
        """
        command = [sys.executable, "-m", "benchmark", *self.words]
        # Slurm sends its warning signal to all processes of a job, and it would end the worker
        self._process = subprocess.Popen(
            command,
            cwd=self.folder,
            preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
        )
        while not _has_ended(self._process.pid):
            time.sleep(_LOOK_S)
        code = self._process.wait()
        if code not in _ENDED_WELL:
            raise RuntimeError(f"{shlex.join(command)} ended with exit code {code}")
        return code

    def checkpoint(self) -> Any:
        """Have the worker save its stages.

        Submitit calls this before it puts the job in the queue again.
        """
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.terminate()
            deadline = time.monotonic() + GRACE_S
            while not _has_ended(self._process.pid) and time.monotonic() < deadline:
                time.sleep(_LOOK_S)
        return DelayedSubmission(Drain(self.words, self.folder))


def _has_ended(pid: int) -> bool:
    """Whether a child process has ended; may be called in a signal handler at any moment."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def parameters_of(texts: Sequence[str]) -> dict[str, Any]:
    """Parse parameters `key=value`, with the names that submitit uses and numbers as numbers.

    Raises:
      InputError: if one is not of that form, or gives the time as Slurm's own parameter `time`.
    """
    found = dict[str, Any]()
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.replace("-", "_")
        if not equals or not key.isidentifier():
            raise InputError(
                f"--slurm {text!r} is not of the form key=value, such as partition=long"
            )
        if key == "time":
            raise InputError(
                f"--slurm {text!r}: give the time of a job in minutes, as timeout_min=720"
            )
        found[key if key in _SHARED else f"slurm_{key}"] = _number_or_text(key, value)
    return found


def _number_or_text(key: str, value: str) -> int | float | str:
    if key != "name" and value.isascii():
        for kind in (int, float):
            with suppress(ValueError):
                return kind(value)
    return value


def prepared(store: Path, parameters: Mapping[str, Any], cluster: str = "slurm") -> Any:
    """Return submitit's executor with these parameters.

    Raises:
      InputError: if submitit or Slurm is not installed, or does not accept a parameter.
    """
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise InputError(
            "--executor slurm needs submitit: pip install 'apb-benchmark[slurm]'"
        ) from error
    # requeue it as often as needed: the worker ends when nothing is left
    often = {"slurm_max_num_timeout": 10_000} if cluster == "slurm" else {}
    try:
        executor = submitit.AutoExecutor(folder=store / FOLDER / "%j", cluster=cluster, **often)
        executor.update_parameters(**{"name": "apb-benchmark", **DEFAULTS, **parameters})
    except (RuntimeError, NameError, ValueError, TypeError, OSError, AssertionError) as error:
        said = " ".join(str(error).split()) or "a parameter has the wrong type"
        raise InputError(f"Slurm: {said}") from error
    return executor


def submit(
    store: Path,
    words: Sequence[str],
    array: int,
    parameters: Mapping[str, Any],
    cluster: str = "slurm",
) -> list[Any]:
    """Put `array` workers in the queue; return submitit's jobs.

    Args:
      words: words of the command `worker`, with the store's absolute path.
      parameters: as `parameters_of` gives them.
      cluster: "slurm", or "local" for processes on this machine instead.
    Raises:
      InputError: as `prepared`, or if Slurm refuses the jobs.
    """
    executor = prepared(store, parameters, cluster)
    from submitit.core.utils import FailedJobError

    try:
        with executor.batch():
            jobs = [executor.submit(Drain(words, Path.cwd())) for _ in range(array)]
    except (FailedJobError, OSError) as error:
        raise InputError(f"Slurm refused the jobs: {' '.join(str(error).split())}") from error
    return jobs
