"""What was decided and waits for a bar to open: which bar that is, and what is traded there.

An order is filled at the open of the first bar that opens when it has been decided, or later, and
that has trades. The candles say so afterwards, when that bar is complete. Without such a bar it
lapses after DELISTED_AFTER sessions, when a position would be closed.
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

PROMPT = 1 / 24  # of a bar's length: a round that late still counts as made when the bar closed


@dataclass(frozen=True)
class Order:
    """One decision, to be traded at the next open."""

    symbol: str
    decision: int  # -1, 0 or 1
    bar: datetime  # the one that was decided on
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
        """Raises KeyError, TypeError or ValueError for what `to_json` does not give."""
        bar, decided_at = (datetime.fromisoformat(row[name]) for name in ("bar", "decided_at"))
        return cls(str(row["symbol"]), int(row["decision"]), bar, decided_at)


def read_orders(rows: Iterable[Any]) -> list[Order]:
    """Orders as they are stored, but for what somebody has edited into something else."""
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
    """Orders that are filled on bars of one time: their prices, and when these were."""

    decisions: dict[str, int] = field(default_factory=dict)
    prices: dict[str, float] = field(default_factory=dict)
    moments: dict[str, datetime] = field(default_factory=dict)  # naive UTC
    days: dict[str, date] = field(default_factory=dict)  # of the sessions


def reaching_back(
    orders: Iterable[Order],
    bars: Mapping[str, pd.DataFrame],
    since: Callable[[str, datetime], pd.DataFrame],
) -> dict[str, pd.DataFrame]:
    """The bars, or those `since` the oldest order of a ticker where they begin after it.

    How far back a bot looks must not decide whether its orders are filled.
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
    """When a decision on a bar that closed at `closed` counts as made, if it is `now`.

    Where bars follow each other without a pause, nobody could otherwise trade at the next open.
    """
    return closed if now - closed <= bar_length(interval) * PROMPT else now


def openings(
    orders: Sequence[Order], bars: Mapping[str, pd.DataFrame], interval: str
) -> tuple[list[Opening], list[Order]]:
    """The openings at which `orders` are filled, in order of time, and the orders that are not.

    Of several orders that meet at one open the last one counts; but a 0 of a later bar leaves one
    alone that found no trades. What the candles do not reach back to has lapsed, and so has what
    another order of the same bar says already.
    """
    filled: dict[datetime, Opening] = {}
    waiting = [order for order in orders if order.symbol not in bars]
    for symbol, frame in bars.items():
        times = pd.DatetimeIndex(frame.index)
        first = times[0].to_pydatetime()
        mine = [order for order in orders if order.symbol == symbol and order.bar >= first]
        opens = bar_opens(symbol, times, interval)
        chosen: dict[int, Order] = {}
        for order in sorted(mine, key=lambda order: order.decided_at):
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
    """How many sessions are complete since its bar; five a week where no calendar knows them."""
    try:
        return sessions_between(order.symbol, order.bar, latest_complete_session(order.symbol, now))
    except DataError:
        return (now - order.bar).days * 5 // 7


def added(waiting: Iterable[Order], new: Iterable[Order]) -> list[Order]:
    """All orders that wait; a decision that was made on the same bar before is no new one."""
    found = list(waiting)
    for order in new:
        same_bar = [old for old in found if (old.symbol, old.bar) == (order.symbol, order.bar)]
        if not same_bar or same_bar[-1].decision != order.decision:
            found.append(order)
    return found


def bar_opens(symbol: str, times: pd.DatetimeIndex, interval: str) -> pd.DatetimeIndex:
    """When each bar opened, naive UTC."""
    if interval != "1d":
        return times
    return pd.DatetimeIndex(opens_of(symbol, times.to_numpy("datetime64[us]")))


def next_open(symbol: str, bar: datetime, interval: str) -> datetime:
    """When the bar after `bar` opens, naive UTC; a bar's length later where no calendar says it."""
    following = bar + bar_length(interval)
    if interval == "1d":
        try:
            following = next_sessions(symbol, bar, 1)[0]
        except DataError:
            return following
    opened: datetime = bar_opens(symbol, pd.DatetimeIndex([following]), interval)[0].to_pydatetime()
    return opened


def _is_too_late(order: Order, bar: datetime) -> bool:
    """Whether it has lapsed before this bar."""
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
