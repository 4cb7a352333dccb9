"""What the code of a plug-in may change of the process that runs it, put back.

A worker process runs one stage of a plug-in and ends; this is for the processes that go on.
"""

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put back at the end what concerns the whole process.

    That is: environment variables, working folder, signal handlers, standard streams, settings of
    warnings and logging, NumPy's error handling, and torch's default type and device, gradient mode
    and number of threads.
    """
    kept = (_environment, _folder, _signals, _streams, _logging, _numpy, _torch)
    undo = [keep() for keep in kept]
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for put_back in undo:
            put_back()


def _environment() -> Callable[[], None]:
    before = dict(os.environ)

    def put_back() -> None:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)

    return put_back


def _folder() -> Callable[[], None]:
    try:
        before = os.getcwd()
    except OSError:  # it was deleted
        return lambda: None

    def put_back() -> None:
        with suppress(OSError):
            os.chdir(before)

    return put_back


def _signals() -> Callable[[], None]:
    if threading.current_thread() is not threading.main_thread():
        return lambda: None  # no other thread may change them
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}

    def put_back() -> None:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)

    return put_back


def _streams() -> Callable[[], None]:
    before = sys.stdin, sys.stdout, sys.stderr

    def put_back() -> None:
        sys.stdin, sys.stdout, sys.stderr = before

    return put_back


def _logging() -> Callable[[], None]:
    root = logging.getLogger()
    handlers, level, disabled = [*root.handlers], root.level, root.manager.disable

    def put_back() -> None:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.disable(disabled)

    return put_back


def _numpy() -> Callable[[], None]:
    import numpy as np

    before = np.geterr()

    def put_back() -> None:
        np.seterr(**before)

    return put_back


def _torch() -> Callable[[], None]:
    import torch

    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()

    def put_back() -> None:
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)
        torch.set_num_threads(threads)
        torch.set_grad_enabled(grad)

    return put_back
