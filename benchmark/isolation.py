"""Restores what the code of a plug-in may change in the process that runs it.

A worker process runs one stage of a plug-in and ends; this is for the processes that go on.
"""

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any


def settle() -> None:
    """Give a process the settings that this program relies on, whatever ran before it.

    A `sitecustomize` or `usercustomize` can have changed torch's default type and device, gradient
    mode, and NumPy's error handling.
    """
    import numpy as np
    import torch

    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_grad_enabled(True)
    np.seterr(divide="warn", over="warn", under="ignore", invalid="warn")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Restore process-wide state at the end of the block.

    That is: environment variables, working folder, signal handlers, standard output and error,
    settings of warnings and logging, NumPy's error handling, and torch's default type and device,
    gradient mode and number of threads.
    """
    import numpy as np
    import torch

    root = logging.getLogger()
    with ExitStack() as undo:
        for context in (
            warnings.catch_warnings(),
            np.errstate(),
            redirect_stdout(sys.stdout),
            redirect_stderr(sys.stderr),
        ):
            undo.enter_context(context)
        undo.callback(_restore_environment, dict(os.environ))
        undo.callback(_restore_signals, _signals())
        undo.callback(_restore_logging, [*root.handlers], root.level, root.manager.disable)
        undo.callback(_restore_device, torch.get_default_device())
        undo.callback(torch.set_default_dtype, torch.get_default_dtype())
        undo.callback(torch.set_num_threads, torch.get_num_threads())
        undo.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        with suppress(OSError):  # the folder was deleted
            undo.callback(_go_back, os.getcwd())
        yield


def _restore_environment(before: Mapping[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _signals() -> dict[int, Any]:
    """Return the handlers, by signal number, that this thread can set again."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in signal.valid_signals()}
    return {number: handler for number, handler in found.items() if handler is not None}


def _restore_signals(before: Mapping[int, Any]) -> None:
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _restore_logging(handlers: Sequence[logging.Handler], level: int, disabled: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.disable(disabled)


def _restore_device(before: Any) -> None:
    import torch

    if torch.get_default_device() != before:
        torch.set_default_device(None if before.type == "cpu" else before)


def _go_back(folder: str) -> None:
    with suppress(OSError):
        os.chdir(folder)
