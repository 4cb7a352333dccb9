"""A method that earns no more than the zero action on its training tasks is called untrained."""

import pandas as pd
import pytest

from reports.parts.curves import meta_training_figure
from reports.parts.styles import method_styles
from reports.parts.untrained import training_floors, untrained, untrained_lines
from reports.stats.scores import CURVE, summarise

WHERE = {"suite": "ood", "budget": "quick", "family": "f"}


def lines(method: str, seed: int, returns: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                **WHERE,
                "method": method,
                "variant": "",
                "seed": seed,
                "env_steps": 100 * (i + 1),
                "return_mean": value,
            }
            for i, value in enumerate(returns)
        ]
    )


@pytest.fixture
def tables() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    curves = {
        ("good", 0): -5.0,
        ("good", 1): -9.0,
        ("bad", 0): -12.0,
        ("bad", 1): -9.5,
        ("unknown", 0): -99.0,
    }
    training = pd.concat(
        [lines(*arm, [-50.0] * 18 + [end - 1.0, end + 1.0]) for arm, end in curves.items()]
    )
    cells = pd.DataFrame(
        [
            {
                **WHERE,
                "split": split,
                "method": method,
                "variant": "",
                "seed": seed,
                "train_id": f"{method}{seed}",
            }
            for split in ("id", "ood")
            for method, seed in curves
        ]
    )
    zero = [("good0", -10.0), ("good1", -8.0), ("bad0", -9.0), ("bad0", -11.0), ("bad1", -10.0)]
    measures = pd.DataFrame(
        [{"cell_id": stage, "name": "zero_return", "value": value} for stage, value in zero]
    )
    other = pd.DataFrame([{"cell_id": "good0", "name": "something else", "value": 1e9}])
    return training, cells, pd.concat([measures, other])


def test_the_end_of_meta_training_is_held_against_the_zero_action_on_the_same_tasks(tables) -> None:
    floors = training_floors(*tables).set_index(["method", "seed"])
    assert len(floors) == 4  # no zero return was measured for the fifth
    expected = {
        ("good", 0): (-5.0, -10.0),
        ("good", 1): (-9.0, -8.0),
        ("bad", 0): (-12.0, -10.0),
        ("bad", 1): (-9.5, -10.0),
    }
    for arm, (trained, zero) in expected.items():
        assert floors.loc[arm, ["trained", "zero"]].tolist() == pytest.approx([trained, zero])


def test_an_arm_is_judged_by_its_mean_over_seeds(tables) -> None:
    floors = training_floors(*tables)
    # bad has -10.75 against -10, good has -7 against -9
    assert untrained(floors, "ood", "quick", "f") == [("bad", "")]
    assert untrained(floors, "ood", "quick", "other") == []
    (line,) = untrained_lines(floors, "ood", "quick", "f")
    assert "bad is **untrained**" in line and "−10.8" in line and "−10.0" in line


@pytest.mark.parametrize(
    ("trained", "called"), [(-9.5, []), (-10.0, [("m", "")]), (-10.5, [("m", "")])]
)
def test_what_earns_as_much_as_doing_nothing_is_untrained_too(
    trained: float, called: list[tuple[str, str]]
) -> None:
    floors = pd.DataFrame(
        [{**WHERE, "method": "m", "variant": "", "seed": 0, "trained": trained, "zero": -10.0}]
    )
    assert untrained(floors, "ood", "quick", "f") == called


def test_nothing_is_judged_where_nothing_was_measured(tables) -> None:
    training, cells, _ = tables
    assert training_floors(training, cells, None).empty
    assert training_floors(training[:0], cells, tables[2]).empty
    assert untrained(training_floors(training, cells, None), "ood", "quick", "f") == []


def test_the_figure_has_the_zero_action_where_it_was_measured(tables) -> None:
    floors, training = training_floors(*tables), tables[0]
    points = summarise(training, by=(*CURVE, "env_steps"))
    styles = method_styles([("good", ""), ("bad", ""), ("unknown", "")])
    drawn, plain = (
        meta_training_figure(training, points, styles, "t", known) for known in (floors, None)
    )
    (line,) = (line for line in drawn.axes[0].lines if line.get_gid() == "zero:zero")
    assert list(line.get_ydata()) == pytest.approx([-9.5, -9.5])
    assert not [line for line in plain.axes[0].lines if line.get_gid() == "zero:zero"]
    assert "zero" in [text.get_text() for text in drawn.legends[0].get_texts()]
