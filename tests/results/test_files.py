import fcntl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.files import (
    DamageError,
    StoreError,
    commit,
    explained,
    is_locked,
    locked,
    seal,
    to_json,
    unseal,
)

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
contents = st.dictionaries(st.text().filter(lambda name: name != "sha256"), plain, max_size=4)
indents = st.sampled_from([2, None])


@settings(max_examples=50, deadline=None)
@given(contents, indents)
def test_unseal_gives_back_what_was_sealed(content, indent):
    assert unseal(seal(content, indent)) == content


@settings(max_examples=100, deadline=None)
@given(contents, indents, st.data())
def test_one_flipped_bit_is_noticed(content, indent, data):
    sealed = bytearray(seal(content, indent))
    position = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[position // 8] ^= 1 << position % 8
    with pytest.raises(DamageError):
        unseal(bytes(sealed))


@pytest.mark.parametrize("indent", [2, None])
@pytest.mark.parametrize("at", [b"{", b'{"key": {', b"  "])
def test_a_checksum_that_was_slipped_in_is_noticed(indent, at):
    sealed = seal({"cells": [{"key": {"id": "a"}}], "suite": "ood"}, indent)
    assert unseal(sealed)
    for slipped in (b'"sha256": "%s", ' % (b"0" * 64), b'\n  "sha256": "0",\n'):
        position = sealed.find(at) + len(at)
        with pytest.raises(DamageError):
            unseal(sealed[:position] + slipped + sealed[position:])


@settings(max_examples=50, deadline=None)
@given(contents, indents, st.data())
def test_a_cut_is_noticed(content, indent, data):
    sealed = seal(content, indent)
    with pytest.raises(DamageError):
        unseal(sealed[: data.draw(st.integers(0, len(sealed) - 1))])


@pytest.mark.parametrize(
    "other", [b"", b"[]", b"{}", b"3", b"null", b'{"sha256": "00"}', b"\xff\xfe", b"[" * 5000]
)
def test_other_content_is_noticed(other):
    with pytest.raises(DamageError):
        unseal(other)


def test_json_is_sorted_indented_and_strict():
    assert to_json({"b": 1, "a": [None]}) == b'{\n  "a": [\n    null\n  ],\n  "b": 1\n}\n'
    assert unseal(seal({"steps": {10: "x", 9: "y"}})) == {"steps": {"10": "x", "9": "y"}}
    with pytest.raises(ValueError):
        to_json({"loss": float("nan")})
    with pytest.raises(TypeError):
        to_json({"when": object()})


def test_commit_replaces_removes_and_leaves_no_other_file(tmp_path):
    commit(tmp_path, {"a": b"1", "b": b"1", "last": b"1"})
    commit(tmp_path, {"a": b"2", "b": None, "last": b"2"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "a": b"2",
        "last": b"2",
    }


def test_a_lock_is_held_by_one_and_seen_by_all(tmp_path):
    path = tmp_path / ".lock"
    assert not is_locked(path)
    with locked(path, 0.0) as first:
        with locked(path, 0.0) as second:
            assert (first, second, is_locked(path)) == (True, False, True)
        assert is_locked(path)
    assert not is_locked(path)
    with locked(path, 0.0) as again:
        assert again


def test_who_only_looks_at_a_lock_is_not_taken_for_its_holder(tmp_path):
    """Two processes that ask for the status of a store at the same time see the same."""
    path = tmp_path / ".lock"
    with open(path, "w") as looks:
        fcntl.flock(looks, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert not is_locked(path)


def test_an_error_of_the_block_of_a_lock_is_its_own(tmp_path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / ".lock", 0.0):
        (tmp_path / "nothing").read_bytes()
    assert not is_locked(tmp_path / ".lock")


def test_errors_of_the_system_are_one_line_with_the_way_out(tmp_path):
    (tmp_path / "file").touch()
    for call in (
        (tmp_path / "file").mkdir,
        (tmp_path / "file" / "below").mkdir,
        (tmp_path / "none").read_bytes,
    ):
        with (
            pytest.raises(StoreError, match=r"^[^\n]+: [^\n]+another folder$"),
            explained(tmp_path),
        ):
            call()
