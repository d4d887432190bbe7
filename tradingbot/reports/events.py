"""What the newest forecasts say of events on the way."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tradingbot.persistence.events import newest_chances

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

Chances = dict[str, dict[int, float]]  # event -> step -> chance by the end of that bar


def read_chances(
    session: "Session", model: str, interval: str, fans: Mapping[str, Sequence[Any]]
) -> dict[str, Chances]:
    """Return by ticker what is stored beside its newest forecast, whose ledger rows are `fans`."""
    by_day: dict[datetime, list[str]] = {}
    for symbol, rows in fans.items():
        by_day.setdefault(rows[0].as_of, []).append(symbol)
    found: dict[str, Chances] = {}
    for as_of, symbols in by_day.items():
        for row in newest_chances(
            session, model=model, interval=interval, symbols=symbols, as_of=as_of
        ):
            of_event = found.setdefault(row.symbol, {}).setdefault(row.event, {})
            of_event[row.horizon_days] = row.probability  # the newest vintage comes last
    return found
