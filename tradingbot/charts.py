"""Charts for notebooks, drawn with plotly if it is installed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go

BAND = "rgba(31, 119, 180, 0.18)"
PAST = "rgb(68, 68, 68)"
LINE = "rgb(31, 119, 180)"


def fan_chart(
    times: Sequence[datetime],
    quantiles: Mapping[float, Sequence[float]],
    *,
    recent: Sequence[tuple[datetime, float]],
    title: str,
) -> "go.Figure":
    """Return a chart with the median as a line, and a band between each pair of quantiles.

    A pair consists of the levels p and 1 - p, such as 0.1 and 0.9.

    Args:
        times: Time of each future bar.
        quantiles: Quantile level -> price at each time.
        recent: Past closes, drawn as a line before the forecast.
        title: Title of the chart.

    Raises:
        ImportError: plotly is not installed.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    hover = [""] * len(times)  # values of the bands at each time, shown with the median's value
    for level in sorted(level for level in quantiles if level < 0.5):
        upper = round(1 - level, 6)
        if upper not in quantiles:
            continue
        name = f"{100 * (upper - level):.0f} % band"
        edges = list(zip(quantiles[level], quantiles[upper], strict=True))
        hover = [
            f"<br>{name} {low:,.6g} to {high:,.6g}{inner}"
            for (low, high), inner in zip(edges, hover, strict=True)
        ]
        figure.add_scatter(
            x=[*times, *reversed(times)],
            y=[*quantiles[upper], *reversed(quantiles[level])],
            mode="lines",
            fill="toself",
            fillcolor=BAND,
            line={"width": 0},
            hoverinfo="skip",
            name=name,
        )
    if recent:
        days, closes = zip(*recent, strict=True)
        figure.add_scatter(x=days, y=closes, mode="lines", line={"color": PAST}, name="close")
    if 0.5 in quantiles:
        figure.add_scatter(
            x=[*times],
            y=[*quantiles[0.5]],
            mode="lines",
            line={"color": LINE},
            customdata=hover,
            hovertemplate="%{y:,.6~g}%{customdata}",
            name="median",
        )
    figure.update_layout(
        title=title, template="plotly_white", hovermode="x unified", yaxis_title="close"
    )
    if all(time.weekday() < 5 for time in [*times, *(time for time, _ in recent)]):
        figure.update_xaxes(rangebreaks=[{"bounds": ["sat", "mon"]}])
    return figure
