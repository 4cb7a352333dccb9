"""Turns command-line words into suites, methods, families and settings; errors name the fix."""

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from benchmark.cores import available_cores
from benchmark.exits import is_stop
from benchmark.isolation import undisturbed
from benchmark.plugins import load_method, registered_methods
from benchmark.suites import BUDGETS, SUITES, Budget, Suite
from envs import FAMILIES, has_tuning_law, is_family, load_family
from envs.levels import has_split
from envs.permuted import PREFIX
from envs.sealed import sealed_name
from results.fork_server import has_file

if TYPE_CHECKING:
    from typer import Context

    from benchmark.cells import Cell
    from benchmark.executors import Means, Where

MAX_SEEDS = 1_000
EXECUTORS = ("local", "slurm", "ray")
DEVICES = ("cpu", "cuda")
# how error messages describe a value of each type
_EXPECTED = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


class InputError(Exception):
    """Bad input; the message is one line that names what is wrong and how to fix it."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for an unknown name; suggests the nearest known names, then lists all of them."""
    known = list(known)
    cutoff = 0.6 if len(name) <= 4 else 0.75  # one typo changes a large part of a short word
    near = get_close_matches(name, known, n=3, cutoff=cutoff)
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    return InputError(f"unknown {kind} {name!r}; {guess}known: {', '.join(known)}")


def words(text: str, kind: str) -> list[str]:
    """The entries of a comma-separated list, each once.

    Raises:
      InputError: if there are none.
    """
    found = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not found:
        raise InputError(f"the list of {kind} is empty; name one or more, separated by commas")
    return found


def the_only(given: Sequence[str], option: str) -> str:
    """The value of an option that may be given only once.

    Raises:
      InputError: if it was given more than once.
    """
    if len(given) > 1:
        raise InputError(f"{option} was given {len(given)} times; a run takes one")
    return given[0]


def choose_suite(name: str) -> Suite:
    """The suite called `name`."""
    if name not in SUITES:
        raise unknown("suite", name, SUITES)
    return SUITES[name]


def choose_budget(name: str) -> Budget:
    """The budget called `name`."""
    if name not in BUDGETS:
        raise unknown("budget", name, BUDGETS)
    return BUDGETS[name]


def choose_families(suite: Suite, budget: Budget, text: str | None) -> list[str]:
    """The families named in `text`, or the suite's own at this budget."""
    if text is None:
        if budget.id not in suite.families:
            usual = ", ".join(suite.families)
            raise InputError(
                f"suite {suite.id!r} has no families of its own at budget {budget.id!r}, only at"
                f" {usual}; give --families"
            )
        return list(suite.families[budget.id])
    chosen = words(text, "families")
    for name in chosen:
        if not is_family(name):
            raise unknown(
                "family",
                name,
                [PREFIX + base for base in FAMILIES] if name.startswith(PREFIX) else FAMILIES,
            )
        if not any(has_split(load_family(name), split) for split in suite.splits):
            wanted = " or ".join(map(repr, suite.splits))
            raise InputError(
                f"family {name!r} has no split {wanted}, which suite {suite.id!r} needs; leave"
                " it out"
            )
    return chosen


def with_sealed(suite: Suite, seed: int) -> Suite:
    """The suite on sealed test tasks in place of frozen ones."""
    return replace(suite, splits=tuple(sealed_name(split, seed) for split in suite.splits))


def choose_methods(
    suite: Suite, budget: Budget, text: str | None, extra: Sequence[str]
) -> dict[str, str]:
    """Name → module:Class of the methods in `text` (or the suite's own) and the `extra` paths."""
    registered = registered_methods()
    named = list(suite.methods) if text is None else words(text, "methods")
    if len(named) > 1 and (alone := {"all", "none"} & {*named}):
        raise InputError(
            f"--methods {min(alone)} must be given alone; leave out either it or the others"
        )
    if named == ["all"]:
        names = [*suite.methods, *(name for name in registered if name not in suite.methods)]
    elif named == ["none"]:
        if not extra:
            raise InputError(
                "--methods none leaves nothing to run; add a method of your own with --method"
                " module:Class"
            )
        names = []
    else:
        names = named
    for name in names:
        if name not in registered:
            raise unknown("method", name, [*registered, "all"])
    chosen = {name: registered[name] for name in names} | own_methods(extra)
    if not budget.train_tasks and (
        trained := [name for name, path in chosen.items() if load_method(path).meta_trains]
    ):
        raise InputError(
            f"budget {budget.id!r} has no meta-training; leave out {', '.join(trained)}"
        )
    return chosen


