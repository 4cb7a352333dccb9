"""A told family: the base's, with the task's parameters appended to the observation."""

import copy
import pickle

import numpy as np
import pytest

from envs import FAMILIES, load_family
from envs.batch import BatchEnv
from envs.told import told


@pytest.mark.parametrize("family_id", [*FAMILIES, "permuted-point-rand", "tuning-cheetah-vel"])
def test_it_is_the_base_and_the_parameters_behind(family_id: str) -> None:
    base = load_family(family_id)
    family = told(base)
    names = sorted(base.sample(1, np.random.default_rng(0))[0].params.keys() - {"permutation"})
    assert family.observation_size == base.observation_size + len(names)
    assert (family.id, family.horizon, family.splits()) == (base.id, base.horizon, base.splits())
    tasks = base.split(base.splits()[0])[:2]
    ours, theirs = (BatchEnv(which, tasks, copies=2, seed=3) for which in (family, base))
    pairs = [(ours.reset(), theirs.reset())]
    generator = np.random.default_rng(1)
    for _ in range(3):
        action = generator.uniform(-1, 1, (2, 2, base.action_size))
        steps = ours.step(action), theirs.step(action)
        np.testing.assert_array_equal(steps[0].reward, steps[1].reward)
        pairs.append((steps[0].obs, steps[1].obs))
    law = base.sample(1_000, np.random.default_rng(0))
    values = np.array([[task.params[name] for name in names] for task in law])
    deviation = np.where(values.std(0) > 0, values.std(0), 1)
    for mine, obs in pairs:
        np.testing.assert_array_equal(mine[..., : base.observation_size], obs)
        for n, task in enumerate(tasks):
            here = np.array([task.params[name] for name in names])
            known = ((here - values.mean(0)) / deviation).astype(np.float32)
            np.testing.assert_array_equal(mine[n, :, base.observation_size :], [known] * 2)


def test_what_is_told_is_scaled_to_the_law() -> None:
    family = told(load_family("hopper-rand"))
    env = BatchEnv(family, family.sample(64, np.random.default_rng(5)))
    known = env.reset()[:, 0, load_family("hopper-rand").observation_size :]
    np.testing.assert_allclose(known.mean(0), 0, atol=0.05)
    np.testing.assert_allclose(known.std(0), 1, atol=0.05)


def test_it_can_be_copied_and_pickled() -> None:
    family = told(load_family("point-goal"))
    for other in (copy.deepcopy(family), pickle.loads(pickle.dumps(family))):
        assert other.observation_size == family.observation_size == 6
