"""Replay of many tasks, of which a few are visited at a time; a part of it is what an inference network may see."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from methods.core.replay import Batch


class TaskReplay:
    """A ring of the last C transitions of each of N tasks, in one preallocated tensor [N, C, 2·O + A + 2] of float32.

    Memory is N·C·4·(2·O + A + 2) bytes, taken from the system only as it fills.
    """

    def __init__(self, n_tasks: int, capacity: int, n_obs: int, n_act: int) -> None:
        self._sizes = [n_obs, n_act, 1, n_obs, 1]
        self._data = torch.empty(n_tasks, capacity, sum(self._sizes))
        self._added = torch.zeros(n_tasks, dtype=torch.int64)
        self._context = torch.zeros(2, n_tasks, dtype=torch.int64)  # where it begins, in transitions ever added; and its size

    def add(self, ids: Tensor, batch: Batch, context: bool, more: bool = False) -> None:
        """Append transitions [n, T, …] of the tasks at `ids` [n], each named once.

        Args:
          context: whether these, and no older ones, are from now on what the inference network may see of these tasks.
          more: whether it may see these beside those that were added last.
        Raises:
          ValueError: if they are more than the ring holds.
        """
        steps, capacity = batch.reward.shape[1], self._data.shape[1]
        if steps > capacity:
            raise ValueError(f"{steps} transitions of a task at once do not fit a replay of {capacity}; make `replay` larger")
        rows = torch.cat([batch.obs, batch.action, batch.reward[..., None], batch.next_obs, batch.terminated[..., None]], -1)
        place = (self._added[ids, None] + torch.arange(steps)) % capacity
        self._data[ids[:, None], place] = rows
        if context:
            self._context[0, ids], self._context[1, ids] = self._added[ids], steps
        if more:
            self._context[1, ids] += steps
        self._added[ids] += steps

    def sample(self, ids: Tensor, size: int, generator: torch.Generator) -> Batch:
        """`size` transitions of each of the tasks at `ids`, drawn uniformly with replacement: [n, size, …]."""
        held = self._added[ids].clamp(max=self._data.shape[1])
        return self._at(ids, _uniform(held, size, generator))

    def sample_context(self, ids: Tensor, size: int, generator: torch.Generator) -> Batch:
        """The same of what the inference network may see."""
        begin, held = self._context[:, ids]
        return self._at(ids, begin[:, None] + _uniform(held, size, generator))

    def _at(self, ids: Tensor, index: Tensor) -> Batch:
        capacity = self._data.shape[1]
        place = ids[:, None] * capacity + index % capacity
        rows = self._data.view(-1, self._data.shape[-1]).index_select(0, place.reshape(-1)).view(*index.shape, -1)
        obs, action, reward, next_obs, terminated = torch.split_with_sizes(rows, self._sizes, -1)
        return Batch(obs, action, reward[..., 0], next_obs, terminated[..., 0])

    def state_dict(self) -> dict[str, Any]:
        """The filled part of the rings, what was added, and where the contexts are."""
        filled = min(int(self._added.max()), self._data.shape[1])
        return {"data": self._data[:, :filled].clone(), "added": self._added.clone(), "context": self._context.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, into a replay of the same sizes."""
        self._data[:, : state["data"].shape[1]] = state["data"]
        self._added, self._context = state["added"].clone(), state["context"].clone()


def _uniform(held: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """`size` numbers below each of `held` [n]: [n, size].

    Raises:
      ValueError: if a task holds nothing.
    """
    if not held.all():
        raise ValueError("there is a task of which nothing was collected yet, so nothing can be drawn")
    drawn = torch.rand(len(held), size, generator=generator, dtype=torch.float64)
    return (drawn * held[:, None]).to(torch.int64)
