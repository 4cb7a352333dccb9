"""Replay of transitions for N tasks that step together."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Transitions of N tasks."""

    obs: Tensor  # [N, B, O]
    action: Tensor  # [N, B, A]
    reward: Tensor  # [N, B]
    next_obs: Tensor  # [N, B, O]
    terminated: Tensor  # [N, B], 1 where the task ended the episode; a time-out is 0, so its value is bootstrapped


class Replay:
    """A ring of the last C transitions of each task, in one preallocated tensor [N, C, 2·O + A + 2] of float32.

    Memory is N·C·4·(2·O + A + 2) bytes, taken from the system only as it fills.
    """

    def __init__(self, n_tasks: int, capacity: int, n_obs: int, n_act: int) -> None:
        self._sizes = [n_obs, n_act, 1, n_obs, 1]
        self._data = torch.empty(n_tasks, capacity, sum(self._sizes))
        self._offset = torch.arange(n_tasks)[:, None] * capacity  # of each task's rows in the flat table
        self._added = 0

    def __len__(self) -> int:
        """Transitions held of each task."""
        return min(self._added, self._data.shape[1])

    def add(self, batch: Batch) -> None:
        """Append one transition of each task: a batch with B = 1."""
        row = self._data[:, self._added % self._data.shape[1]]
        columns = [batch.obs[:, 0], batch.action[:, 0], batch.reward, batch.next_obs[:, 0], batch.terminated]
        row.copy_(torch.cat(columns, 1))
        self._added += 1

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """`size` transitions of each task, drawn uniformly with replacement, in one gather."""
        index = torch.randint(len(self), (len(self._data), size), generator=generator)
        return self.at(index)

    def at(self, index: Tensor) -> Batch:
        """The transitions at positions `index` [N, B] of each task's ring."""
        flat = self._data.view(-1, self._data.shape[-1])
        rows = flat.index_select(0, (index + self._offset).reshape(-1)).view(*index.shape, -1)  # [N, B, F]
        obs, action, reward, next_obs, terminated = torch.split_with_sizes(rows, self._sizes, -1)
        return Batch(obs, action, reward[..., 0], next_obs, terminated[..., 0])

    def state_dict(self) -> dict[str, Any]:
        """The filled part of the ring and the count of transitions added."""
        return {"data": self._data[:, : len(self)].clone(), "added": self._added}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, into a replay of the same sizes."""
        self._added = state["added"]
        self._data[:, : len(self)] = state["data"]
