"""Two sets of results: arms that only the other has join the report, shared ones are compared."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from reports.page.output import Output
from reports.page.own_method import arms_of_tables, only_in, own_section
from reports.parts.drawing import Style, canvas, look, step_axis
from reports.parts.styles import themed
from reports.stats.regression import LEVEL, SAME, TOO_FEW, regressions
from reports.stats.scores import ARM, TABLE, Arm, adaptation_scores, last_scores, select
from reports.stats.shift_axes import axis_text
from reports.stats.significance import lowest_p
from reports.text import (
    escape_label,
    escape_markdown,
    listing,
    markdown_table,
    method_name,
    number,
    slug,
    span,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_COLUMNS = 4  # panels side by side
_MANY = 100  # more seeds than anybody runs
_PANEL = (2.6, 2.1)  # inches
_BAND = "#8C8C8C"
_VERSIONS = ("family_version", "suite_version", "protocol_version")


class Beside(NamedTuple):
    """Another set of results, as far as it can be compared with this one."""

    name: str
    only_there: tuple[pd.DataFrame, pd.DataFrame]  # rows and cells of arms that only it has
    in_both: tuple[pd.DataFrame, pd.DataFrame]  # rows and cells of arms that both have
    left_out: list[str]  # messages on what cannot be compared
    remarks: list[str]  # messages on what can be compared


def beside(
    ours: tuple[pd.DataFrame, pd.DataFrame], theirs: tuple[pd.DataFrame, pd.DataFrame], name: str
) -> Beside:
    """Sort the rows and cells of other results by how they can be used here.

    To be usable, they must have our suites, budgets, families and splits, with the same versions of
    family, suite and protocol.
    """
    (rows, cells), (their_rows, their_cells) = ours, theirs
    known = {
        table: _values(lines, _VERSIONS)
        for table, lines in rows[rows["stage"] == "adapt"].groupby(list(TABLE))
    }
    left_out = []
    usable = []
    for table, lines in their_rows[their_rows["stage"] == "adapt"].groupby(list(TABLE)):
        if table in known and known[table] != _values(lines, _VERSIONS):
            left_out.append(
                f"Left out: {', '.join(map(str, table))}: measured with other versions of family,"
                " suite or protocol"
            )
        elif table in known:
            usable.append(table)
    in_table = their_cells[list(TABLE)].astype(str).apply(tuple, axis=1).isin(usable)
    arms = set(cells[[*TABLE, *ARM]].astype(str).itertuples(index=False, name=None))
    shared = their_cells[[*TABLE, *ARM]].astype(str).apply(tuple, axis=1).isin(arms)
    only_there, in_both = (
        _with_rows(their_rows, their_cells[in_table & which]) for which in (~shared, shared)
    )
    # a meta-training that both have counts once
    new = ~only_there[0]["cell_id"].isin(set(rows["cell_id"]))
    remarks = [*_changed(rows, in_both[0]), *_shared(cells, in_both[1])]
    return Beside(name, (only_there[0][new], only_there[1]), in_both, left_out, remarks)


def _changed(rows: pd.DataFrame, theirs: pd.DataFrame) -> Iterator[str]:
    """Describe the methods whose version or settings differ between the two sets of results."""
    versions: list[dict[Any, Any]] = [
        {
            arm: _values(lines, ("method_version", "config_hash"))
            for arm, lines in table[table["stage"] == "adapt"].groupby([*TABLE, *ARM])
        }
        for table in (rows, theirs)
    ]
    here, there = versions
    moved = {
        (arm[-2:], here[arm][0], there[arm][0])
        for arm in there
        if here.get(arm) not in (None, there[arm])
    }
    for arm, ours, others in sorted(moved):
        how = (
            "with other settings"
            if ours == others
            else f"at version {', '.join(ours)}, there at {', '.join(others)}"
        )
        yield f"{method_name(*arm)} was measured differently there: here {how}"


def _shared(cells: pd.DataFrame, theirs: pd.DataFrame) -> Iterator[str]:
    """Yield a remark on the cells that are identical in both, if there are any."""
    same = len(set(cells["adapt_id"].dropna()) & set(theirs["adapt_id"].dropna()))
    if same:
        yield (
            f"{same} of {theirs['adapt_id'].nunique()} compared cells are the same in both,"
            " seeds included: any difference comes from the machine or the code, and p, which"
            " treats them as different seeds, is too cautious"
        )


def comparison(
    scores: pd.DataFrame,
    other: Beside,
    styles: Mapping[Arm, Style],
    exact: Mapping[str, frozenset[str]],
    out: Output,
) -> Iterator[str]:
    """Yield the comparison with other results in Markdown, and write its figures and CSV files.

    Args:
      scores: `adaptation_scores` of this report.
    """
    name = escape_markdown(other.name)
    only_there = other.only_there[1][[*ARM]].drop_duplicates().itertuples(index=False, name=None)
    if names := [method_name(*arm) for arm in only_there]:
        yield f"Taken from {name}, not run here: {escape_markdown(listing(names))}.\n"
    for reason in (*other.left_out, *other.remarks):
        yield f"{escape_markdown(reason)}.\n"
    theirs = adaptation_scores(*other.in_both)
    known = arms_of_tables(pd.concat([other.only_there[1], other.in_both[1]]))
    own = only_in(scores, known, inside=False)
    others = pd.concat(
        [only_in(scores, arms_of_tables(other.only_there[1]), inside=True), theirs],
        ignore_index=True,
    )
    tested = list(own_section(own, others, exact, out))
    yield from tested
    if theirs.empty:
        yield "" if tested else "No method has scores in both.\n"
        return
    found = regressions(last_scores(scores), last_scores(theirs))
    out.table(found, "comparison")
    yield _answer(found)
    yield "Scores are those at the end of the adaptation budget ([CSV](data/comparison.csv)).\n"
    for key, of_axis in theirs.groupby([*TABLE, "axis"]):
        mine = select(scores, (*TABLE, "axis"), key)
        yield from _place(
            key,
            mine,
            of_axis,
            found=select(found, (*TABLE, "axis"), key),
            other=other,
            styles=styles,
            exact=exact,
            out=out,
        )


def _place(
    key: Any,
    mine: pd.DataFrame,
    theirs: pd.DataFrame,
    found: pd.DataFrame,
    other: Beside,
    styles: Mapping[Arm, Style],
    exact: Mapping[str, frozenset[str]],
    out: Output,
) -> Iterator[str]:
    """Yield a table for one shift axis of one split, and a figure if an arm has curves in both."""
    suite, budget, family, split, axis = map(str, key)
    title = (
        f"{suite}: {family}, split {split}, {axis_text(axis, exact.get(family, ()))} (budget"
        f" {budget})"
    )
    yield f"### {escape_markdown(title)}\n\n{_table(found)}"
    if arms := [
        arm
        for arm in styles
        if all(_has_curve(select(table, ARM, arm)) for table in (mine, theirs))
    ]:
        file = "_".join([*map(slug, (suite, budget, family, split)), "compared", slug(axis)])
        out.figure(
            file,
            comparison_figure,
            mine,
            theirs,
            arms=arms,
            styles=styles,
            title=f"{title}, against {other.name}",
        )
        yield f"![{escape_markdown(title)}](figures/{file}.svg)\n"


@themed
def comparison_figure(
    mine: pd.DataFrame,
    theirs: pd.DataFrame,
    arms: Sequence[Arm],
    styles: Mapping[Arm, Style],
    title: str,
) -> "Figure":
    """Draw adaptation curves of fresh seeds over the band of other results, a panel per arm.

    Args:
      mine, theirs: `adaptation_scores` of one suite, budget, family, split and axis.
      arms: the arms to draw, which both must have.
      styles: from `method_styles`.
      title: plain text above the panels.
    """
    n_columns = min(_COLUMNS, len(arms))
    note = (
        "Grey: mean of the other results, and range from lowest to highest seed. Coloured: mean of"
        " the fresh seeds; thin: each seed."
    )
    figure, panels = canvas(
        n_columns, title, note, -(-len(arms) // n_columns), _PANEL, sharey=False
    )
    for axes, arm in zip(panels, arms, strict=False):
        fresh, known = (
            select(table, ARM, arm).dropna(subset=["return_mean"]) for table in (mine, theirs)
        )
        band = known.groupby("env_steps")["return_mean"].agg(["min", "mean", "max"])
        axes.fill_between(
            band.index, band["min"], band["max"], color=_BAND, alpha=0.3, linewidth=0, gid="band"
        )
        axes.plot(band.index, band["mean"], color=_BAND, linewidth=1.2, marker=".", gid="known")
        for _, one in fresh.groupby("seed"):
            drawn: dict[str, Any] = {
                "color": styles[arm].colour,
                "linewidth": 0.6,
                "alpha": 0.5,
                "gid": "seed",
            }
            axes.plot(one["env_steps"], one["return_mean"], **drawn)
        mean = fresh.groupby("env_steps")["return_mean"].mean()
        axes.plot(mean.index, mean, gid="curve", **look(arm, styles[arm]))
        step_axis(axes, sorted({*map(int, band.index), *map(int, mean.index)}))
        seeds = f"{fresh['seed'].nunique()} seeds against {known['seed'].nunique()}"
        axes.set_title(f"{escape_label(method_name(*arm))}\n{seeds}", fontsize=8, pad=14)
        axes.tick_params(labelsize=6.5)
    for axes in panels[len(arms) :]:
        axes.set_visible(False)
    return figure


def _has_curve(scores: pd.DataFrame) -> bool:
    return bool(scores.dropna(subset=["return_mean"])["env_steps"].nunique() > 1)


def _answer(found: pd.DataFrame) -> str:
    moved = found[~found["verdict"].isin((SAME, TOO_FEW))]
    doubtful = found[found["verdict"] == TOO_FEW]
    said = (
        f"{len(moved)} of {len(found)} scores differ by more than chance and by at least the least"
        " effect."
    )
    if len(doubtful):
        said += (
            f" {len(doubtful)} have too few seeds for a certain answer:"
            f" {_lacking(doubtful, len(found))}."
        )
    return f"{said}\n"


def _lacking(doubtful: pd.DataFrame, n_tests: int) -> str:
    """Say why scores cannot be told apart, and how many seeds here would suffice."""
    level = LEVEL / n_tests  # Holm's first step
    here = span(doubtful["n_seeds"])
    there = span(doubtful["n_known"]).partition(" seed")[0]
    said = (
        f"with {n_tests} tests, Holm's first step needs p ≤ {level:.2g}, which {here} here against"
        f" {there} there cannot reach"
    )
    few = int(doubtful["n_known"].min())
    enough = next((n for n in range(2, _MANY) if lowest_p(n, few) <= level), None)
    return f"{said}; {enough} seeds here would suffice" if enough else said


def _table(found: pd.DataFrame) -> str:
    lines = [
        [
            escape_markdown(method_name(one["method"], one["variant"])),
            one["verdict"],
            number(one["mean"]),
            # no-break spaces keep the range together
            (
                f"{number(one['known_mean'])}"
                f" ({number(one['known_low'])}\u00a0to\u00a0{number(one['known_high'])})"
            ),
            number(one["difference"]),
            f"{one['p_holm']:.2g}",
            number(one["least_effect"]),
            "–" if one["detectable"] == float("inf") else number(one["detectable"]),
            f"{one['n_seeds']}, {one['n_known']}",
        ]
        for one in found.to_dict("records")
    ]
    header = [
        "method",
        "verdict",
        "here",
        "there (lowest to highest seed)",
        "difference",
        "p (Holm)",
        "least effect",
    ]
    return markdown_table([*header, "detectable", "seeds"], lines, words=(1,))


def _values(lines: pd.DataFrame, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(sorted(map(str, lines[name].dropna().unique()))) for name in names)


def _with_rows(rows: pd.DataFrame, cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of the stages of `cells`, and `cells`."""
    ids = {*cells["adapt_id"].dropna(), *cells["train_id"].dropna()}
    return rows[rows["cell_id"].isin(ids)], cells
