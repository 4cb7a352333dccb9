"""Shared by several kinds of tests: meta-training without the harness, other implementations."""

import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus

from benchmark.pool import TaskPool
from methods.api import Event, Trainer

LAYERS = ("pi0", "pi1", "pi2")
# The slowest test files, slowest first.
LONG = (
    "test_resume.py",
    "test_suites.py",
    "test_verify.py",
    "test_interruptions.py",
    "test_workers.py",
    "test_contract.py",
    "test_damaged_files.py",
    "test_stopping.py",
    "test_neighbours.py",
    "test_video.py",
    "test_compare.py",
    "test_pearl_learning.py",
    "test_machine.py",
    "test_page.py",
    "test_td3_stage.py",
    "test_fuzzed_lines.py",
    "test_pictures.py",
    "test_varibad_learning.py",
    "test_rl2_learning.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first in each half of the items.

    pytest-xdist gives each of two workers a half; one that is done takes the second half of what
    the other has left. So what comes last should be short, or one waits for the other at the end.
    """
    short = [item for item in items if item.path.name not in LONG]
    long = {name: [item for item in items if item.path.name == name] for name in LONG}
    one, two = ([item for name in LONG[i::2] for item in long[name]] for i in (0, 1))
    rest = max(0, len(items) // 2 - len(one))
    items[:] = [*one, *short[:rest], *two, *short[rest:]]


def pytest_collection_finish() -> None:
    """Exclude what was imported, a million objects, from all later garbage collections."""
    gc.collect()
    gc.freeze()


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
        """Return tensors given in the order of `parameters()` under our names and in our shapes."""
        log_std, *rest = tensors
        weights = {f"{name}.w": tensor.T for name, tensor in zip(LAYERS, rest[::2], strict=True)}
        biases = {
            f"{name}.b": tensor[None] for name, tensor in zip(LAYERS, rest[1::2], strict=True)
        }
        return weights | biases | {"log_std": log_std[None]}


def layer_of(w: Tensor, b: Tensor) -> nn.Linear:
    layer = nn.Linear(*w.shape, dtype=w.dtype)
    layer.load_state_dict({"weight": w.T, "bias": b[0]})
    return layer


class PortedPearl:
    """The training step of PEARL's official code, written plainly in PyTorch; it loops over tasks
    where the official code does.

    It has the weights of `methods.pearl`, is for α = 1, and has a smaller ε in the density than the
    official code. Replay is one array [steps, F] of (s, a, r, s', d) for each task.
    """

    def __init__(self, params: Mapping[str, Tensor], config: Any, n_obs: int, n_act: int) -> None:
        self.config, self.n_obs, self.n_act, rate = config, n_obs, n_act, config.learning_rate
        self.nets = {net: stack(params, net) for net in ("context", "pi", "v")}
        for i in (0, 1):
            self.nets[f"q{i}"] = stack(
                {name: tensor[i] for name, tensor in params.items() if name.startswith("q")}, "q"
            )
        self.nets["target"] = stack(params, "v")
        self.adams = {
            net: torch.optim.Adam(self.nets[net].parameters(), rate)
            for net in ("context", "pi", "v", "q0", "q1")
        }

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        return torch.split(rows, [self.n_obs, self.n_act, 1, self.n_obs, 1], -1)

    def sample(self, replay: list[Any], tasks: Iterable[int], size: int) -> Tensor:
        """Sample rows [tasks, size, F] from the NumPy array of each task."""
        rows = [replay[task][np.random.randint(0, len(replay[task]), size)] for task in tasks]
        return torch.stack([torch.from_numpy(row) for row in rows])

    def step(self, batch: Tensor, context: Tensor, z_noise: Tensor, action_noise: Tensor) -> None:
        """Train on rows [tasks, B, F], with z inferred from other rows [tasks, C, F]."""
        nets, config, (n_tasks, size, _) = self.nets, self.config, batch.shape
        witness = context[..., : self.n_obs + self.n_act + 1]
        mean, raw = nets["context"](witness).chunk(2, -1)
        means, variances = [], []
        for task_mean, task_raw in zip(mean, raw, strict=True):
            var = softplus(task_raw).clamp(min=1e-7)
            variances.append(1.0 / (1.0 / var).sum(0))
            means.append(variances[-1] * (task_mean / var).sum(0))
        z_each = torch.stack(
            [m + v.sqrt() * e for m, v, e in zip(means, variances, z_noise, strict=True)]
        )
        z = torch.cat([task_z.repeat(size, 1) for task_z in z_each])
        obs, action, reward, next_obs, terminated = self.split(batch.reshape(n_tasks * size, -1))
        out_mean, log_std = nets["pi"](torch.cat([obs, z.detach()], 1)).chunk(2, 1)
        log_std = log_std.clamp(-20, 2)
        normal = torch.distributions.Normal(out_mean, log_std.exp())
        x = out_mean + log_std.exp() * action_noise
        drawn = x.tanh()
        log_prob = (normal.log_prob(x) - torch.log(1 - drawn**2 + 1e-12)).sum(1, keepdim=True)
        qs = [nets[q](torch.cat([obs, action, z], 1)) for q in ("q0", "q1")]
        value = nets["v"](torch.cat([obs, z.detach()], 1))
        with torch.no_grad():
            next_value = nets["target"](torch.cat([next_obs, z], 1))

        for adam in self.adams.values():
            adam.zero_grad()
        prior = torch.distributions.Normal(torch.zeros(config.latent), torch.ones(config.latent))
        posteriors = [
            torch.distributions.Normal(m, v.sqrt()) for m, v in zip(means, variances, strict=True)
        ]
        divergence = torch.stack(
            [torch.distributions.kl_divergence(each, prior).sum() for each in posteriors]
        ).sum()
        target = config.reward_scale * reward + (1.0 - terminated) * config.gamma * next_value
        loss = config.kl_weight * divergence + sum(((q - target) ** 2).mean() for q in qs)
        loss.backward()
        for net in ("context", "q0", "q1"):
            self.adams[net].step()

        seen = torch.cat([obs, drawn, z.detach()], 1)
        least = torch.min(nets["q0"](seen), nets["q1"](seen))
        self.adams["v"].zero_grad()
        mse_loss(value, (least - log_prob).detach()).backward()
        self.adams["v"].step()
        with torch.no_grad():
            for slow, fast in zip(nets["target"].parameters(), nets["v"].parameters(), strict=True):
                slow.copy_(slow * (1 - config.tau) + fast * config.tau)
        self.adams["pi"].zero_grad()
        size_loss = config.regularisation * ((out_mean**2).mean() + (log_std**2).mean())
        ((log_prob - least).mean() + size_loss).backward()
        self.adams["pi"].step()


def stack(params: Mapping[str, Tensor], net: str) -> nn.Sequential:
    """Layers `net0`, `net1`, … with ReLUs between them."""
    count = sum(name.startswith(net) and name.endswith(".w") for name in params)
    layers = [layer_of(params[f"{net}{i}.w"], params[f"{net}{i}.b"]) for i in range(count)]
    return nn.Sequential(layers[0], *(part for layer in layers[1:] for part in (nn.ReLU(), layer)))


@pytest.fixture(scope="session")
def meta_train() -> Callable[..., list[tuple[Event, int, int]]]:
    """`(method, pool, n_tasks, budget, streams)`: meta-train to the end; return each step's event,
    updates and steps used.

    `tell(event, trainer)` is called after each step.
    """

    def train(
        method: Any,
        pool: TaskPool,
        n_tasks: int,
        budget: int,
        streams: Any,
        tell: Callable[[Event, Trainer], None] = lambda event, trainer: None,
    ) -> list[tuple[Event, int, int]]:
        trainer = method.trainer(pool.make_env, n_tasks, budget, streams)
        steps = list[tuple[Event, int, int]]()
        pool.settle()
        while not steps or steps[-1][0] is not Event.END:
            event = trainer.step(budget - int(pool.used.sum()))
            tell(event, trainer)
            steps.append((event, trainer.updates, int(pool.used.sum())))
        return steps

    return train


@pytest.fixture
def ported_pearl() -> type[PortedPearl]:
    """`ported_pearl(params, config, n_obs, n_act)`: a plain port of the official training step."""
    return PortedPearl


@pytest.fixture
def twin() -> type[Twin]:
    """`twin(theta)`: a module that computes what our policy with the weights θ computes."""
    return Twin


@pytest.fixture(scope="session")
def their_maml() -> Callable[..., nn.Module]:
    """learn2learn's `MAML`.

    The packages' own `__init__` files, which import Gym and torchvision, are not run.
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