def choose_tuned(method: str, family: str, budget: Budget) -> tuple[str, str]:
    """Name and module:Class of the method to be tuned on a family at a budget."""
    if family not in FAMILIES:
        raise unknown("family", family, FAMILIES)
    if not has_tuning_law(family):
        raise InputError(
            f"family {family!r} exists only for comparison with published scores and has no tuning"
            " law; choose another"
        )
    if ":" in method:
        ((name, path),) = own_methods([method]).items()
    elif method in (registered := registered_methods()):
        name = method
        path = registered[method]
    else:
        raise unknown("method", method, registered)
    if not budget.train_tasks and load_method(path).meta_trains:
        raise InputError(
            f"budget {budget.id!r} has no meta-training, which {name} needs; choose another"
        )
    return name, path


def own_methods(paths: Sequence[str]) -> dict[str, str]:
    """Name → module:Class of unregistered methods; a class MyMethod is called my-method."""
    registered = registered_methods()
    found = dict[str, str]()
    for path in paths:
        load_method(path)
        if path in found.values():
            raise InputError(f"--method {path} was given twice")
        if path.startswith("__main__:") and not has_file():
            raise InputError(
                f"--method {path}: worker processes cannot import a script that is not a file; put"
                " the class into a module"
            )
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", path.rpartition(":")[2]).lower()
        if name in registered or name in found:
            raise InputError(
                f"--method {path} would be named {name!r}, like another method; rename its class"
            )
        found[name] = path
    return found


def refuse_idle(context: "Context", names: Iterable[str], use: str) -> None:
    """Refuse options that were given but would have no effect.

    Args:
      names: names of these options, as parameters of the command.
      use: what the options are for.
    Raises:
      InputError: if one of them was given.
    """
    for name in names:
        if (
            source := context.get_parameter_source(name)
        ) is not None and source.name == "COMMANDLINE":
            raise InputError(f"--{name.replace('_', '-')} is for {use}, and would do nothing here")


def refuse_idle_of_run(context: "Context", plan: bool, dry_run: bool, executor: str) -> None:
    """Refuse options of `run` that would have no effect because of another option.

    Raises:
      InputError: if one of them was given.
    """
    here = ("force", "live", "time_limit")
    of_workers = ("jobs", "save_every", "stage_time_limit", "memory_limit", "device")
    for given, names, use in (
        (plan, (*here, *of_workers, "dry_run"), "a run without --plan"),
        (dry_run, (*here, "unpublished", "save_every", "device"), "a run without --dry-run"),
        (executor == "slurm", here, "--executor local or ray"),
        (executor == "ray", ("memory_limit",), "--executor local or slurm"),
    ):
        if given:
            refuse_idle(context, names, use)


def choose_settings(
    texts: Sequence[str], methods: Mapping[str, str], budget: Budget
) -> dict[str, dict[str, Any]]:
    """Parse settings `method.key=value`; return them by method, in the types of its Config.

    Raises:
      InputError: if there is no such setting, it is set twice, or its Config refuses the value.
    """
    changed: dict[str, dict[str, Any]] = {}
    for text in texts:
        target, equals, value = text.partition("=")
        method, dot, key = target.strip().rpartition(".")
        if not equals or not dot:
            raise InputError(
                f"--set {text!r} is not of the form method.key=value, such as apb.hidden=128"
            )
        if method not in methods:
            raise unknown("method of this run in --set", method, methods)
        config = load_method(methods[method]).Config
        if key not in (known := [field.name for field in fields(config)]):
            raise (
                unknown(f"setting of {method}", key, known)
                if known
                else InputError(f"--set {text!r}: {method} has no settings")
            )
        if key in changed.setdefault(method, {}):
            raise InputError(f"--set {text!r}: {method}.{key} is set twice")
        changed[method][key] = _value(text, value.strip(), get_type_hints(config)[key])
    from benchmark.cells import resolve_config  # imports torch, so after the quick checks

    for method, settings in changed.items():
        try:
            resolve_config(load_method(methods[method]), budget, settings)
        except BaseException as error:  # a Config may raise anything
            if is_stop(error):
                raise
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise InputError(f"--set for {method}: {kind}{error}") from error
    return changed


