"""Replay of transitions: for N tasks that step together, or for many of which some are visited."""

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
    # [N, B], 1 where the task ended the episode; a time-out is 0, so its value is bootstrapped
    terminated: Tensor


class Replay:
    """A ring of each task's last C transitions, in one float32 tensor [N, C, 2·O + A + 2].

    Memory is N·C·4·(2·O + A + 2) bytes, which the CPU's system allocates only as the ring fills.
    """

    def __init__(
        self, n_tasks: int, capacity: int, n_obs: int, n_act: int, device: torch.device
    ) -> None:
        self._sizes = [n_obs, n_act, 1, n_obs, 1]
        self._data = torch.empty(n_tasks, capacity, sum(self._sizes), device=device)
        # start of each task's rows in the flat table
        self._offset = torch.arange(n_tasks, device=device)[:, None] * capacity
        self._added = 0

    def __len__(self) -> int:
        """Transitions held of each task."""
        return min(self._added, self._data.shape[1])

    def add(self, batch: Batch) -> None:
        """Append B transitions of each task, fewer than C."""
        columns = [
            batch.obs,
            batch.action,
            batch.reward[..., None],
            batch.next_obs,
            batch.terminated[..., None],
        ]
        rows = torch.cat(columns, -1)
        begin, capacity = self._added % self._data.shape[1], self._data.shape[1]
        fits = min(rows.shape[1], capacity - begin)
        self._data[:, begin : begin + fits].copy_(rows[:, :fits])
        if fits < rows.shape[1]:
            self._data[:, : rows.shape[1] - fits].copy_(rows[:, fits:])
        self._added += rows.shape[1]

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """`size` transitions of each task, drawn uniformly with replacement, in one gather."""
        return self.at(self.draw(size, generator))

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Positions [N, size] in each task's ring, drawn uniformly with replacement."""
        shape = len(self._data), size
        return torch.randint(len(self), shape, generator=generator, device=generator.device)

    def at(self, index: Tensor) -> Batch:
        """The transitions at positions `index` [N, B] in each task's ring."""
        flat = self._data.view(-1, self._data.shape[-1])
        # [N, B, F]
        rows = flat.index_select(0, (index + self._offset).reshape(-1)).view(*index.shape, -1)
        obs, action, reward, next_obs, terminated = torch.split_with_sizes(rows, self._sizes, -1)
        return Batch(obs, action, reward[..., 0], next_obs, terminated[..., 0])

    def state_dict(self) -> dict[str, Any]:
        """The filled part of the ring and the count of transitions added."""
        return {"data": self._data[:, : len(self)].clone(), "added": self._added}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, into a replay of the same sizes."""
        self._added = state["added"]
        self._data[:, : len(self)] = state["data"]


class TaskReplay:
    """As `Replay`, but each call names the tasks that it adds to or draws from.

    Memory is N·C·4·(2·O + A + 2) bytes, which the CPU's system allocates only as the ring fills.
    """

    def __init__(
        self, n_tasks: int, capacity: int, n_obs: int, n_act: int, device: torch.device
    ) -> None:
        self._sizes = [n_obs, n_act, 1, n_obs, 1]
        self._data = torch.empty(n_tasks, capacity, sum(self._sizes), device=device)
        self._added = torch.zeros(n_tasks, dtype=torch.int64, device=device)
        # where each task's context begins, counted in transitions ever added; and its size
        self._context = torch.zeros(2, n_tasks, dtype=torch.int64, device=device)

    def add(self, ids: Tensor, batch: Batch, context: bool, more: bool = False) -> None:
        """Append transitions [n, T, …] of the tasks at `ids` [n], each named once.

        Args:
          context: whether the inference network may see these, and no older ones, of these tasks
            from now on.
          more: whether it may see these too, in addition to those that were added last.
        Raises:
          ValueError: if there are more of them than the ring holds.
        """
        steps = batch.reward.shape[1]
        capacity = self._data.shape[1]
        if steps > capacity:
            raise ValueError(
                f"cannot add {steps} transitions of a task at once to a replay of {capacity}; make"
                " `replay` larger"
            )
        rows = torch.cat(
            [
                batch.obs,
                batch.action,
                batch.reward[..., None],
                batch.next_obs,
                batch.terminated[..., None],
            ],
            -1,
        )
        place = (self._added[ids, None] + torch.arange(steps, device=ids.device)) % capacity
        self._data[ids[:, None], place] = rows
        if context:
            self._context[0, ids], self._context[1, ids] = self._added[ids], steps
        if more:
            self._context[1, ids] += steps
        self._added[ids] += steps

    def sample(self, ids: Tensor, size: int, generator: torch.Generator) -> Batch:
        """`size` transitions of each task in `ids`, uniform with replacement: [n, size, …]."""
        held = self._added[ids].clamp(max=self._data.shape[1])
        return self._at(ids, _uniform(held, size, generator))

    def sample_context(self, ids: Tensor, size: int, generator: torch.Generator) -> Batch:
        """As `sample`, from the transitions that the inference network may see."""
        begin, held = self._context[:, ids]
        return self._at(ids, begin[:, None] + _uniform(held, size, generator))

    def _at(self, ids: Tensor, index: Tensor) -> Batch:
        capacity = self._data.shape[1]
        place = ids[:, None] * capacity + index % capacity
        rows = (
            self._data.view(-1, self._data.shape[-1])
            .index_select(0, place.reshape(-1))
            .view(*index.shape, -1)
        )
        obs, action, reward, next_obs, terminated = torch.split_with_sizes(rows, self._sizes, -1)
        return Batch(obs, action, reward[..., 0], next_obs, terminated[..., 0])

    def state_dict(self) -> dict[str, Any]:
        """The filled part of the rings, the counts of what was added, and the contexts' places."""
        filled = min(int(self._added.max()), self._data.shape[1])
        return {
            "data": self._data[:, :filled].clone(),
            "added": self._added.clone(),
            "context": self._context.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, into a replay of the same sizes."""
        self._data[:, : state["data"].shape[1]] = state["data"]
        self._added = state["added"].clone()
        self._context = state["context"].clone()


def _uniform(held: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """`size` integers from 0 to below each of `held` [n], drawn uniformly: [n, size].

    Raises:
      ValueError: if a task holds nothing.
    """
    if not held.all():
        raise ValueError(
            "nothing has been collected yet on at least one task, so nothing can be drawn for it"
        )
    shape, device = (len(held), size), generator.device
    drawn = torch.rand(shape, generator=generator, dtype=torch.float64, device=device)
    return (drawn * held[:, None]).to(torch.int64)
