"""Forecasts into the database and back: `kronos_predictions` (the latest) and the ledger."""

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tradingbot.errors import KronosError
from tradingbot.forecast import Forecast, ForecastBar, prob_above
from tradingbot.markets.calendars import latest_complete_session
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import HistoricData, KronosForecast, KronosPrediction
from tradingbot.persistence.upsert import insert_new, upsert
from tradingbot.persistence.url import database_exists, database_url
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)

CloseAt = Callable[[datetime], float | None]  # what a bar closes at by today's candles, if known

_TABLES: tuple[type[KronosPrediction] | type[KronosForecast], ...] = (
    KronosPrediction,
    KronosForecast,
)


def store_forecasts(session: Session, forecasts: Sequence[Forecast]) -> int:
    """Writes forecasts into both tables; the number of prediction rows inserted or updated.

    `kronos_predictions` keeps the newest `as_of` of each future bar and, for the same one, what
    was stored last. The ledger keeps the first forecast of each `as_of` and set of candles. Raises
    ValueError, before anything is written, when a number is NaN or infinite or one of the quantiles
    0.1, 0.5 and 0.9 is missing. The caller commits.
    """
    latest: dict[tuple[Any, ...], dict[str, Any]] = {}
    vintages: dict[tuple[Any, ...], dict[str, Any]] = {}
    for forecast in sorted(forecasts, key=lambda forecast: forecast.as_of):
        for bar in forecast.bars:
            _check(forecast, bar)
            common = _common_columns(forecast, bar)
            # Postgres refuses a statement that meets the same row twice
            target = bar.target_date.replace(microsecond=0)
            key = (forecast.symbol, forecast.interval, forecast.model_name, target)
            latest[key] = common | {
                "close_p10": float(bar.close_quantiles[0.1]),
                "close_p50": float(bar.close_quantiles[0.5]),
                "close_p90": float(bar.close_quantiles[0.9]),
            }
            said = bar.raw or bar
            vintage = forecast.as_of.replace(microsecond=0), forecast.bars_hash
            vintages[(*key, *vintage)] = common | {
                "prob_up": float(said.prob_up),
                "close_quantiles": _by_level(said),
                "calibrated_quantiles": None if bar.raw is None else _by_level(bar),
            }
    written = upsert(session, KronosPrediction, latest.values(), where=_is_as_new)
    insert_new(session, KronosForecast, vintages.values())
    return written


