"""Tasks at any distance from a law: as far out as they say, with the frozen ones among them."""

from dataclasses import replace

import numpy as np
import pytest

from envs import FAMILIES, load_family
from envs.api import REWARD_SCALE
from envs.batch import BatchEnv
from envs.cheetah import JOINTS
from envs.laws import beyond
from envs.legs import LEVEL_WIDTH
from envs.point import FACTOR, NOMINAL_DAMPING, NOMINAL_MASS

AXES = [(name, axis) for name in FAMILIES for axis in load_family(name).shift_axes]
SPLITS = [
    (name, split) for name in FAMILIES for split in load_family(name).splits() if split != "id"
]


def draws(family, axis, shift, n):
    return [family.at_shift(axis, shift, np.random.default_rng(seed)) for seed in range(n)]


def gap(value, bands):
    return min(max(low - value, value - high, 0.0) for low, high in bands)


def around(angle, arcs):
    return min(gap(angle + 2 * np.pi * turn, arcs) for turn in (-2, -1, 0, 1, 2))


def distance(family, axis, params):
    """How far a task lies from its law, from the law's own numbers."""
    match family.id, axis:
        case "point-goal", "angle":
            return around(params["angle"], family.arcs)
        case "point-goal", "radius":
            return params["radius"] - 1.0
        case "point-rand", "rotation":
            return abs(params["rotation"]) - family.max_rotation
        case "point-rand", _:
            nominal = {"mass": NOMINAL_MASS, "damping": NOMINAL_DAMPING}[axis]
            return abs(np.log(params[axis] / nominal)) / np.log(FACTOR) - 1.0
        case "cheetah-joints", _:
            negated = {joint for joint in JOINTS if params[joint] < 0}
            return min(len(negated ^ set(law)) for law in family.reversed_joints)
        case "ant-dir-4", _:
            return around(params["direction"], [(angle, angle) for angle in family.axes])
        case "ant-dir", _:
            return around(params["direction"], [(0.0, family.max_direction)])
        case _, "dynamics":
            return max(map(abs, params.values())) - family.max_exponent
    name = {"speed": "target_speed", "radius": "radius", "mass": "exponent"}[axis]
    return gap(params[name], family.bands)


@pytest.mark.parametrize(("name", "axis"), AXES)
def test_a_task_is_as_far_out_as_it_says(name, axis):
    family = load_family(name)
    usual = family.sample(1, np.random.default_rng(0))[0].params
    for shift in (1, 2) if axis == "joints" else (0.05, 0.3, 0.7):
        for task in draws(family, axis, shift, 20):
            assert (task.family, task.shift, task.shift_axis) == (name, shift, axis)
            assert distance(family, axis, task.params) == pytest.approx(shift)
            assert task.params.keys() == usual.keys()
        assert draws(family, axis, shift, 2) == draws(family, axis, shift, 2)


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_frozen_tasks_are_among_those_at_their_shift(name, split):
    family = load_family(name)
    for task in family.split(split):
        if task.shift == 0:
            continue
        found = draws(family, task.shift_axis, task.shift, 400)
        if task.shift_axis == "dynamics":  # a continuum: it has the same bounds as drawn ones
            for one in (task, *found):
                sizes = np.abs(list(one.params.values()))
                most = family.max_exponent + task.shift
                assert sizes.max() == pytest.approx(most)
                assert sizes.min() >= most - LEVEL_WIDTH
        elif task.shift_axis == "radius":  # the angle may be any of the law's
            assert {one.params["radius"] for one in found} >= {task.params["radius"]}
        else:
            near = [np.allclose(*map(values, (one.params, task.params))) for one in found]
            assert any(near), task


@pytest.mark.parametrize(
    ("shift", "places"),
    [(0.5, [1.0, 2.5]), (1.25, [1.75]), (1.5, [5.0]), (2.0, [5.5])],
)
def test_what_is_too_far_for_the_hole_of_a_law_lies_above_it(shift, places):
    """In the hole, it would be nearer to the other side."""
    bands = ((0.0, 0.5), (3.0, 3.5))
    assert beyond(bands, shift) == places
    assert [gap(place, bands) for place in places] == [shift] * len(places)


