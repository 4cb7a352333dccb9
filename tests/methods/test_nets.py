"""Networks over any leading axes equal one network at a time."""

import pytest
import torch

from methods.core.nets import (
    LAYERS,
    actor,
    critics,
    init_actor,
    init_critics,
    init_linear,
    linear,
    spread,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


LEADS = [((3,), (3,)), ((3,), ()), ((3,), (2, 3)), ((2, 3), (2, 3)), ((2, 3), ()), ((), ())]


@pytest.mark.parametrize(("lead_x", "lead_w"), LEADS)
def test_a_layer_equals_a_product_per_network(
    lead_x: tuple[int, ...], lead_w: tuple[int, ...]
) -> None:
    params = init_linear("layer", lead_w, 5, 4, generator(), dtype=torch.float64)
    x = torch.randn(*lead_x, 7, 5, generator=generator(1), dtype=torch.float64)
    out = linear(params, "layer", x)
    lead = torch.broadcast_shapes(lead_x, lead_w)
    assert out.shape == (*lead, 7, 4)
    w, b = (
        params[f"layer.{part}"].expand(*lead, *params[f"layer.{part}"].shape[-2:]) for part in "wb"
    )
    rows = x.expand(*lead, 7, 5)
    for index in (
        torch.cartesian_prod(*[torch.arange(n) for n in lead]).reshape(-1, len(lead))
        if lead
        else [torch.empty(0)]
    ):
        at = tuple(int(i) for i in index)
        expected = torch.stack([row @ w[at] + b[at][0] for row in rows[at]])
        torch.testing.assert_close(out[at], expected, rtol=0, atol=1e-12)


def test_fresh_weights_fill_their_interval_and_depend_on_the_generator_alone() -> None:
    layer = init_linear("layer", (50,), 16, 20, generator(), scale=2.0)
    bound = 2.0 / 4.0
    for tensor in layer.values():
        assert tensor.abs().max() <= bound
        assert tensor.max() > 0.95 * bound
        assert tensor.min() < -0.95 * bound
    again = init_linear("layer", (50,), 16, 20, generator(), scale=2.0)
    assert all(torch.equal(layer[name], again[name]) for name in layer)
    assert not torch.equal(
        layer["layer.w"], init_linear("layer", (50,), 16, 20, generator(1), scale=2.0)["layer.w"]
    )


def test_twin_critics_equal_each_critic_of_each_task() -> None:
    params = init_critics(3, 5, 8, generator(), dtype=torch.float64)
    obs = torch.randn(3, 6, 4, dtype=torch.float64)
    action = torch.randn(3, 6, 1, dtype=torch.float64)
    q = critics(params, obs, action)
    assert q.shape == (2, 3, 6)
    for i in range(2):
        for n in range(3):
            h = torch.cat([obs[n], action[n]], 1)
            for layer in ("q0", "q1"):
                h = (h @ params[f"{layer}.w"][i, n] + params[f"{layer}.b"][i, n]).clamp(min=0)
            expected = (h @ params["q2.w"][i, n] + params["q2.b"][i, n])[:, 0]
            torch.testing.assert_close(q[i, n], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("activate_first", [True, False])
def test_the_actor_is_rho_t_psi_rho_h(depth: int, shared: bool, activate_first: bool) -> None:
    lead = {"rho_h": (3,), "rho_t": (3,), "psi": () if shared else (3,)}
    params = init_actor(
        4, 2, 8, depth=depth, lead=lead, generator=generator(), head_scale=1.0, dtype=torch.float64
    )
    obs = torch.randn(3, 5, 4, generator=generator(1), dtype=torch.float64)
    action = actor(params, obs, depth, activate_first)
    for n in range(3):
        h = obs[n] @ params["rho_h.w"][n] + params["rho_h.b"][n]
        h = h.clamp(min=0) if activate_first else h
        for layer in range(depth):
            w, b = params[f"psi{layer}.w"], params[f"psi{layer}.b"]
            h = (h @ (w if shared else w[n]) + (b if shared else b[n])).clamp(min=0)
        expected = torch.tanh(h @ params["rho_t.w"][n] + params["rho_t.b"][n])
        torch.testing.assert_close(action[n], expected, rtol=0, atol=1e-12)


def test_the_scale_of_the_head_scales_the_first_actions() -> None:
    obs, own = torch.randn(2, 5, 4, generator=generator(1)), dict.fromkeys(LAYERS, (2,))
    wide, narrow = (
        actor(
            init_actor(4, 2, 8, depth=1, lead=own, generator=generator(), head_scale=scale), obs, 1
        )
        for scale in (1.0, 0.1)
    )
    torch.testing.assert_close(torch.atanh(narrow), 0.1 * torch.atanh(wide), rtol=1e-4, atol=1e-6)


def test_only_the_named_layers_are_drawn_with_their_own_leading_axes() -> None:
    drawn = init_actor(4, 2, 8, depth=2, lead={"rho_t": (3,), "psi": ()}, generator=generator())
    shapes = {name: tuple(tensor.shape) for name, tensor in drawn.items()}
    psi = {"psi0.w": (8, 8), "psi0.b": (1, 8), "psi1.w": (8, 8), "psi1.b": (1, 8)}
    assert shapes == {"rho_t.w": (3, 8, 2), "rho_t.b": (3, 1, 2), **psi}


def test_spread_copies_share_nothing() -> None:
    shared = init_linear("a", (), 4, 2, generator())
    copies = spread(shared, 3)
    assert all(
        torch.equal(copies[name][n], tensor) for name, tensor in shared.items() for n in range(3)
    )
    copies["a.w"][1] += 1.0
    assert torch.equal(copies["a.w"][0], shared["a.w"]) and torch.equal(
        copies["a.w"][2], shared["a.w"]
    )
