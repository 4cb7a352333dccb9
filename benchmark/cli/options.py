"""Options that commands share, their help texts, and the parsers of folder names."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

SEALED = (
    "Adapt to fresh test tasks drawn from this seed, as far from training as the frozen ones."
    " Choose the seed once the method is finished. The report of a store that holds both says how"
    " much better the frozen ones are solved."
)
UNPUBLISHED = (
    "Run only what the published results lack, with as many seeds as they need, reusing published"
    " meta-trainings. `publish --add` then adds the results."
)
DEFAULT_STORE = Path("results/local")
PUBLISHED = Path("published")  # stands for the results that came with the program


def named_folder(text: str) -> Path:
    """Parse the name of any folder, whether or not it exists.

    Raises:
      typer.BadParameter: if the name is empty.
    """
    if not str(text).strip():
        raise typer.BadParameter("it is empty; name a folder")
    return Path(text)


def own_folder(text: str) -> Path:
    """Parse the name of a folder that may be written to.

    Raises:
      typer.BadParameter: if the name is empty, or stands for the results that came with the
        program.
    """
    if (folder := named_folder(text)) == PUBLISHED:
        raise typer.BadParameter(
            f"`{PUBLISHED}` stands for the results that came with the program; name another folder"
        )
    return folder


def results_folder(text: str) -> Path:
    """Parse like `named_folder`, but make other names of a folder `published` absolute.

    Only the bare word `published` stands for the results that came with the program.
    """
    folder = named_folder(text)
    return folder.absolute() if folder == PUBLISHED and text != str(PUBLISHED) else folder


def folder_option(*names: str, about: str, parser: Callable[[str], Path] = named_folder) -> Any:
    """An option that takes the name of a folder, checked by `parser`."""
    return typer.Option(*names, help=about, parser=parser, metavar="FOLDER")


Store = Annotated[Path, folder_option("--store", about="Folder of results.", parser=own_folder)]
Jobs = Annotated[int | None, typer.Option(help="Worker processes. [default: one per core]")]
Device = Annotated[
    str,
    typer.Option(
        help="Where learners run: cpu or cuda. Simulators always run on the CPU; random draws"
        " differ between devices."
    ),
]
StageTimeLimit = Annotated[
    str | None,
    typer.Option(help="Abandon a stage that takes longer than, say, 6h, and count it as failed."),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(help="Abandon a stage whose worker uses more than, say, 8G of memory."),
]
TimeLimit = Annotated[str | None, typer.Option(help="Stop after, say, 90m; run again to continue.")]
SaveEvery = Annotated[
    str,
    typer.Option(help="How often to save unfinished stages; when stopped, they are saved as well."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Sealed = Annotated[int | None, typer.Option(min=0, help=SEALED)]
Unpublished = Annotated[bool, typer.Option("--unpublished", help=UNPUBLISHED)]

Budget = Annotated[
    str, typer.Option(help="How much experience to spend; `list` shows all budgets.")
]
Methods = Annotated[
    str | None,
    typer.Option(
        help="Comma-separated names; or all; or none, to run --method alone. [default: the suite's]"
    ),
]
Families = Annotated[str | None, typer.Option(help="Comma-separated names. [default: the suite's]")]
Seeds = Annotated[int | None, typer.Option(help="Run seeds 0 … N−1. [default: the budget's]")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting, e.g. apb.hidden=128.")
]
OwnMethod = Annotated[
    list[str] | None,
    typer.Option(
        help="Add a method of your own, as module:Class; MyMethod is then named my-method."
    ),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Rerun finished cells, and unfinished ones from the start."),
]
Plan = Annotated[bool, typer.Option("--plan", help="Only plan the cells, for a `worker` to run.")]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Estimate the cost (time, memory, disk) without running; takes ten seconds.",
    ),
]
Executor = Annotated[
    str,
    typer.Option(help="What runs the stages: local, slurm (an array of workers) or ray."),
]
Array = Annotated[
    int | None, typer.Option(min=1, max=10_000, help="With slurm: the number of workers.")
]
Slurm = Annotated[
    list[str] | None,
    typer.Option(help="With slurm: a job parameter, e.g. partition=long."),
]
Address = Annotated[
    str | None,
    typer.Option(help="With ray: the cluster's address, or auto. [default: this machine alone]"),
]
Completed = Annotated[
    Path | None,
    folder_option(
        about="With --unpublished: folder of published results. [default: the program's]"
    ),
]
Live = Annotated[
    Path | None,
    folder_option(about="Write curves of running stages here: JSON lines, and TensorBoard files."),
]
