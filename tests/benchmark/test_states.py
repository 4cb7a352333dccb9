"""States as files: they come back as they were, bit by bit, and nothing but a state is read."""

import json
import pickle
from collections import namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from benchmark.states import StateError, from_bytes, to_bytes


def same(one, other):
    """Whether two trees are equal: types, bits, and the order of axes in memory."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        # the stride of an axis with one entry is arbitrary
        if alike and min(one.shape, default=2) > 1:
            alike = one.stride() == other.stride()
        return alike and one.numpy(force=True).tobytes() == other.numpy(force=True).tobytes()
    if isinstance(one, np.ndarray):
        return (
            one.dtype == other.dtype
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


KINDS = ("float32", "float64", "int64", "uint8", "bool")
TENSORS = arrays.arrays(
    st.sampled_from(KINDS), arrays.array_shapes(min_dims=0, max_dims=3, min_side=0)
).map(torch.from_numpy)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | TENSORS
TREES = st.recursive(
    LEAVES,
    lambda tree: (
        st.lists(tree, max_size=3)
        | st.lists(tree, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(), tree, max_size=3)
        | st.dictionaries(st.sampled_from(["$tensor", "$dict", "a", "a.b"]), tree, max_size=3)
    ),
    max_leaves=8,
)


@given(TREES)
def test_a_tree_comes_back_as_it_was_and_equal_trees_are_equal_bytes(tree):
    data = to_bytes(tree)
    assert same(from_bytes(data), tree)
    assert to_bytes(from_bytes(data)) == data


def test_what_learners_have(tmp_path):
    weights = {"w": torch.randn(3, 4).requires_grad_(), "b": torch.zeros(1, 4)}
    adam = torch.optim.Adam(list(weights.values()), 1e-3)
    weights["w"].square().sum().backward()
    adam.step()
    generator, theirs = torch.Generator().manual_seed(3), np.random.default_rng(3)
    tree = {
        "adam": adam.state_dict(),
        "generator": generator.get_state(),
        "numpy": theirs.bit_generator.state,
    }
    back = from_bytes(to_bytes(tree))
    assert same(back, tree)
    other = torch.optim.Adam(list(weights.values()), 1e-3)
    other.load_state_dict(back["adam"])
    assert same(other.state_dict(), adam.state_dict())
    again = np.random.default_rng(0)
    again.bit_generator.state = back["numpy"]
    assert again.random() == theirs.random()


def test_the_order_of_axes_in_memory_is_kept_and_views_are_cut_loose():
    base = torch.arange(24.0).view(2, 3, 4)
    views = {
        "turned": base.permute(2, 0, 1),
        "part": base[:, 1],
        "spread": base[:1, :1].expand(5, 3, 4),
        "whole": base,
    }
    back = from_bytes(to_bytes(views))
    assert all(torch.equal(back[name], view) for name, view in views.items())
    assert back["turned"].stride() == views["turned"].stride()
    back["whole"].zero_()
    assert back["part"].any() and base.any()


def test_tensors_lie_where_torch_would_put_them():
    """The last bit of a matrix product may depend on the alignment."""
    back = from_bytes(
        to_bytes(
            {"a": torch.ones(3, dtype=torch.uint8), "b": torch.randn(64, 64), "c": torch.randn(7)}
        )
    )
    assert all(tensor.data_ptr() % 64 == 0 for tensor in back.values())


def test_names_are_those_of_the_tree():
    data = to_bytes({"psi": {"w": torch.zeros(2)}, "list": [torch.ones(1)], "psi.w": torch.ones(3)})
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert set(header) == {"__metadata__", "psi.w", "list.0", "psi.w'"}


Named = namedtuple("Named", "x")


@pytest.mark.parametrize(
    ("tree", "where"),
    [
        ({"a": [1, {"b": {1, 2}}]}, "a.1.b is a set"),
        ({"a": Named(1)}, "a is a Named"),
        (object(), "it is a object"),
        ({"a": {(1, 2): 3}}, "a is a dict"),
        ({"a": np.array(["text"])}, "a is a ndarray"),
        ({"a": b"bytes"}, "a is a bytes"),
    ],
)
def test_what_is_no_state_is_refused_with_its_place(tree, where):
    with pytest.raises(
        StateError, match=f"^{where}: a state holds tensors, arrays and plain Python only$"
    ):
        to_bytes(tree)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("it was run",))


DATA = to_bytes({"w": torch.arange(100.0), "n": 3})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        pickle.dumps(Trap()),
        DATA[:-1],
        DATA[:40],
        DATA + b"\0",
        b"\xff" * 64,
        bytes(8) + DATA,
    ],
)
def test_what_is_no_file_of_a_state_is_refused(data):
    with pytest.raises(StateError, match="it is not a saved state"):
        from_bytes(data)


@pytest.mark.parametrize(
    "tree",
    ['{"$tensor": "gone"}', '{"$tuple": 3}', '{"$array": 1}', '{"$float": []}', "[" * 100_000],
)
def test_a_header_that_lies_is_refused(tree):
    from safetensors.torch import save

    with pytest.raises(StateError, match="it is not a saved state"):
        from_bytes(save({"w": torch.zeros(1)}, {"tree": tree}))
