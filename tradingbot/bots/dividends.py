"""Dividends to credit to a bot: those on the shares that it held before the ex-dividend day."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from tradingbot.bots.repository import trades_since
from tradingbot.bots.split_factors import Basis
from tradingbot.data.splits_and_dividends import Actions
from tradingbot.markets.session_dates import session_date

_A_DAY = timedelta(days=1)  # a session may open on the previous day, in UTC


@dataclass(frozen=True)
class Dividend:
    """USD per share of today, for the holder of the ticker before `day` begins."""

    day: datetime
    symbol: str
    amount: float


def due(
    symbol: str, basis: Basis, actions: Actions, interval: str, newest: datetime
) -> list[Dividend]:
    """Return the dividends after the basis, up to and including the newest bar."""
    since = session_date(symbol, basis.interval, basis.as_of)
    latest = session_date(symbol, interval, newest)
    return [
        Dividend(day, symbol, amount)
        for day, amount in (actions.dividends or {}).items()
        if since < day.date() <= latest
    ]


def held_before(session: Session, bot: str, dividend: Dividend, held: float) -> float | None:
    """Return the quantity held before the day of `dividend`, given the current quantity `held`.

    None if it has not traded the ticker since: an earlier order may still be filled.
    """
    later = [
        trade
        for trade in trades_since(session, bot, dividend.symbol, dividend.day - _A_DAY)
        if session_date(dividend.symbol, "1h", trade.executed_at) >= dividend.day.date()
    ]
    if not later:
        return None
    for trade in later:
        held -= trade.quantity if trade.side == "buy" else -trade.quantity
    return held if held > 1e-9 else 0.0
