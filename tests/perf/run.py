"""Measure the speed of everything that has a file here, and print one table.

Each file runs in its own process, because threads that a peer leaves behind would slow the next
one; all files are run even if one fails. The exit code is 1 if a measurement fell below its guard
or a file failed.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
BUSY = 0.05  # share of the machine used by others from which on numbers say little


class Measurement(NamedTuple):
    """A line of the table."""

    what: str
    ours: str
    peer: str
    ratio: float
    goal: float
    guard: float
    others: float  # share of the machine that other processes used just before or after

    @property
    def verdict(self) -> str:
        """Whether the goal is met; "slower" below the guard; with " *" if the machine was busy."""
        word = "slower" if self.ratio < self.guard else "yes" if self.ratio >= self.goal else "no"
        return word + " *" * (self.others > BUSY)


def measure(file: Path, folder: Path) -> tuple[list[Measurement], bool]:
    """Run a file of tests; return what it measured and whether all tests passed."""
    path = folder / f"{file.stem.removeprefix('test_')}.json"
    path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", str(file)]
    command += ["--benchmark-quiet", f"--benchmark-json={path}"]
    passed = subprocess.run(command, check=False).returncode == 0
    found = json.loads(path.read_text())["benchmarks"] if path.exists() else []
    return [_measurement(one) for one in found if "ratio" in one["extra_info"]], passed


def _measurement(one: dict[str, Any]) -> Measurement:
    known = one["extra_info"]
    name = one["fullname"].rpartition("/")[2]
    what = name.replace("test_", "").replace(".py::", ": ").replace("_", " ")
    numbers = (known[key] for key in ("ratio", "goal", "guard"))
    return Measurement(what, known["ours"], known["peer"], *numbers, known["load of others"])


def table(measured: Iterable[Measurement]) -> str:
    """The measurements as lines of text, with a column for each part."""
    lines = [("what", "ours", "against", "ratio", "guard", "goal", "met")]
    for one in measured:
        numbers = (f"{value:.2f}" for value in (one.ratio, one.guard, one.goal))
        lines.append((one.what, one.ours, one.peer, *numbers, one.verdict))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def main() -> int:
    """Measure the named files, or all; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="default: all tests in this folder")
    parser.add_argument("--out", type=Path, default=Path("perf-results"), help="folder for JSON")
    words = parser.parse_args()
    words.out.mkdir(parents=True, exist_ok=True)
    files = words.files or sorted(HERE.glob("test_*.py"))
    results = {file.name: measure(file, words.out) for file in files}
    measured = [one for found, _ in results.values() for one in found]
    print("\n" + table(measured))
    most = max((one.others for one in measured), default=0.0)
    if most > BUSY:
        print(
            f"* other processes used more than {BUSY:.0%} of the machine just before or after (at"
            f" most {most:.0%}): measure again when it is idle"
        )
    failed = [name for name, (_, passed) in results.items() if not passed]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
