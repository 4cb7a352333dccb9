"""Atomic file writes: a temporary file beside the target is written, then renamed to it."""

import os
import secrets
from pathlib import Path

from reports import ReportError


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file atomically, create its folder if needed, and return `path`.

    Raises:
      ReportError: if the file cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReportError(
            f"cannot write the report to {path}: {reason}; choose another folder with --out"
        ) from error
    return path


def write_text(path: Path, content: str) -> Path:
    """Write UTF-8 text atomically, with the same line endings on every system; return `path`.

    Raises:
      ReportError: if the file cannot be written there.
    """
    return write_bytes(path, content.encode("utf-8"))


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
