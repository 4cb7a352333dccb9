"""The snapshot of an unfinished stage: the newest state to resume from, in its cell's folder.

`snapshot.json` names the file of the state and holds its SHA-256 and what the state belongs to. It
is replaced atomically once the state is on disk, and only then is the previous state removed, so a
crash at any moment leaves one of the two whole.
"""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from results.files import DamageError, commit, digest, read, seal, stage, sweep, sync, unseal

HEADER = "snapshot.json"
_STATES = "snapshot-*.safetensors"
_FIELDS = {
    "key": dict,
    "belongs": dict,  # what the state must agree with to be used
    "facts": dict,  # machine, versions and time of the process that saved it
    "env_steps": int,  # so far
    "steps": int,  # environment steps that the stage may use
    "updates": int,  # so far
    "file": str,
    "file_sha256": str,
}


def write(folder: Path, header: Mapping[str, Any], state: bytes) -> None:
    """Write a snapshot, replacing any earlier one; call it with the folder's write lock held.

    Raises:
      OSError: if it cannot be written; the previous one is then kept.
    """
    sha256 = digest(state)
    name = _STATES.replace("*", sha256[:16])
    try:
        os.replace(stage(folder / name, state), folder / name)
        sync(folder)
        commit(folder, {HEADER: seal({**header, "file": name, "file_sha256": sha256})})
    finally:
        sweep(folder)  # remains of a file that did not fit on the disk
        with suppress(DamageError, OSError):
            _remove_states(folder, keep=(read_header(folder) or {}).get("file"))


def read_header(folder: Path) -> dict[str, Any] | None:
    """Return the header of the snapshot, None if there is none.

    Raises:
      DamageError: if it was altered, or lacks an entry that every header has.
    """
    try:
        header = unseal(read(folder / HEADER))
    except FileNotFoundError:
        return None
    if wrong := [name for name, kind in _FIELDS.items() if not isinstance(header.get(name), kind)]:
        raise DamageError(f"its header has no valid {wrong[0]}")
    if not re.fullmatch(r"snapshot-[0-9a-f]{16}\.safetensors", header["file"]):
        raise DamageError("its header names a file that is not a snapshot")
    return header


def read_state(folder: Path, header: Mapping[str, Any]) -> bytes:
    """Return the state that a header names, after comparing its checksum.

    Raises:
      DamageError: if it is gone or was altered.
    """
    try:
        data = read(folder / str(header["file"]))
    except FileNotFoundError as error:
        raise DamageError("its file is gone") from error
    if digest(data) != header.get("file_sha256"):
        raise DamageError("its file was cut short or altered")
    return data


def is_there(folder: Path) -> bool:
    """Return whether there is a snapshot, or a part of one."""
    return any(folder.glob("snapshot*"))


def remove(folder: Path) -> None:
    """Remove the snapshot, if there is one; call it with the folder's write lock held."""
    (folder / HEADER).unlink(missing_ok=True)
    _remove_states(folder)


def _remove_states(folder: Path, keep: str | None = None) -> None:
    for path in folder.glob(_STATES):
        if path.name != keep:
            path.unlink(missing_ok=True)
