"""The border between simulators, which use NumPy on the CPU, and learners, whose tensors are on the
device of the stage's generators.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def tensor_of(array: NDArray[Any], device: torch.device) -> Tensor:
    """An array as a tensor on a device; on the CPU they share memory."""
    return torch.from_numpy(np.asarray(array)).to(device)


def array_of(tensor: Tensor) -> NDArray[Any]:
    """A tensor as an array; if the tensor is on the CPU, they share memory."""
    return tensor.cpu().numpy()
