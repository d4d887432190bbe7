"""A cache of fetched candles, in the tables `historic_data` and `historic_ranges`."""

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
OVERLAP = 7  # bars that are fetched again, to detect restatements
# after this time all bars are fetched again, because restatements may not show in the overlap
MAX_AGE = timedelta(days=30)
_SAME = 1e-4  # a smaller relative difference between prices is rounding


class HistoryCache:
    """Cache of daily bars by ticker. Thread-safe.

    An unknown volume is stored as 0. A database failure is logged once; after that the cache
    returns and stores nothing, and candles are fetched directly.

    Args:
        sessions: Opens a database session.
    """

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions
        # SQLite allows one writer, and an in-memory database even one connection
        self._lock = threading.Lock()
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
        """Return the bars from the day of `start` to the session `last`, and remarks on them.

        `fetch(since)` returns complete, clean bars from the source. Only the newest cached bars are
        fetched again, or all of them if they were restated. If the source is out of reach, the
        cached bars are returned, if there are at least `enough`.
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
            # delete the cached bars even if the next line fails, because they have another scale
            self._delete(symbol)
            bars, oddities = fetch(start)
        if not bars.empty:
            self._replace(symbol, bars, since=start)
        return bars, oddities

    def _read(
        self, symbol: str, start: datetime, last: datetime
    ) -> tuple[pd.DataFrame, datetime | None]:
        """Return the cached bars, and the day from which they are complete, or None."""
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

    def _delete(self, symbol: str) -> None:
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
        """Run `work` in one transaction. Return None if the database fails or has failed before."""
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
    """Return whether the source has changed the prices of the same bars, or dropped all of them.

    Splits and corrections do that. A changed volume does not count: Yahoo corrects it for days.
    """
    both = cached.index.intersection(fetched.index)
    before, now = cached.loc[both, PRICES], fetched.loc[both, PRICES]
    return both.empty or not np.allclose(before, now, rtol=_SAME, atol=0)


def _merged(cached: pd.DataFrame, fetched: pd.DataFrame) -> pd.DataFrame:
    """Return all bars of both frames. Fetched bars take precedence."""
    older = cached[~cached.index.isin(fetched.index)]
    bars = pd.concat([older, fetched]).sort_index().reindex(columns=_COLUMNS)
    bars.index = pd.DatetimeIndex(bars.index).as_unit("us").rename("timestamp")
    return _without_idle_volume(bars.fillna({"volume": 0.0}))


def _frame(rows: Sequence[Any]) -> pd.DataFrame:
    """Return a frame of bars, (bars, 4 or 5), from rows of timestamp and _COLUMNS."""
    index = pd.DatetimeIndex([row[0] for row in rows]).as_unit("us").rename("timestamp")
    values = np.array([row[1:] for row in rows], dtype="float64").reshape(-1, len(_COLUMNS))
    return _without_idle_volume(pd.DataFrame(values, index=index, columns=_COLUMNS))


def _without_idle_volume(bars: pd.DataFrame) -> pd.DataFrame:
    return bars if bars["volume"].any() else bars.drop(columns="volume")


def _rows(bars: pd.DataFrame) -> list[tuple[datetime, list[float]]]:
    values = bars.reindex(columns=_COLUMNS).fillna({"volume": 0.0}).to_numpy("float64").tolist()
    return list(zip(pd.DatetimeIndex(bars.index).to_pydatetime(), values, strict=True))
