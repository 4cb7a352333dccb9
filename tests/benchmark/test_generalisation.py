"""Policies tried on neighbours and under noise, against evaluating one place at a time."""

from dataclasses import replace

import numpy as np
import pytest

from benchmark.cells import expand
from benchmark.generalisation import (
    ACTION_NOISES,
    OBSERVATION_NOISES,
    OTHERS,
    SHARES,
    Generalisation,
    Spread,
    between,
    random_deviation,
)
from benchmark.protocol import Evaluator
from benchmark.run import Adaptation, rows_of
from benchmark.seeding import Streams
from benchmark.suites import BUDGETS, SUITES
from envs import load_family
from envs.batch import BatchEnv
from methods import METHODS
from methods.api import Frozen, Memoryless
from results.measures import ACTION_NOISE, NEIGHBOURS, OBSERVATION_NOISE

FAMILY = load_family("point-goal")
TASKS = FAMILY.split("id")[:2]
(CELL,) = expand(
    SUITES["generalisation"],
    BUDGETS["smoke"],
    {"random": METHODS["random"]},
    families=["point-goal"],
    seeds=1,
    settings={},
)


def towards(obs):
    """Move in a direction of each task's own, minus 0.4 times the position."""
    direction = np.array([[1.0, 0.3], [-0.5, 1.0]], np.float32)[:, None]
    return np.clip(direction - 0.4 * obs[..., :2], -1, 1)


def adapter():
    return Frozen(lambda generator: Memoryless(towards))


def alone(index, act=towards):
    """The policy of task `index`, for an environment with one place."""
    return Memoryless(lambda obs: act(np.stack([obs[0]] * 2))[[index]])


def test_neighbours_lie_on_the_way_to_tasks_of_the_law():
    one, other = FAMILY.split("ood")[:2]
    assert between(one, other, 0.0).params == one.params
    assert between(one, other, 1.0).params == pytest.approx(other.params)
    middle = between(one, other, 0.25).params
    assert middle == pytest.approx(
        {name: 0.75 * one.params[name] + 0.25 * other.params[name] for name in one.params}
    )


def test_every_place_is_measured_as_it_would_be_alone():
    streams = Streams(3, "adapt", "point-goal", "id")
    found = Generalisation(CELL, None, TASKS, streams)(adapter(), 50)
    table = {(m.name, m.task_index, m.at): m.value for m in found if m.env_steps == 50}
    assert len(table) == len(found) == len(TASKS) * (3 + 3 + 3)
    below = streams.child("generalisation")
    others = FAMILY.sample(OTHERS, below.numpy("others"))
    n_places = len(SHARES) * OTHERS + len(ACTION_NOISES) + len(OBSERVATION_NOISES)
    for i, task in enumerate(TASKS):
        for j, share in enumerate(SHARES):
            returns = []
            for k, other in enumerate(others):
                place = replace(between(task, other, share), index=i * n_places + j * OTHERS + k)
                returns.append(Evaluator(FAMILY, [place], below)(alone(i)).returns.mean())
            assert table[NEIGHBOURS, task.index, share] == pytest.approx(np.mean(returns), rel=1e-5)


def test_under_noise_a_policy_earns_what_it_earns_with_that_noise_alone():
    """On average: ten episodes per task and noise, against many episodes of a noisy policy."""
    streams = Streams(3, "adapt", "point-goal", "id")
    many = [Generalisation(CELL, None, TASKS, Streams(s, "x"))(adapter(), 0) for s in range(12)]
    deviation = random_deviation(FAMILY, TASKS, streams)
    generator = np.random.default_rng(0)
    for name, sigma, scale in (
        (ACTION_NOISE, 0.4, 0.0),
        (OBSERVATION_NOISE, 0.2, deviation),
    ):

        def noisy(obs, sigma=sigma, scale=scale, name=name):
            if name == OBSERVATION_NOISE:
                obs = obs + sigma * scale * generator.standard_normal(obs.shape)
            action = towards(obs)
            if name == ACTION_NOISE:
                action = action + sigma * generator.standard_normal(action.shape)
            return action.astype(np.float32)

        alone_returns = np.mean(
            [
                Evaluator(FAMILY, TASKS, Streams(s, "y"))(Memoryless(noisy)).returns.mean(1)
                for s in range(12)
            ],
            axis=0,
        )
        for i, task in enumerate(TASKS):
            found = [
                m.value
                for measures in many
                for m in measures
                if (m.name, m.task_index, m.at) == (name, task.index, sigma)
            ]
            assert np.mean(found) == pytest.approx(alone_returns[i], abs=0.9)


