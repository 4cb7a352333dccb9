"""The terms of the bound against naive loops, and the construction that the theorem rests on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark import theory
from benchmark.cells import expand
from benchmark.run import Adaptation, Training, rows_of
from benchmark.seeding import Streams
from benchmark.suites import BUDGETS, SUITES
from benchmark.theory import Support, Theory, inputs_of, support, terms
from envs import load_family
from envs.batch import BatchEnv
from envs.permuted import permutation
from methods import METHODS
from methods.core.nets import LAYERS, actor, init_actor
from results.measures import (
    BOUND,
    COUNT_FREE_BOUND,
    FARTHEST,
    HEAD_NORM,
    LIPSCHITZ,
    LIPSCHITZ_SEEN,
    OUTSIDE,
)


def cell_of(name, family="point-rand"):
    (cell,) = [
        cell
        for cell in expand(
            SUITES["theory"],
            BUDGETS["smoke"],
            {name: METHODS[name]},
            families=[family],
            seeds=1,
            settings={name: {"depth": 2}},
        )
        if cell.split == "ood"
    ]
    return replace(cell, adapt_steps=60)


@pytest.fixture(scope="module")
def trained():
    """APB after meta-training at smoke, the cell, and the tasks that it was trained on."""
    torch.set_num_threads(1)
    cell = cell_of("apb")
    method = cell.build()
    training = Training(cell.trainer, method)
    list(rows_of(training))
    return method, cell, training._tasks


def matrices(weights, i):
    """Layers of task i as NumPy matrices, by name."""
    return {
        name: (tensor[i] if tensor.ndim == 3 else tensor).double().numpy()
        for name, tensor in weights.items()
    }


def naive(weights, i, obs, known):
    """Compute the terms for task i, whose policy saw `obs` [points, O], by loops."""
    w = matrices(weights, i)
    z = obs.astype(np.float64) @ w["rho_h.w"] + w["rho_h.b"]
    lipschitz = 1.0
    for layer in ("psi0.w", "psi1.w"):
        lipschitz *= np.linalg.svd(w[layer], compute_uv=False)[0]
    steepest = 0.0
    for one in z:
        slope = np.diag((one > 0).astype(float))
        h = np.maximum(one, 0)
        for layer in (0, 1):
            h = h @ w[f"psi{layer}.w"] + w[f"psi{layer}.b"][0]
            slope = slope @ w[f"psi{layer}.w"] @ np.diag((h > 0).astype(float))
            h = np.maximum(h, 0)
        steepest = max(steepest, np.linalg.svd(slope, compute_uv=False)[0])
    head = np.linalg.svd(w["rho_t.w"], compute_uv=False)[0]
    points = known.points.double().numpy()
    nearest = np.array([min(np.linalg.norm(one - point) for point in points) for one in z])
    outside = nearest[nearest > known.threshold]
    farthest = max(outside, default=0.0)
    return {
        LIPSCHITZ: lipschitz,
        LIPSCHITZ_SEEN: steepest,
        HEAD_NORM: head,
        OUTSIDE: len(outside),
        FARTHEST: farthest,
        BOUND: 2 * lipschitz * head * len(outside) * farthest,
        COUNT_FREE_BOUND: lipschitz * head * farthest,
    }


def weights_of(adapter):
    return {**adapter.loop.learner.pi, **adapter.loop.learner.frozen}


def test_the_terms_are_those_of_a_naive_loop(trained, monkeypatch):
    method, cell, _ = trained
    monkeypatch.setattr(theory, "EPISODES", 2)
    monkeypatch.setattr(theory, "JACOBIANS", 10_000)
    tasks = load_family(cell.family).split("ood")
    probe = Theory(cell, method, tasks, Streams(0, "x"))
    under_way = Adaptation(cell, method, None)
    list(rows_of(under_way))
    adapter = under_way._adapter
    found = {(m.name, m.task_index): m.value for m in probe(adapter, 60)}
    weights = weights_of(adapter)
    env = BatchEnv(
        load_family(cell.family), tasks, 2, 1, Streams(0, "x").child("theory").integer("episodes")
    )
    obs, seen = env.reset(), []
    for _ in range(env.horizon):
        seen.append(obs)
        obs = env.step(actor(weights, torch.from_numpy(obs), 2).detach().numpy()).obs
    for i in (0, 5):
        visited = np.stack([step[i] for step in seen]).reshape(-1, env.observation_size)
        expected = naive(weights, i, visited, probe._support)
        ours = {name: found[name, tasks[i].index] for name in expected}
        assert ours == pytest.approx(expected, rel=1e-3)
    assert any(found[OUTSIDE, task.index] > 0 for task in tasks)


def test_no_gradient_is_steeper_than_the_product_of_norms():
    generator = torch.Generator().manual_seed(0)
    for depth in (1, 2, 3):
        lead = {name: (3,) if name != "psi" else () for name in LAYERS}
        weights = init_actor(4, 2, hidden=12, depth=depth, lead=lead, generator=generator)
        z = torch.randn(200, 12, generator=generator) * 3
        for first in (True, False):
            config = {"depth": depth, "activate_first": first}
            found = terms(weights, 1, z, support=None, config=config)
            assert 0 < found[LIPSCHITZ_SEEN] <= found[LIPSCHITZ] * (1 + 1e-5)
            assert set(found) == {LIPSCHITZ, LIPSCHITZ_SEEN, HEAD_NORM}


def test_inside_the_support_nothing_is_to_be_bounded():
    weights = init_actor(
        4,
        2,
        hidden=6,
        depth=1,
        lead={"rho_h": (1,), "rho_t": (1,), "psi": ()},
        generator=torch.Generator().manual_seed(1),
    )
    points = torch.randn(50, 6, generator=torch.Generator().manual_seed(2))
    known = Support(points, 0.5)
    found = terms(weights, 0, points[:7], support=known, config={"depth": 1})
    assert [found[name] for name in (OUTSIDE, FARTHEST, BOUND, COUNT_FREE_BOUND)] == [0, 0, 0, 0]
    away = torch.cat([points[:3], points[3:5] + 100])
    far = terms(weights, 0, away, support=known, config={"depth": 1})
    assert far[OUTSIDE] == 2 and far[FARTHEST] > 50


def test_the_support_is_that_of_the_tasks_that_were_trained_on(trained, monkeypatch):
    method, cell, tasks = trained
    drawn = []
    monkeypatch.setattr(
        theory, "BatchEnv", lambda family, *what: drawn.append(what[0]) or BatchEnv(family, *what)
    )
    found = support(cell, {**method.rho, **method.shared})
    assert [task.params for task in drawn[0]] == [task.params for task in tasks]
    assert found.points.shape == (len(tasks) * theory.SUPPORT_EPISODES * 50, 16)
    # no episode ends early: a task's points are ordered by step, and within a step by copy
    episode = torch.arange(len(tasks))[:, None, None] * 2 + torch.arange(2).expand(50, 2)
    episode = episode.flatten().tolist()
    points = found.points.double()
    nearest = [
        min(
            float((one - other).norm())
            for other, theirs in zip(points, episode, strict=True)
            if theirs != mine
        )
        for one, mine in zip(points[::7], episode[::7], strict=True)
    ]
    inside = np.mean(np.array(nearest) <= found.threshold)
    assert inside == pytest.approx(0.99, abs=0.02)


@pytest.mark.parametrize(
    ("name", "measured"),
    [("apb-random", 3), ("td3", 3), ("apb", 7), ("apb-evolve-random", 3), ("zero", 0)],
)
def test_what_is_measured_of_other_methods(name, measured, trained):
    if name == "apb":
        method, cell, _ = trained
    else:
        settings = {"settings": {}}
        (_, cell) = expand(
            SUITES["theory"],
            BUDGETS["smoke"],
            {name: METHODS[name]},
            families=["point-rand"],
            seeds=1,
            **settings,
        )
        cell = replace(cell, adapt_steps=60, train_steps=min(cell.train_steps, 800))
        method = cell.build()
        if cell.meta_trains:
            list(rows_of(Training(cell, method)))
    under_way = Adaptation(cell, method, None)
    list(rows_of(under_way))
    assert len({m.name for m in under_way.measures}) == measured


def _images(family_id):
    """A task, its image, and the matrices P and Q with o′ = P o and a′ = Q a."""
    family = load_family(family_id)
    if family_id == "cheetah-joints":
        one, other = family.split("ood")[:2]
        signs = [list(task.params.values()) for task in (one, other)]
        return family, one, other, np.eye(family.observation_size), np.diag(np.prod(signs, axis=0))
    base, image = family.split("id")[0], family.split("ood")[0]
    k = int(image.params["permutation"])
    places = [
        permutation(k, what, size)
        for what, size in (
            ("observation", family.observation_size),
            ("action", family.action_size),
        )
    ]
    p, q = (np.eye(len(order))[list(order)] for order in places)
    return family, base, image, p, q


@pytest.mark.parametrize(
    "family_id", ["permuted-point-goal", "permuted-cheetah-vel", "cheetah-joints"]
)
def test_linear_layers_carry_a_policy_to_an_isomorphic_task(family_id, monkeypatch):
    """With ρₕ′ = ρₕ P⁻¹ and ρₜ′ = Q ρₜ around the same ψ, the policy does the same on the image."""
    family, base, image, p, q = _images(family_id)
    lead = {"rho_h": (1,), "rho_t": (1,), "psi": ()}
    generator = torch.Generator().manual_seed(3)
    sizes = family.observation_size, family.action_size
    weights = init_actor(
        *sizes, hidden=16, depth=2, lead=lead, generator=generator, dtype=torch.float64
    )
    p, q = torch.from_numpy(p), torch.from_numpy(q)
    carried = weights | {
        "rho_h.w": p @ weights["rho_h.w"],  # the rows of a layer belong to its inputs
        "rho_t.w": weights["rho_t.w"] @ q.T,
        "rho_t.b": weights["rho_t.b"] @ q.T,
    }
    noise = family.reset_noise(np.random.default_rng(0))  # otherwise it depends on the task
    monkeypatch.setattr(family, "reset_noise", lambda generator: noise)
    rewards = []
    for task, params in ((base, weights), (image, carried)):
        env = BatchEnv(family, [replace(task, index=0, split="same", shift=0.0)], seed=5)
        obs, earned = env.reset(), []
        for _ in range(50):
            action = actor(params, torch.from_numpy(obs).double(), 2)
            step = env.step(action.numpy())
            earned.append(step.reward[0, 0])
            obs = step.obs
        rewards.append(earned)
    assert np.ptp(rewards[0]) > 0.01
    np.testing.assert_allclose(*rewards, atol=1e-5)


def test_inputs_stop_where_an_episode_ends(monkeypatch):
    family = load_family("hopper-rand")
    lead = {"rho_h": (2,), "rho_t": (2,), "psi": ()}
    weights = init_actor(
        family.observation_size,
        family.action_size,
        hidden=8,
        depth=1,
        lead=lead,
        generator=torch.Generator().manual_seed(0),
        head_scale=20.0,
    )
    env = BatchEnv(family, family.split("id")[:2], 3)
    with torch.no_grad():
        found = inputs_of(env, weights, {"depth": 1})
    again = BatchEnv(family, family.split("id")[:2], 3)
    obs, lengths, running = again.reset(), np.zeros((2, 3)), np.ones((2, 3), bool)
    while running.any():
        lengths += running
        step = again.step(actor(weights, torch.from_numpy(obs), 1).numpy())
        ended = step.terminated | step.truncated
        running &= ~ended
        obs = again.reset(ended) if ended.any() and running.any() else step.obs
    assert [len(z) for z, _ in found] == lengths.sum(1).tolist() and lengths.max() < 200
    counted = [np.bincount(copies, minlength=3).tolist() for _, copies in found]
    assert counted == lengths.tolist()


def test_a_diverged_task_has_no_terms_and_the_others_have_theirs(trained):
    method, cell, _ = trained
    tasks = load_family(cell.family).split("ood")
    under_way = Adaptation(cell, method, None)
    while not under_way.measures:
        under_way.step()
    adapter = under_way._adapter
    adapter.learner.pi["rho_t.w"][2] = torch.nan
    found = Theory(cell, method, tasks, Streams(0, "x"))(adapter, 0)
    measured = {m.task_index for m in found}
    assert measured == {task.index for task in tasks} - {tasks[2].index}
    assert np.isfinite([m.value for m in found]).all()


def test_a_state_without_the_layers_of_its_training_tasks_is_said(trained, caplog):
    method, cell, _ = trained
    older = cell.build()
    older.load_state_dict({"shared": method.shared})
    tasks = load_family(cell.family).split("ood")
    probe = Theory(cell, older, tasks, Streams(0, "x"))
    assert "does not hold the training tasks' own layers" in caplog.text
    assert probe._support is None
