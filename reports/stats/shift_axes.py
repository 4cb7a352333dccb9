"""Shift axes in a report: name, unit, and whether tasks are exact images of training tasks."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from reports.stats.scores import IN_DISTRIBUTION

EXACT = "exact linear images of training tasks"
# Axes whose name means the same quantity in every family, in SI units; others are named without a
# unit.
_UNITS = {"angle": "rad", "rotation": "rad", "radius": "m", "speed": "m/s", "direction": "rad"}


def exact_axes(plans: Iterable[Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    """By family, the shift axes along which test tasks are exact linear images of training tasks.

    A linear layer before a policy and one after it can undo such a shift, so these axes are marked
    wherever they are named.

    Args:
      plans: the store's plans; a cell without `isomorphic_axes` adds none.
    """
    found: dict[str, frozenset[str]] = {}
    for plan in plans:
        for cell in plan["cells"]:
            family = cell["slot"]["family"]
            found[family] = found.get(family, frozenset()) | frozenset(
                cell.get("isomorphic_axes", ())
            )
    return found


def axis_text(axis: str, exact: Collection[str]) -> str:
    """A shift axis in a sentence: "shift axis angle (exact linear images of training tasks)"."""
    if axis == IN_DISTRIBUTION:
        return "in-distribution tasks"
    return f"shift axis {axis} ({EXACT})" if axis in exact else f"shift axis {axis}"


def in_order(axes: Iterable[str]) -> list[str]:
    """Each shift axis once, tasks without one first, then by name."""
    return sorted(set(axes), key=lambda axis: (axis != IN_DISTRIBUTION, axis))


def unit(axis: str) -> str:
    """The unit of the shift on an axis, "" if it is unknown or there is none."""
    return _UNITS.get(axis, "")
