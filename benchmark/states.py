"""States as safetensors: a flat tree of named tensors, and the rest as JSON in the file's header.

Reading a state runs no code, whoever wrote it. A tree is made of dictionaries, lists, tuples,
tensors, NumPy arrays, numbers, texts and None. It comes back as it was, including the order of its
tensors' axes in memory, on which the last bit of a matrix product can depend.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

_TREE = "tree"  # the header's entry that holds what is not a tensor
_LENGTH = 8  # bytes of the header's length, which come first in the file


class StateError(ValueError):
    """The value to write is not such a tree, or the data to read is not such a file."""


def to_bytes(tree: Any) -> bytes:
    """Return a tree as the content of a file; equal trees give equal bytes.

    Raises:
      StateError: if the tree holds something else (the message says where) or cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    try:
        text = json.dumps(_packed(tree, (), tensors), separators=(",", ":"), allow_nan=False)
        return bytes(save(tensors, {_TREE: text}))
    except (StateError, MemoryError):
        raise
    # some of what a tree may hold cannot be written: sparse tensors, cycles, foreign byte orders
    except Exception as error:
        raise StateError(
            f"it cannot be written ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        ) from error


def from_bytes(data: bytes, device: str = "cpu") -> Any:
    """Return the tree that `to_bytes` was given.

    Args:
      device: where its tensors go, except those of bytes: states of generators stay on the CPU.
    Raises:
      StateError: if `data` is something else.
    """
    try:
        tensors = load(data)
        header = json.loads(data[_LENGTH : _LENGTH + int.from_bytes(data[:_LENGTH], "little")])
        tree = _unpacked(json.loads(header["__metadata__"][_TREE]), tensors)
    except (
        SafetensorError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RuntimeError,
    ) as error:
        raise StateError(
            "it is not a saved state"
            f" ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        ) from error
    return tree if device == "cpu" else _moved(tree, device)


def _packed(value: Any, path: tuple[str, ...], tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON; tensors go to `tensors` by name, $ keys mark what JSON cannot express."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, Tensor):
        return _packed_tensor(value.detach().cpu(), path, tensors)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {"$array": _packed_tensor(torch.from_numpy(np.array(value)), path, tensors)}
    if type(value) in (list, tuple):
        items = [_packed(item, (*path, str(i)), tensors) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, Mapping):
        items = [[key, _packed(item, (*path, str(key)), tensors)] for key, item in value.items()]
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return dict(items)
        if all(isinstance(key, str | int) for key in value):
            return {"$dict": items}
    raise StateError(
        f"{'.'.join(path) or 'it'} is a {type(value).__name__}: a state holds tensors, arrays and"
        " plain Python only"
    )


def _packed_tensor(tensor: Tensor, path: tuple[str, ...], tensors: dict[str, Tensor]) -> Any:
    name = ".".join(path) or "value"
    while name in tensors:
        name += "'"
    # axes from the slowest to the fastest in memory
    strides = tensor.stride()
    order = sorted(range(tensor.ndim), key=lambda axis: (-strides[axis], axis))
    tensors[name] = tensor.permute(order).clone(memory_format=torch.contiguous_format)
    return (
        {"$tensor": name} if order == [*range(tensor.ndim)] else {"$tensor": name, "order": order}
    )


def _unpacked(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        # copied, so that it is aligned as torch wants it and not as the file happens to have it
        tensor = tensors[value["$tensor"]].clone()
        order = value.get("order", [*range(tensor.ndim)])
        return tensor.permute([order.index(axis) for axis in range(tensor.ndim)])
    if "$array" in value:
        return _unpacked(value["$array"], tensors).numpy()
    if "$tuple" in value:
        return tuple(_unpacked(value["$tuple"], tensors))
    if "$dict" in value:
        return {key: _unpacked(item, tensors) for key, item in value["$dict"]}
    if "$float" in value:
        return float(value["$float"])
    return {key: _unpacked(item, tensors) for key, item in value.items()}


def _moved(value: Any, device: str) -> Any:
    """Return a tree with its tensors on a device, except those of bytes."""
    if isinstance(value, Tensor):
        return value if value.dtype is torch.uint8 else value.to(device)
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_moved(item, device) for item in value)
    return value
