"""Yield flat rows of the database for export: ledger, scores, events and event scores."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from tradingbot.errors import DatabaseError
from tradingbot.forecast import QUANTILE_LEVELS
from tradingbot.persistence.columns import columns_of, primary_key_of
from tradingbot.persistence.models import (
    SCHEMA_VERSION,
    KronosEvent,
    KronosEventScore,
    KronosForecast,
    KronosScore,
)
from tradingbot.persistence.schema import schema_version

if TYPE_CHECKING:
    from sqlalchemy import Row, Select
    from sqlalchemy.orm import Session

CHUNK = 2000  # number of rows in memory
_NESTED = ("close_quantiles", "calibrated_quantiles", "combined_quantiles", "shares")


def exported_forecasts(
    session: "Session",
    *,
    symbols: Collection[str] = (),
    model: str | None = None,
    since: datetime | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield every vintage in the ledger, in the order of its key.

    q05 … q95 are the served quantiles, raw_q05 … raw_q95 the quantiles of the model. Prices are not
    restated after splits: divide prices by last_close to compare them across splits.

    Raises:
        DatabaseError: The schema is older or newer than this version's.
    """
    table = KronosForecast
    query = select(*columns_of(table)).order_by(*primary_key_of(table))
    if symbols:
        query = query.where(KronosForecast.symbol.in_(list(symbols)))
    if model is not None:
        query = query.where(KronosForecast.model_name == model)
    if since is not None:
        query = query.where(KronosForecast.as_of >= since)
    for row in _rows(session, query):
        served = row.combined_quantiles or row.calibrated_quantiles or row.close_quantiles
        flat = {name: value for name, value in row._mapping.items() if name not in _NESTED}
        yield {**flat, **_columns("q", served), **_columns("raw_q", row.close_quantiles)}


def exported_scores(
    session: "Session", *, symbols: Collection[str] = (), model: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of kronos_scores, in the order of their key.

    Raises:
        DatabaseError: The schema is older or newer than this version's.
    """
    table = KronosScore
    query = select(*columns_of(table)).order_by(*primary_key_of(table))
    if symbols:
        query = query.where(KronosScore.symbol.in_(list(symbols)))
    if model is not None:
        query = query.where(KronosScore.model_name == model)
    for row in _rows(session, query):
        yield dict(row._mapping)


def exported_events(
    session: "Session",
    *,
    symbols: Collection[str] = (),
    model: str | None = None,
    since: datetime | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the probability of each event by the end of each bar, in the order of the table's key.

    Raises:
        DatabaseError: The schema is older or newer than this version's.
    """
    table = KronosEvent
    query = select(*columns_of(table)).order_by(*primary_key_of(table))
    if symbols:
        query = query.where(KronosEvent.symbol.in_(list(symbols)))
    if model is not None:
        query = query.where(KronosEvent.model_name == model)
    if since is not None:
        query = query.where(KronosEvent.as_of >= since)
    for row in _rows(session, query):
        yield dict(row._mapping)


def exported_event_scores(
    session: "Session", *, symbols: Collection[str] = (), model: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of kronos_event_scores, in the order of their key.

    The bins are columns: bin0_n, bin0_probability and bin0_frequency are the bin of probabilities
    below 10 %, and so on.

    Raises:
        DatabaseError: The schema is older or newer than this version's.
    """
    table = KronosEventScore
    query = select(*columns_of(table)).order_by(*primary_key_of(table))
    if symbols:
        query = query.where(KronosEventScore.symbol.in_(list(symbols)))
    if model is not None:
        query = query.where(KronosEventScore.model_name == model)
    for row in _rows(session, query):
        flat = {name: value for name, value in row._mapping.items() if name != "bins"}
        bins = {round(10 * entry["from"]): entry for entry in row.bins}
        for number in range(10):
            for name in ("n", "probability", "frequency"):
                flat[f"bin{number}_{name}"] = bins.get(number, {}).get(name)
        yield flat


def quantile_names(prefix: str) -> Sequence[str]:
    """Return the column names of QUANTILE_LEVELS: q05, q10 …"""
    return [f"{prefix}{round(100 * level):02}" for level in QUANTILE_LEVELS]


def _columns(prefix: str, quantiles: Mapping[str, float]) -> dict[str, float | None]:
    """Return a column for each level, None for levels that an older version did not store."""
    try:
        by_level = {round(float(level), 6): float(price) for level, price in quantiles.items()}
    except (TypeError, ValueError, OverflowError):  # damaged
        by_level = {}
    names = zip(quantile_names(prefix), QUANTILE_LEVELS, strict=True)
    return {name: by_level.get(level) for name, level in names}


def _rows(session: "Session", query: "Select[Any]") -> "Iterator[Row[Any]]":
    connection = session.connection()
    found = schema_version(connection)
    if found is None:
        raise DatabaseError("the database is empty: `kronosbot run` fills it")
    if found != SCHEMA_VERSION:
        raise DatabaseError(
            "the database has an older schema: the next `kronosbot run` upgrades it"
        )
    yield from session.execute(query, execution_options={"yield_per": CHUNK})
