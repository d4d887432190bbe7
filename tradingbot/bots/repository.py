"""Bots in the database: portfolios, trades, and one row of run_logs per round.

A trade locks the bot's row first. Portfolio, trades and the end of the round are written in one
transaction, so a round is stored completely or not at all.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Any, Self

from sqlalchemy import Text, cast, delete, func, inspect, select
from sqlalchemy.orm import Session

from tradingbot.bots.account import CASH, START_CASH, Fill
from tradingbot.errors import BotError, DatabaseError
from tradingbot.formatting import one_line
from tradingbot.persistence.damage import EVERY_ROW, warn_of_damaged_rows
from tradingbot.persistence.models import BotPosition, BotRow, BotValue, RunLog, Trade
from tradingbot.persistence.row_ranges import OF_BOTS
from tradingbot.persistence.upsert import insert_new, upsert
from tradingbot.runtime.clock import utcnow
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)


def lock_bot(session: Session, name: str, tickers: Collection[str] = ()) -> BotRow:
    """Return the bot's row, locked until the transaction ends; insert the row of a new bot.

    `tickers` are added to its portfolio with quantity 0 if it owns none. Tickers that it neither
    owns nor watches are removed. Raises BotError if the portfolio is not an object.
    """
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    if on_sqlite:  # SQLite has one lock, of the file, and normally takes it at the first write
        session.connection().exec_driver_sql("BEGIN IMMEDIATE")
    now = utcnow()
    new = {"name": name, "portfolio": {CASH: START_CASH}, "created_at": now, "updated_at": now}
    insert_new(session, BotRow, [new])
    row = _bot_row(session, name, lock=True)
    assert row is not None, "it was inserted just now, if it was not there"
    if tickers:
        owned = {key: amount for key, amount in row.portfolio.items() if amount != 0 or key == CASH}
        watched = dict.fromkeys(tickers, 0.0) | owned
        if watched != row.portfolio:
            row.portfolio = watched
    return row


def read_bot(session: Session, name: str) -> BotRow | None:
    """Return the bot's row without a lock, or None if it has never run."""
    if not inspect(session.connection()).has_table(BotRow.__tablename__):
        return None
    return _bot_row(session, name, lock=False)


def bot_names(session: Session) -> Sequence[str]:
    """Return the names of all bots, in order."""
    names: Sequence[Any] = session.scalars(select(BotRow.name).order_by(BotRow.name)).all()
    if len(texts := [name for name in names if isinstance(name, str)]) < len(names):
        logger.warning("bots: a name that is not text is left out; correct or delete its row")
    return texts


def read_portfolio(session: Session, name: str) -> dict[str, float]:
    """Return the portfolio without a lock; {"USD": 10000} if the bot has never run."""
    found = read_bot(session, name)
    return {CASH: START_CASH} if found is None else dict(found.portfolio)


def stored_portfolios(session: Session) -> list[tuple[str, str]]:
    """Return each bot's name and its portfolio as unvalidated JSON text; [] without the table."""
    if not inspect(session.connection()).has_table(BotRow.__tablename__):
        return []
    rows = session.execute(select(BotRow.name, cast(BotRow.portfolio, Text)))
    return [(name, text) for name, text in rows]


def newest_trades(session: Session, name: str, count: int) -> Sequence[Trade]:
    """Return the bot's last `count` trades, newest first; [] without the table."""
    if not inspect(session.connection()).has_table(Trade.__tablename__):
        return []
    return session.scalars(
        select(Trade).where(Trade.bot_name == name).order_by(Trade.id.desc()).limit(count)
    ).all()


def all_trades(session: Session, name: str) -> Sequence[Trade]:
    """Return everything booked for the bot, in the order of booking."""
    return session.scalars(select(Trade).where(Trade.bot_name == name).order_by(Trade.id)).all()


def bot_values(session: Session, name: str) -> Sequence[BotValue]:
    """Return the bot's value over time, oldest first."""
    query = select(BotValue).where(BotValue.bot_name == name).order_by(BotValue.at)
    return session.scalars(query).all()


def last_trades(session: Session, name: str) -> Iterable[Trade]:
    """Return the bot's last trade of each ticker, without bookings such as splits."""
    newest = (
        select(func.max(Trade.id))
        .where(Trade.bot_name == name, Trade.note.is_(None))
        .group_by(Trade.symbol)
    )
    return session.scalars(select(Trade).where(Trade.id.in_(newest)))


def trades_since(session: Session, name: str, symbol: str, moment: datetime) -> Sequence[Trade]:
    """Return the bot's own trades of a ticker since `moment`."""
    of_ticker = Trade.bot_name == name, Trade.symbol == symbol, Trade.note.is_(None)
    return session.scalars(select(Trade).where(*of_ticker, Trade.executed_at >= moment)).all()


def waiting_orders(session: Session, name: str) -> list[dict[str, Any]]:
    """Return the orders that the bot's last round left for the next open; see `orders.py`."""
    details = session.scalar(
        select(RunLog.details)
        .where(RunLog.name == name, RunLog.status == "ok")
        .order_by(RunLog.finished_at.desc(), RunLog.id.desc())
        .limit(1),
        # orders of earlier rounds are done
        execution_options={EVERY_ROW: True},
    )
    orders = (details or {}).get("orders", [])
    return orders if isinstance(orders, list) else []


