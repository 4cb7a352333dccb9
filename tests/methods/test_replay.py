"""Replay: a ring per task, gathered at once."""

import pytest
import torch

from methods.core.replay import Batch, Replay

CPU = torch.device("cpu")

N, O, A = 3, 4, 2


def transition(k: int) -> Batch:
    """The k-th transition, with every entry encoding its task, k and column."""
    task = torch.arange(N, dtype=torch.float32)[:, None, None] * 1000 + k
    return Batch(
        task + torch.arange(O) / 10,
        task + torch.arange(A) / 10 + 100,
        task[..., 0] + 200,
        task + torch.arange(O) / 10 + 300,
        (torch.arange(N)[:, None] == k % N).float(),
    )


def filled(count: int, capacity: int) -> Replay:
    replay = Replay(N, capacity, O, A, CPU)
    for k in range(count):
        replay.add(transition(k))
    return replay


@pytest.mark.parametrize(("count", "capacity"), [(1, 5), (4, 5), (5, 5), (12, 5)])
def test_it_holds_the_last_transitions_of_each_task(count: int, capacity: int) -> None:
    replay = filled(count, capacity)
    assert len(replay) == min(count, capacity)
    held = replay.at(torch.arange(len(replay)).expand(N, -1))
    oldest_first = held.reward[0].argsort()
    for name in Batch._fields:
        expected = [getattr(transition(k), name) for k in range(max(0, count - capacity), count)]
        torch.testing.assert_close(
            getattr(held, name)[:, oldest_first], torch.cat(expected, 1), rtol=0, atol=0
        )


def test_a_sample_is_uniform_over_what_is_held_and_never_crosses_tasks() -> None:
    replay = filled(7, 5)
    batch = replay.sample(20_000, torch.Generator().manual_seed(0))
    assert torch.equal(
        (batch.reward - 200) // 1000, torch.arange(N)[:, None].expand(N, 20_000).float()
    )
    for n in range(N):
        k, counts = ((batch.reward[n] - 200) % 1000).unique(return_counts=True)
        assert k.tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]
        assert (counts / 20_000 - 0.2).abs().max() < 0.02
    torch.testing.assert_close(
        batch.next_obs - batch.obs, torch.full_like(batch.obs, 300), rtol=0, atol=1e-3
    )


def test_state_round_trip_goes_on_as_if_never_stopped() -> None:
    one, other = filled(7, 5), Replay(N, 5, O, A, CPU)
    other.load_state_dict(one.state_dict())
    for k in range(7, 9):
        one.add(transition(k))
        other.add(transition(k))
    index = torch.tensor([[0, 1, 2, 3, 4]] * N)
    for left, right in zip(one.at(index), other.at(index), strict=True):
        assert torch.equal(left, right)


def test_memory_is_that_of_the_docstring() -> None:
    replay = Replay(N, 100, O, A, CPU)
    assert replay._data.numel() * replay._data.element_size() == N * 100 * 4 * (2 * O + A + 2)
