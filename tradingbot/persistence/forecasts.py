"""Read and write forecasts: `kronos_predictions` (the latest ones) and the ledger (all)."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tradingbot.errors import DataError, KronosError
from tradingbot.forecast import Forecast
from tradingbot.markets.calendars import latest_complete_session
from tradingbot.persistence.columns import columns_of
from tradingbot.persistence.damage import damaged
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.forecast_losses import forget_older
from tradingbot.persistence.forecast_rows import (
    EVENT_KEY,
    check_storable,
    event_rows,
    forecast_of,
    ledger_row,
    prediction_row,
    vintage_of,
)
from tradingbot.persistence.models import (
    HistoricData,
    KronosEvent,
    KronosForecast,
    KronosPrediction,
)
from tradingbot.persistence.upsert import insert_new, upsert
from tradingbot.persistence.url import database_exists, database_url
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)

CloseAt = Callable[[datetime], float | None]  # returns a bar's close in today's candles, if known

_TABLES: tuple[type[KronosPrediction] | type[KronosForecast], ...] = (
    KronosPrediction,
    KronosForecast,
)


def store_forecasts(
    session: Session, forecasts: Sequence[Forecast], *, challenger: bool = False
) -> int:
    """Write forecasts into their tables. Return the number of prediction rows written.

    A challenger's forecasts are only written to the ledger.

    `kronos_predictions` keeps, for each future bar, the forecast with the newest `as_of`. Of
    several forecasts with that `as_of` it keeps the last stored. The ledger keeps the first
    forecast of each `as_of` and set of candles, and `kronos_events` keeps that forecast's events.
    Damaged rows are replaced in all tables. The caller commits.

    Raises:
        ValueError: Before writing, if a number is NaN or infinite, or one of the quantiles 0.1, 0.5
            and 0.9 is missing.
    """
    latest: dict[tuple[Any, ...], dict[str, Any]] = {}
    vintages: dict[tuple[Any, ...], dict[str, Any]] = {}
    chances: dict[tuple[Any, ...], dict[str, Any]] = {}
    for forecast in sorted(forecasts, key=lambda forecast: forecast.as_of):
        for bar in forecast.bars:
            check_storable(forecast, bar)
            # Postgres refuses to write the same row twice in one statement
            target = bar.target_date.replace(microsecond=0)
            key = (forecast.symbol, forecast.interval, forecast.model_name, target)
            latest[key] = prediction_row(forecast, bar)
            vintage = forecast.as_of.replace(microsecond=0), forecast.bars_hash
            vintages[(*key, *vintage)] = ledger_row(forecast, bar, challenger=challenger)
        for row in event_rows(forecast):
            chances[tuple(row[name] for name in EVENT_KEY)] = row
    forget_older(session, forecasts)
    insert_new(session, KronosForecast, vintages.values(), over=damaged(KronosForecast))
    if challenger:
        return 0
    insert_new(session, KronosEvent, chances.values(), over=damaged(KronosEvent))
    return upsert(session, KronosPrediction, latest.values(), where=_is_as_new)


def already_stored(
    session: Session,
    symbols: Collection[str],
    *,
    as_of: Mapping[str, datetime],
    model_name: str,
    interval: str,
    horizon: int,
    bars: Mapping[str, str] | None = None,
    challenger: bool = False,
) -> set[str]:
    """Return the tickers whose steps 1 to `horizon` are all stored for their `as_of`.

    `bars` has the hash of each ticker's candles. If it is given, only forecasts from these candles
    or without a hash count. Both tables are searched, because a newer forecast replaces rows of
    `kronos_predictions`. A challenger's forecasts count only if `challenger` is set, because they
    were not given to bots.
    """
    complete: set[tuple[str, datetime | None, str]] = set()
    for table in _TABLES:
        given = [] if challenger else _given(table)
        stored = session.execute(
            select(table.symbol, table.as_of, func.coalesce(table.bars_hash, ""))
            .where(
                table.interval == interval,
                table.model_name == model_name,
                table.as_of.in_(set(as_of.values())),
                table.horizon_days.between(1, horizon),
                *given,
            )
            .group_by(table.symbol, table.as_of, table.bars_hash)
            .having(func.count(table.horizon_days.distinct()) == horizon)
        )
        complete |= {(symbol, moment, made_from) for symbol, moment, made_from in stored}
    return {
        symbol
        for symbol, moment, made_from in complete
        if symbol in symbols
        and moment == as_of.get(symbol)
        and (bars is None or made_from in ("", bars[symbol]))
    }


def latest_stored(
    session: Session,
    symbol: str,
    *,
    interval: str,
    horizon: int,
    as_of: datetime,
    model_name: str | None = None,
    close_at: CloseAt | None = None,
    made_until: datetime | None = None,
) -> Forecast | None:
    """Return the stored forecast of exactly this `as_of` with all `horizon` bars, or None.

    Prices are restated to today's candles, in which the `as_of` bar closes at `close_at(as_of)`. If
    that close is unknown, they are restated to the candles in the database.

    `kronos_predictions` takes precedence over the ledger. With `made_until`, the ledger takes
    precedence, and forecasts made until then take precedence over later ones. Of several forecasts
    the newest is returned. Without a model name, forecasts of challengers do not count.

    The ledger's quantiles are included. A forecast of `kronos_predictions` that is not in the
    ledger has only the quantiles 0.1, 0.5 and 0.9.
    """
    latest = select(
        *columns_of(KronosPrediction),
        KronosForecast.close_quantiles,
        KronosForecast.calibrated_quantiles,
        KronosForecast.combined_quantiles,
        KronosForecast.prob_up.label("raw_prob_up"),
    ).join_from(
        KronosPrediction,
        KronosForecast,
        and_(
            KronosForecast.symbol == KronosPrediction.symbol,
            KronosForecast.interval == KronosPrediction.interval,
            KronosForecast.model_name == KronosPrediction.model_name,
            KronosForecast.as_of == KronosPrediction.as_of,
            KronosForecast.target_date == KronosPrediction.target_date,
            KronosForecast.prediction_made_at == KronosPrediction.prediction_made_at,
        ),
        isouter=True,
    )
    ledger = select(*columns_of(KronosForecast), KronosForecast.prob_up.label("raw_prob_up"))
    queries = list(zip(_TABLES, (latest, ledger), strict=True))
    for table, query in reversed(queries) if made_until else queries:
        made_at = table.prediction_made_at
        late = [] if made_until is None else [made_at > made_until]
        rows = session.execute(
            query.where(
                table.symbol == symbol,
                table.interval == interval,
                table.as_of == as_of,
                table.horizon_days.between(1, horizon),
                *(_given(table) if model_name is None else [table.model_name == model_name]),
            ).order_by(*late, made_at.desc(), table.horizon_days)
        )
        # vintage -> step -> row, the newest first; vintages are never mixed
        steps_of: dict[tuple[Any, ...], dict[int, Any]] = {}
        for row in rows:
            steps_of.setdefault(vintage_of(row), {}).setdefault(row.horizon_days, row)
        for steps in steps_of.values():
            if len(steps) == horizon:
                try:
                    found = forecast_of([steps[step] for step in range(1, horizon + 1)])
                except DataError as damage:
                    logger.warning("%s: %s", table.__tablename__, damage)
                    continue
                close = close_at(as_of) if close_at else None
                return found.restated(close or _close_kept(session, found))
    return None


def stored_forecast(
    symbol: str,
    *,
    horizon: int,
    now: datetime,
    sessions: SessionFactory | None = None,
    close_at: CloseAt | None = None,
) -> Forecast | None:
    """Return all `horizon` daily bars as of the latest session complete at `now`, or None.

    Prices are restated as in `latest_stored`. The default is the configured database. An unreadable
    database counts as empty, because stored forecasts are only a fallback.
    """
    try:
        if sessions is None and not database_exists(database_url()):
            return None
        as_of = latest_complete_session(symbol, now)
        # a reader must not upgrade the schema
        with (sessions or partial(get_db_session, create=False))() as session:
            return latest_stored(
                session, symbol, interval="1d", horizon=horizon, as_of=as_of, close_at=close_at
            )
    except (KronosError, SQLAlchemyError) as error:
        logger.debug("%s: no stored forecast: %s", symbol, error)
        return None


def _given(table: type[KronosPrediction] | type[KronosForecast]) -> list[ColumnElement[bool]]:
    """Return the condition that excludes forecasts that were not given to bots."""
    return [table.challenger.is_(False)] if table is KronosForecast else []


def _is_as_new(proposed: Any) -> ColumnElement[bool]:
    """Return the condition that a proposed row replaces the stored row.

    It does if its `as_of` is not older, if the stored row is damaged, or if the stored row has no
    `as_of`, as in the first published schema.
    """
    stored = KronosPrediction.__table__.c.as_of
    return or_(stored.is_(None), proposed.as_of >= stored, damaged(KronosPrediction))


def _close_kept(session: Session, forecast: Forecast) -> float | None:
    """Return the close of the `as_of` bar in the candles of the database."""
    return session.scalar(
        select(HistoricData.close).where(
            HistoricData.symbol == forecast.symbol,
            HistoricData.interval == forecast.interval,
            HistoricData.timestamp == forecast.as_of,
        )
    )
