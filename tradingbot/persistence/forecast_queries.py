"""Queries about stored forecasts: the newest ones, and their future bars."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import false, func, inspect, select, tuple_
from sqlalchemy.orm import Session

from tradingbot.forecast import Forecast
from tradingbot.markets.calendars import sessions_between
from tradingbot.persistence.forecasts import CloseAt, latest_stored
from tradingbot.persistence.loose_scan import for_each_key
from tradingbot.persistence.models import KronosForecast, KronosPrediction


@dataclass(frozen=True)
class NewestForecast:
    """The newest forecast of one ticker by one model."""

    model: str
    interval: str
    symbol: str
    as_of: datetime | None  # None: unknown, as in rows of the first published schema
    challenger: bool = False  # a forecast that bots did not get


def newest_forecasts(session: Session) -> list[NewestForecast]:
    """Return the newest forecast of each model, interval and ticker, in this order.

    Both kronos_predictions and the ledger are read. A challenger that was served earlier has two
    entries: as challenger and as served model.
    """
    found = _newest_of_the_ledger(session)
    known = {
        (forecast.model, forecast.interval, forecast.symbol)
        for forecast in found
        if not forecast.challenger
    }
    served = _keys(session, KronosPrediction)
    found += _newest_served(session, [key for key in served if key not in known])
    return sorted(
        found,
        key=attrgetter("model", "interval", "symbol", "challenger"),
    )


_KEY = "model_name, interval, symbol"
_NEWEST_OF_EACH = """
    SELECT model_name, interval, symbol, newest.as_of FROM keys, LATERAL (
      SELECT as_of FROM kronos_forecasts ledger
      WHERE ledger.symbol = keys.symbol AND ledger.interval = keys.interval
        AND ledger.model_name = keys.model_name AND ledger.as_of < '2200-01-01'
      ORDER BY as_of DESC LIMIT 1
    ) newest
"""
_LEDGER = KronosForecast
_OF_LEDGER = (_LEDGER.model_name, _LEDGER.interval, _LEDGER.symbol)


def _newest_of_the_ledger(session: Session) -> list[NewestForecast]:
    columns = inspect(session.connection()).get_columns(_LEDGER.__tablename__)
    known_role = "challenger" in {column["name"] for column in columns}  # missing in an old schema
    role = _LEDGER.challenger if known_role else false()
    if session.connection().dialect.name == "postgresql":
        rows = _newest_intact(session, role)
    else:  # SQLite takes the role from the row of the maximum
        newest = select(*_OF_LEDGER, func.max(_LEDGER.as_of), role).group_by(*_OF_LEDGER)
        rows = [*session.execute(newest)]
    return [
        NewestForecast(model, interval, symbol, as_of, bool(challenger))
        for model, interval, symbol, as_of, challenger in rows
    ]


def _newest_intact(session: Session, role: Any) -> list[Any]:
    """Return the newest intact forecast of each key of the ledger, on Postgres.

    Only the newest rows are checked for damage, because a check of ten million rows takes 40
    seconds. Where the newest row is damaged, all rows of that key are read.
    """
    query = for_each_key(_LEDGER.__tablename__, _NEWEST_OF_EACH)
    newest = session.execute(query.columns(*_OF_LEDGER, _LEDGER.as_of)).all()
    found = _intact(session, newest, role)
    damaged = {tuple(row[:3]) for row in newest} - {tuple(row[:3]) for row in found}
    for some in _batches([*damaged]):
        of_keys = tuple_(*_OF_LEDGER).in_(some)
        older = select(*_OF_LEDGER, func.max(_LEDGER.as_of)).where(of_keys).group_by(*_OF_LEDGER)
        found += _intact(session, session.execute(older).all(), role)
    return found


def _intact(session: Session, wanted: Sequence[Any], role: Any) -> list[Any]:
    """Return key, `as_of` and role of the `wanted` forecasts that have an intact row."""
    found: list[Any] = []
    key = (*_OF_LEDGER, _LEDGER.as_of)
    for some in _batches([tuple(row) for row in wanted]):
        query = select(*key, func.bool_and(role)).where(tuple_(*key).in_(some)).group_by(*key)
        found += session.execute(query).all()
    return found


def _batches(keys: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(keys), 500):
        yield keys[start : start + 500]


def _keys(session: Session, table: type[KronosPrediction]) -> list[tuple[str, str, str]]:
    """Return each distinct (model, interval, symbol) of a table that has them in its key."""
    query: Any = select(table.model_name, table.interval, table.symbol).distinct()
    if session.connection().dialect.name == "postgresql":
        query = for_each_key(table.__tablename__, f"SELECT {_KEY} FROM keys")
    return [(model, interval, symbol) for model, interval, symbol in session.execute(query)]


def _newest_served(session: Session, keys: list[tuple[str, str, str]]) -> Iterator[NewestForecast]:
    """Yield the newest served forecasts of these models, intervals and symbols."""
    latest = KronosPrediction
    key = latest.model_name, latest.interval, latest.symbol
    for some in _batches(keys):
        newest = select(*key, func.max(latest.as_of)).where(tuple_(*key).in_(some)).group_by(*key)
        for model, interval, symbol, as_of in session.execute(newest):
            yield NewestForecast(model, interval, symbol, as_of)


def newest_model(session: Session, symbols: Collection[str], *, interval: str) -> str | None:
    """Return the model of the newest forecast of any of these tickers; None if there is none."""
    return session.scalar(
        select(KronosPrediction.model_name)
        .where(KronosPrediction.symbol.in_(symbols), KronosPrediction.interval == interval)
        .order_by(KronosPrediction.prediction_made_at.desc(), KronosPrediction.model_name)
        .limit(1)
    )


def newest_model_as_of(
    session: Session,
    symbols: Collection[str],
    *,
    interval: str,
    bar: datetime,
    made_until: datetime,
) -> str | None:
    """Return the model of the newest forecast of any of these tickers that was served at `bar`.

    Only forecasts whose `as_of` is `bar` or an earlier bar count, and of these the ones with the
    newest `as_of`. If several models have forecasts with that `as_of`, return the model of the
    newest forecast made until `made_until`, or of the newest one if all were made later. Return
    None if there is no forecast.
    """
    return session.scalar(
        select(KronosForecast.model_name)
        .where(
            KronosForecast.symbol.in_(symbols),
            KronosForecast.interval == interval,
            KronosForecast.as_of <= bar,
            KronosForecast.challenger.is_(False),
        )
        .order_by(
            KronosForecast.as_of.desc(),
            KronosForecast.prediction_made_at > made_until,
            KronosForecast.prediction_made_at.desc(),
            KronosForecast.model_name,
        )
        .limit(1)
    )


def forecast_rows(
    session: Session, symbol: str, *, interval: str, step: int, model_name: str | None = None
) -> Sequence[KronosForecast]:
    """Return the rows of all forecasts at `step` bars ahead; [] if the table is missing."""
    if not inspect(session.connection()).has_table(KronosForecast.__tablename__):
        return []
    return session.scalars(
        select(KronosForecast).where(
            KronosForecast.symbol == symbol,
            KronosForecast.interval == interval,
            KronosForecast.horizon_days == step,
            KronosForecast.challenger.is_(False)
            if model_name is None
            else KronosForecast.model_name == model_name,
        )
    ).all()


def newest_as_of(
    session: Session, symbol: str, *, interval: str, model_name: str | None, until: datetime
) -> datetime | None:
    """Return the `as_of` of this model's newest forecast of the ticker up to `until`, or None."""
    return session.scalar(
        select(func.max(KronosForecast.as_of)).where(
            KronosForecast.symbol == symbol,
            KronosForecast.interval == interval,
            KronosForecast.model_name == model_name,
            KronosForecast.as_of <= until,
        )
    )


