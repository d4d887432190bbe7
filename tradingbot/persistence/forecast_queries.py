"""Questions about stored forecasts: which is the newest, and what of it lies ahead."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import func, inspect, select
from sqlalchemy.orm import Session

from tradingbot.forecast import Forecast
from tradingbot.markets.calendars import sessions_between
from tradingbot.persistence.forecasts import CloseAt, latest_stored
from tradingbot.persistence.models import KronosForecast, KronosPrediction


@dataclass(frozen=True)
class NewestForecast:
    """The newest forecast of one ticker by one model."""

    model: str
    interval: str
    symbol: str
    as_of: datetime | None  # None: not known, as in rows of the first published layout
    challenger: bool = False  # whether bots were not given it


def newest_forecasts(session: Session) -> list[NewestForecast]:
    """The newest `as_of` of every model, interval and ticker, in this order, from both tables.

    A model that has forecast as a challenger, and otherwise, has one of each.
    """
    newest: dict[tuple[str, str, str, bool], datetime | None] = {}
    ledger, latest = KronosForecast.__table__.c, KronosPrediction.__table__.c
    there = inspect(session.connection()).get_columns(KronosForecast.__tablename__)
    known_role = ledger.challenger.name in {
        column["name"] for column in there
    }  # else an old schema
    for columns, role in ((ledger, [ledger.challenger] if known_role else []), (latest, [])):
        key = [columns.model_name, columns.interval, columns.symbol, *role]
        for row in session.execute(select(*key, func.max(columns.as_of)).group_by(*key)):
            model, interval, symbol, *beside, as_of = row
            place = model, interval, symbol, any(beside)
            known = newest.get(place), as_of
            newest[place] = max(filter(None, known), default=None)
    return [
        NewestForecast(model, interval, symbol, as_of, challenger)
        for (model, interval, symbol, challenger), as_of in sorted(newest.items())
    ]


def newest_model(session: Session, symbols: Collection[str], *, interval: str) -> str | None:
    """The model whose forecast was made last, of any of these tickers; None if there is none."""
    return session.scalar(
        select(KronosPrediction.model_name)
        .where(KronosPrediction.symbol.in_(symbols), KronosPrediction.interval == interval)
        .order_by(KronosPrediction.prediction_made_at.desc(), KronosPrediction.model_name)
        .limit(1)
    )


def newest_model_as_of(
    session: Session, symbols: Collection[str], *, interval: str, bar: datetime, believed: datetime
) -> str | None:
    """The model that had spoken last on the day of `bar`, of any of these tickers; None if none.

    Of several models' forecasts of the same bars those made until `believed` count, if there are
    any, and the newest of them.
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
            KronosForecast.prediction_made_at > believed,
            KronosForecast.prediction_made_at.desc(),
            KronosForecast.model_name,
        )
        .limit(1)
    )


def forecast_rows(
    session: Session, symbol: str, *, interval: str, step: int, model_name: str | None = None
) -> Sequence[KronosForecast]:
    """Every vintage's row that is `step` bars ahead; [] without the table."""
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
    """The `as_of` of this model's newest forecast of the ticker, `until` at the latest; or None."""
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
    """The newest daily forecast as of `latest` or before, cut to the `days` sessions after it.

    Of several models' the one made last counts. It has fewer bars where it does not reach that
    far. None where no bar lies ahead, or the table is missing. Restated as by `latest_stored`.
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
    """The newest daily forecast as of `until` or before, with all its bars; None if there is none.

    Of several models' the one made last counts. Restated as by `latest_stored`.
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
    """as_of, model and number of bars of the newest daily forecast in the ledger."""
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
