"""Ranges of plausible settings; anything outside is rejected as a typo."""

from collections.abc import Mapping
from typing import Any


def check_ranges(config: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Check that settings lie within their ranges, ends included.

    Args:
      config: an object with an attribute of each name.
      ranges: lowest and highest value, by name.
    Raises:
      ValueError: if a setting lies outside its range or is NaN.
    """
    for name, (low, high) in ranges.items():
        if not low <= getattr(config, name) <= high:  # NaN fails too
            raise ValueError(f"{name} must be from {low} to {high}, not {getattr(config, name)}")
