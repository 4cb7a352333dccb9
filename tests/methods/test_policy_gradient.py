"""Advantages and losses of policy gradients against loops over tasks, copies and episodes."""

from math import exp, log, pi

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.core.policy_gradient import (
    Outputs,
    Rollout,
    Samples,
    gaussian_policy,
    init_gaussian_policy,
    reinforce_loss,
    sampled,
    samples,
    surrogate,
)

T, N, E, O, A = 12, 3, 2, 4, 2


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_rollout(seed: int) -> Rollout:
    """Terminated, truncated and cut episodes in every task; not all clocks begin at 0."""
    terminated, truncated = noise(seed + 3, T, N, E) > 1.0, noise(seed + 4, T, N, E) > 1.0
    terminated[-1], truncated[-1] = False, False
    terminated[-1, :, 0] = True  # one copy's batch ends with an episode, the other's within one
    time = 100 * noise(seed + 5, T, N, E).abs().round()
    obs, last = 3 * noise(seed, T, N, E, O), 3 * noise(seed + 6, N, E, O)
    return Rollout(
        obs,
        noise(seed + 1, T, N, E, A),
        noise(seed + 2, T, N, E),
        terminated=terminated,
        truncated=truncated,
        time=time,
        last_obs=last,
    )


def row(obs: np.ndarray, time: float) -> np.ndarray:
    s, tau = np.clip(obs, -10, 10), time / 100
    return np.array([*s, *s**2, tau, tau**2, tau**3, 1.0])


def naive_advantages(data: Rollout, n: int, gamma: float, lam: float) -> np.ndarray:
    """Advantages [T, E] of one task, one episode after another; not normalised."""
    obs, _, reward, terminated, truncated, time = (part[:, n].numpy() for part in data[:-1])
    x, g, parts = [], [], []
    for e in range(E):
        stops = [t + 1 for t in range(T) if terminated[t, e] or truncated[t, e]]
        for start, stop in zip([0, *stops], [*stops, T], strict=True):
            parts.append((e, range(start, stop), stop in stops))
            if stop in stops:
                x += [row(obs[t, e], time[t, e]) for t in range(start, stop)]
                g += [
                    sum(gamma ** (k - t) * reward[k, e] for k in range(t, stop))
                    for t in range(start, stop)
                ]
    weights = np.linalg.solve(np.array(x).T @ x + 1e-5 * np.eye(2 * O + 4), np.array(x).T @ g)
    result = np.zeros((T, E))
    for e, steps, known in parts:
        values = [row(obs[t, e], time[t, e]) @ weights for t in steps]
        values.append(0.0 if known else row(data.last_obs[n, e].numpy(), time[-1, e] + 1) @ weights)
        delta = [reward[t, e] + gamma * values[i + 1] - values[i] for i, t in enumerate(steps)]
        for i, t in enumerate(steps):
            result[t, e] = sum((gamma * lam) ** (k - i) * delta[k] for k in range(i, len(steps)))
    return result


@pytest.mark.parametrize(("gamma", "lam"), [(0.9, 1.0), (0.99, 0.5), (1.0, 1.0)])
def test_samples_equal_a_loop_over_episodes(gamma: float, lam: float) -> None:
    data = random_rollout(1)
    batch = samples(data, gamma, lam)
    for n in range(N):
        expected = naive_advantages(data, n, gamma, lam).reshape(-1)
        expected = (expected - expected.mean()) / expected.std()
        np.testing.assert_allclose(batch.advantage[n].numpy(), expected, atol=1e-6)
        assert torch.equal(batch.obs[n], data.obs[:, n].reshape(T * E, O))
        assert torch.equal(batch.action[n], data.action[:, n].reshape(T * E, A))


def test_the_steps_of_a_cut_episode_do_not_enter_the_fit() -> None:
    data, cut = random_rollout(1), torch.zeros(T, N, E, dtype=torch.bool)
    for n, e in np.ndindex(N, E):
        ends = (data.terminated | data.truncated)[:, n, e].nonzero()
        cut[int(ends[-1]) + 1 :, n, e] = True
    other = samples(data._replace(reward=data.reward + 50.0 * cut), 0.9, 1.0).advantage
    whole = ~cut.transpose(0, 1).flatten(1)
    for n in range(N):  # normalised again, because the advantages of the cut steps differ
        one, two = (values[n][whole[n]] for values in (samples(data, 0.9, 1.0).advantage, other))
        torch.testing.assert_close(
            (two - two.mean()) / two.std(), (one - one.mean()) / one.std(), rtol=0, atol=1e-6
        )
    assert not whole.all(1).any()


def test_advantages_are_normalised_within_each_task() -> None:
    data = random_rollout(1)
    batch, scale = samples(data, 0.9, 1.0).advantage, torch.tensor([1.0, 1000.0, 1.0])
    torch.testing.assert_close(batch.mean(1), torch.zeros(N).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        batch.std(1, correction=0), torch.ones(N).double(), rtol=0, atol=1e-6
    )
    scaled = samples(data._replace(reward=data.reward * scale[:, None]), 0.9, 1.0).advantage
    torch.testing.assert_close(scaled, batch, rtol=0, atol=1e-6)


