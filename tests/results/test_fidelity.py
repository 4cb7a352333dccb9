"""Published numbers as data: what a file may say, how differences are taken, shipped anchors."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from envs import FAMILIES
from methods import METHODS
from results.fidelity import load_anchors
from results.files import StoreError

DOCUMENT: dict[str, Any] = {
    "sources": {"s": {"name": "a source", "measured": "mean returns"}},
    "anchors": [
        {
            "id": "one",
            "method": "maml",
            "family": "cheetah-dir",
            "task": "forward or backward",
            "at": "after 1 gradient step",
            "source": "s",
            "published": {
                "value": -78.6,
                "spread": 32,
                "seeds": 1,
                "steps": 256000000,
                "url": "https://example.org/x",
            },
            "ours": {
                "value": -149,
                "low": -150,
                "high": -140.5,
                "seeds": 2,
                "steps": 40000000,
                "settings": "default",
            },
            "reason": "fewer steps",
        },
        {
            "id": "two",
            "method": "td3",
            "family": None,
            "task": "another",
            "at": "at the end",
            "source": "s",
            "published": {"value": 5, "url": "https://example.org/y"},
            "reason": "there is no such family",
        },
    ],
}


def written(folder: Path, change: dict[str, Any] | None = None, at: int = 0) -> Path:
    """Write the document with an anchor changed, keyed "ours.value"; None removes, `...` nulls."""
    document = copy.deepcopy(DOCUMENT)
    for name, value in (change or {}).items():
        *parents, last = name.split(".")
        place = document["anchors"][at]
        for parent in parents:
            place = place[parent]
        if value is None:
            del place[last]
        else:
            place[last] = None if value is ... else value
    path = folder / "anchors.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_a_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    one, two = load_anchors(written(tmp_path))
    assert (one.source.name, one.published.spread, one.ours and one.ours.high) == (
        "a source",
        32,
        -140.5,
    )
    assert two.family is None and two.ours is None and two.published.seeds is None


@pytest.mark.parametrize(
    ("published", "ours", "difference"),
    [
        (-78.6, -149, "-70"),
        (-122, -106, "16"),
        (293.2, 300.5, "7.3"),
        (5.25, 4.5, "-0.8"),
        (3, 3, "0"),
    ],
)
def test_a_difference_is_ours_less_theirs_as_precise_as_the_coarser(
    tmp_path: Path, published, ours, difference
) -> None:
    change = {"published.value": published, "ours.value": ours, "ours.low": None, "ours.high": None}
    (anchor, other) = load_anchors(written(tmp_path, change))
    assert str(anchor.difference) == difference and other.difference is None


@pytest.mark.parametrize(
    ("at", "change", "complaint"),
    [
        (0, {"source": "t"}, "anchor 'one': its source is 't'; there are s"),
        (0, {"source": []}, r"its source is \[\]"),
        (0, {"published": None}, "published must be an object, not None"),
        (0, {"published.value": None}, "published lacks 'value'"),
        (0, {"published.value": "5"}, "value cannot be '5'"),
        (0, {"published.value": True}, "value cannot be True"),
        (0, {"published.value": ...}, "value cannot be None"),
        (0, {"published.value": 1e999}, "Infinity is not finite"),
        (0, {"published.url": "http://example.org"}, "not an https address"),
        (0, {"published.url": "https://example.org/) ["}, "not an https address"),
        (0, {"published.url": "https://a|b"}, "not an https address"),
        (0, {"published.seeds": 1.5}, "seeds cannot be 1.5"),
        (0, {"published.steps": 0}, "steps must be positive"),
        (0, {"published.sd": 3}, "has 'sd'; it may have value"),
        (0, {"ours": 3}, "ours must be an object"),
        (0, {"ours.settings": None}, "ours lacks 'settings'"),
        (0, {"ours.low": None}, "both ends of an interval"),
        (0, {"ours.low": -148}, "an interval that contains its value"),
        (0, {"difference": 3}, "has 'difference'"),  # it is computed, never typed in
        (0, {"reason": None}, "needs a reason"),
        (0, {"family": ...}, "no family but a value of ours"),
        (0, {"method": ""}, "method cannot be ''"),
        (0, {"id": 7}, "anchor number 1: id cannot be 7"),
        (1, {"family": None}, "anchor 'two' lacks 'family'"),
        (1, {"reason": None}, "needs a reason"),
        (1, {"id": "one"}, "two anchors have the id 'one'"),
    ],
)
def test_what_cannot_be_is_named(
    tmp_path: Path, at: int, change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(StoreError, match=complaint) as error:
        load_anchors(written(tmp_path, change, at))
    assert str(tmp_path / "anchors.json") in str(error.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not valid JSON"),
        ("[]", 'must have "sources" and "anchors"'),
        ('{"sources": {}, "anchors": {}}', '"anchors" a list'),
        ('{"sources": {"s": 1}, "anchors": []}', "source 's' must be an object"),
        ('{"sources": {}, "anchors": [1]}', "anchor number 1 must be an object"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "anchors.json").write_text(text)
    with pytest.raises(StoreError, match=complaint):
        load_anchors(tmp_path / "anchors.json")


def test_a_missing_file_is_an_error_of_the_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"anchors\.json"):
        load_anchors(tmp_path / "anchors.json")


def test_what_is_shipped_has_sources_and_names_what_there_is() -> None:
    anchors = load_anchors()
    assert {anchor.method for anchor in anchors} <= set(METHODS)
    assert {anchor.family for anchor in anchors} - {None} <= set(FAMILIES)
    assert all(
        anchor.source.name and anchor.published.url.startswith("https://") for anchor in anchors
    )
    assert any(anchor.ours for anchor in anchors) and any(
        anchor.family and not anchor.ours for anchor in anchors
    )