def test_the_noise_has_its_deviation_and_goes_where_it_belongs():
    generator = np.random.default_rng(0)
    seen = []
    policy = Memoryless(lambda obs: seen.append(obs) or np.zeros((*obs.shape[:2], 2), np.float32))
    deviation = np.array([0.0, 0.3])[:, None, None]
    scale = np.array([1.0, 0.0, 2.0, 5.0])
    spread = Spread(policy, 2, deviation, np.array([0.2, 0.0])[:, None, None] * scale, generator)
    action = spread.act(np.full((4, 5_000, 4), 7.0, np.float32))
    np.testing.assert_allclose(action.std((1, 2)), [0, 0.3, 0, 0.3], rtol=0.02)
    (obs,) = seen
    assert obs.shape == (2, 10_000, 4) and obs.dtype == action.dtype == np.float32
    by_place = obs.reshape(4, 5_000, 4)
    np.testing.assert_allclose(by_place.std(1)[::2], [0.2 * scale] * 2, rtol=0.03)
    assert (by_place[1::2] == 7.0).all() and (by_place[::2, :, 1] == 7.0).all()


def test_noise_costs_more_the_stronger_it_is():
    """The policy holds its position, and noise moves it away."""
    hold = Frozen(lambda generator: Memoryless(lambda obs: np.clip(-3 * obs[..., :2], -1, 1)))
    task = replace(TASKS[0], params=dict(TASKS[0].params, radius=0.0))
    found = Generalisation(CELL, None, [task], Streams(0, "noise"))(hold, 0)
    for name in (ACTION_NOISE, OBSERVATION_NOISE):
        values = [measure.value for measure in found if measure.name == name]
        assert len(values) == 3 and values == sorted(values, reverse=True)


def test_the_deviation_under_random_actions_is_that_of_a_naive_loop():
    streams = Streams(0, "deviation")
    env = BatchEnv(FAMILY, TASKS, 10, 1, streams.integer("deviation"))
    generator = streams.numpy("deviation")
    seen = [env.reset()]
    for _ in range(49):
        seen.append(env.step(generator.uniform(-1, 1, (2, 10, 2))).obs)
    every = np.array(seen, np.float64).reshape(-1, 4)
    expected = [np.sqrt(np.mean((entry - entry.mean()) ** 2)) for entry in every.T]
    np.testing.assert_allclose(random_deviation(FAMILY, TASKS, streams), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["apb-random", "random"])
def test_rows_are_those_of_a_run_without_it_and_a_resumed_run_measures_the_same(name):
    suite = replace(SUITES["generalisation"], methods=(name,))
    (cell,) = expand(
        suite,
        BUDGETS["smoke"],
        {name: METHODS[name]},
        families=["point-goal"],
        seeds=1,
        settings={},
    )
    bare, whole, first = (
        Adaptation(c, c.build(), None) for c in (replace(cell, probe=""), cell, cell)
    )
    plain = [replace(row, wall_s=0, peak_mem_mb=0) for row in rows_of(bare)]
    assert plain == [replace(row, wall_s=0, peak_mem_mb=0) for row in rows_of(whole)]
    assert not bare.measures
    checkpoints = {row.env_steps for row in plain}
    assert {m.env_steps for m in whole.measures} == checkpoints
    assert len(whole.measures) == len(checkpoints) * 9 * cell.test_tasks
    while not first.measures:
        first.step()
    resumed = Adaptation(cell, cell.build(), None)
    resumed.load_state_dict(first.state_dict())
    list(rows_of(resumed))
    assert resumed.measures == whole.measures
