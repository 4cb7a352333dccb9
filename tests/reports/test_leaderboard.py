"""The leaderboard: IQMs against naive ones, what stands in without references, and sentences."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports.parts.leaderboard import (
    leader_costs,
    leader_sentences,
    leaderboard_figure,
    leaderboard_table,
    not_judged,
)
from reports.parts.styles import focused, method_styles
from reports.stats.leaderboard import AREA, END, NORMALISED, RETURN, START, leaderboard
from reports.stats.score_matrix import EXACT_IMAGES, OTHERS
from results.publication import PUBLISHED, Publication

EXACT = {"f": frozenset({"angle"})}
PLACES = (("f", "angle"), ("f", "radius"), ("h", "speed"))
STEPS = (0, 10, 100)


def score(method, family, seed, b):
    start = {"apb": 0.0, "td3": 0.1, "maml": 0.3, "pearl": 0.2}.get(method, 0.0)
    gain = {"apb": 0.4, "td3": 0.3, "maml": 0.1}.get(method, 0.0)
    return start + gain * STEPS.index(b) + 0.01 * seed * (method != "zero") + 0.05 * (family == "h")


def scores_of(methods=("apb", "td3", "maml", "zero"), places=PLACES, references=True, seeds=5):
    lines = []
    for family, axis in places:
        for method in methods:
            for seed in range(seeds):
                for b in STEPS if method != "zero" else STEPS[:1]:
                    value = score(method, family, seed, b)
                    place = {
                        "suite": "ood",
                        "budget": "desk",
                        "split": "ood",
                        "family": family,
                        "axis": axis,
                    }
                    arm = {"method": method, "variant": "", "seed": seed, "env_steps": b}
                    lines.append(
                        {
                            **place,
                            **arm,
                            "return_mean": 100 * value,
                            "normalised": value if references else np.nan,
                        }
                    )
    return pd.DataFrame(lines)


def naive_iqm(values):
    """The mean of the middle half; the number of scores is a multiple of four."""
    ranked = np.sort(np.asarray(values))
    return ranked[len(ranked) // 4 : -len(ranked) // 4 or None].mean()


def test_every_number_is_an_interquartile_mean_over_seeds_and_families():
    board = leaderboard(scores_of(seeds=4), EXACT)
    assert board["group"].unique().tolist() == [EXACT_IMAGES, OTHERS] and set(board["unit"]) == {
        NORMALISED
    }
    apb = board[(board["group"] == OTHERS) & (board["method"] == "apb")].iloc[0]
    for moment, b in ((START, 0), (END, 100)):
        expected = naive_iqm(
            [score("apb", family, seed, b) for family in ("f", "h") for seed in range(4)]
        )
        assert (
            apb[moment] == pytest.approx(expected)
            and apb[f"{moment}_low"] < expected < apb[f"{moment}_high"]
        )
    areas = [
        (score("apb", f, seed, 10) + score("apb", f, seed, 100)) / 2
        for f in ("f", "h")
        for seed in range(4)
    ]
    assert apb[AREA] == pytest.approx(naive_iqm(areas))  # one trapezoid over log steps
    assert (apb["n_seeds"], apb["n_families"], apb["env_steps"]) == (4, 2, 100)
    ends = board[board["group"] == OTHERS][END].to_numpy()
    assert (np.diff(ends) <= 0).all()


def test_one_family_without_references_has_returns_and_several_have_no_line():
    board = leaderboard(scores_of(places=PLACES[2:], references=False), EXACT)
    assert set(board["unit"]) == {RETURN} and set(board["strata"]) == {"h speed"}
    board = leaderboard(scores_of(references=False), EXACT)
    assert set(board["group"]) == {EXACT_IMAGES}  # one family on one axis; the other group has two
    assert board.loc[board["method"] == "apb", END].iloc[0] == pytest.approx(82.0)
    assert leaderboard(scores_of(places=PLACES[1:], references=False), EXACT).empty


def test_a_family_without_references_is_left_out_and_said():
    scores = scores_of()
    scores.loc[scores["family"] == "h", "normalised"] = np.nan
    board = leaderboard(scores, EXACT)
    others = board[board["group"] == OTHERS]
    assert set(others["strata"]) == {"f radius"} and set(others["left_out"]) == {"h speed"}
    assert set(others["families"]) == {"f"}
    told = "Left out of these numbers because they have no reference returns: h speed."
    assert next(leader_sentences(others)).endswith(told)


def test_who_has_fewer_families_or_no_score_stands_last_and_leads_no_sentence():
    scores = scores_of()
    better = (scores["method"] == "maml") & (scores["axis"] == "radius")
    scores.loc[better, "normalised"] += 9.0
    scores = scores[(scores["method"] != "maml") | (scores["family"] != "h")]
    last = (scores["method"] == "td3") & (scores["env_steps"] == STEPS[-1]) & (scores["seed"] > 1)
    scores.loc[last, "normalised"] = np.nan  # an earlier checkpoint does not stand in
    board = leaderboard(scores, EXACT)
    others = board[board["group"] == OTHERS]
    assert others["method"].tolist()[-1] == "maml" and not others["complete"].iloc[-1]
    assert others.loc[others["method"] == "td3", "n_seeds"].item() == 2
    assert "maml" not in next(leader_sentences(others))
    costs = pd.DataFrame(columns=["method", "variant", "steps", "seconds"])
    assert "| maml† |" in leaderboard_table(others, costs)


def test_unknown_costs_are_missing_not_nothing():
    where = {"suite": "ood", "budget": "desk", "split": "ood", "method": "apb", "variant": ""}
    costs = pd.DataFrame(
        [{**where, "family": "h", "axis": "speed", "steps": 5.0, "seconds": np.nan}]
    )
    found = leader_costs(costs, EXACT)
    assert found["steps"].item() == 5.0 and np.isnan(found["seconds"].item())


def test_the_axes_of_a_family_share_what_it_cost():
    where = {"suite": "ood", "budget": "quick", "split": "ood", "method": "apb", "variant": ""}
    places = (("f", "angle", 7.0), ("f", "radius", 7.0), ("f", "speed", 7.0), ("h", "speed", 5.0))
    costs = pd.DataFrame(
        [{**where, "family": f, "axis": a, "steps": n, "seconds": 2 * n} for f, a, n in places]
    )
    found = leader_costs(costs, EXACT).set_index("group")
    assert found["steps"].to_dict() == {EXACT_IMAGES: 7.0, OTHERS: 12.0}
    assert found["seconds"].to_dict() == {EXACT_IMAGES: 14.0, OTHERS: 24.0}


def test_no_method_moves_another():
    few, more = (
        leaderboard(scores_of(methods), EXACT)
        for methods in (("apb", "zero"), ("apb", "td3", "zero"))
    )
    lines = [board[board["method"] == "apb"].reset_index(drop=True) for board in (few, more)]
    pd.testing.assert_frame_equal(*lines)


def test_the_sentences_name_who_is_ahead_and_compare_apb_with_other_meta_rl():
    exact, others = leader_sentences(leaderboard(scores_of(), EXACT))
    assert exact == (
        "On shift axes of exact linear images (f angle), **apb** ends highest (normalised score"
        " 0.82), ahead of td3 (0.72) and maml (0.52)."
    )
    assert others.startswith("On other shift axes (f radius, h speed), **apb** ends highest")
    close = scores_of(("td3", "apb"))
    close.loc[close["method"] == "td3", "normalised"] += 0.105
    near, _ = leader_sentences(leaderboard(close, EXACT))
    assert near.endswith("Its interval overlaps with that of apb.")
    second = scores_of()
    second.loc[second["method"] == "apb", "normalised"] -= 0.2
    behind, _ = leader_sentences(leaderboard(second, EXACT))
    assert behind.endswith("ahead of apb (0.62) and maml (0.52).")
    variant = scores_of(("apb", "maml")).assign(variant="hidden=8")  # neither arm is apb itself
    assert "other meta-RL" not in next(leader_sentences(leaderboard(variant, EXACT)))


def test_the_sentences_name_other_meta_rl_once():
    def told(**scores):
        frame = scores_of(("td3", *scores))
        for method, value in scores.items():
            frame.loc[frame["method"] == method, "normalised"] = value + 0.001 * frame["seed"]
        return next(leader_sentences(leaderboard(frame, EXACT)))

    rest = {"finetune": 0.6, "pearl": 0.5, "maml": 0.3}
    assert told(apb=0.1, **rest).endswith(" apb scores 0.10; other meta-RL: maml (0.30).")
    assert told(apb=0.9, **rest).endswith(" Other meta-RL: pearl (0.50) and maml (0.30).")
    assert "meta-RL" not in told(**rest)


def test_the_only_group_of_axes_is_named_without_it():
    (told,) = leader_sentences(leaderboard(scores_of(places=PLACES[1:]), EXACT))
    assert told.startswith("On f radius, h speed, **apb** ends highest")


@pytest.mark.parametrize(
    ("families", "budget", "said"),
    [
        ("cheetah-vel", "desk", ""),
        ("cheetah-vel,point-goal", "desk", "No claim is judged on point-goal."),
        ("cheetah-vel", "quick", "No claim is judged on these families at this budget"),
        ("cheetah-dir", "paper", "No claim is judged on these families at this budget"),
    ],
)
def test_what_no_claim_is_judged_on_is_said(families, budget, said):
    found = not_judged(pd.DataFrame({"families": [families] * 2}), budget)
    assert found.startswith(said) and bool(found) == bool(said)


def test_the_table_has_the_costs_of_the_families_of_its_group_once():
    board = leaderboard(scores_of(), EXACT)
    where = {"suite": "ood", "budget": "desk", "split": "ood", "variant": "", "method": "apb"}
    costs = pd.DataFrame(
        [{**where, "family": f, "axis": a, "steps": 1000.0, "seconds": 90.0} for f, a in PLACES]
    )
    costs = leader_costs(costs, EXACT)
    board, costs = (table[table["group"] == OTHERS] for table in (board, costs))
    lines = leaderboard_table(board, costs, [("maml", "")]).splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    assert cells[0] == [
        "method",
        "b = 0",
        "area over log b",
        "environment steps",
        "minutes",
        "seeds",
        "steps used on a test task",
        "at the end",
    ]
    apb = next(line for line in cells if line[0] == "apb")
    assert apb[3:7] == ["2\u202f000", "3.00", "5", "100"] and apb[7].startswith("0.85 ± ")
    assert [line[0] for line in cells[2:]] == ["apb", "td3", "maml, untrained", "zero"]


def readme():
    return (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def at_desk():
    """The rows that are published at desk."""
    rows, _ = Publication(PUBLISHED).read(["ood", "sanity"])
    adapted = rows[(rows["stage"] == "adapt") & (rows["budget"] == "desk")]
    # some belong to both suites
    return adapted.drop_duplicates(["method", "seed", "env_steps", "task_index"])


def rounded(value):
    return f"{value:.0f}".replace("-", "−")


def test_the_returns_beside_the_methods_in_the_readme_are_the_published_ones():
    adapted = at_desk()
    last = adapted.groupby("method")["env_steps"].transform("max")
    ends = adapted[adapted["env_steps"] == last].groupby("method")["return_mean"].mean()
    table = readme().split("## What is in it")[1].split("\n\n")[1]
    shown = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    for names, *_, returns in (line for line in shown if "…" not in line[0]):
        expected = [
            rounded(ends[name]) if name in ends else "–" for name in re.findall(r"`([^`]+)`", names)
        ]
        assert returns.split(", ") == expected, names


def test_the_returns_in_the_readme_are_the_published_ones():
    section = readme().split("### First results on locomotion")[1].split("\n## ")[0]
    shown = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:3] == "| `"]
    adapted = at_desk()
    assert sorted(line[0].strip("`") for line in shown) == sorted(adapted["method"].unique())
    for name, seeds, meta, steps, *returns in shown:
        of_method = adapted[adapted["method"] == name.strip("`")]
        last = of_method["env_steps"].max()
        ends = of_method[of_method["env_steps"] == last].groupby("shift")["return_mean"].mean()
        start = of_method[of_method["env_steps"] == 0]["return_mean"].mean()
        assert int(seeds) == of_method["seed"].nunique()
        assert int(steps.replace(" ", "")) == last
        assert int(meta.replace(" ", "")) == of_method["meta_env_steps"].fillna(0).max()
        assert returns == [rounded(value) for value in (start, *ends)]


def test_the_figure_has_a_line_per_method_the_best_on_top_and_bounds_across():
    board = leaderboard(scores_of(), EXACT)
    arms = [(method, "") for method in ("maml", "apb", "td3", "zero")]
    figure = leaderboard_figure(board, focused(method_styles(arms), arms), "title")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["apb", "td3", "maml"]
    for axes, group in zip(figure.axes, (EXACT_IMAGES, OTHERS), strict=True):
        drawn = {line.get_gid(): line for line in axes.lines}
        assert set(drawn) == {"row:apb", "row:td3", "row:maml", "bound:zero"}
        ends = board[board["group"] == group].set_index("method")[END]
        assert (
            drawn["row:td3"].get_xdata()[0] == ends["td3"]
            and drawn["bound:zero"].get_xdata()[0] == ends["zero"]
        )
