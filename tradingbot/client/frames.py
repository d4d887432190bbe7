"""The forecast of one ticker as a pandas frame. `long_frames` has frames of many tickers."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from tradingbot.forecast import LEVELS, Forecast, as_html


class ForecastFrame(pd.DataFrame):
    """A DataFrame of a forecast, with one row per future bar.

    The attribute `forecast` has the Forecast itself. Selections and computations return ordinary
    DataFrames.
    """

    _metadata = ["forecast"]  # noqa: RUF012 - as pandas wants it
    forecast: Forecast

    @classmethod
    def of(
        cls, forecast: Forecast, source: str, levels: Iterable[float] = LEVELS
    ) -> "ForecastFrame":
        plain = forecast.to_frame(source, levels=levels)
        frame = cls(plain)
        frame.attrs = plain.attrs
        frame.forecast = forecast
        return frame

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    @property
    def paths(self) -> np.ndarray | None:
        """Return the sample paths, float64, samples x horizon x [open, high, low, close, volume].

        Return None if paths were not requested. The paths agree with the quantiles: the model's own
        paths are moved onto the served quantiles, rank by rank.
        """
        return self.forecast.paths

    @property
    def events(self) -> pd.DataFrame:
        """Return rows by event and future bar: probability by the end of the bar, and its error.

        `low` and `high` are the 95 % interval of the probability, due to the Monte Carlo error.
        `mean` is the mean drawdown or range over the paths in per cent, and `mean_error` its
        standard error. Both are NaN for other events.
        """
        measures = ["probability", "low", "high", "mean", "mean_error"]
        unknown = [float("nan")] * self.forecast.horizon
        rows = [
            {
                "event": chance.event,
                "step": bar.step,
                "target_date": bar.target_date,
                **{name: (getattr(chance, name) or unknown)[at] for name in measures},
            }
            for chance in self.forecast.events
            for at, bar in enumerate(self.forecast.bars)
        ]
        return pd.DataFrame(rows, columns=["event", "step", "target_date", *measures])

    def to_frame(self) -> pd.DataFrame:
        """Return the rows as an ordinary DataFrame."""
        plain = pd.DataFrame(self)
        plain.attrs = dict(self.attrs)
        return plain

    @property
    def plot(self) -> "ForecastPlot":
        """Return the accessor whose call `plot()` gives a plotly figure of recent closes and bands.

        With arguments, or as `plot.line(…)`, it is pandas' own plot.
        """
        return ForecastPlot(self)

    def _repr_html_(self) -> str:
        return as_html(self.forecast.caption, self.to_frame())


class ForecastPlot(pd.plotting.PlotAccessor):
    """The `plot` accessor of a ForecastFrame."""

    _parent: ForecastFrame

    def __call__(self, *args: Any, **options: Any) -> Any:
        if args or options:
            return super().__call__(*args, **options)
        return self._parent.forecast.plot()
