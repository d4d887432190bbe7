"""Bots in the database: their portfolios, their trades, one row of run_logs a round.

Whoever trades locks the bot's row first, and portfolio, trades and the end of the round are one
transaction: all of it is there afterwards, or nothing.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
from sqlalchemy import func, inspect, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from tradingbot.errors import BotError, ConfigError, DatabaseError
from tradingbot.formatting import one_line, price_text
from tradingbot.markets.calendars import session_close
from tradingbot.persistence.models import BotRow, RunLog, Trade
from tradingbot.runtime.clock import utcnow
from tradingbot.utils.portfolio import CASH, START_CASH, Account, Fill

if TYPE_CHECKING:
    from tradingbot.utils.botclass import Bot

logger = logging.getLogger(__name__)

Sessions = Callable[[], AbstractContextManager[Session]]


def lock_bot(session: Session, name: str, tickers: Collection[str] = ()) -> BotRow:
    """The bot's row, made if it is new, until the transaction ends nobody else's to change.

    `tickers` are registered in its portfolio, with quantity 0 if it owns none of them; those it
    neither owns nor watches any more are taken out.
    """
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    if on_sqlite:  # which has one lock, the file's, and takes it at the first write otherwise
        session.connection().exec_driver_sql("BEGIN IMMEDIATE")
    now = utcnow()
    new = {"name": name, "portfolio": {CASH: START_CASH}, "created_at": now, "updated_at": now}
    insert = (sqlite if on_sqlite else postgresql).insert(BotRow.__table__)
    session.execute(insert.values(new).on_conflict_do_nothing())
    row = _bot_row(session, name, lock=True)
    assert row is not None, "it was inserted just now, if it was not there"
    if tickers:
        owned = {key: amount for key, amount in row.portfolio.items() if amount or key == CASH}
        watched = dict.fromkeys(tickers, 0.0) | owned
        if watched != row.portfolio:
            row.portfolio = watched
    return row


def read_portfolio(session: Session, name: str) -> dict[str, float]:
    """What the bot owns; a new bot's, if it has never run. For who only looks: no lock."""
    if inspect(session.connection()).has_table(BotRow.__tablename__):
        found = _bot_row(session, name, lock=False)
        if found is not None:
            return dict(found.portfolio)
    return {CASH: START_CASH}


def _bot_row(session: Session, name: str, *, lock: bool) -> BotRow | None:
    """BotError for a portfolio that somebody has edited into something else."""
    try:
        row = session.get(BotRow, name, with_for_update=lock)
        if row is None or isinstance(row.portfolio, dict):
            return row
        cause = None
    except ValueError as error:  # no JSON (in SQLite, where it is text), or no object
        cause = error
    raise BotError(
        f"bots.portfolio of {name!r} cannot be read: expected an object such as "
        f'{{"USD": 10000, "AAPL": 12.5}}; nothing was traded'
    ) from cause


@dataclass
class Desk:
    """Where one bot trades: its account at the newest closes, within one locked transaction."""

    row: BotRow
    account: Account
    closed: dict[str, datetime]  # ticker -> when it had the price that is paid
    traded: dict[str, datetime]  # ticker -> when it had the price that was paid last
    remarks: list[str]


def open_desk(session: Session, bot: "Bot", bars: Mapping[str, pd.DataFrame]) -> Desk:
    """Lock the bot and bring its account to the prices of `bars`, which end with what is newest.

    ConfigError when the bot has traded one of them later than that: these are other candles.
    """
    row = lock_bot(session, bot.name, bot.tickers)
    closed = {symbol: bar_close(symbol, frame, bot.interval) for symbol, frame in bars.items()}
    traded, remarks = {}, []
    for trade in _last_trades(session, bot.name):
        symbol, moment = trade.symbol, trade.executed_at
        traded[symbol] = moment
        if symbol not in bars:
            continue
        if moment > closed[symbol]:
            raise ConfigError(
                f"{bot.name} has traded {symbol} at {moment:%Y-%m-%d %H:%M}, after the newest bar, "
                f"which closed at {closed[symbol]:%Y-%m-%d %H:%M}: other candles than before? "
                "Give the bot another name or database; nothing was traded"
            )
        price = _close_at(symbol, bars[symbol], bot.interval, moment)
        if price and row.portfolio.get(symbol) and not 1 / SPLIT < price / trade.price < SPLIT:
            remarks.append(_restate(session, row, trade, price))
    prices = {symbol: float(frame["close"].iloc[-1]) for symbol, frame in bars.items()}
    return Desk(row, Account(row.portfolio, prices, bot.cost_rate), closed, traded, remarks)


