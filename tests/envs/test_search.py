"""The cross-entropy search finds good policies; the screening reproduces its test tasks."""

import json
from collections.abc import Sequence

import numpy as np
import pytest

from envs import load_family
from envs.api import TASKS, Task, TaskFamily
from envs.batch import BatchEnv
from envs.hopper import HopperMass
from envs.point import PointGoal
from envs.screening import candidates as screening
from envs.screening import evidence
from envs.screening.search import Found, Gait, Knots, Outcome, Policy, rollout, search

GAIT = Gait(4, 2, gain=2.0)


def find(policy: Policy, seed: int = 0, iterations: int = 12) -> Found:
    tasks, generator = PointGoal().split("id")[:3], np.random.default_rng(seed)
    return search(PointGoal(), tasks, policy, generator, population=48, iterations=iterations)


# --- policies and episodes ------------------------------------------------------------------------


def test_knots_are_held_and_the_last_one_to_the_end() -> None:
    knots, theta = Knots(2, count=3, hold=4), np.arange(12.0).reshape(2, 1, 6)
    played = [knots(theta, np.zeros(0), t)[1, 0].tolist() for t in range(14)]
    assert played == [[6, 7]] * 4 + [[8, 9]] * 4 + [[10, 11]] * 6


def test_a_gait_equals_its_formula() -> None:
    generator = np.random.default_rng(0)
    theta, obs = generator.standard_normal((3, 5, GAIT.size)), generator.standard_normal((3, 5, 4))
    for t in (0, 7):
        action = GAIT(theta, obs, t)
        for n, e, a in np.ndindex(3, 5, 2):
            p = theta[n, e]
            offset, amplitude, phase = p[1 + a], p[3 + a], p[5 + a]
            wave = amplitude * np.sin(2 * np.pi * 0.03 * 2 ** p[0] * t + np.pi * phase)
            feedback = 2 * sum(p[7 + 4 * a + o] * obs[n, e, o] for o in range(4))
            np.testing.assert_allclose(action[n, e, a], offset + wave + feedback)


def test_a_rollout_is_the_first_episode_alone() -> None:
    family, knots = HopperMass(), Knots(3, count=10, hold=3)
    theta = np.random.default_rng(0).standard_normal((2, 3, knots.size))
    outcome = rollout(BatchEnv(family, family.split("id")[:2], 3), knots, theta, 30)
    env = BatchEnv(family, family.split("id")[:2], 3)
    obs = env.reset()
    returns, lengths = np.zeros((2, 3)), np.zeros((2, 3))
    over = np.zeros((2, 3), bool)
    for t in range(30):
        step = env.step(knots(theta, obs, t))
        for place in zip(*np.nonzero(~over), strict=True):
            returns[place] += step.reward[place]
            lengths[place] += 1
        over |= step.terminated
        obs = env.reset(step.terminated)
    np.testing.assert_allclose(outcome.returns, returns)
    np.testing.assert_array_equal(outcome.lengths, lengths)
    assert over.any() and len(np.unique(lengths)) > 2


# --- the search -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "least"), [(GAIT, -12.0), (Knots(2, count=10, hold=5), -20.0)], ids=["gait", "knots"]
)
def test_it_finds_each_goal(policy: Policy, least: float) -> None:
    """The PD law scores −6, standing still −50."""
    found = find(policy)
    assert found.theta.shape == (3, policy.size) and found.outcome.returns.shape == (3, 48)
    assert found.outcome.returns.mean(axis=1).min() >= least


def test_the_same_seed_finds_the_same_and_another_seed_does_not() -> None:
    one, two, other = find(GAIT, 1, 2), find(GAIT, 1, 2), find(GAIT, 2, 2)
    np.testing.assert_array_equal(one.theta, two.theta)
    np.testing.assert_array_equal(one.outcome.returns, two.outcome.returns)
    assert (one.theta != other.theta).all()


def test_a_search_near_a_good_policy_keeps_it_and_one_near_a_bad_policy_stays_bad() -> None:
    tasks, good = PointGoal().split("id")[:3], find(GAIT)
    away = good.theta.copy()
    away[:, 1:3] *= -1.0  # pushes the other way
    near, far = (
        search(
            PointGoal(),
            tasks,
            GAIT,
            np.random.default_rng(3),
            population=48,
            iterations=2,
            width=0.02,
            start=theta,
        )
        for theta in (good.theta, away)
    )
    assert near.outcome.returns.mean() > good.outcome.returns.mean() - 1
    assert far.outcome.returns.mean() < near.outcome.returns.mean() - 5
    assert np.abs(near.theta - good.theta).max() < 0.2


def test_a_population_that_the_elites_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        search(
            PointGoal(),
            PointGoal().split("id"),
            GAIT,
            np.random.default_rng(0),
            population=10,
            elites=4,
        )


