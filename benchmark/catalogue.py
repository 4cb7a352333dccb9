"""The catalogue of what `run` accepts: suites, budgets, families, methods."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from benchmark.plugins import PluginError, load_method, registered_methods
from benchmark.suites import BUDGETS, SUITES
from envs import FAMILIES, PIXELS, load_family
from envs.api import family_version


def catalogue() -> dict[str, Any]:
    """Everything that `run` accepts, as plain data."""
    return {
        "suites": {suite.id: asdict(suite) for suite in SUITES.values()},
        "budgets": {budget.id: asdict(budget) for budget in BUDGETS.values()},
        "families": {name: _family(name) for name in FAMILIES},
        "methods": {name: _method(path) for name, path in registered_methods().items()},
    }


def _family(name: str) -> dict[str, Any]:
    family = load_family(name)
    splits = {
        split: [{**asdict_task(task)} for task in family.split(split)] for split in family.splits()
    }
    return {
        "version": family_version(family),
        "varies": family.kind,
        "horizon": family.horizon,
        "splits": splits,
    }


def asdict_task(task: Any) -> dict[str, Any]:
    """A task's parameters and shift as plain data."""
    return {"params": dict(task.params), "shift": task.shift, "shift_axis": task.shift_axis}


def _method(path: str) -> dict[str, Any]:
    try:
        method = load_method(path)
    except PluginError as error:  # a method of another distribution
        return {"path": path, "fault": str(error)}
    defaults = asdict(method.Config())
    about = (method.__doc__ or "").strip().splitlines() or [""]
    return {
        "path": path,
        "version": method.version,
        "about": about[0],
        "meta_trains": method.meta_trains,
        "defaults": defaults,
    }


def as_text(catalogue: Mapping[str, Any]) -> str:
    """The catalogue as text for people to read."""
    lines = ["Suites"]
    for name, suite in catalogue["suites"].items():
        lines.append(f"  {name}: {suite['question']}")
        lines.append(
            f"    methods: {', '.join(suite['methods'])}; `--methods all` adds every method below"
        )
        if len(suite["variants"]) > 1:
            lines.append(f"    each as: {'; '.join(map(_variant, suite['variants']))}")
        lines += [
            f"    families at {budget}: {', '.join(names)}"
            for budget, names in suite["families"].items()
        ]
    lines.append("Budgets (environment steps)")
    for name, budget in catalogue["budgets"].items():
        lines.append(f"  {name}: {budget['purpose']}; {budget['seeds']} seeds")
        on_policy = (
            f"on-policy: {budget['fresh_steps']:,}, {budget['fresh_tasks']} fresh tasks at a time"
        )
        lines.append(
            f"    meta-training {budget['train_steps']:,} over {budget['train_tasks']} tasks"
            f" ({on_policy})"
        )
        if others := budget["meta_steps"]:
            each = ", ".join(f"{steps:,} in {module}" for module, steps in others.items())
            lines.append(f"    except, to equalise core-time: {each}")
        lines.append(f"    adaptation {budget['adapt_steps']:,} per test task")
    lines.append("Families")
    for name, family in catalogue["families"].items():
        splits = ", ".join(
            f"{split} ({len(tasks)} tasks)" for split, tasks in family["splits"].items()
        )
        lines.append(
            f"  {name} v{family['version']}: {family['varies']} varies, {family['horizon']} steps;"
            f" splits {splits}"
        )
    lines.append(
        "  prefix permuted- for any of them: observation and action entries in a different order on"
        " each test task"
    )
    lines.append(f"  {', '.join(PIXELS)}: observed as images, through a frozen encoder")
    lines.append("Methods (settings with their defaults; change one with --set method.key=value)")
    for name, method in catalogue["methods"].items():
        if "fault" in method:
            lines.append(f"  {name} cannot be used: {method['fault']}")
            continue
        settings = ", ".join(f"{key}={value}" for key, value in method["defaults"].items())
        lines.append(f"  {name} v{method['version']}: {method['about']}")
        lines.append(f"    {settings or 'no settings'}")
    return "\n".join(lines)


def _variant(variant: Mapping[str, Any]) -> str:
    """A suite's variant as text for people to read."""
    said = [f"{key}={value}" for key, value in variant["settings"].items()]
    if variant["tasks"]:
        steps = "the same total of steps" if variant["same_total"] else "the same steps each"
        law = f" from the middle {variant['law']:.0%} of the law" * (variant["law"] < 1)
        said.append(f"{variant['tasks']} training tasks{law} with {steps}")
    return " ".join(said) or "unchanged"