def close_desk(session: Session, desk: Desk) -> None:
    """Write down the account's portfolio and fills. The caller commits."""
    if not desk.account.fills:
        return
    desk.row.portfolio = {
        symbol: float(amount) for symbol, amount in desk.account.portfolio.items()
    }
    for fill in desk.account.fills:
        _add_trade(session, desk.row.name, fill, desk.closed[fill.symbol])
    session.flush()


def bar_close(symbol: str, frame: pd.DataFrame, interval: str) -> datetime:
    """When the frame's newest bar was complete, naive UTC."""
    begin: datetime = frame.index[-1].to_pydatetime()
    if interval == "1d":
        return session_close(symbol, begin)
    return begin + pd.Timedelta(interval).to_pytimedelta()


SPLIT = 1.2  # a price that history has changed by more was one of other shares


def _last_trades(session: Session, name: str) -> Iterable[Trade]:
    newest = select(func.max(Trade.id)).where(Trade.bot_name == name).group_by(Trade.symbol)
    return session.scalars(select(Trade).where(Trade.id.in_(newest)))


def _close_at(symbol: str, frame: pd.DataFrame, interval: str, moment: datetime) -> float | None:
    """The close of the bar that was complete at `moment`, if the frame has it."""
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
        _add_trade(session, row.name, fill, trade.executed_at)
    row.portfolio[trade.symbol] = now
    session.flush()
    remark = (
        f"{trade.symbol}: {trade.executed_at:%Y-%m-%d} closed at {price_text(trade.price)} when it "
        f"was traded, and at {price_text(price)} as history has it now: a split; "
        f"{held:.6g} are now {now:.6g}"
    )
    logger.warning("%s", remark)
    return remark


def _add_trade(session: Session, name: str, fill: Fill, executed_at: datetime) -> None:
    session.add(
        Trade(
            bot_name=name,
            symbol=fill.symbol,
            side=fill.side,
            quantity=float(fill.quantity),
            price=float(fill.price),
            costs=float(fill.costs),
            executed_at=executed_at,
        )
    )


@dataclass(frozen=True)
class RoundLog:
    """One round's row of run_logs: "running" from `begin` on, then "ok" or "failed"."""

    sessions: Sessions
    row_id: int

    @classmethod
    def begin(
        cls, sessions: Sessions, name: str, tickers: Collection[str]
    ) -> tuple[Self, dict[str, float]]:
        """Register the bot and its tickers; the log of this round, and what the bot owns."""
        with sessions() as session:
            portfolio = dict(lock_bot(session, name, tickers).portfolio)
            row = RunLog(name=name, status="running", started_at=utcnow())
            session.add(row)
            session.flush()
            return cls(sessions, row.id), portfolio

    def end(self, session: Session, counts: dict[str, int], details: dict[str, Any]) -> None:
        """The round is done, if `session` commits."""
        row = session.get_one(RunLog, self.row_id)
        row.finished_at, row.status, row.exit_code = utcnow(), "ok", 0
        row.counts, row.details = counts, details

    def fail(self, error: BaseException, exit_code: int) -> None:
        """The round ended with `error`. A database that is gone by now is a warning."""
        try:
            with self.sessions() as session:
                row = session.get_one(RunLog, self.row_id, with_for_update=True)
                if row.status == "running":  # not so if only the answer to the commit was lost
                    row.finished_at, row.status, row.exit_code = utcnow(), "failed", exit_code
                    row.message = one_line(error) or type(error).__name__
        except DatabaseError as lost:
            logger.warning("run_logs lacks the end of this round: %s", lost)
