"""Read and write candles: the tables `historic_data` and `historic_ranges`."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select
from sqlalchemy.orm import Session

from tradingbot.persistence.damage import count_damaged
from tradingbot.persistence.models import HistoricData, HistoricRange, HistoricSplit
from tradingbot.persistence.upsert import upsert
from tradingbot.runtime.clock import utcnow

OHLCV = ("open", "high", "low", "close", "volume")
_CANDLES = HistoricData


def read_candles(
    session: Session,
    symbol: str,
    interval: str,
    *,
    columns: Sequence[str] = OHLCV,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Sequence[Row[Any]]:
    """Return rows of the time and `columns`, oldest first, from `since` to `until` inclusive."""
    query = select(_CANDLES.timestamp, *(getattr(_CANDLES, name) for name in columns)).where(
        _CANDLES.symbol == symbol, _CANDLES.interval == interval
    )
    if since is not None:
        query = query.where(_CANDLES.timestamp >= since)
    if until is not None:
        query = query.where(_CANDLES.timestamp <= until)
    return session.execute(query.order_by(_CANDLES.timestamp)).all()


def store_candles(
    session: Session, symbol: str, interval: str, rows: Iterable[tuple[datetime, Sequence[float]]]
) -> int:
    """Insert or overwrite candles, each a time and five numbers.

    Return the number of rows written.
    """
    key = {"symbol": symbol, "interval": interval}
    return upsert(
        session,
        HistoricData,
        [
            key | {"timestamp": moment} | dict(zip(OHLCV, numbers, strict=True))
            for moment, numbers in rows
        ],
    )


def delete_candles(session: Session, symbol: str, interval: str) -> None:
    """Delete all candles of a ticker."""
    session.execute(
        delete(HistoricData).where(HistoricData.symbol == symbol, HistoricData.interval == interval)
    )


def complete_since(
    session: Session, symbol: str, interval: str, *, fetched_after: datetime
) -> datetime | None:
    """Return the time from which on `historic_data` has all candles of a ticker.

    Return None if all candles were last fetched before `fetched_after` or never, or if a candle is
    damaged.
    """
    of_ticker = HistoricData.symbol == symbol, HistoricData.interval == interval
    if count_damaged(session, HistoricData, *of_ticker):
        return None
    return session.scalar(
        select(HistoricRange.since).where(
            HistoricRange.symbol == symbol,
            HistoricRange.interval == interval,
            HistoricRange.fetched_at > fetched_after,
        )
    )


def mark_complete_since(session: Session, symbol: str, interval: str, since: datetime) -> None:
    """Record that all candles from `since` on were fetched just now."""
    row = {"symbol": symbol, "interval": interval, "since": since, "fetched_at": utcnow()}
    upsert(session, HistoricRange, [row])


def store_splits(session: Session, symbol: str, splits: Mapping[datetime, float]) -> None:
    """Insert or overwrite splits: a split's first day -> new shares per old share."""
    rows = [{"symbol": symbol, "day": day, "ratio": ratio} for day, ratio in splits.items()]
    upsert(session, HistoricSplit, rows)


def read_splits(session: Session, symbol: str) -> dict[datetime, float]:
    """Return the splits known to the source of a ticker's candles, oldest first."""
    found = select(HistoricSplit.day, HistoricSplit.ratio).where(HistoricSplit.symbol == symbol)
    rows = session.execute(found.order_by(HistoricSplit.day))
    return {row.day: row.ratio for row in rows}
