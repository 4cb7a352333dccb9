"""TD3: each equation against a naive loop, and N tasks together against one at a time."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from methods.core.nets import LAYERS, Params, actor, critics, init_actor, init_critics
from methods.core.replay import Batch
from methods.core.td3 import TD3, TD3Config, actor_loss, critic_loss, smoothed_action, td_target

N, B, O, A, D = 3, 7, 4, 2, 8
CONFIG = TD3Config(hidden=D, batch=B, learning_rate=1e-3, gamma=0.9)
ACT = partial(actor, depth=1)
LEAD = dict.fromkeys(LAYERS, (N,))


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(seed: int) -> Batch:
    ended = (noise(seed + 4, N, B) > 0.8).double()
    return Batch(
        noise(seed, N, B, O),
        noise(seed + 1, N, B, A).tanh(),
        noise(seed + 2, N, B),
        noise(seed + 3, N, B, O),
        ended,
    )


def learner(shared: bool = False, config: TD3Config = CONFIG) -> TD3:
    generator = torch.Generator().manual_seed(0)
    pi = init_actor(
        O,
        A,
        D,
        depth=1,
        lead=LEAD | {"psi": () if shared else (N,)},
        generator=generator,
        head_scale=1.0,
        dtype=torch.float64,
    )
    return TD3(ACT, pi, {}, init_critics(N, O + A, D, generator, torch.float64), config)


def test_target_action_and_value_equal_a_naive_loop() -> None:
    action, epsilon = noise(1, N, B, A).tanh(), noise(2, N, B, A)
    smooth = smoothed_action(action, epsilon, 0.5)
    data, next_q = batch(3), noise(9, 2, N, B)
    target = td_target(data.reward, data.terminated, next_q, 0.9)
    for n in range(N):
        for b in range(B):
            for a in range(A):
                clipped = max(-0.5, min(0.5, float(epsilon[n, b, a])))
                assert float(smooth[n, b, a]) == pytest.approx(
                    max(-1.0, min(1.0, float(action[n, b, a]) + clipped)), abs=1e-12
                )
            value = min(float(next_q[0, n, b]), float(next_q[1, n, b]))
            bootstrap = 0.0 if data.terminated[n, b] else 0.9 * value
            assert float(target[n, b]) == pytest.approx(
                float(data.reward[n, b]) + bootstrap, abs=1e-12
            )
    assert data.terminated.any()


def test_losses_equal_a_naive_loop() -> None:
    q, target = noise(1, 2, N, B), noise(2, N, B)
    squares = [
        (float(q[i, n, b]) - float(target[n, b])) ** 2
        for i in range(2)
        for n in range(N)
        for b in range(B)
    ]
    assert float(critic_loss(q, target)) == pytest.approx(sum(squares) / B, abs=1e-12)
    assert float(actor_loss(q[0])) == pytest.approx(
        -sum(float(value) for value in q[0].reshape(-1)) / B, abs=1e-12
    )


def reference_update(
    pi: Params, omega: Params, pi_target: Params, omega_target: Params, data: Batch, epsilon: Tensor
) -> Params:
    """Gradients of one task by plain autograd: the critics', then the actor's at those critics."""

    def plain(params: Mapping[str, Tensor], names: tuple[str, ...], x: Tensor) -> Tensor:
        for name in names[:-1]:
            x = torch.relu(
                torch.nn.functional.linear(x, params[f"{name}.w"].T, params[f"{name}.b"][0])
            )
        return torch.nn.functional.linear(
            x, params[f"{names[-1]}.w"].T, params[f"{names[-1]}.b"][0]
        )

    layers, q_layers = ("rho_h", "psi0", "rho_t"), ("q0", "q1", "q2")
    pi = {name: tensor.clone().requires_grad_() for name, tensor in pi.items()}
    omega = {name: tensor.clone().requires_grad_() for name, tensor in omega.items()}
    one, two = ({name: tensor[i] for name, tensor in omega.items()} for i in range(2))
    old_one, old_two = (
        {name: tensor[i] for name, tensor in omega_target.items()} for i in range(2)
    )
    with torch.no_grad():
        action = (plain(pi_target, layers, data.next_obs).tanh() + epsilon.clamp(-0.5, 0.5)).clamp(
            -1, 1
        )
        x = torch.cat([data.next_obs, action], 1)
        value = torch.minimum(plain(old_one, q_layers, x)[:, 0], plain(old_two, q_layers, x)[:, 0])
        y = data.reward + 0.9 * (1 - data.terminated) * value
    x = torch.cat([data.obs, data.action], 1)
    loss = sum(
        torch.nn.functional.mse_loss(plain(critic, q_layers, x)[:, 0], y) for critic in (one, two)
    )
    gradients = dict(zip(omega, torch.autograd.grad(loss, list(omega.values())), strict=True))
    q = plain(one, q_layers, torch.cat([data.obs, plain(pi, layers, data.obs).tanh()], 1))
    return gradients | dict(zip(pi, torch.autograd.grad(-q.mean(), list(pi.values())), strict=True))


def slot(params: Mapping[str, Tensor], n: int, axis: int = 0) -> Params:
    return {name: tensor.detach().select(axis, n) for name, tensor in params.items()}


def test_one_update_applies_the_gradient_of_each_task_alone() -> None:
    config = TD3Config(hidden=D, batch=B, gamma=0.9, policy_delay=1, learning_rate=1e-3)
    td3, data, epsilon = learner(config=config), batch(3), noise(8, N, B, A)
    td3.update(data, epsilon)
    start = learner(config=config)
    for n in range(N):
        alone = Batch(*(tensor[n] for tensor in data))
        pi, targets = slot(start.pi, n), (slot(start.pi_target, n), slot(start.omega_target, n, 1))
        critic = reference_update(pi, slot(start.omega, n, 1), *targets, alone, epsilon[n])
        # the actor's gradient is that with the updated critics
        then = reference_update(pi, slot(td3.omega, n, 1), *targets, alone, epsilon[n])
        for name in td3.omega:
            torch.testing.assert_close(td3.omega[name].grad[:, n], critic[name], rtol=0, atol=1e-12)
        for name in td3.pi:
            torch.testing.assert_close(td3.pi[name].grad[n], then[name], rtol=0, atol=1e-12)
            # Adam's first step is the learning rate times the sign of the gradient
            moved = td3.pi[name].detach()[n] - start.pi[name].detach()[n]
            sure = then[name].abs() > 1e-6
            torch.testing.assert_close(
                moved[sure], -1e-3 * then[name][sure].sign(), rtol=1e-2, atol=0
            )


def test_targets_follow_and_the_actor_waits() -> None:
    td3 = learner()
    start = learner()
    td3.update(batch(3), noise(8, N, B, A))
    assert all(torch.equal(td3.pi[name], start.pi[name]) for name in td3.pi)
    assert all(torch.equal(td3.omega_target[name], start.omega_target[name]) for name in td3.omega)
    assert not torch.equal(td3.omega["q0.w"], start.omega["q0.w"])
    td3.update(batch(13), noise(18, N, B, A))
    assert not torch.equal(td3.pi["rho_h.w"], start.pi["rho_h.w"])
    for tree in ("pi", "omega"):
        for name, tensor in getattr(td3, tree).items():
            before = getattr(start, f"{tree}_target")[name]
            expected = 0.005 * tensor.detach() + 0.995 * before
            torch.testing.assert_close(
                getattr(td3, f"{tree}_target")[name], expected, rtol=0, atol=1e-15
            )


def test_tasks_together_equal_tasks_alone_after_100_updates() -> None:
    together, alone = learner(), []
    for n in range(N):
        start = learner()
        pi = {name: tensor.detach()[n : n + 1] for name, tensor in start.pi.items()}
        omega = {name: tensor.detach()[:, n : n + 1] for name, tensor in start.omega.items()}
        alone.append(TD3(ACT, pi, {}, omega, CONFIG))
    for k in range(100):
        data, epsilon = batch(10 * k), 0.2 * noise(10 * k + 5, N, B, A)
        together.update(data, epsilon)
        for n, td3 in enumerate(alone):
            td3.update(Batch(*(tensor[n : n + 1] for tensor in data)), epsilon[n : n + 1])
    for n, td3 in enumerate(alone):
        for name, tensor in td3.pi.items():
            torch.testing.assert_close(together.pi[name][n : n + 1], tensor, rtol=0, atol=1e-8)
        for name, tensor in td3.omega.items():
            torch.testing.assert_close(
                together.omega[name][:, n : n + 1], tensor, rtol=0, atol=1e-8
            )


def test_a_shared_backbone_gets_the_sum_of_the_tasks_gradients() -> None:
    config = TD3Config(hidden=D, batch=B, gamma=0.9, policy_delay=1)
    shared, data, epsilon = learner(shared=True, config=config), batch(3), noise(8, N, B, A)
    start = learner(shared=True, config=config)
    shared.update(data, epsilon)
    total = {
        name: torch.zeros_like(tensor)
        for name, tensor in shared.pi.items()
        if name.startswith("psi")
    }
    for n in range(N):
        own = {name: t.detach() if name in total else t.detach()[n] for name, t in start.pi.items()}
        args = (own, slot(shared.omega, n, 1), own, slot(start.omega_target, n, 1))
        gradients = reference_update(*args, Batch(*(tensor[n] for tensor in data)), epsilon[n])
        for name in total:
            total[name] += gradients[name]
    for name, gradient in total.items():
        torch.testing.assert_close(shared.pi[name].grad, gradient, rtol=0, atol=1e-12)


def test_a_task_whose_numbers_are_not_finite_leaves_the_others_alone() -> None:
    healthy, sick = learner(), learner()
    for k in range(4):
        data, epsilon = batch(10 * k), 0.2 * noise(10 * k + 5, N, B, A)
        healthy.update(data, epsilon)
        reward = data.reward.clone()
        reward[1] = float("nan")
        sick.update(data._replace(reward=reward), epsilon)
    for n in (0, 2):
        assert all(torch.equal(healthy.pi[name][n], sick.pi[name][n]) for name in healthy.pi)
        assert all(
            torch.equal(healthy.omega[name][:, n], sick.omega[name][:, n]) for name in healthy.omega
        )
    assert sick.omega["q0.w"][:, 1].isnan().any()


def test_state_round_trip_goes_on_as_if_never_stopped() -> None:
    one, other = learner(), learner()
    for k in range(3):
        one.update(batch(k), noise(k + 50, N, B, A))
    other.load_state_dict(one.state_dict())
    for k in range(3, 6):
        one.update(batch(k), noise(k + 50, N, B, A))
        other.update(batch(k), noise(k + 50, N, B, A))
    for tree in ("pi", "omega", "pi_target", "omega_target"):
        assert all(
            torch.equal(tensor, getattr(other, tree)[name])
            for name, tensor in getattr(one, tree).items()
        )
    assert one.updates == other.updates == 6


def test_bf16_gradients_point_where_fp32_gradients_do() -> None:
    flat = []
    for precision in ("fp32", "bf16"):
        generator = torch.Generator().manual_seed(0)
        pi, omega = (
            init_actor(O, A, 64, depth=1, lead=LEAD, generator=generator),
            init_critics(N, O + A, 64, generator),
        )
        td3 = TD3(ACT, pi, {}, omega, TD3Config(precision=precision, policy_delay=1))
        data = Batch(*(tensor.float() for tensor in batch(3)))
        td3.update(data, noise(8, N, B, A).float())
        flat.append(
            torch.cat(
                [tensor.grad.reshape(-1) for tensor in (*td3.pi.values(), *td3.omega.values())]
            )
        )
        assert flat[-1].dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(*flat, dim=0) > 0.998
    assert not torch.equal(*flat)


def test_critics_read_actions() -> None:
    td3 = learner()
    obs, action = noise(1, N, B, O), noise(2, N, B, A)
    assert not torch.equal(critics(td3.omega, obs, action), critics(td3.omega, obs, -action))


ABSURD = [("hidden", 0), ("gamma", 1.5), ("gamma", float("nan")), ("tau", 0.0), ("batch", -1)]


@pytest.mark.parametrize(("name", "value"), ABSURD)
def test_absurd_settings_are_refused_with_their_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be from .* to .*, not"):
        TD3Config(**{name: value})


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="fp32 or bf16"):
        TD3Config(precision="fp8")


@pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler"
)
def test_compiled_gradients_equal_eager_ones() -> None:
    config = TD3Config(hidden=D, batch=B, gamma=0.9, compile=True, policy_delay=1)
    compiled, eager = learner(config=config), learner(config=replace(config, compile=False))
    for k in range(2):
        data, epsilon = batch(10 * k), noise(10 * k + 5, N, B, A)
        compiled.update(data, epsilon)
        eager.update(data, epsilon)
    for name, tensor in eager.pi.items() | eager.omega.items():
        torch.testing.assert_close((compiled.pi | compiled.omega)[name], tensor, rtol=0, atol=1e-10)


def test_without_a_compiler_learning_goes_on_with_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(function: object) -> object:
        def fail(*args: object) -> None:
            raise RuntimeError("no C++ compiler\nand a long story")

        return fail

    monkeypatch.setattr(torch, "compile", no_compiler)
    config = TD3Config(hidden=D, batch=B, gamma=0.9, compile=True)
    td3, eager = learner(config=config), learner(config=replace(config, compile=False))
    for k in range(4):
        td3.update(batch(k), noise(k + 50, N, B, A))
        eager.update(batch(k), noise(k + 50, N, B, A))
    assert all(torch.equal(tensor, eager.pi[name]) for name, tensor in td3.pi.items())
    # one message, of one line, for each of the two gradients
    assert [record.getMessage().count("\n") for record in caplog.records] == [0, 0]


def test_an_actor_that_waits_stays_while_critics_and_their_targets_move() -> None:
    waiting, plain = learner(), learner()
    start = {name: tensor.clone() for name, tensor in waiting.pi.items()}
    for k in range(2):
        waiting.update(batch(k), noise(k + 50, N, B, A), actor_waits=True)
        plain.update(batch(k), noise(k + 50, N, B, A))
    assert all(torch.equal(tensor, start[name]) for name, tensor in waiting.pi.items())
    assert all(not torch.equal(tensor, start[name]) for name, tensor in plain.pi.items())
    for tree in ("omega", "omega_target"):
        assert all(
            torch.equal(tensor, getattr(plain, tree)[name])
            for name, tensor in getattr(waiting, tree).items()
        )
    assert not torch.equal(waiting.omega_target["q0.w"], learner().omega_target["q0.w"])
