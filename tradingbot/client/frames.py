"""Forecasts as frames of pandas: one of a ticker, and long ones of many."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tradingbot.errors import DataError, KronosError
from tradingbot.forecast import LEVELS, Forecast, quantile_column
from tradingbot.markets.column_names import NAMES, simplified
from tradingbot.markets.frames import to_pandas

if TYPE_CHECKING:
    import plotly.graph_objects as go


class ForecastFrame(pd.DataFrame):
    """One row a future bar: a DataFrame that also knows the `forecast` that it shows.

    What is selected or computed from it is an ordinary DataFrame.
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
        """The sample paths, float64, samples x horizon x [open, high, low, close, volume].

        None unless they were asked for. They agree with the quantiles: rank by rank, the model's
        own are moved onto those that are served.
        """
        return self.forecast.paths

    @property
    def events(self) -> pd.DataFrame:
        """One row an event and future bar: its chance by the end of that bar, and the error.

        `low` and `high` are the 95 % interval of the Monte Carlo error. `mean` is the mean drawdown
        or range over the paths in per cent, `mean_error` its standard error; NaN of other events.
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
        """The rows as an ordinary DataFrame."""
        plain = pd.DataFrame(self)
        plain.attrs = dict(self.attrs)
        return plain

    def plot(self) -> "go.Figure":  # type: ignore[override]
        """A plotly figure of the close: its median and bands. `to_frame().plot` is pandas' own."""
        return self.forecast.plot()

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.forecast.caption)}</p>{self.to_frame().to_html()}"


def histories(frame: Any, id_column: str | None, time_column: str | None) -> dict[str, Any]:
    """A long frame of candles as a frame for each ticker, in the order of their first rows.

    DataError when the frame has no such columns.
    """
    table = to_pandas(None, frame)
    if time_column is None and "ds" in table.columns:  # Nixtla's name
        time_column = "ds"
    if time_column is not None:
        _must_have(table, "timestamp_column", time_column)
        table = table.rename(columns={time_column: "timestamp"})
    if id_column is None:
        id_column = _id_of(table)
    _must_have(table, "id_column", id_column)
    return {
        str(name): rows.drop(columns=id_column)
        for name, rows in table.groupby(id_column, sort=False, observed=True)
    }


def long_frame(
    answers: Mapping[str, Forecast | KronosError],
    *,
    source: str = "space",
    levels: Iterable[float],
    id_column: str,
    time_column: str,
    nixtla: bool,
) -> pd.DataFrame:
    """One frame of all forecasts. `attrs["errors"]` says why a ticker has none.

    Raises:
        KronosError: No ticker has a forecast; the first ticker's error.
    """
    made = {name: answer for name, answer in answers.items() if isinstance(answer, Forecast)}
    errors = {name: answer for name, answer in answers.items() if isinstance(answer, KronosError)}
    if errors and not made:
        raise next(iter(errors.values()))
    parts = []
    for name, forecast in made.items():
        part = forecast.to_frame(source, levels=levels)
        part.attrs = {}
        part.insert(0, "symbol", name)
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if nixtla:
        asked = {chance.event: chance.event for one in made.values() for chance in one.events}
        frame = _as_nixtla(frame, levels, asked)
    else:
        frame = frame.rename(columns={"symbol": id_column, "target_date": time_column})
    frame.attrs["errors"] = {name: str(error) for name, error in errors.items()}
    return frame


def _as_nixtla(
    frame: pd.DataFrame, levels: Iterable[float], events: Mapping[str, str]
) -> pd.DataFrame:
    """Columns as in StatsForecast: unique_id, ds, the mean, and lo and hi of each interval.

    Those of events keep their names.
    """
    names = {"symbol": "unique_id", "target_date": "ds", "close": "Kronos"}
    for level in levels:
        width = f"{round(100 * abs(1 - 2 * level), 6):g}"
        side = "lo" if level < 0.5 else "hi"
        names[quantile_column(level)] = (
            "Kronos-median" if level == 0.5 else f"Kronos-{side}-{width}"
        )
    names |= events
    return frame[list(names)].rename(columns=names)


def _id_of(table: pd.DataFrame) -> str:
    for name in table.columns:
        if simplified(name) in (*NAMES["symbol"], "unique id", "item id"):
            return str(name)
    raise DataError(
        f"no column of tickers among {', '.join(map(str, table.columns))}: name it with id_column="
    )


def _must_have(table: pd.DataFrame, argument: str, name: str) -> None:
    if name not in table.columns:
        known = ", ".join(map(str, table.columns))
        raise DataError(f"{argument}={name!r}: the frame has {known}")
