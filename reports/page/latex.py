"""The report as a LaTeX appendix: one page per suite, with each method's final score."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from reports.stats.intervals import FEW_SEEDS
from reports.stats.scores import ARM, IN_DISTRIBUTION, TABLE, last_scores, select, summarise
from reports.text import method_name, one_line, plus_minus, steps

COLUMNS = 4  # score columns side by side

_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "−": "$-$",
    "±": r"$\pm$",
    "–": "--",
    "×": r"$\times$",
    "†": r"$^\dagger$",
    "\u202f": r"\,",
}
_OPENING = r"""\documentclass[10pt]{article}
\usepackage[a4paper,margin=2cm]{geometry}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\setlength{\parindent}{0pt}
\setlength{\tabcolsep}{4.5pt}
\pagestyle{plain}
\begin{document}
"""


def escape_latex(text: str) -> str:
    """`text` as literal LaTeX; non-ASCII that is not in `_SPECIAL` becomes a question mark."""
    line = "\u202f".join(map(one_line, text.split("\u202f")))  # thin spaces within numbers stay
    return "".join(_SPECIAL.get(c, c if c.isascii() else "?") for c in line)


def to_latex(
    plans: Sequence[Mapping[str, Any]],
    scores: pd.DataFrame,
    expected: pd.DataFrame,
    exact: Mapping[str, frozenset[str]],
) -> str:
    """Return a document that pdfLaTeX compiles with only its own classes and fonts.

    Args:
      plans: the store's plans, in the order of the document.
      scores: `adaptation_scores`.
      expected: `coverage`, in the order of the tables.
      exact: `exact_axes`.
    """
    pages = ("".join(_page(plan, scores, expected, exact)) for plan in plans)
    return _OPENING + "\\clearpage\n".join(pages) + "\\end{document}\n"


def _page(
    plan: Mapping[str, Any],
    scores: pd.DataFrame,
    expected: pd.DataFrame,
    exact: Mapping[str, frozenset[str]],
) -> Iterator[str]:
    arms = expected[expected["suite"] == plan["suite"]]
    yield f"\\section*{{Suite {escape_latex(plan['suite'])}: {escape_latex(plan['question'])}}}\n"
    yield (
        "Return of the policy at the end of adaptation (sum over an episode, in the units of the"
        " family), mean over seeds $\\pm$ half the width of the 95\\,\\% interval of Student's t,"
        " or half the range of two seeds. A score is the mean over the tasks at a level of shift,"
        " then over the levels of one shift axis.\n\n"
    )
    ends = last_scores(scores[scores["suite"] == plan["suite"]]).dropna(subset=["return_mean"])
    if ends.empty:
        yield "Nothing is finished yet.\n"
        return
    for budget, of_budget in ends.groupby("budget", sort=False):
        columns = list(
            of_budget[["family", "split", "axis"]]
            .drop_duplicates()
            .itertuples(index=False, name=None)
        )
        for begin in range(0, len(columns), COLUMNS):
            yield from _table(
                of_budget, arms[arms["budget"] == budget], columns[begin : begin + COLUMNS], exact
            )
    yield from _notes(ends, arms)


def _table(
    ends: pd.DataFrame,
    arms: pd.DataFrame,
    columns: Sequence[tuple[str, str, str]],
    exact: Mapping[str, frozenset[str]],
) -> Iterator[str]:
    points = summarise(ends, by=(*TABLE, "axis", *ARM))
    yield f"\\medskip\\begin{{tabular}}{{l{'r' * len(columns)}}}\n\\hline\n"
    for line in zip(*(_head(ends, column, exact) for column in columns), strict=True):
        yield f" & {' & '.join(line)} \\\\\n"
    yield "\\hline\n"
    for arm in arms.drop_duplicates(list(ARM)).itertuples():
        cells = [_cell(points, arms, (arm.method, arm.variant), column) for column in columns]
        yield (
            f"{escape_latex(_short(method_name(arm.method, arm.variant)))} & {' & '.join(cells)}"
            " \\\\\n"
        )
    yield "\\hline\n\\end{tabular}\n\n"


def _head(
    ends: pd.DataFrame, column: tuple[str, str, str], exact: Mapping[str, frozenset[str]]
) -> list[str]:
    """The lines of a column's head: family, split and axis, and steps on a test task."""
    family, split, axis = column
    at = select(ends, ("family", "split", "axis"), column)["env_steps"].max()
    mark = "*" if axis in exact.get(family, ()) else ""
    shown = split if axis == IN_DISTRIBUTION else f"{split}, {axis}{mark}"
    return [escape_latex(family), escape_latex(shown), escape_latex(f"{steps(at)} steps")]


def _cell(
    points: pd.DataFrame, arms: pd.DataFrame, arm: tuple[str, str], column: tuple[str, str, str]
) -> str:
    found = select(select(points, ARM, arm), ("family", "split", "axis"), column)
    if found.empty:
        return "--"
    point = found.iloc[0]
    planned = select(select(arms, ARM, arm), ("family", "split"), column[:2])["n_expected"].max()
    return escape_latex(
        plus_minus(point["mean"], point["low"], point["high"])
        + ("†" if point["n_seeds"] < planned else "")
    )


def _notes(ends: pd.DataFrame, arms: pd.DataFrame) -> Iterator[str]:
    seeds = ends.groupby([*TABLE, "axis", *ARM])["seed"].nunique()
    few = " Fewer than five seeds: a description, not a test." if seeds.min() < FEW_SEEDS else ""
    yield f"\\medskip Seeds per method: {seeds.min()} to {seeds.max()}.{few}"
    if (arms["n_done"] < arms["n_expected"]).any():
        yield " $^\\dagger$ Not every planned seed is finished."
    yield " * The tasks of this shift axis are exact linear images of training tasks.\n"


def _short(name: str, longest: int = 40) -> str:
    return name if len(name) <= longest else f"{name[: longest - 3]}..."
