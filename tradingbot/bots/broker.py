"""The paper broker: an account at the newest closes, inside one locked transaction."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Self

import pandas as pd
from sqlalchemy.orm import Session

from tradingbot.bots.account import Account, Fill
from tradingbot.bots.bases import look_up_held
from tradingbot.bots.orders import Opening, Order, read_orders
from tradingbot.bots.repository import add_trade, last_trades, lock_bot, waiting_orders
from tradingbot.bots.settlement import Settlement
from tradingbot.bots.strategy import Strategy
from tradingbot.bots.ticker_lookup import Frames, TickerFacts, TickerLookup, bar_end
from tradingbot.errors import ConfigError, DataError
from tradingbot.markets.calendars import latest_complete_session, sessions_between
from tradingbot.persistence.models import BotRow
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)


@dataclass
class PaperBroker:
    """Paper broker of one bot, inside one locked transaction.

    Call `open`, trade with `follow` or the `account`, then `close`. The caller commits the session.
    """

    session: Session
    row: BotRow
    account: Account
    settlement: Settlement
    closed: dict[str, datetime]  # ticker -> time of the price used
    traded: dict[str, datetime]  # ticker -> time of the last trade's price
    orders: list[Order] = field(default_factory=list)  # from earlier rounds, for the next open
    # the same, of tickers watched in those rounds
    unwatched: list[Order] = field(default_factory=list)
    moments: list[datetime] = field(default_factory=list)  # times of fills at an open

    dividends: list[tuple[Fill, datetime]] = field(default_factory=list)

    @classmethod
    def open(
        cls,
        session: Session,
        strategy: Strategy,
        bars: Mapping[str, pd.DataFrame],
        known: Mapping[str, TickerFacts],
    ) -> Self:
        """Lock the bot, settle its positions, and open its account at the newest closes of `bars`.

        `known` holds the source's facts about positions. Raises ConfigError if the bot has traded a
        ticker at a later bar, since then these are other candles.
        """
        name, interval = strategy.name, strategy.interval
        row = lock_bot(session, name, strategy.tickers)
        closed = {
            symbol: bar_end(symbol, frame.index[-1].to_pydatetime(), interval)
            for symbol, frame in bars.items()
        }
        traded = {trade.symbol: trade.executed_at for trade in last_trades(session, name)}
        for symbol in traded.keys() & closed.keys():
            if traded[symbol] > closed[symbol]:
                raise ConfigError(
                    f"{name} has traded {symbol} at {traded[symbol]:%Y-%m-%d %H:%M}, after the "
                    f"newest bar, which closed at {closed[symbol]:%Y-%m-%d %H:%M}: other candles "
                    "than before? Give the bot another name or database; nothing was traded"
                )
        waiting = read_orders(waiting_orders(session, name))
        orders = [order for order in waiting if order.symbol in strategy.tickers]
        for order in orders:
            if order.symbol in bars and order.bar > bars[order.symbol].index[-1]:
                raise ConfigError(
                    f"{name} has decided on {order.symbol} of {order.bar:%Y-%m-%d %H:%M}, after "
                    f"the newest bar, {bars[order.symbol].index[-1]:%Y-%m-%d %H:%M}: other candles "
                    "than before? Give the bot another name or database; nothing was traded"
                )
        Account(row.portfolio, {}, strategy.costs)  # validates what may have been edited by hand
        settlement = Settlement(session, row, interval, known)
        settlement.settle(bars, waiting={order.symbol for order in orders})
        prices = {symbol: float(frame["close"].iloc[-1]) for symbol, frame in bars.items()}
        account = Account(row.portfolio, prices, strategy.costs)
        unwatched = [order for order in waiting if order not in orders]
        return cls(session, row, account, settlement, closed, traded, orders, unwatched)

    def has_traded(self, symbol: str) -> bool:
        """Return whether an earlier round traded the ticker on its newest bar."""
        return self.traded.get(symbol) == self.closed[symbol]

    def follow(self, decisions: Mapping[str, int]) -> None:
        """Trade decisions; see `Account.follow`."""
        self.account.follow(decisions)

    def fill(self, opening: Opening) -> None:
        """Fill the orders of one opening at its prices, skipping tickers traded then or later."""
        self.credit_dividends(until=opening.days)
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

    def credit_dividends(self, until: Mapping[str, date] | None = None) -> None:
        """Credit dividends on current holdings, up to each ticker's day in `until`, or all."""
        for dividend in list(self.settlement.dividends):
            if until and dividend.day.date() > until.get(dividend.symbol, min(until.values())):
                continue
            self.settlement.dividends.remove(dividend)
            fill = self.account.credit(dividend.symbol, dividend.amount)
            if fill is None:
                continue
            self.dividends.append((fill, dividend.day))
            self.settlement.remarks.append(
                f"{fill.symbol}: a dividend of {fill.price:.6g} a share on "
                f"{dividend.day:%Y-%m-%d}; {fill.quantity * fill.price:,.2f} USD are credited"
            )

    def close(self) -> None:
        """Store the account's portfolio, fills, dividends and closed positions."""
        self.credit_dividends()
        if self.account.fills or self.dividends:
            self.row.portfolio = {
                symbol: float(amount) for symbol, amount in self.account.portfolio.items()
            }
        for fill, day in self.dividends:
            add_trade(self.session, self.row.name, fill, day, "dividend")
        for number, fill in enumerate(self.account.fills):
            at_open = number < len(self.moments)
            moment = self.moments[number] if at_open else self.closed[fill.symbol]
            add_trade(self.session, self.row.name, fill, moment)
        self.settlement.write()
        self.session.flush()
        for remark in self.settlement.remarks:
            logger.warning("%s", remark)


@contextmanager
def trading(
    strategy: Strategy,
    frames: Frames,
    held: Collection[str],
    look_up: TickerLookup,
    now: datetime,
    sessions: SessionFactory,
) -> Iterator[Account]:
    """Yield the account at the newest closes of `frames`; store it if the block ends without error.

    Raises DataError if a ticker has no close. Tickers in `held` that are found delisted are
    skipped: their positions are closed in any case.
    """
    known = look_up_held(strategy.name, strategy.interval, frames, look_up, sessions)
    delisted = {symbol for symbol in held if symbol in known and known[symbol].is_delisted}
    bars = {}
    for symbol, frame in frames.items():
        if symbol in delisted:
            continue
        if isinstance(frame, DataError):
            raise frame
        refuse_old(symbol, frame, now)
        bars[symbol] = frame
    if delisted:
        with sessions() as session:
            PaperBroker.open(session, strategy, {}, known).close()
    with sessions() as session:
        broker = PaperBroker.open(session, strategy, bars, known)
        for symbol in broker.settlement.stopped.keys() & bars.keys():
            raise broker.settlement.stopped[symbol]
        broker.credit_dividends()
        yield broker.account
        broker.close()


def refuse_old(symbol: str, bars: pd.DataFrame, now: datetime) -> None:
    """Raise DataError unless `bars` end with the latest session complete at `now`.

    Stricter than the nightly job: a price of days ago cannot be traded.
    """
    newest = bars.index[-1].to_pydatetime()
    late = sessions_between(symbol, newest, latest_complete_session(symbol, now))
    if late:
        raise DataError(
            f"its newest bar is of {newest:%Y-%m-%d}, sessions since: {late}; "
            "there is no price to trade at",
            symbol=symbol,
        )
