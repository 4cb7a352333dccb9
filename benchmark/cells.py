"""Expands a suite into cells: a method on a family's split with a seed, in stages train and adapt.

A stage is identified by the hash of everything that affects its scores, so that nothing is measured
twice, and a corrected method never gets a stale result.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

from benchmark.plugins import PluginError, load_method, registered_methods, source_digest
from benchmark.suites import Budget, Suite, Variant
from envs import load_family
from envs.api import TaskFamily, checksum, family_version
from envs.levels import has_split
from envs.told import told
from methods.api import Method, Spec
from results.schema import PROTOCOL_VERSION
from results.store import CellKey


@dataclass(frozen=True)
class Cell:
    """An entry of a suite's table, with all that its stages need, as plain data for any process.

    Its ids are hashed only once, as an executor asks for them several times a second.
    """

    suite: str
    suite_version: int
    budget: str
    family: str
    family_version: str
    split: str
    split_checksum: str
    method: str
    method_path: str  # module:Class
    method_version: int
    method_source: str  # digest of a plug-in's code, "" for a built-in one: its version suffices
    trained_by: str  # the method whose meta-training it adapts, usually itself
    meta_trains: bool
    variant: str  # settings and training tasks that differ from the budget's, "" for none
    config: Mapping[str, Any]
    adapt_settings: tuple[str, ...]  # the settings that meta-training does not read
    seed: int
    train_tasks: int  # 0 without meta-training, like the next two
    train_steps: int  # summed over the training tasks
    nested_in: int  # tasks drawn, the first `train_tasks` of which are used; 0: just as many
    law: float  # share of the training law that tasks come from, nearest its middle
    adapt_steps: int  # per test task
    test_tasks: int
    probe: str  # module:Class of a further measurement in adaptation, "" for none

    @property
    def config_hash(self) -> str:
        """Hash of the method's settings."""
        return _hash(self.config)

    @cached_property
    def trainer(self) -> "Cell":
        """The cell whose train stage this builds on: itself, or its counterpart of `trained_by`.

        Its variant names only settings that meta-training reads, because cells that share the stage
        may differ in the others.
        """
        moved = (
            setting
            for setting in self.variant.split()
            if setting.partition("=")[0] not in self.adapt_settings
        )
        variant = " ".join(moved)
        if self.trained_by == self.method:
            return self if variant == self.variant else replace(self, variant=variant)
        cell = replace(self, variant=variant)
        path = registered_methods()[self.trained_by]
        method = load_method(path)
        source = source_digest(path)
        config = {field.name: self.config[field.name] for field in fields(method.Config)}
        settings = tuple(name for name in self.adapt_settings if name in config)
        cell = replace(cell, config=config, adapt_settings=settings)
        return replace(
            cell,
            method=self.trained_by,
            method_path=path,
            method_version=method.version,
            method_source=source,
        )

    @cached_property
    def train_id(self) -> str:
        """Hash of everything that affects the trained state."""
        cell = self.trainer
        drawn = [cell.nested_in] * (cell.nested_in > 0) + [cell.law] * (cell.law < 1)
        return _hash(
            [
                *drawn,
                cell.family,
                cell.family_version,
                cell.train_tasks,
                cell.train_steps,
                cell.method,
                cell.method_path,
                cell.method_version,
                cell.method_source,
                {
                    name: value
                    for name, value in cell.config.items()
                    if name not in cell.adapt_settings
                },
                cell.seed,
            ]
        )

    @cached_property
    def train_key(self) -> CellKey | None:
        """Where the train stage is stored; None without meta-training."""
        return CellKey("train", None, None, self.train_id) if self.meta_trains else None

    @cached_property
    def adapt_key(self) -> CellKey:
        """Where the adapt stage is stored."""
        who = (
            []
            if self.trained_by == self.method
            else [self.method, self.method_path, self.method_version, self.method_source]
        )
        moves = [
            self.train_id,
            *who,
            self.config,
            self.split,
            self.split_checksum,
            self.adapt_steps,
            PROTOCOL_VERSION,
            *[self.probe] * bool(self.probe),
        ]
        return CellKey("adapt", self.suite, self.suite_version, _hash(moves))

    def build(self) -> Method:
        """A fresh instance of the method.

        Raises:
          PluginError: if its code has changed since the cell was planned.
        """
        method = load_method(self.method_path)
        if source_digest(self.method_path) != self.method_source:
            raise PluginError(
                f"the code of {self.method_path} has changed since the run was planned: start"
                " again; the results of the two versions are kept apart"
            )
        family = self.seen_family()
        spec = Spec(family.observation_size, family.action_size, family.horizon, family.kind)
        return method(spec, method.Config(**self.config))

    def seen_family(self) -> TaskFamily:
        """The family as the method observes it."""
        family = load_family(self.family)
        return told(family) if load_method(self.method_path).told else family

    def plan(self) -> dict[str, Any]:
        """The cell as the store's plan lists it."""
        slot = {
            name: getattr(self, name)
            for name in ("budget", "family", "split", "method", "variant", "seed")
        }
        return {
            "slot": slot,
            "key": dict(vars(self.adapt_key)),
            "train_key": dict(vars(self.train_key)) if self.train_key else None,
            "adapt_steps": self.adapt_steps,
            "isomorphic_axes": sorted(load_family(self.family).isomorphic),
        }


