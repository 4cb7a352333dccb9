"""Tables of the adaptation radius and of the number of tasks to break even."""

from math import ceil, isinf, isnan

import pandas as pd

from reports.stats.scores import ARM, select
from reports.stats.shift_axes import unit
from reports.text import escape_markdown, markdown_table, method_name, number, plus_minus, steps


def radius_table(radii: pd.DataFrame, expected: pd.DataFrame) -> str:
    """Format `adaptation_radius` of one suite, budget, family, split and axis as Markdown.

    Args:
      expected: `coverage` of the same, in the order of the table.
    """
    axis = str(radii["axis"].iloc[0])
    lines = []
    for arm in expected[list(ARM)].itertuples(index=False, name=None):
        for one in select(radii, ARM, arm).itertuples():
            text = plus_minus(one.mean, one.low, one.high)
            if one.beyond == one.n_seeds > 0:
                text = f"at least {number(one.farthest)}"
            elif one.beyond:
                text = f"at least {text}"
            lines.append([escape_markdown(method_name(*arm)), text, str(one.n_seeds)])
    header = ["method", f"adaptation radius, {escape_markdown(axis)} {unit(axis)}".strip(), "seeds"]
    return markdown_table(header, lines)


def break_even_table(found: pd.DataFrame, expected: pd.DataFrame) -> str:
    """Format `break_even` of one suite, budget, family, split and axis as Markdown."""
    lines = []
    for arm in expected[list(ARM)].itertuples(index=False, name=None):
        for one in select(found, ARM, arm).itertuples():
            spent = [_steps(one.meta_env_steps), _steps(one.steps), _steps(one.standard_steps)]
            lines.append([escape_markdown(method_name(*arm)), *spent, _tasks(one.tasks)])
    header = [
        "method",
        "meta-training steps",
        "steps to half",
        "td3's steps to half",
        "tasks to break even",
    ]
    return markdown_table(header, lines)


def _steps(count: float) -> str:
    return "never" if isinf(count) else steps(count)


def _tasks(tasks: float) -> str:
    if isnan(tasks):
        return "–"
    return "never" if isinf(tasks) else str(max(1, ceil(tasks)))
