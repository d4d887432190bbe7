"""The paper broker: an account at the newest closes, within one locked transaction."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

import pandas as pd
from sqlalchemy.orm import Session

from tradingbot.bots.account import Account, Fill
from tradingbot.bots.orders import Opening, Order, bar_opens, read_orders
from tradingbot.bots.repository import add_trade, last_trades, lock_bot, waiting_orders
from tradingbot.bots.strategy import Strategy
from tradingbot.errors import ConfigError, DataError
from tradingbot.formatting import price_text
from tradingbot.markets.calendars import latest_complete_session, session_close, sessions_between
from tradingbot.persistence.models import BotRow, Trade

logger = logging.getLogger(__name__)

SPLIT = 1.2  # a price that history has changed by more was one of other shares


@dataclass
class PaperBroker:
    """Where one bot trades: its account at the newest closes, within one locked transaction.

    `open` it, trade with `follow` or the `account`, and `close` it. The caller commits the session.
    """

    session: Session
    row: BotRow
    account: Account
    closed: dict[str, datetime]  # ticker -> when it had the price that is paid
    traded: dict[str, datetime]  # ticker -> when it had the price that was paid last
    remarks: list[str]
    orders: list[Order] = field(default_factory=list)  # that earlier rounds left to the next open
    moments: list[datetime] = field(default_factory=list)  # of the fills at an open

    @classmethod
    def open(cls, session: Session, strategy: Strategy, bars: Mapping[str, pd.DataFrame]) -> Self:
        """Lock the bot and bring its account to the closes of `bars`, which end with the newest.

        ConfigError when the bot has traded one of them later than that: these are other candles.
        """
        name, interval = strategy.name, strategy.interval
        row = lock_bot(session, name, strategy.tickers)
        closed = {symbol: bar_close(symbol, frame, interval) for symbol, frame in bars.items()}
        traded, remarks = {}, []
        for trade in last_trades(session, name):
            symbol, moment = trade.symbol, trade.executed_at
            traded[symbol] = moment
            if symbol not in bars:
                continue
            if moment > closed[symbol]:
                raise ConfigError(
                    f"{name} has traded {symbol} at {moment:%Y-%m-%d %H:%M}, after the newest bar, "
                    f"which closed at {closed[symbol]:%Y-%m-%d %H:%M}: other candles than before? "
                    "Give the bot another name or database; nothing was traded"
                )
            price = _price_at(symbol, bars[symbol], interval, moment)
            if price and row.portfolio.get(symbol) and not 1 / SPLIT < price / trade.price < SPLIT:
                remarks.append(_restate(session, row, trade, price))
        orders = [
            order
            for order in read_orders(waiting_orders(session, name))
            if order.symbol in strategy.tickers
        ]
        for order in orders:
            if order.symbol in bars and order.bar > bars[order.symbol].index[-1]:
                raise ConfigError(
                    f"{name} has decided on {order.symbol} of {order.bar:%Y-%m-%d %H:%M}, after "
                    f"the newest bar, {bars[order.symbol].index[-1]:%Y-%m-%d %H:%M}: other candles "
                    "than before? Give the bot another name or database; nothing was traded"
                )
        prices = {symbol: float(frame["close"].iloc[-1]) for symbol, frame in bars.items()}
        account = Account(row.portfolio, prices, strategy.cost_rate)
        return cls(session, row, account, closed, traded, remarks, orders)

    def has_traded(self, symbol: str) -> bool:
        """Whether an earlier round has traded it on its newest bar."""
        return self.traded.get(symbol) == self.closed[symbol]

    def follow(self, decisions: Mapping[str, int]) -> None:
        """Trade what was decided; see `Account.follow`."""
        self.account.follow(decisions)

    def fill(self, opening: Opening) -> None:
        """Trade the orders of one opening at its prices, but for tickers traded there or later."""
        decisions = {
            symbol: decision
            for symbol, decision in opening.decisions.items()
            if symbol not in self.traded or self.traded[symbol] < opening.moments[symbol]
        }
        closes, self.account.prices = self.account.prices, opening.prices
        self.account.follow(decisions)
        self.account.prices = closes
        new = self.account.fills[len(self.moments) :]
        self.moments += [opening.moments[fill.symbol] for fill in new]

    def close(self) -> None:
        """Write down the account's portfolio and fills."""
        if not self.account.fills:
            return
        self.row.portfolio = {
            symbol: float(amount) for symbol, amount in self.account.portfolio.items()
        }
        for number, fill in enumerate(self.account.fills):
            at_open = number < len(self.moments)
            moment = self.moments[number] if at_open else self.closed[fill.symbol]
            add_trade(self.session, self.row.name, fill, moment)
        self.session.flush()


def refuse_old(symbol: str, bars: pd.DataFrame, now: datetime) -> None:
    """DataError unless `bars` end with the latest session that is complete at `now`.

    Stricter than the job: a price of days ago is none to trade at.
    """
    newest = bars.index[-1].to_pydatetime()
    late = sessions_between(symbol, newest, latest_complete_session(symbol, now))
    if late:
        raise DataError(
            f"its newest bar is of {newest:%Y-%m-%d}, sessions since: {late}; "
            "there is no price to trade at",
            symbol=symbol,
        )


def bar_close(symbol: str, frame: pd.DataFrame, interval: str) -> datetime:
    """When the frame's newest bar was complete, naive UTC."""
    begin: datetime = frame.index[-1].to_pydatetime()
    if interval == "1d":
        return session_close(symbol, begin)
    return begin + pd.Timedelta(interval).to_pytimedelta()


def _price_at(symbol: str, frame: pd.DataFrame, interval: str, moment: datetime) -> float | None:
    """The open or close of the bar that opened or was complete at `moment`, if there is one."""
    opened = bar_opens(symbol, pd.DatetimeIndex(frame.index), interval) == moment
    if opened.any():
        return float(frame["open"][opened].iloc[0])
    end = int(frame.index.searchsorted(moment))
    for size in range(end, max(0, end - 3), -1):  # a session closes a day after its date at most
        if bar_close(symbol, frame.iloc[:size], interval) == moment:
            return float(frame["close"].iloc[size - 1])
    return None


def _restate(session: Session, row: BotRow, trade: Trade, price: float) -> str:
    """After a split: what was held at the old price is held at the one that history has now.

    Booked as a sale and a purchase of the same value at the time of that trade, without costs.
    """
    held = row.portfolio[trade.symbol]
    now = held * trade.price / price
    for fill in (
        Fill(trade.symbol, "sell", held, trade.price, 0.0),
        Fill(trade.symbol, "buy", now, price, 0.0),
    ):
        add_trade(session, row.name, fill, trade.executed_at)
    row.portfolio[trade.symbol] = now
    session.flush()
    remark = (
        f"{trade.symbol}: {trade.executed_at:%Y-%m-%d} closed at {price_text(trade.price)} when it "
        f"was traded, and at {price_text(price)} as history has it now: a split; "
        f"{held:.6g} are now {now:.6g}"
    )
    logger.warning("%s", remark)
    return remark
