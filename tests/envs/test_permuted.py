"""Permuted families: the base's tasks with their entries in another order, and nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from envs import FAMILIES, is_family, load_family, permuted
from envs.api import FloatArray, Task, TaskFamily, family_version
from envs.batch import BatchEnv
from envs.cheetah import CheetahVel
from envs.permuted import VERSION, Permuted, permutation
from envs.point import PointGoal

WHOLES = range(1, 60)


@pytest.fixture(params=FAMILIES)
def base(request: pytest.FixtureRequest) -> TaskFamily:
    return load_family(request.param)


def arrays(base: TaskFamily, k: int) -> tuple[np.ndarray, np.ndarray]:
    """p and q of task k."""
    return np.array(permutation(k, "observation", base.observation_size)), np.array(
        permutation(k, "action", base.action_size)
    )


def from_one_start(family: TaskFamily, tasks: Sequence[Task]) -> BatchEnv:
    """An environment of the tasks side by side, all starting from the same noisy state."""
    start = family.reset_noise(np.random.default_rng(3))
    family.reset_noise = lambda generator: start  # type: ignore[method-assign]
    return BatchEnv(family, tasks)


def play(
    env: BatchEnv, act: Callable[[FloatArray], FloatArray], steps: int = 40
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Observations [T, N, O], rewards [T, N], states [T, N, …]; `act`: [N, 1, O] → [N, 1, A]."""
    obs, rows = env.reset(), []
    for _ in range(steps):
        step = env.step(act(obs))
        obs = step.obs
        rows.append((obs[:, 0], step.reward[:, 0], env.batch.state.copy()))
        env.reset(step.terminated | step.truncated)
    return tuple(map(np.array, zip(*rows, strict=True)))  # type: ignore[return-value]


# --- the permutations -----------------------------------------------------------------------------


def test_permutations_are_frozen() -> None:
    assert permutation(0, "action", 6) == (0, 1, 2, 3, 4, 5)
    assert permutation(1, "action", 6) == (0, 4, 3, 1, 2, 5)
    assert permutation(2, "action", 6) == (1, 0, 5, 3, 4, 2)
    assert permutation(1, "observation", 17) == (
        4,
        2,
        7,
        3,
        9,
        16,
        11,
        6,
        14,
        8,
        15,
        1,
        0,
        12,
        5,
        13,
        10,
    )


@pytest.mark.parametrize("what", ["observation", "action"])
def test_a_permutation_sorts_the_entries_by_their_digests(what: str) -> None:
    for k in WHOLES:
        order = permutation(k, what, 9)
        digests = [sha256(f"{k}/{what}/{entry}".encode()).hexdigest() for entry in order]
        assert sorted(order) == list(range(9)) and digests == sorted(digests)


def test_different_tasks_have_different_permutations_none_of_them_the_identity(
    base: TaskFamily,
) -> None:
    ood = load_family(f"permuted-{base.id}").split("ood")
    pairs = {tuple(map(tuple, arrays(base, int(task.params["permutation"])))) for task in ood}
    assert len(pairs | {tuple(map(tuple, arrays(base, 0)))}) == len(ood) + 1


# --- tasks ----------------------------------------------------------------------------------------


def test_training_and_id_tasks_are_the_bases_own_and_ood_tasks_are_these_permuted(
    base: TaskFamily,
) -> None:
    family = load_family(f"permuted-{base.id}")
    assert family.id == f"permuted-{base.id}" and family.splits() == ("id", "ood")
    drawn = family.sample(9, np.random.default_rng(4)), base.sample(9, np.random.default_rng(4))
    for ours, theirs in (drawn, (family.split("id"), base.split("id"))):
        expected = [
            Task(
                family.id,
                t.split,
                t.index,
                params={**t.params, "permutation": 0},
                shift=t.shift,
                shift_axis=t.shift_axis,
            )
            for t in theirs
        ]
        assert list(ours) == expected
    for k, (task, theirs) in enumerate(
        zip(family.split("ood"), base.split("id"), strict=True), start=1
    ):
        assert task == Task(
            family.id,
            "ood",
            k - 1,
            params={**theirs.params, "permutation": k},
            shift=1.0,
            shift_axis="permutation",
        )
    assert family.isomorphic == {"permutation"}
    for split in ("gap", "none"):
        with pytest.raises(ValueError, match=f"no split '{split}'"):
            family.split(split)


def test_everything_else_is_the_bases(base: TaskFamily) -> None:
    family = load_family(f"permuted-{base.id}")
    for name in ("kind", "horizon", "observation_size", "action_size", "frame_skip"):
        assert getattr(family, name) == getattr(base, name), name
    assert (
        family_version(family)
        == f"{100 * VERSION + base.version}{family_version(base).removeprefix(str(base.version))}"
    )


def test_only_registered_families_can_be_permuted_and_only_once() -> None:
    assert isinstance(load_family("permuted-point-goal"), Permuted)
    assert is_family("permuted-point-goal") and is_family("point-goal")
    for name in ("permuted-nothing", "permuted-", "permuted-permuted-point-goal", "nothing"):
        assert not is_family(name)
        with pytest.raises(KeyError):
            load_family(name)