def values(params):
    return [value for _, value in sorted(params.items())]


def test_rewards_are_scaled_and_nothing_else():
    family = load_family("cheetah-vel")
    both = draws(family, f"speed+{REWARD_SCALE}", 1.0, 6)
    assert {task.params[REWARD_SCALE] for task in both} == {0.1, 10.0}
    assert {task.params["target_speed"] for task in both} == {3.5}
    scaled, plain = (BatchEnv(family, both, 2, 1, seed=0) for _ in range(2))
    plain._reward_scale = None  # keeps the tasks, which determine the starts
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 6, 2, family.action_size))
    scale = np.array([[task.params[REWARD_SCALE]] for task in both])
    for env in (scaled, plain):
        env.reset()
    for action in actions.astype(np.float32):
        ours, theirs = (env.step(action) for env in (scaled, plain))
        np.testing.assert_array_equal(ours.obs, theirs.obs)
        np.testing.assert_allclose(ours.reward, theirs.reward * scale, rtol=1e-5)


def test_a_task_whose_rewards_are_scaled_moves_no_other():
    """A split holds both kinds of tasks, and one environment runs them all."""
    family = load_family("cheetah-vel")
    usual = family.sample(3, np.random.default_rng(0))
    scaled = [task.params | {REWARD_SCALE: 10.0 ** (i - 1)} for i, task in enumerate(usual)]
    mixed = [replace(usual[0], params=scaled[0]), usual[1], replace(usual[2], params=scaled[2])]
    env, plain = BatchEnv(family, mixed), BatchEnv(family, mixed)
    plain._reward_scale = None  # keeps the tasks, which determine the starts
    action = np.full((3, 1, 6), 0.5)
    env.reset(), plain.reset()
    ours, theirs = env.step(action).reward, plain.step(action).reward
    np.testing.assert_allclose(ours, theirs * np.array([[0.1], [1.0], [10.0]]), rtol=1e-6)
    assert (theirs != 0.0).all()


def test_permuted_families_have_the_shifts_of_their_base_and_their_own():
    family = load_family("permuted-point-goal")
    assert family.shift_axes == ("angle", "radius", "permutation")
    (task,) = draws(family, "permutation", 1.0, 1)
    assert task.params["permutation"] > 0 and task.params["radius"] == 1.0
    (task,) = draws(family, "radius", 0.5, 1)
    assert (task.params["permutation"], task.params["radius"]) == (0, 1.5)
    (task,) = draws(family, "radius+permutation", 0.5, 1)
    assert task.params["permutation"] > 0 and task.params["radius"] == 1.5
    with pytest.raises(ValueError, match="a permutation is at distance 1"):
        draws(family, "permutation", 2.0, 1)


@pytest.mark.parametrize(
    ("name", "axis", "shift", "said"),
    [
        ("cheetah-vel", "angle", 1.0, "no shift axis 'angle'; it has speed, reward_scale"),
        ("cheetah-dir", "speed", 1.0, "no shift axis 'speed'; it has reward_scale"),
        ("cheetah-vel", "speed", 0.0, "a distance above 0"),
        ("cheetah-joints", "joints", 9, "no combination of signs differs from the law in 9 joints"),
        (
            "cheetah-joints",
            "joints",
            0.5,
            "no combination of signs differs from the law in 0.5 joints",
        ),
        ("point-goal", "angle", 3.0, "no goal lies 3.0 rad outside"),
        ("point-rand", "rotation", 3.0, "no rotation lies 3.0 rad outside"),
        ("ant-dir", "direction", 1.0, "no direction lies 1.0 rad outside"),
        ("ant-dir-4", "direction", 1.0, "no direction lies 1.0 rad from every axis"),
    ],
)
def test_what_no_task_has_is_refused(name, axis, shift, said):
    with pytest.raises(ValueError, match=said):
        draws(load_family(name), axis, shift, 1)
