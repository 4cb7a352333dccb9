"""Returns and advantages against a loop per episode; the baseline against least squares."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.core.returns import (
    advantages,
    baseline_features,
    discounted_returns,
    finished,
    fit_baseline,
    normalised,
)

T = 23
LEADS = [(), (4,), (2, 3)]
DISCOUNTS = [(0.9, 0.8), (1.0, 1.0), (0.99, 0.0), (0.0, 0.5)]


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ends(seed: int, *lead: int) -> tuple[Tensor, Tensor]:
    """Terminations and truncations; both may occur at the same step."""
    draws = noise(seed, T, *lead), noise(seed + 1, T, *lead)
    return draws[0] > 1.2, draws[1] > 1.2


def episodes(ended: np.ndarray) -> Iterator[slice]:
    """The episodes of one column; the end of the batch may cut the last one."""
    start = 0
    for t in range(len(ended)):
        if ended[t] or t == len(ended) - 1:
            yield slice(start, t + 1)
            start = t + 1


def columns(*tensors: Tensor) -> Iterator[tuple[np.ndarray, ...]]:
    flat = [tensor.reshape(T, -1).numpy() for tensor in tensors]
    for column in range(flat[0].shape[1]):
        yield tuple(values[:, column] for values in flat)


def naive_returns(reward: np.ndarray, gamma: float) -> list[float]:
    return [
        sum(gamma ** (k - t) * reward[k] for k in range(t, len(reward))) for t in range(len(reward))
    ]


def naive_advantages(
    reward: np.ndarray,
    value: np.ndarray,
    next_value: np.ndarray,
    terminated: np.ndarray,
    gamma: float,
    lam: float,
) -> list[float]:
    """Σ (γλ)ᵏ δ over one episode; only its last step can be terminated."""
    after = [0.0 if terminated[t] else next_value[t] for t in range(len(reward))]
    delta = [reward[t] + gamma * after[t] - value[t] for t in range(len(reward))]
    return naive_returns(np.array(delta), gamma * lam)


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize(("gamma", "lam"), DISCOUNTS)
def test_returns_and_advantages_equal_a_loop_per_episode(
    lead: tuple[int, ...], gamma: float, lam: float
) -> None:
    reward, value, next_value = (noise(seed, T, *lead) for seed in (1, 2, 3))
    terminated, truncated = ends(4, *lead)
    ended = terminated | truncated
    returns, whole = discounted_returns(reward, ended, gamma), finished(ended)
    advantage = advantages(
        reward, value, next_value, terminated=terminated, truncated=truncated, gamma=gamma, lam=lam
    )
    for r, v, n, d, e, g, w, a in columns(
        reward, value, next_value, terminated, ended, returns, whole, advantage
    ):
        for part in episodes(e):
            np.testing.assert_allclose(g[part], naive_returns(r[part], gamma), atol=1e-12)
            np.testing.assert_allclose(
                a[part],
                naive_advantages(
                    r[part], v[part], n[part], terminated=d[part], gamma=gamma, lam=lam
                ),
                atol=1e-12,
            )
            assert (w[part] == e[part][-1]).all()
    assert returns.shape == whole.shape == advantage.shape == reward.shape
    assert (terminated & ~truncated).any()
    assert (truncated & ~terminated).any()


def test_the_batches_of_these_tests_end_inside_some_episodes_only() -> None:
    terminated, truncated = ends(4, 2, 3)
    assert len((terminated | truncated)[-1].unique()) == 2


def test_without_values_advantages_of_whole_episodes_are_their_returns() -> None:
    reward, nothing, (terminated, truncated) = (
        noise(1, T, 3),
        torch.zeros(T, 3, dtype=torch.float64),
        ends(4, 3),
    )
    truncated[-1] = True
    advantage = advantages(
        reward, nothing, nothing, terminated=terminated, truncated=truncated, gamma=0.9, lam=1.0
    )
    assert torch.equal(advantage, discounted_returns(reward, terminated | truncated, 0.9))


def test_a_value_follows_what_is_truncated_and_never_what_is_terminated() -> None:
    reward, value, next_value, (terminated, truncated) = (
        noise(1, T, 3),
        noise(2, T, 3),
        noise(3, T, 3),
        ends(4, 3),
    )
    plain = advantages(
        reward, value, next_value, terminated=terminated, truncated=truncated, gamma=0.9, lam=0.8
    )
    beyond = torch.where(terminated, 1e9, next_value)
    assert torch.equal(
        advantages(
            reward, value, beyond, terminated=terminated, truncated=truncated, gamma=0.9, lam=0.8
        ),
        plain,
    )
    clock = truncated & ~terminated
    raised = advantages(
        reward,
        value,
        next_value + 1.0 * clock,
        terminated=terminated,
        truncated=truncated,
        gamma=0.9,
        lam=0.8,
    )
    torch.testing.assert_close(
        (raised - plain)[clock], torch.full_like(plain[clock], 0.9), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("which", [0, 1])
def test_what_follows_an_end_never_reaches_what_precedes_it(which: int) -> None:
    end, flags = 9, [torch.zeros(T, 2, dtype=torch.bool), torch.zeros(T, 2, dtype=torch.bool)]
    flags[which][end] = True
    reward, value = noise(1, T, 2), noise(2, T, 2)
    later = (torch.arange(T) > end)[:, None] * 1e6
    ended = flags[0] | flags[1]
    before, after = (discounted_returns(r, ended, 0.9) for r in (reward, reward + later))
    assert torch.equal(before[: end + 1], after[: end + 1])
    before, after = (
        advantages(reward + x, value, value + x, *flags, 0.9, 0.8) for x in (0.0 * later, later)
    )
    assert torch.equal(before[: end + 1], after[: end + 1])
    assert not torch.isclose(before[end + 1 :], after[end + 1 :]).any()


def test_normalised_values_have_mean_0_and_deviation_1_in_each_row() -> None:
    values = torch.stack([noise(1, 50), 1e3 * noise(2, 50) + 7.0])
    result = normalised(values)
    torch.testing.assert_close(
        result, (values - values.mean(1, keepdim=True)) / values.std(1, correction=0, keepdim=True)
    )


@pytest.mark.parametrize("value", [0.0, 0.1, 1000.1, -37.3])
def test_equal_values_are_normalised_to_zero(value: float) -> None:
    rows = torch.stack([torch.full((4000,), value), noise(1, 4000).float()])
    assert torch.equal(normalised(rows)[0], torch.zeros(4000))
    assert float(normalised(rows)[1].std()) == pytest.approx(1.0, rel=1e-3)


def test_features_are_those_worked_out_by_hand() -> None:
    obs, time = torch.tensor([[0.5, -3.0], [12.0, -1e6]]), torch.tensor([0.0, 50.0])
    expected = [
        [0.5, -3.0, 0.25, 9.0, 0.0, 0.0, 0.0, 1.0],
        [10.0, -10.0, 100.0, 100.0, 0.5, 0.25, 0.125, 1.0],
    ]
    result = baseline_features(obs, time)
    torch.testing.assert_close(
        result, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15
    )


def problem(
    seed: int, *lead: int, rows: int = 40, columns: int = 6
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        noise(seed, *lead, rows, columns),
        noise(seed + 1, *lead, rows),
        noise(seed + 2, *lead, rows) > -0.5,
    )


@pytest.mark.parametrize("ridge", [1e-5, 2.0])
def test_the_baseline_is_the_penalised_least_squares_solution(ridge: float) -> None:
    x, g, known = problem(1, 2, 3)
    weights = fit_baseline(x, g, known, ridge)
    for i in np.ndindex(2, 3):
        # the penalty, as six more rows
        rows = np.concatenate([x[i][known[i]].numpy(), ridge**0.5 * np.eye(6)])
        expected = np.linalg.lstsq(
            rows, np.concatenate([g[i][known[i]].numpy(), np.zeros(6)]), rcond=None
        )[0]
        np.testing.assert_allclose(weights[i].numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("garbage", [1e30, float("inf"), float("nan")])
def test_rows_that_are_not_known_do_not_move_the_weights_by_one_bit(garbage: float) -> None:
    x, g, known = problem(1, 3)
    spoilt = torch.where(known[..., None], x, garbage), torch.where(known, g, garbage)
    assert not known.all(1).any()
    assert torch.equal(fit_baseline(*spoilt, known), fit_baseline(x, g, known))
    assert torch.equal(fit_baseline(x, spoilt[1], known), fit_baseline(x, g, known))


def test_each_task_alone_has_the_weights_that_it_has_among_others() -> None:
    x, g, known = problem(1, 5)
    together = fit_baseline(x, g, known)
    for n in range(5):
        torch.testing.assert_close(
            fit_baseline(x[n], g[n], known[n]), together[n], rtol=0, atol=1e-12
        )


def test_a_task_without_a_known_row_has_zero_weights_and_leaves_the_others_theirs() -> None:
    x, g, known = problem(1, 3)
    some = known & torch.tensor([True, False, True])[:, None]
    weights = fit_baseline(x, g, some)
    assert torch.equal(weights[1], torch.zeros(6, dtype=torch.float64))
    assert torch.equal(weights[::2], fit_baseline(x, g, known)[::2])


def test_returns_in_float32_are_fitted_in_float64() -> None:
    x, g, known = problem(1)
    weights = fit_baseline(x, g.float(), known)
    assert weights.dtype == torch.float64
    assert torch.equal(weights, fit_baseline(x, g.float().double(), known))
