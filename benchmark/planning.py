"""What a run was asked for, kept in the store's plan so that workers elsewhere know its cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.cells import Cell, expand
from benchmark.plugins import PluginError, load_method
from benchmark.suites import BUDGETS, SUITES, Budget, Suite
from results.store import Store, StoreError


@dataclass(frozen=True)
class Request:
    """A suite, and what the command line asks of it."""

    suite: Suite
    budget: Budget
    methods: Mapping[str, str]  # name → module:Class
    families: Sequence[str]
    seeds: int
    settings: Mapping[str, Mapping[str, Any]]  # by method: those that differ from the budget's

    def cells(self) -> list[Cell]:
        """Its cells, in the report's order."""
        return expand(
            self.suite,
            self.budget,
            self.methods,
            families=self.families,
            seeds=self.seeds,
            settings=self.settings,
        )

    def as_plain(self) -> dict[str, Any]:
        """The request as JSON data; the plan itself names the suite."""
        return {
            "budget": self.budget.id,
            "splits": list(self.suite.splits),
            "methods": dict(self.methods),
            "families": list(self.families),
            "seeds": self.seeds,
            "settings": {name: dict(changed) for name, changed in self.settings.items()},
        }


def plan_of(
    suite: Suite,
    methods: Mapping[str, str],
    cells: Sequence[Cell],
    request: Request | None = None,
) -> dict[str, Any]:
    """The plan: which cells are expected, and from which request they come."""
    requests = {"requests": [request.as_plain()]} if request else {}
    return {
        "suite": suite.id,
        "suite_version": suite.version,
        "question": suite.question,
        "arms": list(methods),
        "remembering": [name for name, path in methods.items() if load_method(path).remembers],
        "cells": [cell.plan() for cell in cells],
        **requests,
    }


@dataclass(frozen=True)
class Planned:
    """The cells of a plan that this program would run as they were planned."""

    cells: list[Cell]
    attempt: int  # what failed in this attempt or a later one is not tried again
    foreign: int  # cells that this program does not know how to run as they were planned
    reason: str = ""  # why it does not, where that is known


def planned_in(plan: Mapping[str, Any]) -> Planned:
    """The cells of a plan.

    Raises:
      StoreError: if the plan does not say what the run was asked for.
    """
    wanted = {cell["key"]["id"] for cell in plan["cells"]}
    attempt = plan.get("attempt", 0)
    suite = SUITES.get(plan["suite"])
    if suite is None or suite.version != plan["suite_version"]:
        return Planned([], attempt, len(wanted))
    if not plan.get("requests"):
        raise StoreError(
            f"the plan of suite {plan['suite']} does not record the options that it was made with:"
            " plan its cells again with `run --plan`"
        )
    found: dict[str, Cell] = {}
    reason = ""
    for asked in plan["requests"]:
        try:
            found |= {cell.adapt_key.id: cell for cell in _request(suite, asked).cells()}
        # a method, a setting, a family or a budget that no longer exists
        except (PluginError, LookupError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    cells = [cell for name, cell in found.items() if name in wanted]
    return Planned(cells, attempt, len(wanted) - len(cells), reason)


def _request(suite: Suite, asked: Mapping[str, Any]) -> Request:
    return Request(
        replace(suite, splits=tuple(asked["splits"])),
        BUDGETS[asked["budget"]],
        asked["methods"],
        families=asked["families"],
        seeds=asked["seeds"],
        settings=asked["settings"],
    )


def plans_of(store: Store, suites: Sequence[str] | None) -> list[dict[str, Any]]:
    """The store's plans, for all suites or for those named.

    Raises:
      StoreError: if there is none, or a named suite has none.
    """
    chosen = named(store.plans(), suites, store.root)
    if not chosen:
        raise StoreError(f"{store.root}: nothing is planned there: plan a suite with `run --plan`")
    return chosen


def named(
    plans: Sequence[dict[str, Any]], suites: Sequence[str] | None, root: Path
) -> list[dict[str, Any]]:
    """Those of a store's `plans` that are for `suites`; None for all.

    Raises:
      StoreError: if a suite has no plan.
    """
    there = {plan["suite"]: plan for plan in plans}
    if unknown := [name for name in suites or () if name not in there]:
        raise StoreError(
            f"{root}: no plan of suite {unknown[0]}; planned suites: {', '.join(there) or 'none'}"
        )
    return [plan for name, plan in there.items() if suites is None or name in suites]