def outputs(seed: int) -> Outputs:
    return noise(seed, N, T, A), 0.3 * noise(seed + 1, N, 1, A)


def losses_batch(seed: int) -> Samples:
    return Samples(noise(seed, N, T, O), noise(seed + 1, N, T, A), noise(seed + 2, N, T))


def naive_log_prob(batch: Samples, policy: Outputs, n: int, b: int) -> float:
    entries = [
        (float(batch.action[n, b, a] - policy[0][n, b, a]), float(policy[1][n, 0, a]))
        for a in range(A)
    ]
    return sum(
        -0.5 * (miss / exp(log_std)) ** 2 - log_std - 0.5 * log(2 * pi) for miss, log_std in entries
    )


def test_losses_equal_a_loop() -> None:
    batch, before, now = losses_batch(1), outputs(5), outputs(7)
    for n in range(N):
        logs = [
            (naive_log_prob(batch, now, n, b), naive_log_prob(batch, before, n, b))
            for b in range(T)
        ]
        weights = [float(advantage) for advantage in batch.advantage[n]]
        loss = -sum(one * w for (one, _), w in zip(logs, weights, strict=True)) / T
        gain = sum(exp(one - other) * w for (one, other), w in zip(logs, weights, strict=True)) / T
        assert float(reinforce_loss(now, batch)[n]) == pytest.approx(loss, abs=1e-10)
        assert float(surrogate(now, before, batch)[n]) == pytest.approx(gain, rel=1e-10)


def test_at_the_old_policy_the_surrogate_rises_as_the_loss_falls() -> None:
    batch, before = losses_batch(1), outputs(5)
    now = before[0].clone().requires_grad_(), before[1].clone().requires_grad_()
    up = torch.autograd.grad(surrogate(now, before, batch).sum(), now)
    down = torch.autograd.grad(reinforce_loss(now, batch).sum(), now)
    for one, other in zip(up, down, strict=True):
        torch.testing.assert_close(one, -other, rtol=0, atol=1e-12)


def test_tasks_together_equal_each_alone() -> None:
    data, before, now = random_rollout(1), outputs(5), outputs(7)
    together, batch = samples(data, 0.9, 1.0), losses_batch(1)
    for n in range(N):
        only = slice(n, n + 1)
        alone = samples(
            Rollout(*(part[:, only] for part in data[:-1]), data.last_obs[only]), 0.9, 1.0
        )
        torch.testing.assert_close(alone.advantage, together.advantage[only], rtol=0, atol=1e-9)
        own, (old, new) = (
            Samples(*(part[only] for part in batch)),
            ([part[only] for part in law] for law in (before, now)),
        )
        torch.testing.assert_close(
            reinforce_loss(new, own), reinforce_loss(now, batch)[only], rtol=0, atol=1e-12
        )
        torch.testing.assert_close(
            surrogate(new, old, own), surrogate(now, before, batch)[only], rtol=0, atol=1e-12
        )


def test_a_fresh_policy_follows_xaviers_law_with_zero_biases_and_unit_deviation() -> None:
    params = init_gaussian_policy(30, 20, 100, torch.Generator().manual_seed(0))
    for layer, sizes in enumerate([(30, 100), (100, 100), (100, 20)]):
        w, bound = params[f"pi{layer}.w"], (6 / sum(sizes)) ** 0.5
        assert w.shape == sizes
        assert 0.98 * bound < float(w.abs().max()) <= bound
        assert float(w.std()) == pytest.approx(bound / 3**0.5, rel=0.05)
        assert torch.equal(params[f"pi{layer}.b"], torch.zeros(1, sizes[1]))
    mean, log_std = gaussian_policy(params, torch.zeros(5, 30))
    assert torch.equal(mean, torch.zeros(5, 20))
    assert torch.equal(log_std, torch.zeros(1, 20))


def test_draws_have_the_policy_s_mean_and_deviation() -> None:
    mean, log_std = torch.tensor([[1.0, -2.0]]), torch.tensor([[-1.0, 0.5]])
    draws = sampled((mean.expand(100_000, A), log_std), torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws.mean(0), mean[0], rtol=0, atol=0.03)
    torch.testing.assert_close(draws.std(0), log_std[0].exp(), rtol=0.02, atol=0)


def test_deviations_have_a_floor() -> None:
    params = init_gaussian_policy(O, A, 3, torch.Generator().manual_seed(0)) | {
        "log_std": torch.tensor([[-50.0, 0.3]])
    }
    torch.testing.assert_close(
        gaussian_policy(params, torch.zeros(1, O))[1], torch.tensor([[log(1e-6), 0.3]])
    )
