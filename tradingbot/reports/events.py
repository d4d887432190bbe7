"""Event probabilities in the newest forecasts."""

from typing import TYPE_CHECKING

from tradingbot.persistence.events import newest_chances

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy.orm import Session

Chances = dict[str, dict[int, float]]  # event -> step -> probability by the end of that bar


def read_chances(
    session: "Session", model: str, interval: str, newest: "Iterable[tuple[str, datetime, float]]"
) -> dict[str, Chances]:
    """Return by ticker the events stored with its newest forecast.

    `newest` has each ticker's as_of, and that bar's close in today's candles.
    """
    by_day: dict[datetime, dict[str, float | None]] = {}
    for symbol, as_of, close in newest:
        by_day.setdefault(as_of, {})[symbol] = close
    found: dict[str, Chances] = {}
    for as_of, closes in by_day.items():
        for row in newest_chances(
            session, model=model, interval=interval, closes=closes, as_of=as_of
        ):
            of_event = found.setdefault(row.symbol, {}).setdefault(row.event, {})
            of_event[row.horizon_days] = row.probability  # rows of the newest vintage come last
    return found
