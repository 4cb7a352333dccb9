"""The snapshot of an unfinished stage: whatever happens while it is written, the newest whole one is there."""

import errno
import os
from contextlib import suppress

import pytest

from results import snapshot
from results.files import DamageError, StoreError
from results.store import CellKey, Store

KEY = CellKey("train", None, None, "1")
OLD, NEW = b"old" * 1000, b"new" * 2000


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", create=True)


def save(store, state, **header):
    with store.claim(KEY) as mine:
        assert mine
        store.save(KEY, {"env_steps": len(state), **header}, state)


def read(store):
    header = store.saved(KEY)
    state = store.saved_state(KEY, header)
    assert header["env_steps"] == len(state)
    return state


def files(store):
    return sorted(path.name for path in (store.root / KEY.folder).iterdir() if "lock" not in path.name)


def test_there_is_none_at_first_and_then_the_newest_alone(store):
    assert store.saved(KEY) is None
    store.forget(KEY)
    for state in (OLD, NEW, NEW, OLD):
        save(store, state)
        assert read(store) == state and len(files(store)) == 2
    store.forget(KEY)
    assert store.saved(KEY) is None and files(store) == []


def test_the_header_is_kept_with_it(store):
    save(store, OLD, belongs={"torch": "2"}, note=None)
    header = store.saved(KEY)
    assert (header["belongs"], header["note"], header["size"]) == ({"torch": "2"}, None, len(OLD))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("nth", range(5))
def test_an_error_of_the_disk_at_any_moment_leaves_one_whole(store, monkeypatch, code, call, nth):
    save(store, OLD)
    calls, real = [], getattr(os, call)

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == nth + 1:
            raise OSError(code, os.strerror(code))
        return real(*arguments)

    monkeypatch.setattr(os, call, failing)
    try:
        save(store, NEW)
    except StoreError:
        assert len(calls) > nth
    else:
        assert len(calls) <= nth  # so many are not needed
    monkeypatch.undo()
    assert read(store) in (OLD, NEW)
    assert len(files(store)) == 2
    save(store, NEW)
    assert read(store) == NEW


class DeathError(BaseException):
    """What ends a process where it stands: nothing is tidied up."""


@pytest.mark.parametrize("nth", range(6))
def test_a_death_at_any_moment_leaves_one_whole(store, monkeypatch, nth):
    """Every call that touches the disk is one at which the process may die; what it left is swept by the next."""
    save(store, OLD)
    calls = []

    def dying(name):
        real = getattr(os, name)

        def call(*arguments, **options):
            if len(calls) >= nth:
                raise DeathError
            calls.append(name)
            return real(*arguments, **options)

        return call

    for name in ("fsync", "replace", "unlink"):
        monkeypatch.setattr(os, name, dying(name))
    monkeypatch.setattr(snapshot, "sweep", lambda folder: None)
    monkeypatch.setattr(snapshot, "_remove_states", lambda folder, keep=None: None)
    with suppress(DeathError):
        save(store, NEW)
    monkeypatch.undo()
    assert read(store) in (OLD, NEW)
    save(store, NEW)
    assert read(store) == NEW and len(files(store)) == 2


@pytest.mark.parametrize("damage", ["header", "state", "gone", "other"])
def test_damage_is_found(store, damage):
    save(store, OLD)
    folder = store.root / KEY.folder
    header, state = folder / snapshot.HEADER, next(folder.glob("*.safetensors"))
    if damage == "gone":
        state.unlink()
    elif damage == "other":
        elsewhere = store.root / CellKey("train", None, None, "2").folder
        elsewhere.mkdir()
        (elsewhere / header.name).write_bytes(header.read_bytes())
        with pytest.raises(DamageError, match="belongs to another stage"):
            store.saved(CellKey("train", None, None, "2"))
        return
    else:
        path = {"header": header, "state": state}[damage]
        data = bytearray(path.read_bytes())
        data[-3] ^= 4
        path.write_bytes(data)
    with pytest.raises(DamageError):
        read(store)


def test_a_header_names_no_file_elsewhere(store, tmp_path):
    save(store, OLD)
    (tmp_path / "secret").write_bytes(OLD)
    with pytest.raises(DamageError, match="gone"):
        store.saved_state(KEY, {**store.saved(KEY), "file": str(tmp_path / "secret")})