def already_stored(
    session: Session,
    symbols: Collection[str],
    *,
    as_of: Mapping[str, datetime],
    model_name: str,
    interval: str,
    horizon: int,
    bars: Mapping[str, str] | None = None,
) -> set[str]:
    """Those of `symbols` whose steps 1 to `horizon` are all there for their `as_of`.

    With `bars`, a hash of each ticker's candles, only what was made from these counts, or what
    does not tell from which it was made.
    In either table: `kronos_predictions` gives days that a newer `as_of` has too to that one.
    """
    complete: set[tuple[str, datetime | None, str]] = set()
    for table in _TABLES:
        stored = session.execute(
            select(table.symbol, table.as_of, func.coalesce(table.bars_hash, ""))
            .where(
                table.interval == interval,
                table.model_name == model_name,
                table.as_of.in_(set(as_of.values())),
                table.horizon_days.between(1, horizon),
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
) -> Forecast | None:
    """The stored forecast of exactly this `as_of` with all `horizon` bars, or None.

    Its prices are restated to the scale of today's candles, by which the bar that it was made from
    closes at `close_at(as_of)`; where that is not known, to the candles that the database keeps.
    What `kronos_predictions` has counts, else what the ledger has. Where several models have one,
    and none is named, the newest made counts. All quantiles of the ledger come with it, unless the
    forecast was made anew since: then 0.1, 0.5 and 0.9 are what is known of it.
    """
    latest = select(
        *KronosPrediction.__table__.columns,
        KronosForecast.close_quantiles,
        KronosForecast.calibrated_quantiles,
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
    ledger = select(*KronosForecast.__table__.columns, KronosForecast.prob_up.label("raw_prob_up"))
    for table, query in zip(_TABLES, (latest, ledger), strict=True):
        rows = session.execute(
            query.where(
                table.symbol == symbol,
                table.interval == interval,
                table.as_of == as_of,
                table.horizon_days.between(1, horizon),
                *([] if model_name is None else [table.model_name == model_name]),
            ).order_by(table.prediction_made_at.desc(), table.horizon_days)
        )
        steps_of: dict[str, dict[int, Any]] = {}  # model -> step -> row, newest made model first
        for row in rows:
            steps_of.setdefault(row.model_name, {}).setdefault(row.horizon_days, row)
        for steps in steps_of.values():
            if len(steps) == horizon:
                found = _forecast([steps[step] for step in range(1, horizon + 1)])
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
    """All `horizon` daily bars as of the latest session that is complete at `now`, or None.

    Restated as by `latest_stored`.

    A database that cannot be read counts as empty: this is the fallback already. By default it
    is the configured one.
    """
    try:
        if sessions is None and not database_exists(database_url()):
            return None
        as_of = latest_complete_session(symbol, now)
        # a bot that only looks must not be the one who upgrades the schema
        with (sessions or partial(get_db_session, create=False))() as session:
            return latest_stored(
                session, symbol, interval="1d", horizon=horizon, as_of=as_of, close_at=close_at
            )
    except (KronosError, SQLAlchemyError) as error:
        logger.debug("%s: no stored forecast: %s", symbol, error)
        return None


def _check(forecast: Forecast, bar: ForecastBar) -> None:
    where = f"{forecast.symbol} {forecast.interval} step {bar.step}"
    numbers = (forecast.last_close, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.prob_up)
    if not all(map(math.isfinite, (*numbers, *bar.close_quantiles.values()))):
        names = ["last_close", "open", "high", "low", "close", "volume", "prob_up"]
        names += [f"quantile {level:g}" for level in bar.close_quantiles]
        named = zip(names, (*numbers, *bar.close_quantiles.values()), strict=True)
        name, value = next((n, v) for n, v in named if not math.isfinite(v))
        raise ValueError(f"{where}: {name} is {value}, and no forecast can be stored like that")
    if missing := {0.1, 0.5, 0.9} - bar.close_quantiles.keys():
        raise ValueError(f"{where}: the quantiles {sorted(missing)} of close are missing")


def _common_columns(forecast: Forecast, bar: ForecastBar) -> dict[str, Any]:
    # float(): psycopg2 cannot write the numbers of numpy
    return {
        "symbol": forecast.symbol,
        "interval": forecast.interval,
        "target_date": bar.target_date,
        "model_name": forecast.model_name,
        "model_revision": forecast.model_revision,
        "prediction_made_at": forecast.made_at,
        "as_of": forecast.as_of,
        "horizon_days": int(bar.step),
        "last_close": float(forecast.last_close),
        "predicted_open": float(bar.open),
        "predicted_high": float(bar.high),
        "predicted_low": float(bar.low),
        "predicted_close": float(bar.close),
        "predicted_volume": float(bar.volume),
        "prob_up": float(bar.prob_up),
        "samples": int(forecast.samples),
        "calibration": forecast.calibration,
        "bars_hash": forecast.bars_hash,
    }


def _by_level(bar: ForecastBar) -> dict[str, float]:
    return {f"{level:g}": float(price) for level, price in sorted(bar.close_quantiles.items())}


def _is_as_new(proposed: Any) -> ColumnElement[bool]:
    """`as_of` is unknown in rows of the first published layout: any other is newer."""
    stored = KronosPrediction.__table__.c.as_of
    return or_(stored.is_(None), proposed.as_of >= stored)


def _forecast(rows: Sequence[Any]) -> Forecast:
    """From the rows of one model, step 1 first."""
    first = rows[0]
    return Forecast(
        symbol=first.symbol,
        interval=first.interval,
        model_name=first.model_name,
        model_revision=first.model_revision,
        as_of=first.as_of,
        made_at=first.prediction_made_at,
        last_close=first.last_close,
        samples=first.samples,
        seed=None,  # not kept
        bars=tuple(_bar(row) for row in rows),
        calibration=first.calibration,
        bars_hash=first.bars_hash or "",
    )


def _close_kept(session: Session, forecast: Forecast) -> float | None:
    """What the bar of `as_of` closes at by the candles that the database keeps."""
    return session.scalar(
        select(HistoricData.close).where(
            HistoricData.symbol == forecast.symbol,
            HistoricData.interval == forecast.interval,
            HistoricData.timestamp == forecast.as_of,
        )
    )


def _bar(row: Any) -> ForecastBar:
    said = row.close_quantiles or {"0.1": row.close_p10, "0.5": row.close_p50, "0.9": row.close_p90}
    bar = ForecastBar(
        step=row.horizon_days,
        target_date=row.target_date,
        open=row.predicted_open,
        high=row.predicted_high,
        low=row.predicted_low,
        close=row.predicted_close,
        volume=row.predicted_volume,
        close_quantiles=_prices(said),
        prob_up=row.raw_prob_up if row.close_quantiles else row.prob_up,
    )
    if not row.calibrated_quantiles:
        return bar
    quantiles = _prices(row.calibrated_quantiles)
    prob_up = prob_above(quantiles, row.last_close)
    return replace(bar, close_quantiles=quantiles, prob_up=prob_up, raw=bar)


def _prices(by_level: Mapping[str, float]) -> dict[float, float]:
    # JSONB keeps no order
    return dict(sorted((float(level), price) for level, price in by_level.items()))
