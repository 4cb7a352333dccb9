"""Files that are whole or absent: atomic writes, sealed JSON, locks, errors that name a remedy.

A writer stages every file under a temporary name, flushes it to disk and renames it. It holds the
folder's lock throughout, so any temporary file that the holder of that lock finds was left by a
process that died, on whichever machine, and can be removed.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

_IN_THE_WAY = (errno.EISDIR, errno.ELOOP)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WAYS_OUT = (
    (
        (errno.ENOSPC, errno.EDQUOT),
        "the disk or the quota is full: free some space and run again, finished cells are kept",
    ),
    (
        (errno.EFBIG,),
        "the file exceeds the size limit: raise it (ulimit -f) and run again, finished cells are"
        " kept",
    ),
    (
        (errno.EROFS, errno.EACCES, errno.EPERM),
        "permission denied: make it accessible, or choose another folder",
    ),
    ((errno.EEXIST, errno.ENOTDIR), "a file is where a folder is needed: choose another folder"),
    (_IN_THE_WAY, "a folder, or a link to itself, is where a file is needed: move it away"),
)


# the checksum as `seal` writes it: indented, as the last key or before others; on one line, before
# others
_CHECKSUM = re.compile(
    rb',\n  "sha256": "[^"\n]*"(?=\n}\n\Z)|(?<=\n)  "sha256": "[^"\n]*",\n'
    rb'|(?<=[{ ])"sha256": "[0-9a-f]{64}", '
)


class StoreError(Exception):
    """The store cannot do what was asked; the message is one line with the fault and a remedy."""


class FullDiskError(StoreError):
    """The disk or the quota is full, or a file has reached its size limit."""


class DamageError(Exception):
    """A file is not what was written: cut short, altered or gone."""


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Run a block that touches `path`.

    Raises:
      StoreError: in place of any OSError, with a remedy (full disk, no permission, a file in the
        way).
    """
    try:
        yield
    except OSError as error:
        known = (way_out for codes, way_out in _WAYS_OUT if error.errno in codes)
        default = f"{error.strerror or error}: check the disk, or choose another folder"
        kind = FullDiskError if error.errno in _NO_SPACE else StoreError
        place = (error.filename2 or error.filename) if error.errno in _IN_THE_WAY else path
        raise kind(f"{place}: {next(known, default)}") from error


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def to_json(value: Any, indent: int | None = 2) -> bytes:
    """Return `value` as sorted JSON, indented, or on one line if `indent` is None.

    Raises:
      TypeError, ValueError: if `value` is not plain JSON data, or holds a NaN or an infinity (store
        None or a string instead).
    """
    return _sorted(_plain(value), indent)


def _plain(value: Any) -> Any:
    """Return `value` with strings for keys, which sorting them requires."""
    return json.loads(json.dumps(value, allow_nan=False))


def _sorted(plain: Any, indent: int | None) -> bytes:
    return (json.dumps(plain, sort_keys=True, allow_nan=False, indent=indent) + "\n").encode()


def seal(content: Mapping[str, Any], indent: int | None = 2) -> bytes:
    """Return `content` as JSON that holds its own checksum, for `unseal`.

    Without indentation, a file with thousands of entries is written ten times as fast.
    """
    return seal_plain(_plain(content), indent)


def seal_plain(plain: Mapping[str, Any], indent: int | None) -> bytes:
    """`seal` for content read from JSON, whose keys are strings already."""
    return _sorted({**plain, "sha256": digest(_sorted(plain, indent))}, indent)


def unseal(data: bytes) -> dict[str, Any]:
    """Return the content that was given to `seal`.

    Raises:
      DamageError: if a single byte differs from what `seal` wrote.
    """
    try:
        content: dict[str, Any] = dict(json.loads(data))
        summed = digest(_CHECKSUM.sub(b"", data, count=1)) == content.pop("sha256")
        indent = None if data.count(b"\n", 0, -1) == 0 else 2
        intact = summed or seal(content, indent) == data  # e.g. the pattern misses a lone key
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamageError("its JSON is cut short or altered") from error
    if not intact:
        raise DamageError("its JSON was altered")
    return content


def stage(path: Path, data: bytes) -> Path:
    """Write `data` under a temporary name beside `path`, flushed to disk, and return that name."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with open(temporary, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def read(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
      DamageError: if it is a pipe or a device, which could keep the reader waiting.
      OSError: if it cannot be read.
    """
    if not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode):
        raise DamageError(f"{path.name} is not a regular file")
    return path.read_bytes()


def sweep(folder: Path) -> None:
    """Remove the temporary files of `folder`; call it only with the folder's lock held."""
    for temporary in folder.glob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def commit(folder: Path, files: Mapping[str, bytes | None]) -> None:
    """Replace files of `folder`; the last one named exists only if all others are in place.

    Call it with the folder's lock held. A crash or a full disk while the new files are staged
    leaves the old ones as they were; one while they are put in place leaves no last file, if there
    are several.

    Args:
      files: name → content, in the order of writing; None removes that file.
    """
    *_, last = files
    try:
        staged = {
            name: stage(folder / name, data) for name, data in files.items() if data is not None
        }
        if len(files) > 1:  # a single file is replaced in one step
            (folder / last).unlink(missing_ok=True)
        for name, data in files.items():
            if name == last:
                sync(folder)  # the last name must not reach the disk before the others
            if data is None:
                (folder / name).unlink(missing_ok=True)
            else:
                os.replace(staged[name], folder / name)
        sync(folder)
    finally:
        sweep(folder)


def sync(folder: Path) -> None:
    """Flush the names in `folder` to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_locks(path: Path) -> None:
    """Try the kind of lock that `locked` takes, on the file `path`, which is created if absent.

    Raises:
      StoreError: if the file system has no locks, without which processes do not see each other.
    """
    with explained(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    except OSError as error:
        raise StoreError(
            f"{path.parent}: its file system has no file locks ({error.strerror}), by which"
            " processes that share it take turns: choose a folder on a local disk, or mount it with"
            " locks"
        ) from error
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, timeout_s: float) -> Iterator[bool]:
    """Hold the lock file `path` for a block; yield False if it is still taken after `timeout_s`.

    The kernel frees the lock when its holder dies; the file stays, since removing it could let two
    processes hold the lock at once.
    """
    lock = FileLock(path)
    with explained(path), suppress(Timeout):
        lock.acquire(timeout=timeout_s, poll_interval=0.01)
    try:
        yield lock.is_locked
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Return whether some process holds the lock file `path`; needs no write permission."""
    try:
        # non-blocking, as opening a pipe in its place would wait for a writer
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
