"""Replay of many tasks: what each holds, and the part of it that the inference network may see."""

import pytest
import torch
from torch import Tensor

from methods.core.replay import Batch, TaskReplay

CPU = torch.device("cpu")

N, O, A, CAPACITY = 4, 3, 2, 6


def transitions(ids: Tensor, first: int, steps: int) -> Batch:
    """Steps `first`, `first` + 1, … of tasks; every entry encodes its task, step and column."""
    base = 1000.0 * ids[:, None] + first + torch.arange(steps)
    columns = torch.arange(O) / 10
    return Batch(
        base[..., None] + columns,
        base[..., None] + torch.arange(A) / 10 + 100,
        base + 200,
        base[..., None] + columns + 300,
        (base % 2 == 0).float(),
    )


def filled() -> TaskReplay:
    """A replay in which tasks 1 and 3 were visited twice, task 0 once, task 2 never."""
    replay = TaskReplay(N, CAPACITY, O, A, CPU)
    both = torch.tensor([3, 1])
    replay.add(both, transitions(both, 0, 3), context=True)
    replay.add(both, transitions(both, 3, 2), context=False)
    replay.add(torch.tensor([0]), transitions(torch.tensor([0]), 0, 4), context=True)
    replay.add(both, transitions(both, 5, 2), context=True)
    replay.add(both, transitions(both, 7, 1), context=False)
    return replay


def steps_of(batch: Batch, ids: Tensor) -> list[list[int]]:
    """Steps drawn of each task; every row is checked to be one whole step of that task."""
    step = batch.reward - 200 - 1000 * ids[:, None]
    expected = transitions(torch.zeros(1, dtype=torch.int64), 0, 1)
    for got, part in zip(batch[:4], expected[:4], strict=True):
        base = batch.reward - 200
        offset = part[0, 0] if part.ndim == 3 else part[0]
        torch.testing.assert_close(
            got, (base[..., None] + offset) if got.ndim == 3 else base + offset, rtol=0, atol=1e-3
        )
    assert torch.equal(batch.terminated, ((batch.reward - 200) % 2 == 0).float())
    return [sorted({int(s) for s in row}) for row in step]


def test_a_sample_is_of_the_last_transitions_of_its_tasks() -> None:
    replay, ids = filled(), torch.tensor([1, 0, 3, 1])
    batch = replay.sample(ids, 300, torch.Generator().manual_seed(0))
    assert steps_of(batch, ids) == [
        [2, 3, 4, 5, 6, 7],
        [0, 1, 2, 3],
        [2, 3, 4, 5, 6, 7],
        [2, 3, 4, 5, 6, 7],
    ]


def test_a_context_is_of_the_last_visit_on_the_prior_and_of_nothing_else() -> None:
    replay, ids = filled(), torch.tensor([0, 1, 3])
    batch = replay.sample_context(ids, 300, torch.Generator().manual_seed(0))
    assert steps_of(batch, ids) == [[0, 1, 2, 3], [5, 6], [5, 6]]


def test_draws_are_uniform() -> None:
    batch = filled().sample(torch.tensor([1]), 60_000, torch.Generator().manual_seed(0))
    _, counts = batch.reward.unique(return_counts=True)
    assert (counts / 60_000 - 1 / 6).abs().max() < 0.01


def test_more_than_it_holds_is_refused_with_the_way_out() -> None:
    ids = torch.tensor([0])
    with pytest.raises(ValueError, match=r"7 transitions .* replay of 6; make `replay` larger"):
        TaskReplay(N, CAPACITY, O, A, CPU).add(ids, transitions(ids, 0, 7), context=True)
