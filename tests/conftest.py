"""learn2learn's MAML, and a module that computes what our policy computes."""

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from torch import Tensor, nn

LAYERS = ("pi0", "pi1", "pi2")


class Twin(nn.Module):
    """`gaussian_policy` with the weights `theta`, made of torch's own layers."""

    def __init__(self, theta: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.log_std = nn.Parameter(theta["log_std"][0].clone())
        one, two, three = (layer_of(theta[f"{name}.w"], theta[f"{name}.b"]) for name in LAYERS)
        self.mean = nn.Sequential(one, nn.ReLU(), two, nn.ReLU(), three)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(obs), self.log_std[None]

    @staticmethod
    def named(tensors: Iterable[Tensor]) -> dict[str, Tensor]:
        """What belongs to `parameters()`, in their order, under our names and in our shapes."""
        log_std, *rest = tensors
        weights = {f"{name}.w": tensor.T for name, tensor in zip(LAYERS, rest[::2], strict=True)}
        biases = {f"{name}.b": tensor[None] for name, tensor in zip(LAYERS, rest[1::2], strict=True)}
        return weights | biases | {"log_std": log_std[None]}


def layer_of(w: Tensor, b: Tensor) -> nn.Linear:
    layer = nn.Linear(*w.shape, dtype=w.dtype)
    layer.load_state_dict({"weight": w.T, "bias": b[0]})
    return layer


@pytest.fixture
def twin() -> type[Twin]:
    """`twin(theta)`: a module that computes what our policy with the weights θ computes."""
    return Twin


@pytest.fixture(scope="session")
def their_maml() -> Callable[..., nn.Module]:
    """learn2learn's `MAML`.

    The packages' own `__init__` files, which import Gym and torchvision, never run.
    """
    spec = find_spec("learn2learn")
    if spec is None and "TOX_ENV_NAME" not in os.environ:
        pytest.skip("learn2learn is not installed; tox run -e parity installs it")
    assert spec and spec.origin
    for name in ("learn2learn", "learn2learn.algorithms"):
        package = ModuleType(name)
        package.__path__ = [str(Path(spec.origin).parent.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    return importlib.import_module("learn2learn.algorithms.maml").MAML
