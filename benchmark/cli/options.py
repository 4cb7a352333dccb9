"""Options that commands share, their texts, and how a folder is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

SEALED = (
    "Adapt to fresh test tasks, as far from training as the frozen ones, drawn from this seed:"
    " choose it once a method is finished. The report of a store that holds both says how much"
    " better the frozen ones are solved."
)
UNPUBLISHED = (
    "Run only what the published results lack, of as many seeds as they need, and take over the"
    " meta-trainings that are published. `publish --add` adds it."
)
DEFAULT_STORE = Path("results/local")
PUBLISHED = Path("published")  # in place of a folder, the results that came with the program


def named_folder(text: str) -> Path:
    """Any folder, whether or not it is there.

    Raises:
      typer.BadParameter: if the name is empty.
    """
    if not str(text).strip():
        raise typer.BadParameter("it is empty; name a folder")
    return Path(text)


def own_folder(text: str) -> Path:
    """A folder that may be written to.

    Raises:
      typer.BadParameter: if the name is empty, or stands for what came with the program.
    """
    if (folder := named_folder(text)) == PUBLISHED:
        raise typer.BadParameter(
            f"`{PUBLISHED}` stands for the results that came with the program; name another folder"
        )
    return folder


def results_folder(text: str) -> Path:
    """As `named_folder`; only the bare word `published` stands for what came with the program."""
    folder = named_folder(text)
    return folder.absolute() if folder == PUBLISHED and text != str(PUBLISHED) else folder


def folder_option(*names: str, about: str, parser: Callable[[str], Path] = named_folder) -> Any:
    """An option that names a folder, which `parser` checks."""
    return typer.Option(*names, help=about, parser=parser, metavar="FOLDER")


Store = Annotated[Path, folder_option("--store", about="Folder of results.", parser=own_folder)]
Jobs = Annotated[int | None, typer.Option(help="Worker processes. [default: one per core]")]
Device = Annotated[
    str,
    typer.Option(
        help="Where learners are: cpu or cuda. Simulators are on the CPU, and random draws differ"
        " from one device to the other."
    ),
]
StageTimeLimit = Annotated[
    str | None,
    typer.Option(help="Give up a stage that takes longer than, for example, 6h; it has failed."),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(help="Give up a stage whose worker takes more than, for example, 8G of memory."),
]
TimeLimit = Annotated[
    str | None, typer.Option(help="Stop after, for example, 90m; run again to go on.")
]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
Sealed = Annotated[int | None, typer.Option(min=0, help=SEALED)]
Unpublished = Annotated[bool, typer.Option("--unpublished", help=UNPUBLISHED)]

Budget = Annotated[str, typer.Option(help="How much experience it may cost; `list` shows them.")]
Methods = Annotated[
    str | None,
    typer.Option(
        help="Names, comma-separated; all; or none, for --method alone. [default: the suite's]"
    ),
]
Families = Annotated[
    str | None, typer.Option(help="Names, comma-separated. [default: the suite's]")
]
Seeds = Annotated[int | None, typer.Option(help="Run seeds 0 … N−1. [default: the budget's]")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting, as apb.hidden=128.")
]
OwnMethod = Annotated[
    list[str] | None,
    typer.Option(
        help="Add a method of your own, as module:Class; MyMethod is called my-method then."
    ),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Run finished cells again, unfinished ones from the start."),
]
Plan = Annotated[
    bool, typer.Option("--plan", help="Only plan the cells, and leave them to `worker`.")
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Say what it would cost (time, memory, disk), and run nothing; takes ten seconds.",
    ),
]
Executor = Annotated[
    str,
    typer.Option(help="Who runs the stages: local, slurm (an array of workers) or ray."),
]
Array = Annotated[int | None, typer.Option(min=1, max=10_000, help="With slurm: how many workers.")]
Slurm = Annotated[
    list[str] | None,
    typer.Option(help="With slurm: a parameter of the jobs, as partition=long."),
]
Address = Annotated[
    str | None,
    typer.Option(help="With ray: of the cluster, or auto. [default: this machine alone]"),
]
Completed = Annotated[
    Path | None,
    folder_option(about="For --unpublished: the published results. [default: the program's]"),
]
Live = Annotated[
    Path | None,
    folder_option(about="Folder for curves under way: JSON lines, and TensorBoard's files."),
]
