"""Candles that were fetched before, in the tables `historic_data` and `historic_ranges`."""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tradingbot.errors import DatabaseError, DataUnavailable
from tradingbot.markets.candles import PRICES, Bars
from tradingbot.persistence.candles import (
    OHLCV,
    complete_since,
    delete_candles,
    mark_complete_since,
    read_candles,
    store_candles,
    store_splits,
)
from tradingbot.runtime.clock import utcnow
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
_INTERVAL = "1d"
_COLUMNS = list(OHLCV)
OVERLAP = 7  # bars that are fetched again, to see whether they were restated
MAX_AGE = timedelta(days=30)  # then all is fetched again: what the overlap cannot show comes right
_SAME = 1e-4  # prices that differ by less than this share of them differ by rounding


class HistoryCache:
    """Daily bars by ticker. `sessions` makes a database session; threads may share the cache.

    A volume that is not known is kept as 0. When the database fails, that is logged once, and from
    then on the cache is empty and keeps nothing: the candles themselves are at hand.
    """

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions
        self._lock = threading.Lock()  # SQLite has one writer, in memory even one connection
        self._failed = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()

    def bars(
        self,
        symbol: str,
        start: datetime,
        last: datetime,
        fetch: Callable[[datetime], Bars],
        *,
        enough: int,
    ) -> Bars:
        """The bars from the day of `start` to the session `last`, and what is odd about them.

        `fetch(since)` gets complete, clean bars from the source. Only the newest cached bars are
        fetched again, or all of them if they were restated. If the source is out of reach, the
        cached bars are returned, if there are `enough`.
        """
        start = datetime(start.year, start.month, start.day)
        known, since = self._read(symbol, start, last)
        covered = since is not None and since <= start and not known.empty
        overlap = known.index[-OVERLAP:]
        try:
            bars, oddities = fetch(overlap[0].to_pydatetime() if covered else start)
        except DataUnavailable as error:
            if len(known) < enough:
                raise
            newest = known.index[-1]
            return known, [f"{error.reason}; the cached bars up to {newest:%Y-%m-%d} are used"]
        if covered:
            if not _restated(known, bars):
                self._add(symbol, bars)
                return _merged(known, bars), oddities
            logger.info("%s: its prices were restated: all are fetched again", symbol)
            self._forget(symbol)  # also where the next line fails: they are of another scale
            bars, oddities = fetch(start)
        if not bars.empty:
            self._replace(symbol, bars, since=start)
        return bars, oddities

    def _read(
        self, symbol: str, start: datetime, last: datetime
    ) -> tuple[pd.DataFrame, datetime | None]:
        """The cached bars; from when on there are no others but newer ones, or None."""
        key = symbol.upper(), _INTERVAL

        def read(session: Session) -> tuple[pd.DataFrame, datetime | None]:
            rows = read_candles(session, *key, since=start, until=last)
            since = complete_since(session, *key, fetched_after=utcnow() - MAX_AGE)
            return _frame(rows), since

        return self._try(read) or (_frame([]), None)

    def _add(self, symbol: str, bars: pd.DataFrame) -> None:
        key = symbol.upper(), _INTERVAL

        def add(session: Session) -> None:
            store_candles(session, *key, _rows(bars))
            store_splits(session, key[0], bars.attrs.get("splits", {}))

        self._try(add)

    def _forget(self, symbol: str) -> None:
        self._try(lambda session: delete_candles(session, symbol.upper(), _INTERVAL))

    def _replace(self, symbol: str, bars: pd.DataFrame, *, since: datetime) -> None:
        key = symbol.upper(), _INTERVAL

        def replace(session: Session) -> None:
            delete_candles(session, *key)
            store_candles(session, *key, _rows(bars))
            store_splits(session, key[0], bars.attrs.get("splits", {}))
            mark_complete_since(session, *key, since)

        self._try(replace)

    def _try(self, work: Callable[[Session], Result]) -> Result | None:
        """One transaction; None when the database fails, or has failed before."""
        with self._lock:
            if self._failed:
                return None
            try:
                with self._sessions() as session:
                    return work(session)
            except (DatabaseError, SQLAlchemyError) as error:
                self._failed = True
                reason = " ".join(str(getattr(error, "orig", None) or error).split())
                logger.warning("candles are fetched without the cache historic_data: %s", reason)
                return None


def _restated(cached: pd.DataFrame, fetched: pd.DataFrame) -> bool:
    """Whether the source now tells other prices of the same bars, or has none of them any more.

    Splits and corrections do that. A volume alone is no restatement: Yahoo corrects it for days.
    """
    both = cached.index.intersection(fetched.index)
    before, now = cached.loc[both, PRICES], fetched.loc[both, PRICES]
    return both.empty or not np.allclose(before, now, rtol=_SAME, atol=0)


def _merged(cached: pd.DataFrame, fetched: pd.DataFrame) -> pd.DataFrame:
    """All bars of both; where both have one, the fetched one."""
    older = cached[~cached.index.isin(fetched.index)]
    bars = pd.concat([older, fetched]).sort_index().reindex(columns=_COLUMNS)
    bars.index = pd.DatetimeIndex(bars.index).as_unit("us").rename("timestamp")
    return _without_idle_volume(bars.fillna({"volume": 0.0}))


def _frame(rows: Sequence[Any]) -> pd.DataFrame:
    """(bars, 4 or 5) from rows of timestamp and _COLUMNS."""
    index = pd.DatetimeIndex([row[0] for row in rows]).as_unit("us").rename("timestamp")
    values = np.array([row[1:] for row in rows], dtype="float64").reshape(-1, len(_COLUMNS))
    return _without_idle_volume(pd.DataFrame(values, index=index, columns=_COLUMNS))


def _without_idle_volume(bars: pd.DataFrame) -> pd.DataFrame:
    return bars if bars["volume"].any() else bars.drop(columns="volume")


def _rows(bars: pd.DataFrame) -> list[tuple[datetime, list[float]]]:
    values = bars.reindex(columns=_COLUMNS).fillna({"volume": 0.0}).to_numpy("float64").tolist()
    return list(zip(pd.DatetimeIndex(bars.index).to_pydatetime(), values, strict=True))