def newest_ahead(
    session: Session, symbol: str, days: int, latest: datetime, *, close_at: CloseAt | None = None
) -> Forecast | None:
    """Return the bars of the newest daily forecast for the `days` sessions after `latest`.

    The forecast's `as_of` is `latest` or earlier. If several models have forecast the same bars,
    the one that did so last counts. The result has fewer bars if the forecast ends earlier. It is
    None if the forecast ends by `latest`, or if there is no forecast. Prices are restated as in
    `latest_stored`.
    """
    newest = _newest_vintage(session, symbol, latest)
    if newest is None:
        return None
    as_of, model, steps = newest
    horizon = min(sessions_between(symbol, as_of, latest) + days, steps)
    found = latest_stored(
        session,
        symbol,
        interval="1d",
        horizon=horizon,
        as_of=as_of,
        model_name=model,
        close_at=close_at,
    )
    ahead = tuple(bar for bar in found.bars if bar.target_date > latest) if found else ()
    return replace(found, bars=ahead) if found and ahead else None


def newest_until(
    session: Session, symbol: str, until: datetime, *, close_at: CloseAt | None = None
) -> Forecast | None:
    """Return the newest daily forecast whose `as_of` is `until` or earlier, with all bars, or None.

    If several models have forecast the same bars, the one that did so last counts. Prices are
    restated as in `latest_stored`.
    """
    newest = _newest_vintage(session, symbol, until)
    if newest is None:
        return None
    as_of, model, steps = newest
    return latest_stored(
        session,
        symbol,
        interval="1d",
        horizon=steps,
        as_of=as_of,
        model_name=model,
        close_at=close_at,
    )


def _newest_vintage(
    session: Session, symbol: str, until: datetime
) -> tuple[datetime, str, int] | None:
    """Return as_of, model and number of bars of the ledger's newest daily forecast up to `until`.

    Return None if there is none.
    """
    if not inspect(session.connection()).has_table(KronosForecast.__tablename__):
        return None
    newest = (
        select(
            KronosForecast.as_of,
            KronosForecast.model_name,
            func.count(KronosForecast.horizon_days.distinct()),
        )
        .where(
            KronosForecast.symbol == symbol,
            KronosForecast.interval == "1d",
            KronosForecast.as_of <= until,
            KronosForecast.challenger.is_(False),
        )
        .group_by(
            KronosForecast.as_of,
            KronosForecast.model_name,
            KronosForecast.model_revision,
            KronosForecast.bars_hash,
        )
        .order_by(KronosForecast.as_of.desc(), func.max(KronosForecast.prediction_made_at).desc())
        .limit(1)
    )
    for as_of, model, steps in session.execute(newest):
        return as_of, model, steps
    return None
