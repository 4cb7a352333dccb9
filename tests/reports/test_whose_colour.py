"""In every figure a curve, its band and its name in the legend have the colour of one method, also
where other methods of the report have no curve.
"""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from reports.parts.cost import cost_figure
from reports.parts.curves import adaptation_figure, meta_training_figure, overview_figure
from reports.parts.leaderboard import leaderboard_figure
from reports.parts.overall import profile_figure
from reports.parts.shift import LAST, START, shift_figure
from reports.parts.styles import COLOURS, method_styles
from reports.stats.score_matrix import OTHERS
from reports.stats.scores import add_hold, summarise

# not in the order of the colours; three methods have nothing to draw
ARMS = ["varibad", "maml", "td3", "cavia", "apb", "pearl", "zero"]
DRAWN = ["varibad", "td3", "apb", "zero"]
TABLE = {"suite": "s", "budget": "quick", "family": "f", "split": "ood"}
STYLES = method_styles([(method, "") for method in ARMS])
EXPECTED = pd.DataFrame(
    [
        {**TABLE, "method": m, "variant": "", "remembers": False}
        | {"n_expected": 3, "n_done": 3 * (m in DRAWN), "n_failed": 0}
        for m in ARMS
    ]
)


def scores(**more):
    return pd.DataFrame(
        [
            {**TABLE, "axis": "angle", "method": m, "variant": "", "seed": seed, "env_steps": b}
            | {"return_mean": -float(seed + b), **more}
            for m in DRAWN
            for seed in range(3)
            for b in (0, 50, 100)
        ]
    )


def adaptation():
    return adaptation_figure(add_hold(summarise(scores())), EXPECTED, STYLES, "")


def overview():
    return overview_figure(add_hold(summarise(scores())), EXPECTED, STYLES, "", {})


def meta_training():
    found = scores()
    return meta_training_figure(found, summarise(found), STYLES, "")


def shift():
    ends = {0: START, 100: LAST}
    levels = pd.concat([scores(level=level) for level in (0.2, 0.8)])
    levels = levels[levels["env_steps"].isin(ends)]
    levels["moment"] = levels["env_steps"].map(ends)
    by = (*TABLE, "axis", "method", "variant", "moment", "level", "env_steps")
    return shift_figure(summarise(levels, by=by), EXPECTED, STYLES, "")


def cost():
    ends = scores()[lambda table: table["env_steps"] == 100]
    points = summarise(ends, by=(*TABLE, "axis", "method", "variant"))
    costs = {"steps": 10.0, "seconds": 3.0, "updates": 7.0}
    return cost_figure(points.assign(**costs), EXPECTED, STYLES, "")


def leaderboard():
    lines = [
        {"method": m, "variant": "", "group": OTHERS, "unit": "return", "n_seeds": 3}
        | {"start": -2.0, "area": -1.0, "end": -0.5, "end_low": -0.7, "end_high": -0.3}
        for m in DRAWN
    ]
    return leaderboard_figure(pd.DataFrame(lines), STYLES, "")


def profile():
    lines = [
        {"method": m, "variant": "", "group": OTHERS, "interval": "", "threshold": at}
        | {"n_seeds": 3, "n_families": 1, "value": 1 - at, "low": 0.9 - at, "high": 1.1 - at}
        for m in DRAWN
        for at in np.linspace(0, 1, 5)
    ]
    return profile_figure(pd.DataFrame(lines), [(m, "") for m in ARMS], STYLES, "")


FIGURES = [adaptation, overview, meta_training, shift, cost, leaderboard, profile]


@pytest.mark.parametrize("figure_of", FIGURES)
def test_each_method_has_its_own_colour(figure_of):
    figure = figure_of()
    tagged = figure.findobj(lambda artist: ":" in (artist.get_gid() or ""))
    methods = {artist.get_gid().split(":")[1] for artist in tagged}
    assert methods == set(DRAWN)
    for artist in tagged:
        kind, method = artist.get_gid().split(":")
        if hasattr(artist, "get_text"):  # a name in the legend
            assert artist.get_text() == method
            continue
        (colour,) = {to_hex(one) for one in colours_of(artist)} - {"#ffffff"}  # some are hollow
        assert colour.upper() == COLOURS[method], (kind, method)
    (legend,) = figure.legends
    for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
        assert to_hex(handle.get_color()).upper() == COLOURS[text.get_text()]


def colours_of(artist):
    if hasattr(artist, "get_facecolor"):  # bands and clouds of markers
        return [*artist.get_facecolor(), *artist.get_edgecolor()]
    marked = artist.get_marker() not in ("", "None")
    edge = [artist.get_markeredgecolor()] * marked
    return edge + [artist.get_color()] * (artist.get_linestyle() != "None" or not marked)
