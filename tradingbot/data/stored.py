"""The candles of a report, without a network: the job's, from the database, or those of files."""

from datetime import datetime
from typing import TYPE_CHECKING

import pandas as pd

from tradingbot.data.sources.registry import open_source
from tradingbot.errors import DataError
from tradingbot.markets.candles import PRICES, clean
from tradingbot.persistence.models import HistoricData
from tradingbot.runtime.clock import utcnow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
if TYPE_CHECKING:
    from sqlalchemy.orm import Session


class Candles:
    """Candles of any ticker, read once each. Of `yahoo` those that the job has stored.

    Of the sources csv and sample all bars count as known, also those after the source's clock.
    """

    def __init__(self, session: "Session", source: str) -> None:
        self._session = session
        self._source = None if source == "yahoo" else open_source(source)
        self._known: dict[tuple[str, str], pd.DataFrame | DataError] = {}

    def bars(self, symbol: str, interval: str) -> pd.DataFrame:
        """All of them, (bars, 4): index of naive times, columns PRICES. DataError."""
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
        """The closes from `since` on."""
        return self.bars(symbol, interval)["close"].loc[since:]

    def _read(self, symbol: str, interval: str) -> pd.DataFrame:
        if self._source is not None:
            raw = self._source.fetch(symbol, interval, datetime(1950, 1, 31), utcnow())
            return clean(raw)[0][PRICES]
        table = HistoricData.__table__
        columns = [table.c.timestamp, *(table.c[name] for name in PRICES)]
        rows = self._session.execute(
            table.select()
            .with_only_columns(*columns)
            .where(table.c.symbol == symbol, table.c.interval == interval)
            .order_by(table.c.timestamp)
        ).all()
        if not rows:
            raise DataError("the database has none of it; the next run brings some", symbol=symbol)
        frame = pd.DataFrame(rows, columns=["timestamp", *PRICES]).set_index("timestamp")
        frame.index = pd.DatetimeIndex(frame.index).as_unit("us")
        return frame


def _kept(session: "Session", symbol: str, interval: str, since: datetime) -> "pd.Series[float]":
    import pandas as pd
    from sqlalchemy import select

    from tradingbot.persistence.models import HistoricData as Bar

    rows = session.execute(
        select(Bar.timestamp, Bar.close)
        .where(Bar.symbol == symbol, Bar.interval == interval, Bar.timestamp >= since)
        .order_by(Bar.timestamp)
    ).all()
    index = pd.DatetimeIndex([row.timestamp for row in rows])
    return pd.Series([row.close for row in rows], index=index, dtype="float64")