def _value(text: str, value: str, kind: Any) -> Any:
    """Convert the value in `text`, an argument of `--set`, to the type `kind`."""
    switches = {"true": True, "false": False}
    if kind not in _EXPECTED:
        name = getattr(kind, "__name__", None) if isinstance(kind, type) else None
        raise InputError(
            f"--set {text!r}: a setting of type {name or kind} cannot be given here, only numbers,"
            " strings, true and false; change its default in its Config"
        )
    try:
        if kind is bool:
            return switches[value.lower()]
        if kind is int:
            return int(value.replace("_", ""))
        if kind is float and not math.isfinite(float(value)):
            raise ValueError
        return kind(value)
    except (ValueError, KeyError):
        raise InputError(f"--set {text!r}: {value!r} is not {_EXPECTED[kind]}") from None


def check_budgets(cells: "Iterable[Cell]") -> None:
    """Refuse methods that cannot be built, or budgets below one iteration of their meta-training.

    Raises:
      InputError: if there is a cell with such a method or budget.
    """
    for cell in {cell.train_id: cell for cell in cells if cell.meta_trains}.values():
        try:
            with undisturbed():
                needed = math.ceil(cell.build().least_budget(cell.train_tasks))
                asked = f"{needed:,}"
        except BaseException as error:  # a plug-in may raise anything
            if is_stop(error):
                raise
            fault = f"{type(error).__name__}: {error}"
            raise InputError(f"{cell.method} on {cell.family} cannot be built: {fault}") from error
        if cell.train_steps < needed:
            raise InputError(
                f"{cell.method} on {cell.family}: one iteration of its meta-training takes {asked}"
                f" environment steps, but budget {cell.budget!r} has {cell.train_steps:,}; change"
                " its settings, or choose a larger budget"
            )


def choose_seeds(seeds: int | None, budget: Budget, published: bool = False) -> int:
    """How many seeds to run, 0 … n−1; the default with `published` is that of published tables."""
    if seeds is None:
        return (budget.published_seeds if published else 0) or budget.seeds
    if not 1 <= seeds <= MAX_SEEDS:
        raise InputError(f"--seeds {seeds}: give a number from 1 to {MAX_SEEDS}")
    return seeds


def choose_published(unpublished: bool, folder: Path | None, force: bool) -> Path | None:
    """The folder of the published results to complete, None for none.

    Raises:
      InputError: if options contradict each other, or there is no such folder.
    """
    if not unpublished:
        if folder is not None:
            raise InputError("--published is for --unpublished, and would do nothing here")
        return None
    if force:
        raise InputError(
            "--force would retrain what --unpublished reuses from the published results; leave one"
            " of them out"
        )
    from results.publication import PUBLISHED

    if folder is None or folder == Path("published"):
        return PUBLISHED
    if not folder.is_dir():
        raise InputError(f"--published {folder}: there is no such folder; make it, or name another")
    return folder


def choose_where(
    executor: str, plan: bool, array: int | None, parameters: Sequence[str], address: str | None
) -> "Where":
    """Where stages are to run, according to the command line."""
    if executor not in EXECUTORS:
        raise unknown("executor", executor, EXECUTORS)
    for given, name, user in (
        (array is not None, "--array", "slurm"),
        (bool(parameters), "--slurm", "slurm"),
        (address is not None, "--address", "ray"),
    ):
        if given and executor != user:
            raise InputError(f"{name} is for --executor {user}, and would do nothing here")
    if plan and executor != "local":
        raise InputError(
            f"--plan leaves nothing for --executor {executor} to run; leave one of them out"
        )
    from benchmark.executors import Where  # imports torch, so after the quick checks

    if executor != "slurm":
        return Where("none" if plan else executor, address=address)
    from benchmark.on_slurm import parameters_of

    return Where(executor, array or 1, parameters_of(parameters))


