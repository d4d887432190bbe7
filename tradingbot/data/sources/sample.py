"""Bundled real daily candles that need no network."""

from datetime import datetime
from functools import cache
from typing import Any

import pandas as pd

from tradingbot.errors import ConfigError, DataError, UnknownSymbol
from tradingbot.install_command import install_command
from tradingbot.markets.calendars import session_close
from tradingbot.markets.candles import PRICES


class SampleSource:
    """Real daily candles of four tickers, 2000 to March 2013, from the package bokeh-sampledata."""

    remote = False
    knows_outcomes = True
    clock_file: str | None = None
    _TICKERS = ("AAPL", "GOOG", "IBM", "MSFT")

    def __init__(self) -> None:
        try:
            import bokeh_sampledata.stocks  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                "data source sample: the package bokeh-sampledata is missing; "
                f"{install_command('sample')}"
            ) from error

    def symbols(self) -> list[str]:
        return list(self._TICKERS)

    def clock(self, horizon: int) -> datetime:
        """Return the close of the bar that is followed by `max(6, horizon)` bars, the outcome."""
        days = _candles("AAPL").index
        if horizon >= len(days):
            raise DataError(f"horizon={horizon}: the sample has {len(days)} bars in all")
        return session_close("AAPL", days[-1 - max(6, horizon)].to_pydatetime())

    def fetch(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        if symbol.upper() not in self._TICKERS:
            raise UnknownSymbol(
                f"the sample has {', '.join(self._TICKERS)} only; "
                "other tickers need the source yahoo or csv:DIR",
                symbol=symbol,
            )
        if interval != "1d":
            raise DataError(f"the sample has daily bars only, not {interval!r}", symbol=symbol)
        return _candles(symbol.upper()).copy()


@cache
def _candles(ticker: str) -> pd.DataFrame:
    from bokeh_sampledata import stocks

    return _split_adjusted(getattr(stocks, ticker))


def _split_adjusted(stock: dict[str, Any]) -> pd.DataFrame:
    """Return candles with prices before a split restated, as Yahoo shows them.

    The sample has prices as traded, so a 2:1 split looks like a crash. The adjusted close reveals
    splits: adj_close ÷ close doubles on the day of a 2:1 split, while a dividend changes this ratio
    only a little.
    """
    frame = pd.DataFrame(stock)
    ratio = frame["adj_close"] / frame["close"]
    step = (ratio / ratio.shift(1, fill_value=ratio.iloc[0])).round(1)
    split = step.where(step >= 1.5, 1.0)  # new shares per old share, on the split's first day
    later = split[::-1].cumprod()[::-1].shift(-1, fill_value=1.0)
    bars = frame[PRICES].div(later, axis=0)
    bars["volume"] = frame["volume"] * later
    bars.index = pd.to_datetime(frame["date"]).rename("timestamp")
    return bars
