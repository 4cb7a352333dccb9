"""How a command ends: any exception becomes an exit code and one line that says what to do."""

import codecs
import errno
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from select import POLLERR, POLLHUP, POLLOUT, poll
from typing import Any, NoReturn

import typer

BAD = 2  # exit code of bad input
FULL = 4  # of a full disk or memory
DEFECT = 70  # of an unforeseen error, EX_SOFTWARE in sysexits.h
INTERRUPTED = 130  # of a signal: 128 plus its number
_AGAIN_S = 5  # after which the exception raised for a signal is taken to have been lost
_INPUT_ERRORS = {
    "benchmark.arguments": "InputError",
    "benchmark.plugins": "PluginError",
    "envs.api": "TaskFileError",
    "reports": "ReportError",
    "results.files": "StoreError",
}


class _TerminatedError(BaseException):
    """A SIGTERM or SIGHUP, with its number; not a SystemExit, which plug-ins may raise too."""


def is_termination(error: BaseException) -> bool:
    """Whether an error says that the whole program is to end."""
    return isinstance(error, _TerminatedError)


def is_stop(error: BaseException) -> bool:
    """Whether an error is Ctrl-C or ends the whole program; a plug-in may raise any other."""
    return isinstance(error, KeyboardInterrupt | _TerminatedError)


def _encoded(error: UnicodeError) -> tuple[str | bytes, int]:
    """Keep the undecodable bytes of a file name, so that it can be pasted; escape the rest."""
    assert isinstance(error, UnicodeEncodeError)
    error.end = error.start + 1
    foreign = "\udc80" <= error.object[error.start] <= "\udcff"
    return codecs.lookup_error("surrogateescape" if foreign else "backslashreplace")(error)


codecs.register_error("apb-benchmark", _encoded)


def exit_code(command: Callable[[], Any], verbose: bool, resumes: bool) -> int:
    """Run a command and return its exit code.

    Bad input gives one line on stderr and exit code 2, a defect a traceback and 70.

    Args:
      verbose: also show the traceback of bad input, and where memory ran out.
      resumes: whether an interrupted command goes on where it was when it is run again.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a terminal that cannot encode a character must not end a run
            stream.reconfigure(errors="apb-benchmark")
    try:
        with _termination_raised():
            code = int(command() or 0)
        return _interrupted(resumes) if code == INTERRUPTED else code  # typer may have caught it
    except typer.TyperException as error:
        return _complain(error.format_message())
    except (KeyboardInterrupt, typer.Abort, _TerminatedError) as error:
        return _stopped(error, resumes)
    except (BrokenPipeError, SystemExit) as error:
        # typer exits on any broken pipe; if the pipe is not our own output, it is a defect
        broken = error if isinstance(error, BrokenPipeError) else error.__context__
        if not isinstance(broken, BrokenPipeError):
            raise
        unread = _unread()
        _mute(*unread)
        if (stop := _stop_behind(broken)) is not None:
            return _stopped(stop, resumes)
        return 128 + signal.SIGPIPE if unread else _defect()
    except OSError as error:
        if (stop := _stop_behind(error)) is not None:
            return _stopped(stop, resumes)
        if error.errno == errno.EIO and error.filename is None:  # the terminal is gone
            _mute(1, 2)
            return 128 + signal.SIGHUP
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _mute(sys.stdout.fileno())
            return _complain("there is no space left where the output goes", FULL)
        if error.errno == errno.EFBIG:
            return _complain("a file exceeds the size limit: raise it (ulimit -f)", FULL)
        if _is_out_of_memory(error):
            return _out_of_memory(verbose)
        if not _in_a_folder():
            return _complain("the current folder no longer exists: change to another")
        return _defect()
    except Exception as error:
        if (stop := _stop_behind(error)) is not None:
            return _stopped(stop, resumes)
        if not _is_input_error(error):
            return _out_of_memory(verbose) if _is_out_of_memory(error) else _defect()
        if verbose:
            traceback.print_exc()
        return _complain(str(error), FULL if _is(error, "results.files", "FullDiskError") else BAD)


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out; the library loader reports that as a plain ImportError."""
    words = ("failed to map segment", os.strerror(errno.ENOMEM).lower())
    kind = MemoryError | OSError | ImportError | RuntimeError  # torch raises the last
    found = isinstance(error, MemoryError) or (
        isinstance(error, kind) and any(word in str(error).lower() for word in words)
    )
    return error is not None and (found or _is_out_of_memory(error.__cause__))


