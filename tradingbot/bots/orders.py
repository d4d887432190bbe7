"""Decisions that wait for a bar to open: at which bar and price they are traded.

An order is filled at the open of the first bar that opens at or after the decision and has trades.
That is known when this bar is complete. Without such a bar the order lapses after DELISTED_AFTER
sessions, when a position would be closed.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Self

import numpy as np
import pandas as pd

from tradingbot.bots.ticker_lookup import DELISTED_AFTER
from tradingbot.errors import DataError
from tradingbot.markets.calendars import (
    latest_complete_session,
    next_sessions,
    opens_of,
    sessions_between,
)
from tradingbot.markets.candles import has_trades
from tradingbot.markets.data_quality import bar_length
from tradingbot.markets.session_dates import session_date

logger = logging.getLogger(__name__)

PROMPT = 1 / 24  # of a bar's length: a round this late counts as made at the bar's close


@dataclass(frozen=True)
class Order:
    """One decision, to be traded at the next open."""

    symbol: str
    decision: int  # -1, 0 or 1
    bar: datetime  # the bar of the decision
    decided_at: datetime  # naive UTC

    def to_json(self) -> dict[str, Any]:
        return {
            "symbol": self.symbol,
            "decision": self.decision,
            "bar": self.bar.isoformat(),
            "decided_at": self.decided_at.isoformat(),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """Parse an order that `to_json` wrote. Raises KeyError, TypeError or ValueError."""
        bar, decided_at = (datetime.fromisoformat(row[name]) for name in ("bar", "decided_at"))
        return cls(str(row["symbol"]), int(row["decision"]), bar, decided_at)


def read_orders(rows: Iterable[Any]) -> list[Order]:
    """Parse stored orders, skipping those made invalid by an edit by hand."""
    orders = []
    for row in rows:
        try:
            orders.append(Order.from_json(row))
        except (KeyError, TypeError, ValueError):
            logger.warning(
                "an order that waits in run_logs cannot be read, and is dropped: %r", row
            )
    return orders


@dataclass(frozen=True)
class Opening:
    """Orders filled on bars of one time, with their prices and times."""

    decisions: dict[str, int] = field(default_factory=dict)
    prices: dict[str, float] = field(default_factory=dict)
    moments: dict[str, datetime] = field(default_factory=dict)  # naive UTC
    days: dict[str, date] = field(default_factory=dict)  # dates of the sessions


def reaching_back(
    orders: Iterable[Order],
    bars: Mapping[str, pd.DataFrame],
    since: Callable[[str, datetime], pd.DataFrame],
) -> dict[str, pd.DataFrame]:
    """Return the bars, or bars `since` a ticker's oldest order if the bars begin after it.

    A bot's period must not decide whether its orders are filled.
    """
    longer = dict(bars)
    for symbol, frame in bars.items():
        oldest = min((order.bar for order in orders if order.symbol == symbol), default=None)
        if oldest is not None and oldest < frame.index[0]:
            try:
                longer[symbol] = since(symbol, oldest)
            except DataError as error:
                logger.warning("%s: no bars since %s: %s", symbol, oldest, error.reason)
    return longer


def decided_at(closed: datetime, now: datetime, interval: str) -> datetime:
    """Return the time at which a decision made `now` counts as made.

    `closed` is the time at which the decision's bar closed.

    A small delay is ignored, since otherwise no bot could trade at the open of the next bar where
    bars follow each other without a pause.
    """
    return closed if now - closed <= bar_length(interval) * PROMPT else now


def openings(
    orders: Sequence[Order], bars: Mapping[str, pd.DataFrame], interval: str
) -> tuple[list[Opening], list[Order]]:
    """Return the openings that fill `orders`, in order of time, and the orders that still wait.

    If several orders meet at one open, the last one counts, except that a 0 of a later bar does not
    cancel an order that is waiting for trades. Orders older than the candles have lapsed, as have
    orders repeated by another one of the same bar.
    """
    filled: dict[datetime, Opening] = {}
    waiting = [order for order in orders if order.symbol not in bars]
    for symbol, frame in bars.items():
        times = pd.DatetimeIndex(frame.index)
        first = times[0].to_pydatetime()
        of_symbol = [order for order in orders if order.symbol == symbol and order.bar >= first]
        opens = bar_opens(symbol, times, interval)
        chosen: dict[int, Order] = {}
        for order in sorted(of_symbol, key=lambda order: order.decided_at):
            position = _first_open(order, times, opens, has_trades(frame))
            if position is None or _is_too_late(order, times[position].to_pydatetime()):
                waiting.append(order)
            elif order.decision or position not in chosen or chosen[position].bar == order.bar:
                chosen[position] = order
        for position, order in chosen.items():
            at = filled.setdefault(times[position].to_pydatetime(), Opening())
            at.decisions[symbol] = order.decision
            at.prices[symbol] = float(frame["open"].iloc[position])
            at.moments[symbol] = opens[position].to_pydatetime()
            at.days[symbol] = session_date(symbol, interval, times[position].to_pydatetime())
    return [filled[time] for time in sorted(filled)], waiting


def sessions_waited(order: Order, now: datetime) -> int:
    """Return how many sessions are complete since the order's bar.

    Without a calendar, five sessions a week are assumed.
    """
    try:
        return sessions_between(order.symbol, order.bar, latest_complete_session(order.symbol, now))
    except DataError:
        return (now - order.bar).days * 5 // 7


def added(waiting: Iterable[Order], new: Iterable[Order]) -> list[Order]:
    """Return all waiting orders. A repeated decision on the same bar adds no order."""
    found = list(waiting)
    for order in new:
        same_bar = [old for old in found if (old.symbol, old.bar) == (order.symbol, order.bar)]
        if not same_bar or same_bar[-1].decision != order.decision:
            found.append(order)
    return found


def bar_opens(symbol: str, times: pd.DatetimeIndex, interval: str) -> pd.DatetimeIndex:
    """Return when each bar opened, naive UTC."""
    if interval != "1d":
        return times
    return pd.DatetimeIndex(opens_of(symbol, times.to_numpy("datetime64[us]")))


def next_open(symbol: str, bar: datetime, interval: str) -> datetime:
    """Return when the next bar opens, naive UTC.

    Without a calendar, the next bar opens a bar's length after this one.
    """
    following = bar + bar_length(interval)
    if interval == "1d":
        try:
            following = next_sessions(symbol, bar, 1)[0]
        except DataError:
            return following
    opened: datetime = bar_opens(symbol, pd.DatetimeIndex([following]), interval)[0].to_pydatetime()
    return opened


def _is_too_late(order: Order, bar: datetime) -> bool:
    """Return whether the order has lapsed before this bar."""
    try:
        return sessions_between(order.symbol, order.bar, bar) > DELISTED_AFTER
    except DataError:
        return (bar - order.bar).days * 5 // 7 > DELISTED_AFTER


def _first_open(
    order: Order, times: pd.DatetimeIndex, opens: pd.DatetimeIndex, traded: "pd.Series[bool]"
) -> int | None:
    after, decided = pd.Timestamp(order.bar), pd.Timestamp(order.decided_at)
    fits = (times > after) & (opens >= decided) & traded.to_numpy()
    return int(np.argmax(fits)) if fits.any() else None
