"""Read and write matured forecasts: `kronos_matured` and `kronos_matured_parts`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, select, tuple_
from sqlalchemy.orm import Session

from tradingbot.forecast import Forecast
from tradingbot.persistence.columns import columns_of
from tradingbot.persistence.models import ALL_SYMBOLS, KronosMatured, KronosMaturedPart
from tradingbot.persistence.upsert import upsert

PartKey = tuple[str, str, str]  # symbol, interval, model
Record = tuple[str, str, str]  # model, its revision, interval

_PART, _CHUNK = KronosMaturedPart, KronosMatured
_PART_KEY = (_PART.symbol, _PART.interval, _PART.model_name)
_CHUNK_KEY = (_CHUNK.symbol, _CHUNK.interval, _CHUNK.model_name)
_ALL_QUARTERS = datetime(1970, 1, 1)  # value of `quarter` for correlations, which cover all
_MANY = 500  # keys per statement


@dataclass(frozen=True)
class StoredPart:
    """A row of KronosMaturedPart with its rows of KronosMatured.

    Attributes:
        count: Number of forecasts.
        forecasts: Packed forecasts by revision and quarter. `store_matured` needs only new and
            changed ones.
    """

    version: int
    first_as_of: datetime
    until: datetime
    count: int
    closes: bytes
    left_out: Mapping[str, int]
    forecasts: Mapping[tuple[str, datetime], bytes]


def read_matured(session: Session, keys: Collection[PartKey]) -> dict[PartKey, StoredPart]:
    """Return the stored parts with these keys."""
    chunks: dict[PartKey, dict[tuple[str, datetime], bytes]] = {}
    rows = session.execute(
        select(*_CHUNK_KEY, _CHUNK.model_revision, _CHUNK.quarter, _CHUNK.forecasts)
        .where(_among(_CHUNK_KEY, keys))
        .order_by(_CHUNK.quarter)
    )
    for symbol, interval, model, revision, quarter, forecasts in rows:
        chunks.setdefault((symbol, interval, model), {})[revision, quarter] = forecasts
    found: dict[PartKey, StoredPart] = {}
    for row in session.execute(select(*columns_of(_PART)).where(_among(_PART_KEY, keys))):
        part = row.symbol, row.interval, row.model_name
        fields = row.version, row.first_as_of, row.until, row.forecasts, row.closes, row.left_out
        found[part] = StoredPart(*fields, chunks.get(part, {}))
    return found


def store_matured(
    session: Session, parts: Mapping[PartKey, StoredPart], *, replaced: Collection[PartKey]
) -> None:
    """Store these parts. For the keys in `replaced`, delete all earlier rows first."""
    if replaced:
        session.execute(delete(_CHUNK).where(_among(_CHUNK_KEY, replaced)))
    names = ("symbol", "interval", "model_name")
    upsert(
        session,
        _CHUNK,
        [
            dict(zip(names, key, strict=True))
            | {"model_revision": revision, "quarter": quarter, "forecasts": forecasts}
            for key, part in parts.items()
            for (revision, quarter), forecasts in part.forecasts.items()
        ],
    )
    fields = ("version", "first_as_of", "until", "closes", "left_out")
    upsert(
        session,
        _PART,
        [
            dict(zip(names, key, strict=True))
            | {name: getattr(part, name) for name in fields}
            | {"forecasts": part.count}
            for key, part in parts.items()
        ],
    )


def forget_older(session: Session, forecasts: Sequence[Forecast]) -> None:
    """Delete the parts that already cover the `as_of` of one of these new forecasts."""
    oldest: dict[PartKey, datetime] = {}
    for forecast in forecasts:
        key = forecast.symbol, forecast.interval, forecast.model_name
        oldest[key] = min(forecast.as_of, oldest.get(key, forecast.as_of))
    stored = session.execute(select(*_PART_KEY, _PART.until).where(_among(_PART_KEY, oldest)))
    if older := [key for *key, until in stored if until > oldest[_key(*key)]]:
        session.execute(delete(_PART).where(_among(_PART_KEY, older)))


def forget_others(session: Session, keys: Collection[PartKey]) -> None:
    """Delete all parts except those with these keys."""
    gone = {_key(*row) for row in session.execute(select(*_PART_KEY))} - {*keys}
    for start in range(0, len(gone), _MANY):
        batch = sorted(gone)[start : start + _MANY]
        session.execute(delete(_CHUNK).where(_among(_CHUNK_KEY, batch)))
        session.execute(delete(_PART).where(_among(_PART_KEY, batch)))


def read_correlations(session: Session, record: Record) -> bytes:
    """Return the stored correlations across tickers of one revision of a model, or b""."""
    model, revision, interval = record
    return (
        session.scalar(
            select(_CHUNK.forecasts).where(
                _CHUNK.symbol == ALL_SYMBOLS,
                _CHUNK.model_name == model,
                _CHUNK.model_revision == revision,
                _CHUNK.interval == interval,
            )
        )
        or b""
    )


def store_correlations(session: Session, known: Mapping[Record, bytes]) -> None:
    """Replace all stored correlations."""
    session.execute(delete(_CHUNK).where(_CHUNK.symbol == ALL_SYMBOLS))
    upsert(
        session,
        _CHUNK,
        [
            {
                "symbol": ALL_SYMBOLS,
                "interval": interval,
                "model_name": model,
                "model_revision": revision,
                "quarter": _ALL_QUARTERS,
                "forecasts": correlations,
            }
            for (model, revision, interval), correlations in known.items()
        ],
    )


def _among(columns: tuple[Any, ...], keys: Iterable[Sequence[str]]) -> ColumnElement[bool]:
    return tuple_(*columns).in_([tuple(key) for key in keys])


def _key(symbol: str, interval: str, model: str) -> PartKey:
    return symbol, interval, model
