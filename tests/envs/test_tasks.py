"""Training laws and frozen test tasks: counts, distances, separation, checksums."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs import FAMILIES, load_family
from envs.api import (
    TASKS,
    Task,
    TaskFamily,
    TaskFileError,
    checksum,
    family_version,
    load_split,
    split_names,
)
from envs.cheetah import CheetahVel
from envs.laws import middle, stratified
from envs.point import PointGoal, PointRand

PI = np.pi
COUNTS = {
    "point-goal": {"id": 6, "gap": 3, "ood": 8},
    "point-rand": {"id": 8, "ood": 8},
    "cheetah-vel": {"id": 8, "ood": 4},
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> TaskFamily:
    return load_family(request.param)


# --- distance to the support of each law, from its definition -------------------------------------


def outside(value: float, low: float, high: float) -> float:
    return max(low - value, value - high, 0.0)


def goal_distances(task: Task) -> dict[str, float]:
    turns = [task.params["angle"] + 2 * PI * k for k in (-1, 0, 1)]
    arcs = min(outside(angle, *arc) for angle in turns for arc in ((0, PI / 3), (2 * PI / 3, PI)))
    return {"angle": arcs, "radius": abs(task.params["radius"] - 1)}


def rand_distances(task: Task) -> dict[str, float]:
    mass, damping = (
        np.log(task.params[key] / nominal) / np.log(1.5)
        for key, nominal in (("mass", 0.25), ("damping", 1))
    )
    return {
        "rotation": outside(task.params["rotation"], -PI / 3, PI / 3),
        "mass": outside(mass, -1, 1),
        "damping": outside(damping, -1, 1),
    }


DISTANCES: dict[str, Callable[[Task], dict[str, float]]] = {
    "point-goal": goal_distances,
    "point-rand": rand_distances,
    "cheetah-vel": lambda task: {"speed": outside(task.params["target_speed"], 0, 2.5)},
}


@pytest.mark.parametrize("family_id", DISTANCES)
def test_shift_is_the_distance_to_the_law_on_its_axis_and_zero_on_the_others(
    family_id: str,
) -> None:
    family = load_family(family_id)
    for split in family.splits():
        for task in family.split(split):
            expected = dict.fromkeys(DISTANCES[family_id](task), 0.0) | (
                {task.shift_axis: task.shift} if task.shift_axis is not None else {}
            )
            assert DISTANCES[family_id](task) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("family_id", DISTANCES)
def test_training_tasks_lie_in_the_law(family_id: str) -> None:
    for task in load_family(family_id).sample(50, np.random.default_rng(0)):
        assert max(DISTANCES[family_id](task).values()) == 0
        assert (task.shift, task.shift_axis, task.split) == (0, None, "train")


# --- frozen splits --------------------------------------------------------------------------------


@pytest.mark.parametrize("family_id", COUNTS)
def test_splits_have_the_agreed_sizes(family_id: str) -> None:
    family = load_family(family_id)
    assert {name: len(family.split(name)) for name in family.splits()} == COUNTS[family_id]


def test_only_the_id_split_lies_in_the_law_and_no_task_is_there_twice(family: TaskFamily) -> None:
    seen: set[tuple[float, ...]] = set()
    for name in family.splits():
        for index, task in enumerate(family.split(name)):
            assert (task.family, task.split, task.index) == (family.id, name, index)
            assert (task.shift == 0) == (task.shift_axis is None) == (name == "id")
            values = tuple(task.params[key] for key in sorted(task.params))
            assert values not in seen
            seen.add(values)


def test_a_task_has_the_same_parameters_in_every_split(family: TaskFamily) -> None:
    tasks = [task for name in family.splits() for task in family.split(name)]
    assert {
        frozenset(task.params) for task in (*tasks, *family.sample(3, np.random.default_rng(0)))
    } == {frozenset(tasks[0].params)}


def test_the_file_says_what_it_is(family: TaskFamily) -> None:
    document = json.loads((TASKS / f"{family.id}.json").read_text(encoding="utf-8"))
    assert (document["family"], document["version"]) == (family.id, family.version)
    assert document["sha256"] == checksum(document["splits"])
    assert document["note"]


def test_an_edited_file_and_an_unknown_split_are_refused(
    family: TaskFamily, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no split 'none'"):
        family.split("none")
    document = json.loads((TASKS / f"{family.id}.json").read_text(encoding="utf-8"))
    first = document["splits"]["id"][0]["params"]
    first[next(iter(first))] += 1e-9
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ValueError, match="edited"):
        load_split(path, "id")
    for broken in ("", "[]", "{", '{"splits": {}}', "\xff"):
        path.write_text(broken, encoding="latin-1")
        with pytest.raises(TaskFileError, match=r"cannot be read.*restore it"):
            load_split(path, "id")
    with pytest.raises(TaskFileError, match="cannot be read"):
        split_names(tmp_path / "nowhere.json")
    document["sha256"] = checksum(document["splits"])
    path.write_text(json.dumps(document, indent=3), encoding="utf-8")  # layout does not count
    assert load_split(path, "id")[1:] == family.split("id")[1:]
    assert split_names(path) == family.splits()


@pytest.mark.parametrize(
    ("family_id", "n", "seed"),
    [("point-goal", 6, 101), ("point-rand", 8, 102), ("cheetah-vel", 8, 103)],
)
def test_the_id_split_was_drawn_as_its_note_says(family_id: str, n: int, seed: int) -> None:
    family = load_family(family_id)
    for frozen, drawn in zip(
        family.split("id"), family.sample(n, np.random.default_rng(seed)), strict=True
    ):
        assert dict(frozen.params) == pytest.approx(dict(drawn.params), rel=1e-12)


def test_the_test_tasks_outside_the_law_are_the_agreed_ones() -> None:
    goals = [(task.params["angle"], task.params["radius"]) for task in PointGoal().split("ood")]
    arcs = [(-PI / 16, 1), (PI + PI / 8, 1), (-PI / 4, 1), (-PI / 2, 1)]
    np.testing.assert_allclose(
        goals, [*arcs, (PI / 4, 1.5), (3 * PI / 4, 1.5), (PI / 4, 2), (3 * PI / 4, 2)]
    )
    gap = [task.params["angle"] for task in PointGoal().split("gap")]
    np.testing.assert_allclose(gap, [5 * PI / 12, PI / 2, 7 * PI / 12])
    sizes = (5 * PI / 12, PI / 2, 2 * PI / 3, 5 * PI / 6)
    rotations = [task.params["rotation"] for task in PointRand().split("ood")]
    np.testing.assert_allclose(rotations, [sign * size for size in sizes for sign in (1, -1)])
    assert {(task.params["mass"], task.params["damping"]) for task in PointRand().split("ood")} == {
        (0.25, 1.0)
    }
    assert [task.params["target_speed"] for task in CheetahVel().split("ood")] == [
        2.75,
        3.0,
        3.5,
        4.0,
    ]


# --- training draws -------------------------------------------------------------------------------


def test_a_sample_depends_on_its_generator_alone(family: TaskFamily) -> None:
    one, two, other = (family.sample(7, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one == two and one != other
    assert [task.index for task in one] == list(range(7))
    generator = np.random.default_rng(1)
    assert family.sample(7, generator) != family.sample(7, generator)


@given(n=st.integers(1, 200), seed=st.integers(0, 2**32))
def test_strata_hold_one_draw_each(n: int, seed: int) -> None:
    draws = stratified(n, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.sort(np.floor(draws * n)), np.arange(n))


def uniforms(task: Task) -> list[float]:
    """The uniform numbers in [0, 1) that a training task was made from."""
    p = task.params
    if task.family == "cheetah-vel":
        return [p["target_speed"] / 2.5]
    if task.family == "point-goal":
        on_second = p["angle"] > PI / 2
        return [(p["angle"] - on_second * PI / 3) / (2 * PI / 3)]
    exponents = np.log(p["mass"] / 0.25) / np.log(1.5), np.log(p["damping"]) / np.log(1.5)
    return [(p["rotation"] / (PI / 3) + 1) / 2, *((e + 1) / 2 for e in exponents)]


@pytest.mark.parametrize("family_id", DISTANCES)
@pytest.mark.parametrize("n", [1, 6, 16])
def test_training_tasks_are_stratified_on_every_parameter(family_id: str, n: int) -> None:
    draws = np.array(
        [uniforms(task) for task in load_family(family_id).sample(n, np.random.default_rng(n))]
    )
    for column in draws.T:
        np.testing.assert_array_equal(np.sort(np.floor(column * n)), np.arange(n))
    if n == 16 and draws.shape[1] > 1:  # a hypercube, not a diagonal
        assert np.abs(np.corrcoef(draws.T)[np.triu_indices(3, 1)]).max() < 0.8


def test_the_version_names_the_model(family: TaskFamily) -> None:
    number, digest = family_version(family).split("+")
    assert int(number) == family.version and len(digest) == 8


@pytest.mark.parametrize("family_id", FAMILIES)
def test_a_law_says_how_many_tasks_it_has(family_id: str) -> None:
    family = load_family(family_id)
    drawn = {tuple(task.params.items()) for task in family.sample(60, np.random.default_rng(0))}
    assert len(drawn) == (family.law_size or 60)
    assert load_family(f"permuted-{family_id}").law_size == family.law_size


@pytest.mark.parametrize("family_id", ["point-goal", "hopper-rand", "cheetah-joints"])
def test_the_middle_of_a_law_is_what_lies_nearest_its_mean(family_id: str) -> None:
    tasks = load_family(family_id).sample(12, np.random.default_rng(0))
    names = sorted(tasks[0].params)

    def away(task: Task) -> float:
        total = 0.0
        for name in names:
            values = [other.params[name] for other in tasks]
            if np.std(values) > 0:
                total += ((task.params[name] - np.mean(values)) / np.std(values)) ** 2
        return total

    kept = middle(tasks, 5)
    assert [task.index for task in kept] == sorted(task.index for task in kept)
    assert max(away(task) for task in kept) <= min(
        away(task) + 1e-9 for task in tasks if task not in kept
    )
    assert middle(tasks, 12) == middle(tasks, 99) == tasks