def test_it_maximises_what_it_is_told_to() -> None:
    knots = Knots(2, count=2, hold=25)
    tasks = PointGoal().split("id")[:1]
    seek, flee = (
        search(
            PointGoal(),
            tasks,
            knots,
            np.random.default_rng(0),
            score=lambda o, sign=sign: sign * o.returns,
            iterations=5,
        )
        for sign in (1, -1)
    )
    assert flee.outcome.returns.mean() < -70 < -40 < seek.outcome.returns.mean()


# --- the screening --------------------------------------------------------------------------------


@pytest.fixture(params=screening.SEEDS)
def family(request: pytest.FixtureRequest) -> TaskFamily:
    return load_family(request.param)


def test_the_file_is_what_its_seed_and_its_rejects_give(
    family: TaskFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (TASKS / f"{family.id}.json").read_text(encoding="utf-8")
    frozen = json.loads(text)
    known = {json.dumps(row["params"]): row["reason"] for row in frozen["rejected"]}

    def recorded(
        _: TaskFamily, tasks: Sequence[Task], generator: np.random.Generator
    ) -> list[str | None]:
        return [known.get(json.dumps(dict(task.params))) for task in tasks]

    monkeypatch.setattr(screening, "faults", recorded)
    tasks, rejected = screening.draw(family, np.random.default_rng(screening.SEEDS[family.id][1]))
    assert rejected == frozen["rejected"]
    assert [screening.row(task) for task in tasks] == frozen["splits"]["ood"]
    assert screening.document(family, frozen["splits"], frozen["note"], rejected) == text


def test_what_is_rejected_is_listed_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = iter([[None] * 15 + ["both"], ["cannot be kept up for 1 s"], [None]])
    monkeypatch.setattr(screening, "faults", lambda family, tasks, generator: next(rounds))
    tasks, rejected = screening.draw(load_family("hopper-rand"), np.random.default_rng(0))
    assert [row["reason"] for row in rejected] == ["both", "cannot be kept up for 1 s"]
    assert [row["shift"] for row in rejected] == [2.0, 2.0]
    assert [task.shift for task in tasks] == [0.5] * 4 + [1.0] * 4 + [1.5] * 4 + [2.0] * 4
    assert len({json.dumps(screening.row(task)["params"]) for task in tasks}) == 16
    document = screening.document(
        load_family("hopper-rand"), {"ood": list(map(screening.row, tasks))}, "note", rejected
    )
    assert json.loads(document)["rejected"] == rejected


def test_only_hopeless_and_trivial_candidates_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    family = load_family("hopper-rand")
    tasks = family.split("ood")[:4]
    kept_up = np.array([[63.0], [62.0], [63.0], [62.0]]).repeat(3, axis=1)
    stood = np.array([[199.0], [199.0], [200.0], [200.0]]).repeat(3, axis=1)
    kept_up[0, 0], stood[0, 0] = 5, 200  # one bad and one lucky episode of three decide nothing
    efforts = []

    def found(_: TaskFamily, searched: Sequence[Task], *args: object, **kwargs: object) -> Found:
        efforts.append([tasks.index(task) for task in searched])
        return Found(np.zeros(0), Outcome(kept_up, kept_up[efforts[-1]]))

    monkeypatch.setattr(screening, "search", found)
    monkeypatch.setattr(screening, "rollout", lambda *args: Outcome(stood, stood))
    reasons = screening.faults(family, tasks, np.random.default_rng(0))
    assert reasons == [None, "cannot be kept up for 1 s", "stands still to the end", "both"]
    assert efforts == [[0, 1, 2, 3], [1, 3]]  # searched again, harder, if the first search failed


def test_the_search_keeps_a_nominal_hopper_up() -> None:
    family = load_family("hopper-rand")
    nominal = Task(family.id, "here", 0, dict.fromkeys(family.split("id")[0].params, 0.0))
    assert screening.faults(family, [nominal], np.random.default_rng(0)) == [None]


# --- evidence -------------------------------------------------------------------------------------


def test_evidence_compares_own_policies_with_those_of_the_training_range() -> None:
    found = evidence.compare(
        PointGoal(), "ood", np.random.default_rng(0), population=32, iterations=8
    )
    assert list(found["shift_axis"]) == [task.shift_axis for task in PointGoal().split("ood")]
    np.testing.assert_allclose(
        found["still"], -50 * np.array([1.0] * 4 + [1.5] * 2 + [2.0] * 2), rtol=0.05
    )
    assert (found["own"] > found["still"] + 20).all()
    far = found.iloc[[3, 6, 7]]  # −π/2 and radius 2, where no goal of the training range is near
    assert (far["own"] > far["range"] + 5).all()


@pytest.mark.parametrize(
    "words", [["cheetah-dir", "ood"], ["point-goal", "id"], ["point-gaol", "ood"], []]
)
def test_evidence_refuses_what_it_cannot_compare(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        evidence.main(words)
    assert "usage: python -m envs.screening.evidence" in capsys.readouterr().err