def expand(
    suite: Suite,
    budget: Budget,
    methods: Mapping[str, str],
    families: Iterable[str],
    seeds: int,
    settings: Mapping[str, Mapping[str, Any]],
) -> list[Cell]:
    """The cells of a suite, in the report's order.

    Args:
      methods: name → module:Class.
      settings: those changed on the command line, by method; they override the defaults and the
        budget's.
    Raises:
      ValueError: if a setting has a value its method refuses.
      PluginError: if the method named in `trained_by` does not fit.
    """
    cells = list[Cell]()
    for family in families:
        for split in suite.splits:
            if not has_split(load_family(family), split):
                continue
            first = [
                _cell(
                    suite,
                    budget,
                    family,
                    split=split,
                    name=name,
                    path=path,
                    changed=settings.get(name, {}),
                    variant=variant,
                )
                for name, path in methods.items()
                for variant in _variants_of(load_method(path), suite)
            ]
            cells += (replace(cell, seed=seed) for seed in range(seeds) for cell in first)
    return cells


def _variants_of(method: type[Method], suite: Suite) -> Iterator[Variant]:
    """Yield the suite's variants that a method has, or the unchanged method if it has none."""
    known = {field.name for field in fields(method.Config)}
    found = [
        variant
        for variant in suite.variants
        if variant.settings.keys() <= known
        and (not variant.tasks or (method.meta_trains and not method.on_policy))
    ]
    yield from found or (Variant(),)


def _cell(
    suite: Suite,
    budget: Budget,
    family_id: str,
    split: str,
    name: str,
    path: str,
    changed: Mapping[str, Any],
    variant: Variant,
) -> Cell:
    """The cell with seed 0."""
    method = load_method(path)
    family = load_family(family_id)
    tasks, (train_tasks, train_steps) = family.split(split), _meta_training(method, budget, family)
    usual = resolve_config(method, budget, {})
    config = resolve_config(method, budget, {**variant.settings, **changed})
    moved = [f"{key}={value}" for key, value in sorted(config.items()) if value != usual[key]]
    nested_in = 0
    if variant.tasks:
        steps = train_steps if variant.same_total else variant.tasks * (train_steps // train_tasks)
        train_tasks, train_steps = variant.tasks, steps
        nested_in = max(other.tasks for other in suite.variants)
        moved += [f"tasks={variant.tasks}", *["steps=same"] * variant.same_total]
        moved += [f"law={variant.law}"] * (variant.law < 1)
    return Cell(
        suite=suite.id,
        suite_version=suite.version,
        budget=budget.id,
        family=family_id,
        family_version=family_version(family),
        split=split,
        split_checksum=checksum({split: [[dict(t.params), t.shift, t.shift_axis] for t in tasks]}),
        method=name,
        method_path=path,
        method_version=method.version,
        method_source=source_digest(path),
        trained_by=_trainer(name, method),
        meta_trains=method.meta_trains,
        variant=" ".join(moved),
        config=config,
        adapt_settings=tuple(
            field.name for field in fields(method.Config) if field.metadata.get("stage") == "adapt"
        ),
        seed=0,
        train_tasks=train_tasks,
        train_steps=train_steps,
        nested_in=nested_in,
        law=variant.law if variant.tasks else 1.0,
        adapt_steps=budget.adapt_steps,
        test_tasks=len(tasks),
        probe=suite.probe,
    )


def _meta_training(method: type[Method], budget: Budget, family: TaskFamily) -> tuple[int, int]:
    """Number of training tasks at a time, and environment steps summed over all tasks."""
    if not method.meta_trains:
        return 0, 0
    steps = budget.meta_steps.get(
        method.__module__, budget.fresh_steps if method.on_policy else budget.train_steps
    )
    if method.on_policy:
        return budget.fresh_tasks, steps
    # at most as many as the law has: the same task twice tells nothing new
    many = min(budget.many_tasks, family.law_size or budget.many_tasks)
    return many if method.many_tasks else budget.train_tasks, steps


def _trainer(name: str, method: type[Method]) -> str:
    """The name of the method whose meta-training `method`, called `name`, adapts.

    Raises:
      PluginError: if that method is not registered, does not meta-train, or has other settings.
    """
    trainer = method.trained_by or name
    if trainer == name:
        return name
    known = registered_methods()
    like = load_method(known[trainer]) if trainer in known else None
    if like is None or not like.meta_trains:
        can = ", ".join(other for other, path in known.items() if load_method(path).meta_trains)
        raise PluginError(
            f"method {name} is trained by {trainer!r}, which is not a registered method that"
            f" meta-trains; those that do are {can}"
        )
    more = {
        field.name for field in fields(method.Config) if field.metadata.get("stage") != "adapt"
    } - {field.name for field in fields(like.Config)}
    if not issubclass(method.Config, like.Config) or more:
        raise PluginError(
            f"method {name} is trained by {trainer!r}, whose Config it must share to adapt that"
            " method's trained state; a subclass may add settings of adaptation, marked with"
            ' metadata={"stage": "adapt"}'
        )
    return trainer


def resolve_config(
    method: type[Method], budget: Budget, changed: Mapping[str, Any]
) -> dict[str, Any]:
    """A method's settings: defaults, then the budget's for its Config's classes, then `changed`."""
    settings = dict[str, Any]()
    for kind in reversed(method.Config.__mro__):
        settings |= budget.settings.get(f"{kind.__module__}:{kind.__qualname__}", {})
    return asdict(method.Config(**{**settings, **changed}))


def _hash(value: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of canonical JSON."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()[:16]
