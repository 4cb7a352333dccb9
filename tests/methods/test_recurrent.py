"""The memory of recurrent methods: against torch's GRU, trial by trial, blind to the future."""

import pytest
import torch
from torch import Tensor, nn

from methods.core.nets import Params, spread
from methods.core.recurrent import init_gru, memories

T, N, E, I, R = 9, 3, 2, 4, 5


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def gru() -> Params:
    params = init_gru("gru", I, R, torch.Generator().manual_seed(0), torch.float64)
    return {
        name: tensor + 0.3 * noise(k, *tensor.shape)
        for k, (name, tensor) in enumerate(params.items())
    }


def torchs(params: Params) -> nn.GRU:
    module = nn.GRU(I, R, dtype=torch.float64)
    weights = {"weight_ih_l0": params["gru_x.w"].T, "weight_hh_l0": params["gru_m.w"].T}
    module.load_state_dict(
        weights | {"bias_ih_l0": params["gru_x.b"][0], "bias_hh_l0": params["gru_m.b"][0]}
    )
    return module


def never() -> Tensor:
    return torch.zeros(T, N, E, dtype=torch.bool)


def sometimes() -> Tensor:
    ended = never()
    ended[2, 0, 0] = ended[5, 0, 0] = ended[6, 2, 1] = ended[8, 1, 0] = True
    return ended


def test_it_is_torchs_gru_one_step_later(gru: Params) -> None:
    x, start = noise(1, T, N, E, I), noise(2, N, E, R)
    result = memories(gru, "gru", x, never(), start)
    theirs, _ = torchs(gru)(x.flatten(1, 2), start.flatten(0, 1)[None])
    assert torch.equal(result[0], start)
    torch.testing.assert_close(result[1:].flatten(1, 2), theirs, rtol=0, atol=1e-12)


def test_a_batch_of_trials_remembers_what_each_trial_alone_would(gru: Params) -> None:
    x, ended = noise(1, T, N, E, I), sometimes()
    result, module = memories(gru, "gru", x, ended, torch.zeros(N, E, R).double()), torchs(gru)
    for n in range(N):
        for e in range(E):
            begin = 0
            for t in range(T):
                if ended[t, n, e] or t == T - 1:
                    alone, _ = module(x[begin : t + 1, n, e])
                    torch.testing.assert_close(
                        result[begin + 1 : t + 1, n, e], alone[:-1], rtol=0, atol=1e-12
                    )
                    last = torch.zeros(R).double() if ended[t, n, e] else alone[-1]
                    torch.testing.assert_close(result[t + 1, n, e], last, rtol=0, atol=1e-12)
                    begin = t + 1


@pytest.mark.parametrize("t", range(T + 1))
def test_a_memory_depends_on_nothing_from_its_step_on_nor_on_an_earlier_trial(
    gru: Params, t: int
) -> None:
    x = noise(1, T, N, E, I).requires_grad_()
    result = memories(gru, "gru", x, sometimes(), torch.zeros(N, E, R).double())
    gradient = (
        torch.autograd.grad(result[t, 0, 0].sum(), x, allow_unused=True)[0]
        if t
        else torch.zeros_like(x)
    )
    begin = max(b for b in (0, 3, 6) if b <= t)
    reached = {(s, 0, 0) for s in range(begin, t)}
    assert {tuple(index[:3]) for index in gradient.nonzero().tolist()} == reached


@pytest.mark.parametrize("truncation", [1, 4, T])
def test_truncation_cuts_gradients_and_no_values(gru: Params, truncation: int) -> None:
    x = noise(1, T, N, E, I).requires_grad_()
    start = torch.zeros(N, E, R).double()
    whole, cut = (
        memories(gru, "gru", x, trial_ended=never(), start=start, truncation=length)
        for length in (None, truncation)
    )
    torch.testing.assert_close(whole, cut, rtol=0, atol=1e-12)
    gradient = torch.autograd.grad(cut[T].sum(), x)[0]
    first = (T - 1) // truncation * truncation
    assert {int(t) for t, *_ in gradient.nonzero()} == set(range(first, T))


@pytest.mark.parametrize("truncation", [1, 2, 4, T - 1])
def test_truncation_is_a_memory_detached_in_turn(gru: Params, truncation: int) -> None:
    """Segments, run side by side, equal a loop; trials end inside and the start is not zero."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in gru.items()}
    x = noise(1, T, N, E, I).requires_grad_()
    start = noise(2, N, E, R).requires_grad_()
    weights = noise(3, T + 1, N, E, R)
    result = memories(leaves, "gru", x, trial_ended=sometimes(), start=start, truncation=truncation)
    parts, memory = [start], start
    for begin in range(0, T, truncation):
        piece = slice(begin, begin + truncation)
        parts.append(
            memories(
                leaves,
                "gru",
                x[piece],
                sometimes()[piece],
                memory if begin == 0 else memory.detach(),
            )[1:]
        )
        memory = parts[-1][-1]
    expected = torch.cat([start[None], *parts[1:]])
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)
    inputs = [x, start, *leaves.values()]
    ours, naive = (
        torch.autograd.grad((weights * values).sum(), inputs) for values in (result, expected)
    )
    for one, other in zip(ours, naive, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_tasks_with_weights_of_their_own_remember_as_each_would_alone(gru: Params) -> None:
    own = {name: tensor + 0.1 * noise(9, *tensor.shape) for name, tensor in spread(gru, N).items()}
    x, ended, start = noise(1, T, N, E, I), sometimes(), torch.zeros(N, E, R).double()
    together = memories(own, "gru", x, ended, start)
    for n in range(N):
        alone = {name: tensor[n] for name, tensor in own.items()}
        result = memories(alone, "gru", x[:, n : n + 1], ended[:, n : n + 1], start[n : n + 1])
        torch.testing.assert_close(together[:, n : n + 1], result, rtol=0, atol=1e-12)


def test_fresh_weights_have_torchs_scale() -> None:
    params = init_gru("gru", 40, 25, torch.Generator().manual_seed(0))
    for tensor in params.values():
        assert 0.19 < float(tensor.abs().max()) <= 0.2
