"""Soft actor-critic losses against loops over samples, and tasks side by side against alone."""

from math import exp, log, pi, tanh

import pytest
import torch
from torch import Tensor

from methods.core.nets import mlp
from methods.core.sac import (
    Drawn,
    SACConfig,
    critic_loss,
    init_mlp,
    names,
    network,
    policy_loss,
    q_target,
    tanh_gaussian,
    temperature_loss,
    value_loss,
)

N, B, A = 3, 4, 2


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_target_is_the_scaled_reward_and_the_next_value_but_after_an_end() -> None:
    reward, value = noise(1, N, B), noise(2, N, B).requires_grad_()
    ended = torch.tensor([0.0, 1.0, 0.0, 1.0]).double().expand(N, B)
    y = q_target(reward, ended, value, 0.9, 5.0)
    assert not y.requires_grad
    for n in range(N):
        for b in range(B):
            expected = 5.0 * reward[n, b] + (0.0 if ended[n, b] else 0.9 * value[n, b])
            assert float(y[n, b]) == pytest.approx(float(expected.detach()), rel=1e-12)


def test_losses_equal_loops_over_samples_task_by_task() -> None:
    q, y, value, log_prob = noise(1, 2, N, B), noise(2, N, B), noise(3, N, B), noise(4, N, B)
    mean, log_std, alpha = noise(5, N, B, A), noise(6, N, B, A), noise(7, N).exp()
    drawn = Drawn(noise(8, N, B, A), log_prob, mean, log_std)
    critic, state = critic_loss(q, y), value_loss(value, q, log_prob, alpha)
    actor = policy_loss(drawn, q, alpha, 0.01)
    entropy = temperature_loss(alpha.log(), log_prob, -2.0)
    for n in range(N):
        rows = [(float(q[0, n, b]), float(q[1, n, b]), float(log_prob[n, b])) for b in range(B)]
        errors = [
            (one - float(y[n, b])) ** 2 + (two - float(y[n, b])) ** 2
            for b, (one, two, _) in enumerate(rows)
        ]
        assert float(critic[n]) == pytest.approx(sum(errors) / B)
        soft = [min(one, two) - float(alpha[n]) * p for one, two, p in rows]
        assert float(state[n]) == pytest.approx(
            sum((float(value[n, b]) - soft[b]) ** 2 for b in range(B)) / B
        )
        size = sum(
            float(mean[n, b, a]) ** 2 + float(log_std[n, b, a]) ** 2
            for b in range(B)
            for a in range(A)
        ) / (B * A)
        assert float(actor[n]) == pytest.approx(-sum(soft) / B + 0.01 * size)
        assert float(entropy[n]) == pytest.approx(
            -log(alpha[n]) * sum(p - 2.0 for *_, p in rows) / B
        )


def test_gradients_stop_where_the_equations_say() -> None:
    q, value, log_prob = noise(1, 2, N, B), noise(2, N, B), noise(3, N, B)
    for tensor in (q, value, log_prob):
        tensor.requires_grad_()
    log_alpha = noise(4, N).requires_grad_()
    inputs = {"q": q, "value": value, "log_prob": log_prob, "log_alpha": log_alpha}

    def moved(loss: Tensor) -> set[str]:
        found = torch.autograd.grad(loss.sum(), list(inputs.values()), allow_unused=True)
        return {
            name
            for name, g in zip(inputs, found, strict=True)
            if g is not None and g.abs().sum() > 0
        }

    zeros = torch.zeros(N, B, A).double()
    assert moved(value_loss(value, q, log_prob, log_alpha.exp())) == {"value"}
    assert moved(policy_loss(Drawn(zeros, log_prob, zeros, zeros), q, log_alpha.exp(), 0.0)) == {
        "q",
        "log_prob",
    }
    assert moved(temperature_loss(log_alpha, log_prob, -2.0)) == {"log_alpha"}


def test_the_temperature_grows_while_the_entropy_is_below_its_target() -> None:
    for entropy, sign in ((-5.0, -1), (3.0, 1)):  # the target is −2
        log_alpha = torch.zeros(1).requires_grad_()
        loss = temperature_loss(log_alpha, torch.full((1, B), -entropy), -2.0)
        assert float(torch.autograd.grad(loss.sum(), log_alpha)[0]) * sign > 0


def test_a_drawn_action_has_the_density_of_the_squashed_gaussian() -> None:
    outputs = torch.tensor([[0.3, -0.2, -0.5, 0.1]]).double()
    eps = torch.tensor([[0.7, -1.1]]).double()
    drawn = tanh_gaussian(outputs, eps)
    total = 0.0
    for i, (m, s) in enumerate(((0.3, -0.5), (-0.2, 0.1))):
        x = m + exp(s) * float(eps[0, i])
        assert float(drawn.action[0, i]) == pytest.approx(tanh(x))
        total += -0.5 * float(eps[0, i]) ** 2 - s - 0.5 * log(2 * pi) - log(1 - tanh(x) ** 2)
    assert float(drawn.log_prob[0]) == pytest.approx(total)
    far = tanh_gaussian(torch.tensor([[0.0, 30.0]]), torch.zeros(1, 1))
    assert float(far.log_std) == 2.0  # clamped


def test_fresh_weights_are_within_the_official_bounds() -> None:
    params = init_mlp(
        "q",
        7,
        50,
        layers=2,
        n_out=1,
        last=3e-3,
        generator=torch.Generator().manual_seed(0),
        lead=(2,),
    )
    assert {name: tuple(tensor.shape) for name, tensor in params.items()} == {
        "q0.w": (2, 7, 50),
        "q0.b": (2, 1, 50),
        "q1.w": (2, 50, 50),
        "q1.b": (2, 1, 50),
        "q2.w": (2, 50, 1),
        "q2.b": (2, 1, 1),
    }
    for name, bound in (("q0.w", 50**-0.5), ("q1.w", 50**-0.5), ("q2.w", 3e-3), ("q2.b", 3e-3)):
        assert 0.6 * bound < float(params[name].abs().max()) <= bound * (1 + 1e-6) or name == "q2.b"
        assert float(params[name].abs().max()) <= bound * (1 + 1e-6)
    assert (params["q0.b"] == 0.1).all() and (params["q1.b"] == 0.1).all()
    assert not torch.equal(params["q0.w"][0], params["q0.w"][1])


def test_a_network_in_bfloat16_has_a_last_layer_in_float32() -> None:
    params = init_mlp(
        "v", 5, 16, layers=2, n_out=1, last=0.3, generator=torch.Generator().manual_seed(0)
    )
    params["v2.b"].fill_(300.1)  # bfloat16 has 300 and 302, and nothing between
    x = torch.randn(B, 5, generator=torch.Generator().manual_seed(1))
    exact, rough = (network(params, "v", 2, x, precision) for precision in ("fp32", "bf16"))
    torch.testing.assert_close(exact, mlp(params, names("v", 2), x))
    assert rough.dtype == torch.float32 and not torch.equal(rough, exact)
    assert (rough - exact).abs().max() < 0.05


@pytest.mark.parametrize(
    "setting",
    [{"precision": "fp16"}, {"layers": 0}, {"gamma": 1.5}, {"learning_rate": float("nan")}],
)
def test_absurd_settings_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        SACConfig(**setting)
