"""A table of the parts of each method's loss."""

import pandas as pd

from reports.stats.loss_parts import PARTS
from reports.stats.scores import ARM, select
from reports.text import escape_markdown, markdown_table, method_name, plus_minus

_NAMES = {"zero_shot": "zero-shot", "speed": "speed", "ceiling": "ceiling"}


def loss_parts_table(parts: pd.DataFrame, expected: pd.DataFrame) -> str:
    """The parts of each arm's loss in Markdown.

    Args:
      parts: `loss_parts` of one suite, budget, family, split and axis.
      expected: `coverage` of the same, in the order of the table.
    """
    lines = []
    for arm in expected[list(ARM)].itertuples(index=False, name=None):
        mine = select(parts, ARM, arm).set_index("part")
        if not mine.empty:
            numbers = [plus_minus(*mine.loc[part, ["mean", "low", "high"]]) for part in PARTS]
            lines.append([escape_markdown(method_name(*arm)), *numbers])
    return markdown_table(["method", *(_NAMES[part] for part in PARTS)], lines)