def _out_of_memory(verbose: bool) -> int:
    if verbose:
        traceback.print_exc()
    return _complain("memory is full: end other programs, or raise the limit (ulimit -v)", FULL)


def _unread() -> list[int]:
    """Return the descriptors, of standard output and error, whose reader has gone."""
    output = poll()
    for descriptor in (1, 2):
        output.register(descriptor, POLLOUT)
    return [descriptor for descriptor, event in output.poll(0) if event & (POLLERR | POLLHUP)]


def _in_a_folder() -> bool:
    try:
        return bool(os.getcwd())
    except FileNotFoundError:
        return False


@contextmanager
def _termination_raised() -> Iterator[None]:
    """Make SIGTERM and the closing of the terminal raise an exception that unwinds the command.

    Temporary folders and workers are then removed, and unfinished stages are saved.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    asked = signal.SIGTERM
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def leave(number: int, frame: Any) -> NoReturn:
        """Raise the exception, and again after `_AGAIN_S` in case it is lost."""
        nonlocal asked
        asked = signal.Signals(number) if number != signal.SIGALRM else asked
        signal.alarm(_AGAIN_S)  # an exception raised in a destructor is lost
        if asked == signal.SIGHUP:
            _mute(*terminals)  # writing to a terminal that is gone is an error
        raise _TerminatedError(asked)

    heard = [signal.SIGTERM, signal.SIGALRM]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # under nohup it is ignored
        heard.append(signal.SIGHUP)
    before = {number: signal.signal(number, leave) for number in heard}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        # the process that started this one may have blocked them
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*heard, signal.SIGINT})
        yield
    finally:
        signal.alarm(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupted(resumes: bool) -> int:
    print(
        f"\ninterrupted; run the same command again{' to continue' if resumes else ''}",
        file=sys.stderr,
    )
    return INTERRUPTED


def _defect() -> int:
    """Report the current exception with its traceback."""
    traceback.print_exc()
    return _complain("this is a bug in the program: report it with the output above", DEFECT)


def _stopped(stop: BaseException, resumes: bool) -> int:
    if not isinstance(stop, _TerminatedError):
        return _interrupted(resumes)
    again = f"run the same command again{' to continue' if resumes else ''}"
    print(f"terminated; {again}", file=sys.stderr)
    return 128 + int(stop.args[0])


def _stop_behind(error: BaseException | None) -> BaseException | None:
    """Return the Ctrl-C, SIGTERM or SIGHUP that caused an error, if one did.

    During an import, Python may turn it into another error.
    """
    if error is None or isinstance(error, KeyboardInterrupt | _TerminatedError):
        return error
    return _stop_behind(error.__cause__ or error.__context__)


def _is_input_error(error: Exception) -> bool:
    """Whether the message of `error` alone tells the user what to do."""
    return any(_is(error, module, kind) for module, kind in _INPUT_ERRORS.items())


def _is(error: Exception, module: str, kind: str) -> bool:
    """Whether an error is of a kind; it cannot be if the module was never imported."""
    return module in sys.modules and isinstance(error, getattr(sys.modules[module], kind))


def _complain(message: str, code: int = BAD) -> int:
    shown = (c if c.isprintable() or "\udc80" <= c <= "\udcff" else ascii(c)[1:-1] for c in message)
    print(f"error: {' '.join(''.join(shown).split())}", file=sys.stderr)
    return code


def _mute(*descriptors: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
