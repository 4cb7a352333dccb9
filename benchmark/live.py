"""Curves of running stages, for people to look at; reports are never made from them.

`rows.jsonl` gets a line for every row as it is measured; TensorBoard, where it is installed (extra
`live`), gets the curves too. A stage that goes on from a saved state does not repeat its rows.
"""

import json
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from results.files import explained

LINES = "rows.jsonl"
_SHOWN = ("return_mean", "online_return", "updates")


class Live:
    """Writes rows into a folder as they come.

    Args:
      folder: made if it does not exist; lines are appended.
      note: called once with a line for a person if TensorBoard is not installed.
    Raises:
      StoreError: if the folder cannot be written to.
    """

    def __init__(self, folder: Path, note: Callable[[str], None]) -> None:
        self._folder = folder
        self._writers: dict[str, Any] = {}
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / LINES).touch()
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._make_writer: Any = SummaryWriter
        except ModuleNotFoundError:
            self._make_writer = None
            note(
                f"curves are in {folder / LINES} only; for TensorBoard: pip install"
                " 'apb-benchmark[live]'"
            )

    def __call__(self, stage: str, row: Mapping[str, Any]) -> None:
        """Write a row of a stage.

        Raises:
          StoreError: if the row cannot be written.
        """
        plain = {name: _plain(value) for name, value in row.items()}
        known = {name: value for name, value in plain.items() if value is not None}
        with explained(self._folder):
            with open(self._folder / LINES, "a", encoding="utf-8") as lines:
                lines.write(json.dumps({"name": stage, **known}) + "\n")
            if self._make_writer is not None:
                self._draw(stage, known)

    def _draw(self, stage: str, row: Mapping[str, Any]) -> None:
        if stage not in self._writers:
            whose = f"{row.get('suite') or ''} {row.get('budget', '')} {stage}".strip()
            place = self._folder / whose.replace("/", "-").replace(" ", "_")
            self._writers[stage] = self._make_writer(str(place))
        task = f"/task {row['task_index']}" if "task_index" in row else ""
        for name in _SHOWN:
            if isinstance(value := row.get(name), int | float):
                self._writers[stage].add_scalar(f"{name}{task}", value, row["env_steps"])
        self._writers[stage].flush()

    def close(self) -> None:
        """Write what is buffered and close the TensorBoard writers."""
        for writer in self._writers.values():
            writer.close()


def _plain(value: Any) -> Any:
    """Convert a value for JSON: NumPy's numbers to Python's, NaN and infinities to None."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not isfinite(value) else value