def add_trade(
    session: Session, name: str, fill: Fill, executed_at: datetime, note: str | None = None
) -> None:
    """Record a fill as this bot's trade, or, with a note, as another booking.

    `executed_at` is naive UTC.
    """
    session.add(
        Trade(
            bot_name=name,
            symbol=fill.symbol,
            side=fill.side,
            quantity=float(fill.quantity),
            price=float(fill.price),
            costs=float(fill.costs),
            executed_at=executed_at,
            note=note,
        )
    )


def read_positions(session: Session, name: str) -> dict[str, BotPosition]:
    """Return the bot's positions by ticker, without damaged rows."""
    found = session.scalars(select(BotPosition).where(BotPosition.bot_name == name))
    return {position.symbol: position for position in found if _are_closes(position.closes)}


def damaged_positions(session: Session, name: str) -> set[str]:
    """Return the tickers whose row of bot_positions is damaged."""
    query = select(BotPosition.symbol).where(BotPosition.bot_name == name)
    found = session.scalars(query, execution_options={EVERY_ROW: True})
    return {str(symbol) for symbol in found} - read_positions(session, name).keys()


def _are_closes(closes: Any) -> bool:
    """Return whether this is an object such as {"2024-05-10T00:00:00": 187.5}."""
    try:
        return all(
            datetime.fromisoformat(time).tzinfo is None and 0 < float(close) < inf
            for time, close in closes.items()
        )
    except (AttributeError, TypeError, ValueError):
        return False


def put_positions(session: Session, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert or overwrite rows of bot_positions."""
    upsert(session, BotPosition, rows)
    session.expire_all()  # objects read before do not see the upsert


def drop_positions(session: Session, name: str, symbols: Collection[str]) -> None:
    """Delete the positions of these tickers."""
    session.execute(
        delete(BotPosition).where(BotPosition.bot_name == name, BotPosition.symbol.in_(symbols))
    )


def put_worth(session: Session, row: BotRow) -> None:
    """Record the value of the bot's cash and quantities at their stored closes.

    Nothing is recorded if the closes of a holding are damaged.
    """
    if any(row.portfolio.get(symbol) for symbol in damaged_positions(session, row.name)):
        return
    cash = float(row.portfolio.get(CASH, 0.0))
    stored = read_positions(session, row.name).values()
    positions = [position for position in stored if position.closes]
    worth = sum(
        row.portfolio.get(position.symbol, 0.0) * position.closes[max(position.closes)]
        for position in positions
    )
    if positions:
        newest = max(position.as_of for position in positions)
        found = {"bot_name": row.name, "at": newest, "cash": cash, "value": cash + worth}
        upsert(session, BotValue, [found])


def _bot_row(session: Session, name: str, *, lock: bool) -> BotRow | None:
    """Return the bot's row, or None.

    Raises:
        BotError: The row is damaged: its portfolio is not a JSON object, or a time is invalid.
    """
    try:
        row = session.get(BotRow, name, with_for_update=lock)
        if row is None or isinstance(row.portfolio, dict):
            return row
        cause = None
    # in SQLite, where any column can contain text
    except (TypeError, ValueError, RecursionError) as error:
        cause = error
    raise BotError(
        f"bots.portfolio of {name!r} cannot be read, or a time in its row: expected an object such "
        'as {"USD": 10000, "AAPL": 12.5}; nothing was traded'
    ) from cause


@dataclass(frozen=True)
class RoundLog:
    """One round's row of run_logs: "running" from `begin` on, then "ok" or "failed"."""

    sessions: SessionFactory
    row_id: int

    @classmethod
    def begin(
        cls, sessions: SessionFactory, name: str, tickers: Collection[str]
    ) -> tuple[Self, dict[str, float]]:
        """Register the bot and its tickers; return the log of this round and the portfolio."""
        with sessions() as session:
            portfolio = dict(lock_bot(session, name, tickers).portfolio)
            row = RunLog(name=name, status="running", started_at=utcnow())
            session.add(row)
            session.flush()
            warn_of_damaged_rows(session, OF_BOTS)
            return cls(sessions, row.id), portfolio

    def end(self, session: Session, counts: dict[str, int], details: dict[str, Any]) -> None:
        """Record that the round is done; effective once `session` commits."""
        row = session.get_one(RunLog, self.row_id)
        row.finished_at, row.status, row.exit_code = utcnow(), "ok", 0
        row.counts, row.details = counts, details

    def fail(self, error: BaseException, exit_code: int) -> None:
        """Record that the round ended with `error`. Warn if the database is out of reach."""
        try:
            with self.sessions() as session:
                row = session.get_one(RunLog, self.row_id, with_for_update=True)
                if row.status == "running":  # otherwise only the response to the commit was lost
                    row.finished_at, row.status, row.exit_code = utcnow(), "failed", exit_code
                    row.message = one_line(error) or type(error).__name__
        except DatabaseError as lost:
            logger.warning("run_logs lacks the end of this round: %s", lost)
