"""Where settings come from: a Markdown table of the tuning trials."""

import json

import pandas as pd

from reports.text import escape_markdown, markdown_table, number

_INTRODUCTION = """\
Settings that were tried on a family's tuning law, which is narrower than its training law, and
scored by mean return on validation tasks outside it, none of which is a test task. All trials got a
share of the budget's steps, the best ones a larger share.
"""
_HEADER = [
    "budget",
    "family",
    "method",
    "trials",
    "score of usual settings",
    "best score",
    "best settings",
    "core-minutes",
]


def tuning_section(trials: pd.DataFrame) -> str:
    """The section of a report, without its heading; "" where nothing was tuned."""
    if trials.empty:
        return ""
    rows = [_row(log) for _, log in trials.groupby(["budget", "family", "method"], sort=False)]
    return f"{_INTRODUCTION}\n{markdown_table(_HEADER, rows, words=(1, 2, 6))}"


def _row(log: pd.DataFrame) -> list[str]:
    """One line; the usual and the best settings are each scored at their last share of steps."""
    last = log[log["rung"] == log["rung"].max()]
    best = last.sort_values(["score", "trial"], ascending=[False, True], kind="stable").iloc[0]
    usual = log[log["trial"] == 0].sort_values("rung").iloc[-1]
    place = [escape_markdown(str(best[name])) for name in ("budget", "family", "method")]
    count = (
        f"{log['trial'].nunique()} at {log['fraction'].min():g}, {last['trial'].nunique()} at"
        f" {best['fraction']:g}"
    )
    scores = [f"{number(float(one['score']))} at {one['fraction']:g}" for one in (usual, best)]
    return [
        *place,
        count,
        *scores,
        _settings(str(best["settings"])),
        f"{log['core_s'].sum() / 60:.0f}",
    ]


def _settings(text: str) -> str:
    moved = json.loads(text)
    return escape_markdown(
        ", ".join(f"{name} = {value}" for name, value in moved.items()) or "the usual settings"
    )
