"""Frames with candles of many tickers, and the long frame of their forecasts."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tradingbot.errors import DataError, KronosError
from tradingbot.forecast import Forecast, quantile_column
from tradingbot.markets.column_names import NAMES, simplified
from tradingbot.markets.frames import tickers_of, to_pandas


@dataclass(frozen=True)
class LongFrame:
    """Candles of many tickers; `answer` returns forecasts with the frame's column names."""

    histories: dict[str, Any]  # ticker -> its candles
    names: dict[str, Any]  # ticker -> its name in the frame: "aapl" for AAPL
    id_column: str
    time_column: str

    @classmethod
    def of(cls, frame: Any, id_column: str | None, time_column: str | None) -> "LongFrame":
        """Read a frame with tickers in a column or an index level.

        `frame` may also be a wide frame, as from `yfinance.download`, or a mapping of tickers to
        frames.

        Raises:
            DataError: The frame has no rows or no such columns, a row has no ticker, or two names
                mean the same ticker.
        """
        names: dict[str, Any] = {}
        found = _by_name(frame, id_column, time_column)
        for name in found:
            ticker = str(name).strip().upper()
            if ticker in names:
                raise DataError(f"{names[ticker]!r} and {name!r} are one ticker", symbol=ticker)
            names[ticker] = name
        histories = {ticker: found[name] for ticker, name in names.items()}
        return cls(histories, names, id_column or "symbol", time_column or "target_date")

    def answer(
        self,
        answers: Mapping[str, Forecast | KronosError],
        *,
        levels: Iterable[float],
        nixtla: bool,
    ) -> pd.DataFrame:
        """Return one frame of all forecasts. `attrs["errors"]` maps failed tickers to the reason.

        Raises:
            KronosError: No ticker has a forecast; the first ticker's error.
        """
        made = {
            symbol: result for symbol, result in answers.items() if isinstance(result, Forecast)
        }
        errors = {
            symbol: result for symbol, result in answers.items() if isinstance(result, KronosError)
        }
        if errors and not made:
            raise next(iter(errors.values()))
        parts = []
        for symbol, forecast in made.items():
            part = forecast.to_frame(levels=levels)
            part.attrs = {}
            part.insert(0, "symbol", self.names[symbol])
            parts.append(part)
        frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        if nixtla:
            events = [chance.event for chance in next(iter(made.values())).events] if made else []
            frame = _as_nixtla(frame, levels, events)
        else:
            frame = frame.rename(
                columns={"symbol": self.id_column, "target_date": self.time_column}
            )
        frame.attrs["errors"] = {_key(self.names[symbol]): str(e) for symbol, e in errors.items()}
        return frame


def _key(name: Any) -> Any:
    """Convert a ticker's name to a type that JSON accepts as a key; numpy's numbers are not."""
    plain = name.item() if isinstance(name, np.generic) else name
    return plain if isinstance(plain, str | int | float) else str(plain)


def _by_name(frame: Any, id_column: str | None, time_column: str | None) -> dict[Any, Any]:
    """Return each ticker's candles, in the order of first rows."""
    if isinstance(frame, Mapping):
        if not frame:
            raise DataError("no ticker has candles")
        return dict(frame)
    table = to_pandas(None, frame)
    if table.empty:
        raise DataError("the frame has no rows")
    if isinstance(table.columns, pd.MultiIndex):
        return dict.fromkeys(tickers_of(table.columns), table)
    table = _without_index(table, time_column)
    if time_column is None and "ds" in table.columns:  # Nixtla's name
        time_column = "ds"
    if time_column is not None:
        _must_have(table, "timestamp_column", time_column)
        table = table.rename(columns={time_column: "timestamp"})
    if id_column is None:
        id_column = _id_of(table)
    _must_have(table, "id_column", id_column)
    if unnamed := int(table[id_column].isna().sum()):
        raise DataError(f"{id_column} is empty in {unnamed} of {len(table)} rows")
    rows = table.groupby(id_column, sort=False, observed=True)
    return {name: of_ticker.drop(columns=id_column) for name, of_ticker in rows}


def _without_index(table: pd.DataFrame, time_column: str | None) -> pd.DataFrame:
    """Turn index levels into columns; a plain row count stays the index."""
    names: list[Hashable] = []
    for level in range(table.index.nlevels):
        name = table.index.names[level]
        times = table.index.unique(level)
        if isinstance(times, pd.DatetimeIndex | pd.PeriodIndex) and (
            name is None or name != time_column
        ):
            name = "timestamp"
        elif name is None and table.index.nlevels > 1:
            name = "symbol"
        names.append(name)
    if None in names:
        return table
    columns = table.drop(columns=names, errors="ignore").reset_index(names=names)
    return columns.iloc[:, np.roll(range(columns.shape[1]), -len(names))]


def _as_nixtla(frame: pd.DataFrame, levels: Iterable[float], events: Iterable[str]) -> pd.DataFrame:
    """Rename columns as in StatsForecast: unique_id, ds, the mean, and lo and hi per interval.

    Columns of events keep their names.
    """
    names = {"symbol": "unique_id", "target_date": "ds", "close": "Kronos"}
    for level in levels:
        width = f"{round(100 * abs(1 - 2 * level), 6):g}"
        side = "lo" if level < 0.5 else "hi"
        names[quantile_column(level)] = (
            "Kronos-median" if level == 0.5 else f"Kronos-{side}-{width}"
        )
    names |= {event: event for event in events}
    return frame[list(names)].rename(columns=names)


def _id_of(table: pd.DataFrame) -> str:
    columns = {simplified(name): str(name) for name in reversed(table.columns)}
    for known in NAMES["symbol"]:
        if known in columns:
            return columns[known]
    raise DataError(
        f"no column of tickers among {', '.join(map(str, table.columns))}: name it with id_column="
    )


def _must_have(table: pd.DataFrame, argument: str, name: str) -> None:
    if name not in table.columns:
        known = ", ".join(map(str, table.columns))
        raise DataError(f"{argument}={name!r}: the frame has {known}")
