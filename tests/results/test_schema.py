import numpy as np
import pytest

from results.schema import COLUMNS, Row, to_frame


@pytest.fixture
def row():
    def make(**columns):
        named = {
            "budget": "smoke",
            "family": "point-goal",
            "family_version": "1",
            "method": "td3",
            "method_version": 1,
        }
        return Row(
            **{
                **named,
                "variant": "",
                "config_hash": "0a",
                "seed": 0,
                "stage": "adapt",
                "env_steps": 0,
                **columns,
            }
        )

    return make


def test_a_frame_has_the_columns_and_types_of_the_schema_even_without_rows(row):
    for frame in (to_frame([]), to_frame([row()]), to_frame(row(seed=seed) for seed in range(3))):
        assert dict(frame.dtypes.astype(str)) == COLUMNS


def test_missing_is_null_and_zero_is_zero(row):
    frame = to_frame(
        [
            row(return_mean=None, updates=None),
            row(return_mean=0.0, updates=0),
            row(return_mean=float("nan")),
        ]
    )
    assert frame["return_mean"].isna().tolist() == [True, False, True]
    assert frame["updates"].isna().tolist() == [True, False, True]
    assert frame["error"].isna().all()


def test_whole_numbers_stay_exact_beside_missing_ones(row):
    assert to_frame([row(updates=2**60 + 1), row(updates=None)])["updates"][0] == 2**60 + 1


def test_numbers_of_numpy_are_numbers(row):
    frame = to_frame(
        [row(return_mean=np.float32(1.5), env_steps=np.int64(3), return_std=float("inf"))]
    )
    assert (frame["return_mean"][0], frame["env_steps"][0], frame["return_std"][0]) == (
        1.5,
        3,
        float("inf"),
    )
