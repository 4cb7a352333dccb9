"""Snapshots of an unfinished stage: whatever happens during a write, the newest whole one stays."""

import errno
import os
from contextlib import suppress

import pytest

from results import snapshot
from results.files import DamageError, StoreError, seal, unseal
from results.store import CellKey, Store

KEY = CellKey("train", None, None, "1")
OLD, NEW = b"old" * 1000, b"new" * 2000
HEADER = {"belongs": {"torch": "2"}, "facts": {}, "steps": 10_000, "updates": 7}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", create=True)


def save(store, state, **header):
    with store.claim(KEY) as mine:
        assert mine
        store.save(KEY, {**HEADER, "env_steps": len(state), **header}, state)


def read(store):
    header = store.saved(KEY)
    state = store.saved_state(KEY, header)
    assert header["env_steps"] == len(state)
    return state


def files(store):
    return sorted(
        path.name for path in (store.root / KEY.folder).iterdir() if "lock" not in path.name
    )


def test_there_is_none_at_first_and_then_the_newest_alone(store):
    assert store.saved(KEY) is None
    store.forget(KEY)
    for state in (OLD, NEW, NEW, OLD):
        save(store, state)
        assert read(store) == state and len(files(store)) == 2
    store.forget(KEY)
    assert store.saved(KEY) is None and files(store) == []


@pytest.mark.parametrize("status", ["failed", "timeout", "ok", "diverged"])
def test_it_outlives_a_failure_and_goes_once_its_stage_is_done(store, status):
    """Work that took hours up to a time limit is still there to go on from."""
    save(store, OLD)
    store.write(KEY, [], state=None, log="", record={"status": status})
    if store.status(KEY) == "failed":
        assert read(store) == OLD
    else:
        assert store.saved(KEY) is None and not any("snapshot" in name for name in files(store))


def test_the_header_is_kept_with_it(store):
    save(store, OLD, note=None)
    header = store.saved(KEY)
    assert {name: header[name] for name in HEADER} == HEADER and header["note"] is None


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
        assert len(calls) <= nth  # saving makes fewer calls
    monkeypatch.undo()
    assert read(store) in (OLD, NEW)
    assert len(files(store)) == 2
    save(store, NEW)
    assert read(store) == NEW


class DeathError(BaseException):
    """Stands for the sudden death of a process, which tidies nothing up."""


@pytest.mark.parametrize("nth", range(6))
def test_a_death_at_any_moment_leaves_one_whole(store, monkeypatch, nth):
    """The process dies at a file's fsync or rename; the next snapshot tidies up after it."""
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

    for name in ("fsync", "replace"):
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


LIES = [
    *(
        {"file": name}
        for name in (
            "",
            "..",
            "../../secret",
            "/etc/passwd",
            "a" * 300,
            "snapshot-\0.safetensors",
            None,
            3,
        )
    ),
    *({name: value} for name in ("env_steps", "steps", "updates") for value in (None, "7", [])),
    *({name: value} for name in ("belongs", "facts", "key") for value in (None, [], "torch")),
]


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_header_that_lies_is_refused(store, lie):
    """Its seal has no key, so anybody can write one."""
    save(store, OLD)
    path = store.root / KEY.folder / snapshot.HEADER
    path.write_bytes(seal({**unseal(path.read_bytes()), **lie}))
    with pytest.raises(DamageError):
        store.saved(KEY)
