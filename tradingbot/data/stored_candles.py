"""Candles without a network: those stored in the database by the job, or those of files."""

from datetime import datetime

import pandas as pd
from sqlalchemy.orm import Session

from tradingbot.data.sources.registry import open_source
from tradingbot.errors import DataError
from tradingbot.markets.candles import PRICES, clean
from tradingbot.persistence.candles import read_candles
from tradingbot.runtime.clock import utcnow


class Candles:
    """Candles of any ticker. Each ticker is read once.

    For a remote source these are the candles stored by the job. For other sources they are all bars
    of the files, even those after the source's clock.
    """

    def __init__(self, session: Session, source: str) -> None:
        self._session = session
        opened = open_source(source)
        self._source = None if opened.remote else opened
        self._known: dict[tuple[str, str], pd.DataFrame | DataError] = {}

    def bars(self, symbol: str, interval: str) -> pd.DataFrame:
        """Return all bars, (bars, 4): index of naive times, columns PRICES. May raise DataError."""
        key = symbol.upper(), interval
        if key not in self._known:
            try:
                self._known[key] = self._read(*key)
            except DataError as error:
                self._known[key] = error
        found = self._known[key]
        if isinstance(found, DataError):
            raise found
        return found

    def closes(self, symbol: str, interval: str, since: datetime) -> pd.Series:
        """Return the closes from `since` on."""
        return self.bars(symbol, interval)["close"].loc[since:]

    def _read(self, symbol: str, interval: str) -> pd.DataFrame:
        if self._source is not None:
            raw = self._source.fetch(symbol, interval, datetime(1950, 1, 31), utcnow())
            return clean(raw)[0][PRICES]
        rows = read_candles(self._session, symbol, interval, columns=PRICES)
        if not rows:
            raise DataError(
                "the database has none of its candles; the next run stores some", symbol=symbol
            )
        frame = pd.DataFrame(rows, columns=["timestamp", *PRICES]).set_index("timestamp")
        frame.index = pd.DatetimeIndex(frame.index).as_unit("us")
        return frame


def bars_in_database(session: Session, symbol: str, interval: str, since: datetime) -> pd.DataFrame:
    """Return the stored bars of a ticker from `since` on, with the columns PRICES. May be empty."""
    rows = read_candles(session, symbol, interval, columns=PRICES, since=since)
    index = pd.DatetimeIndex([row.timestamp for row in rows])
    prices = [row[1:] for row in rows]
    return pd.DataFrame(prices, index=index, columns=PRICES, dtype="float64")
