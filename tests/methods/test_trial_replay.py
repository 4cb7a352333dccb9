"""Trials cut from columns and replayed, against a step-by-step loop and a list as the ring."""

import pytest
import torch
from torch import Tensor

from methods.core.trial_replay import TrialReplay, cut
from methods.core.trials import Moment

CPU = torch.device("cpu")

T, N, E, O, A = 9, 3, 2, 4, 2


def moments_of(seed: int, rate: float = 0.25) -> Moment:
    generator = torch.Generator().manual_seed(seed)
    obs, action, next_obs = (torch.randn(T, N, E, size, generator=generator) for size in (O, A, O))
    ended = torch.rand(T, N, E, generator=generator) < rate
    fell, clock = ended & (obs[..., 0] > 0), ended & (obs[..., 0] < 0.5)  # sometimes both
    return Moment(
        obs,
        action,
        torch.randn(T, N, E, generator=generator),
        next_obs=next_obs,
        terminated=fell,
        truncated=clock,
        trial_ended=ended,
    )


def trials_of(moments: Moment) -> list[tuple[int, slice, int]]:
    """Task, steps and copy of each trial, found step by step."""
    found = []
    for n in range(N):
        for e in range(E):
            begin = 0
            for t in range(T):
                if moments.trial_ended[t, n, e] or t == T - 1:
                    found.append((n, slice(begin, t + 1), e))
                    begin = t + 1
    return found


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_trials_are_cut_where_they_end_and_where_the_batch_does(rate: float) -> None:
    moments = moments_of(0, rate)
    cuts = cut(moments.trial_ended.flatten(1))
    expected = [
        (n * E + e, steps.start, steps.stop - steps.start) for n, steps, e in trials_of(moments)
    ]
    assert torch.stack(list(cuts), 1).tolist() == [list(trial) for trial in expected]
    assert int(cuts.length.sum()) == T * N * E


def held(replay: TrialReplay, index: int, ring: int, lead: tuple[int, ...]) -> tuple[Tensor, ...]:
    """The trial at an index of a ring, without its padding."""
    trials = replay.at(torch.full((lead[0] if lead else 1, 1), index))
    where = (ring, 0) if lead else (0,)
    length = int(trials.length[where])
    parts = [part.movedim(0, trials.length.ndim)[where] for part in trials[:5]]
    assert all(not part[length:].any() for part in parts)
    return tuple(part[:length] for part in parts)


@pytest.mark.parametrize("lead", [(), (N,)])
def test_a_ring_holds_the_last_trials_as_they_were(lead: tuple[int, ...]) -> None:
    capacity = 11
    replay = TrialReplay(capacity, T, O, A, CPU, lead)
    rings: list[list[tuple[Tensor, ...]]] = [[] for _ in range(lead[0] if lead else 1)]
    for seed in range(4):
        moments = moments_of(seed)
        replay.add(moments)
        for n, steps, e in trials_of(moments):
            parts = (
                moments.action,
                moments.reward,
                moments.next_obs,
                moments.obs,
                moments.ended.float(),
            )
            rings[n if lead else 0].append(tuple(part[steps, n, e] for part in parts))
        assert replay.held.tolist() == [min(len(ring), capacity) for ring in rings]
        for number, ring in enumerate(rings):
            for k in range(max(0, len(ring) - capacity), len(ring)):
                for left, right in zip(
                    held(replay, k % capacity, number, lead), ring[k], strict=True
                ):
                    assert torch.equal(left, right)
    assert len({len(ring) for ring in rings}) > 1 or not lead  # rings fill independently


def test_a_ring_too_small_for_a_batch_keeps_its_last() -> None:
    moments, replay = moments_of(0), TrialReplay(2, T, O, A, CPU)
    replay.add(moments)
    count = len(trials_of(moments))
    for k in (count - 2, count - 1):
        n, steps, e = trials_of(moments)[k]
        assert torch.equal(held(replay, k % 2, 0, ())[0], moments.action[steps, n, e])


@pytest.mark.parametrize("lead", [(), (N,)])
def test_draws_are_uniform_over_what_is_held_and_padded_no_further_than_needed(
    lead: tuple[int, ...],
) -> None:
    replay, generator = TrialReplay(50, T, O, A, CPU, lead), torch.Generator().manual_seed(0)
    moments = moments_of(0)
    replay.add(moments)
    trials = replay.sample(4000, generator)
    assert len(trials.action) == int(trials.length.max())
    for ring, count in enumerate(replay.held.tolist()):
        firsts = trials.reward[0, ring] if lead else trials.reward[0]
        known = [
            moments.reward[s.start, n, e] for n, s, e in trials_of(moments) if n == ring or not lead
        ]
        shares = [float((firsts == first).float().mean()) for first in known]
        assert len(shares) == count
        assert min(shares) > 0.6 / count
        assert max(shares) < 1.4 / count
        assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize("lead", [(), (N,)])
def test_a_replay_goes_on_from_its_state(lead: tuple[int, ...]) -> None:
    one, other = (TrialReplay(7, T, O, A, CPU, lead) for _ in range(2))
    one.add(moments_of(0))
    state = one.state_dict()
    one.add(moments_of(1))
    other.load_state_dict(state)
    other.add(moments_of(1))
    for left, right in zip(
        *(replay.sample(20, torch.Generator().manual_seed(3)) for replay in (one, other)),
        strict=True,
    ):
        assert torch.equal(left, right)