def most_threads() -> int | None:
    """Threads that OMP_NUM_THREADS allows a process, None if it holds no positive number."""
    most = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(most) if most.isdecimal() and int(most) else None


def choose_jobs(jobs: int | None) -> tuple[int, int]:
    """Numbers of worker processes and of threads for each, within the cores of this process.

    OMP_NUM_THREADS, with which users limit the threads of a process, is obeyed.
    """
    cores = available_cores()
    if jobs is not None and not 1 <= jobs <= cores:
        raise InputError(
            f"--jobs {jobs}: this process may use {cores} cores; give a number from 1 to {cores}"
        )
    # networks are small: one thread each is the fastest use of cores
    chosen = cores if jobs is None else jobs
    threads = cores // chosen
    return chosen, max(1, min(threads, most_threads() or threads))


def choose_means(
    jobs: int | None,
    time_limit: str | None,
    save_every: str,
    stage_time_limit: str | None = None,
    memory_limit: str | None = None,
    executor: str = "local",
    device: str = "cpu",
) -> "Means":
    """What an executor may use, according to the command line."""
    check_device(device, here=executor == "local")
    if executor == "local":
        workers, threads = choose_jobs(jobs)
    elif jobs is not None and jobs < 1:
        raise InputError(f"--jobs {jobs}: give a number from 1")
    else:
        workers, threads = jobs or 1, most_threads() or 1
    limits: dict[str, Any] = {
        "time_limit_s": None if time_limit is None else seconds(time_limit),
        "stage_limit_s": None
        if stage_time_limit is None
        else seconds(stage_time_limit, "--stage-time-limit"),
        "memory_limit": None if memory_limit is None else memory(memory_limit),
    }
    every = seconds(save_every, "--save-every")
    from benchmark.executors import Means  # imports torch, so after the quick checks

    limits |= {"save_every_s": every, "jobs_given": jobs is not None, "device": device}
    return Means(workers, threads, **limits)


def check_device(device: str, here: bool) -> None:
    """Check that learners can run on a device; if `here`, that this machine has it.

    Raises:
      InputError: if the device is unknown or not available.
    """
    if device not in DEVICES:
        raise InputError(f"--device {device!r}: give one of {', '.join(DEVICES)}")
    if device == "cpu" or not here:
        return
    import torch  # takes seconds, so after the quick checks

    if not torch.cuda.is_available():
        built = "" if torch.version.cuda else ", and this torch is built for CPUs only"
        raise InputError(f"--device {device}: there is no CUDA device here{built}")


def memory(text: str, option: str = "--memory-limit") -> int:
    """Convert an amount such as "8G", "1.5G" or "800M" to bytes; K, M, G and T are powers of 1024.

    Raises:
      InputError: if the text is not such an amount, or zero.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([kmgt])(?:i?b)?", text.strip().lower(), re.ASCII)
    found = int(float(match[1]) * 1024 ** (1 + "kmgt".index(match[2]))) if match else 0
    if found <= 0:
        raise InputError(
            f"{option} {text!r} is not an amount of memory; write for example 8G or 800M"
        )
    return found


def seconds(text: str, option: str = "--time-limit") -> float:
    """Convert a duration such as "90m", "2h", "1h30m" or "45s" to seconds.

    Raises:
      InputError: if the text is not such a duration, or zero.
    """
    match = re.fullmatch(
        r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?", text.strip().lower(), re.ASCII
    )
    total = (
        sum(int(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True))
        if match
        else 0
    )
    if total <= 0:
        raise InputError(
            f"{option} {text!r} is not a duration; write for example 90m, 2h, 1h30m or 45s"
        )
    return float(total)
