"""Queries of the HTML report: newest forecasts, weights of the combination, scores of models."""

import itertools
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, cast, func, select

from tradingbot.persistence.columns import columns_of, json_or_none
from tradingbot.persistence.forecast_rows import vintage_of
from tradingbot.persistence.models import (
    ALL_SESSIONS,
    ALL_STEPS,
    ALL_SYMBOLS,
    PARTS,
    SERVED,
    KronosForecast,
    KronosScore,
)

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.orm import Session


def newest_forecast_rows(
    session: "Session", *, model: str, interval: str
) -> "dict[str, list[Row[Any]]]":
    """Return the rows of each ticker's newest forecast in the ledger, step 1 first, by ticker."""
    of_model = KronosForecast.model_name == model, KronosForecast.interval == interval
    newest = (
        select(KronosForecast.symbol, func.max(KronosForecast.as_of).label("as_of"))
        .where(*of_model)
        .group_by(KronosForecast.symbol)
        .subquery()
    )
    rows = session.execute(
        select(*columns_of(KronosForecast))
        .where(
            *of_model,
            KronosForecast.symbol == newest.c.symbol,
            KronosForecast.as_of == newest.c.as_of,
        )
        .order_by(
            KronosForecast.symbol,
            KronosForecast.horizon_days,
            KronosForecast.prediction_made_at,
        )
    )
    return {
        symbol: _newest_vintage(list(steps))
        for symbol, steps in itertools.groupby(rows.all(), key=lambda row: row.symbol)
    }


def _newest_vintage(rows: "list[Row[Any]]") -> "list[Row[Any]]":
    """Return the rows of the forecast that was made last. `rows` are sorted by step and time."""
    first = [row for row in rows if row.horizon_days == rows[0].horizon_days][-1]
    return [row for row in rows if vintage_of(row) == vintage_of(first)]


def model_scores(session: "Session", *, interval: str, parts: bool = False) -> list[KronosScore]:
    """Return each revision's scores over all tickers, steps and sessions, as served.

    The revision with the newest target is first. With `parts`, the scores of the raw, calibrated
    and combined forecasts are included, before the scores of the served ones.
    """
    order = (*PARTS, SERVED) if parts else (SERVED,)
    scores = session.scalars(
        select(KronosScore)
        .where(KronosScore.interval == interval)
        .where(KronosScore.symbol == ALL_SYMBOLS, KronosScore.step == ALL_STEPS)
        .where(KronosScore.last_sessions == ALL_SESSIONS, KronosScore.forecast.in_(order))
        .order_by(KronosScore.last_target.desc(), KronosScore.model_name)
    )
    of_revision: dict[tuple[str, str], list[KronosScore]] = {}
    for score in scores:
        of_revision.setdefault((score.model_name, score.model_revision), []).append(score)
    return [
        score
        for found in of_revision.values()
        for score in sorted(found, key=lambda score: order.index(score.forecast))
    ]


def shares_by_day(
    session: "Session", *, model: str, revision: str, interval: str, since: datetime
) -> Iterator[tuple[datetime, dict[str, float], int]]:
    """Yield `as_of`, forecasters' weights, and the number of forecasts with both, by `as_of`.

    Damaged weights may be of any type.
    """
    shares = cast(KronosForecast.shares, Text)
    rows = session.execute(
        select(KronosForecast.as_of, shares, func.count())
        .where(
            KronosForecast.model_name == model,
            KronosForecast.model_revision == revision,
            KronosForecast.interval == interval,
            KronosForecast.as_of >= since,
            KronosForecast.shares.is_not(None),
        )
        .group_by(KronosForecast.as_of, shares)
        .order_by(KronosForecast.as_of)
    )
    return ((as_of, json_or_none(text), count) for as_of, text, count in rows)