# --- isomorphism ----------------------------------------------------------------------------------


def test_an_unpermuted_task_is_the_bases_bit_by_bit(base: TaskFamily) -> None:
    family = load_family(f"permuted-{base.id}")
    plan = np.random.default_rng(0).uniform(-1, 1, (40, 1, 1, base.action_size))

    def trajectory(family: TaskFamily) -> tuple[FloatArray, FloatArray, FloatArray]:
        actions = iter(plan)
        return play(from_one_start(family, family.split("id")[:1]), lambda obs: next(actions))

    one, other = trajectory(base), trajectory(family)
    for ours, theirs in zip(other, one, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_policy_permuted_as_the_task_is_earns_the_same_bit_by_bit(base: TaskFamily) -> None:
    """π′(o′) = Q π(P⁻¹ o′) does on the permuted task what π does on the base's."""
    family = load_family(f"permuted-{base.id}")
    orders = [arrays(base, int(task.params["permutation"])) for task in family.split("ood")]
    weights = np.random.default_rng(1).normal(0, 0.7, (base.observation_size, base.action_size))

    def policy(obs: FloatArray) -> FloatArray:
        # summed in this order, whatever the size of the batch
        return np.sin(3 + (obs[..., None] * weights).sum(axis=-2))

    def permuted_policy(obs: FloatArray) -> FloatArray:
        rows = []
        for (p, q), row in zip(orders, obs, strict=True):
            plain = np.empty_like(row)
            plain[:, p] = row  # o′ᵢ = o at p(i)
            rows.append(policy(plain)[:, q])  # a′ᵢ = a at q(i)
        return np.array(rows)

    seen, reward, states = play(from_one_start(base, base.split("id")), policy)
    seen_permuted, *same = play(from_one_start(family, family.split("ood")), permuted_policy)
    np.testing.assert_array_equal(same[0], reward)
    np.testing.assert_array_equal(same[1], states)
    for n, (p, _) in enumerate(orders):
        np.testing.assert_array_equal(seen_permuted[:, n], seen[:, n, p])
    assert (seen_permuted != seen).any()
    assert np.ptp(reward, axis=0).min() > 0


def test_the_policy_of_the_base_does_something_else_when_the_task_is_permuted() -> None:
    family = load_family("permuted-cheetah-vel")
    task, unpermuted = family.split("ood")[0], family.split("id")[0]
    env = from_one_start(family, [unpermuted, task])
    action = np.random.default_rng(0).uniform(-1, 1, 6)
    _, reward, states = play(env, lambda obs: np.broadcast_to(action, (2, 1, 6)), steps=5)
    assert (reward[:, 0] != reward[:, 1]).all() and (states[:, 0] != states[:, 1]).any()
    _, q = arrays(CheetahVel(), 1)
    np.testing.assert_array_equal(env.batch.bind("ctrl")[1, q], action)
    np.testing.assert_array_equal(env.batch.bind("ctrl")[0], action)


def test_the_reward_sees_the_bases_control_and_the_base_its_own_order() -> None:
    class Asymmetric(PointGoal):
        """Rewards the first entry of control, which is twice as sensitive as the second."""

        def control(self, action, params):
            return action * [1.0, 0.5]

        def reward(self, before, qpos, qvel, action, params):
            return action[:, 0].copy()

    base = Asymmetric()
    family = Permuted(base)
    k = next(k for k in WHOLES if permutation(k, "action", 2) == (1, 0))
    task = Task(
        family.id,
        "here",
        0,
        params={**base.split("id")[0].params, "permutation": k},
        shift=1.0,
        shift_axis="permutation",
    )
    env = BatchEnv(family, [task])
    env.reset()
    assert env.step(np.array([[[0.8, 0.2]]])).reward == np.float32(0.2)
    np.testing.assert_allclose(env.batch.bind("ctrl"), [[0.2, 0.4]])


# --- cost -----------------------------------------------------------------------------------------


def test_permutations_are_worked_out_once_for_the_tasks_of_an_environment() -> None:
    permuted._places.cache_clear()
    family = load_family("permuted-point-goal")
    env = BatchEnv(family, family.split("ood"), copies=3)
    env.reset()
    for _ in range(5):
        env.step(np.zeros((6, 3, 2)))
    info = permuted._places.cache_info()
    # two permutations, of observations and of actions, are asked for six and five times
    assert (info.misses, info.hits) == (2, 9)


def test_the_permutations_that_environments_share_cannot_be_overwritten() -> None:
    shared = permuted._places(np.array([1.0, 2.0]).tobytes(), "action", 6, True)
    with pytest.raises(ValueError, match="read-only"):
        shared[0, 0] = 1


@pytest.mark.parametrize("k", [0.5, -1.0, float("nan")])
def test_a_permutation_without_a_name_is_refused(k: float) -> None:
    family = load_family("permuted-point-goal")
    task = family.split("id")[0]
    with pytest.raises(ValueError, match="whole number"):
        BatchEnv(family, [replace(task, params={**task.params, "permutation": k})]).reset()
