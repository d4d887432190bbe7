"""Charts for notebooks, drawn by plotly where that is installed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go

BAND = "rgba(31, 119, 180, 0.18)"
LINE = "rgb(31, 119, 180)"


def fan_chart(
    times: Sequence[datetime], quantiles: Mapping[float, Sequence[float]], *, title: str
) -> "go.Figure":
    """The median as a line, and a band between each level and its counterpart above the median.

    ImportError when plotly is not installed.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for level in sorted(level for level in quantiles if level < 0.5):
        upper = round(1 - level, 6)
        if upper not in quantiles:
            continue
        figure.add_scatter(
            x=[*times, *reversed(times)],
            y=[*quantiles[upper], *reversed(quantiles[level])],
            fill="toself",
            fillcolor=BAND,
            line={"width": 0},
            hoverinfo="skip",
            name=f"{100 * (upper - level):.0f} % band",
        )
    if 0.5 in quantiles:
        figure.add_scatter(x=[*times], y=[*quantiles[0.5]], line={"color": LINE}, name="median")
    figure.update_layout(title=title, template="plotly_white", hovermode="x unified")
    return figure
