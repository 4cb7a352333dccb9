"""Replay of whole trials, for learning what a trial reveals about its task."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from methods.core.trials import Moment


class Cuts(NamedTuple):
    """Positions of M trials in columns of steps, column after column."""

    column: Tensor  # [M]
    start: Tensor  # [M] first step
    length: Tensor  # [M] steps up to the end of the trial or of the batch


def cut(trial_ended: Tensor) -> Cuts:
    """Find the trials in columns that begin with a trial and in which each follows on the last.

    Args:
      trial_ended: [T, C] bool, whether a trial ended with the step.
    """
    stops = trial_ended.clone()
    stops[-1] = True
    begins = torch.cat([torch.ones_like(stops[:1]), trial_ended[:-1]])
    column, start = begins.T.nonzero().unbind(-1)
    return Cuts(column, start, stops.T.nonzero()[:, 1] - start + 1)


class Recorded(NamedTuple):
    """B trials for each leading index, padded with zeros to the length L of the longest."""

    action: Tensor  # [L, *lead, B, A]
    reward: Tensor  # [L, *lead, B]
    next_obs: Tensor  # [L, *lead, B, O] state that the step led to
    obs: Tensor  # [L, *lead, B, O]
    ended: Tensor  # [L, *lead, B] 1 where an episode ended with the step, else 0
    length: Tensor  # [*lead, B] steps of each trial


class TrialReplay:
    """Rings of the last C trials, one in all or one per task, in a float32 tensor [G, C, T, F].

    Memory is G·C·T·F·4 bytes with F = A + 2·O + 2, which the CPU's system allocates only as the
    rings fill.

    Args:
      capacity: C.
      steps: length of the longest trial, T.
      n_obs: O. n_act: A.
      device: the device of its tensors.
      lead: () for one ring, (N,) for one per task.
    """

    def __init__(
        self,
        capacity: int,
        steps: int,
        n_obs: int,
        n_act: int,
        device: torch.device,
        lead: tuple[int, ...] = (),
    ) -> None:
        self._lead = lead
        self._sizes = [n_act, 1, n_obs, n_obs, 1]
        rings = lead[0] if lead else 1
        self._data = torch.empty(rings, capacity, steps, sum(self._sizes), device=device)
        self._length = torch.zeros(rings, capacity, dtype=torch.int64, device=device)
        self._added = torch.zeros(rings, dtype=torch.int64, device=device)

    @property
    def held(self) -> Tensor:
        """Number of trials in each ring [G]."""
        return self._added.clamp(max=self._data.shape[1])

    def add(self, moments: Moment) -> None:
        """Append the trials of a batch [T, N, E, …] that begins with them."""
        copies = moments.reward.shape[2]
        cuts = cut(moments.trial_ended.flatten(1))
        ring = cuts.column // copies if self._lead else torch.zeros_like(cuts.column)
        rings, capacity, steps, _ = self._data.shape
        count = torch.bincount(ring, minlength=rings)
        # position of each trial among the new ones of its ring
        rank = torch.arange(len(ring), device=ring.device) - (count.cumsum(0) - count)[ring]
        fits = rank >= count[ring] - capacity  # if there are too many, keep the last
        column, start, length, ring, rank = (part[fits] for part in (*cuts, ring, rank))
        parts = (
            moments.action,
            moments.reward[..., None],
            moments.next_obs,
            moments.obs,
            moments.ended[..., None],
        )
        rows = torch.cat(parts, -1).flatten(1, 2)  # [T, N·E, F]
        step = torch.arange(steps, device=ring.device)
        within = step < length[:, None]  # [M, T]
        time = (start[:, None] + step).clamp(max=len(rows) - 1)
        place = ring * capacity + (self._added[ring] + rank) % capacity
        self._data.view(-1, *self._data.shape[2:])[place] = (
            rows[time, column[:, None]] * within[..., None]
        )
        self._length.view(-1)[place] = length
        self._added = self._added + count

    def sample(self, size: int, generator: torch.Generator) -> Recorded:
        """`size` trials of each ring, uniform with replacement; rings share the random numbers."""
        share = torch.rand(size, generator=generator, dtype=torch.float64, device=generator.device)
        return self.at((share * self.held[:, None]).long())

    def at(self, index: Tensor) -> Recorded:
        """The trials at positions `index` [G, B] in each ring."""
        ring = torch.arange(len(index), device=index.device)
        place = index + ring[:, None] * self._data.shape[1]
        length = self._length.view(-1)[place]
        longest = int(length.max())
        # [L, G, B, F]
        rows = self._data.view(-1, *self._data.shape[2:])[place, :longest].movedim(2, 0)
        if not self._lead:
            rows = rows[:, 0]
            length = length[0]
        action, reward, next_obs, obs, ended = torch.split_with_sizes(rows, self._sizes, -1)
        return Recorded(
            action, reward[..., 0], next_obs, obs=obs, ended=ended[..., 0], length=length
        )

    def state_dict(self) -> dict[str, Any]:
        """The filled part of the rings, the lengths, and the counts of what was added."""
        filled = int(self.held.max())
        return {
            "data": self._data[:, :filled].clone(),
            "length": self._length.clone(),
            "added": self._added.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, into a replay of the same sizes."""
        self._data[:, : state["data"].shape[1]] = state["data"]
        self._length = state["length"].clone()
        self._added = state["added"].clone()
