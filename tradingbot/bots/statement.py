"""Statement of each bot: holdings, value over time, trades and realised result.

Holdings are at average cost, including the costs of trades. A split changes the quantity, not the
cost. A dividend is a separate result. Quantities entered by hand have no cost, and so no result.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from tradingbot.bots.account import CASH, Account
from tradingbot.bots.repository import all_trades, bot_names, bot_values, read_bot, read_positions
from tradingbot.errors import BotError, DatabaseError, TradeRefused
from tradingbot.persistence.damage import warn_of_damaged_rows
from tradingbot.persistence.engine import read_only_session
from tradingbot.persistence.models import SCHEMA_VERSION, BotPosition, BotRow, Trade
from tradingbot.persistence.row_ranges import OF_BOTS
from tradingbot.persistence.schema import schema_version
from tradingbot.persistence.url import database_exists, redact

logger = logging.getLogger(__name__)

REMEDY = "a bot's first round creates it; or set DATABASE_URL, or give --database-url"
_SAME = 1e-9  # relative difference of quantities that counts as rounding


@dataclass(frozen=True)
class Holding:
    """One position of a bot. Amounts are USD; None: unknown."""

    symbol: str
    quantity: float
    price: float | None  # newest close seen by the bot
    as_of: datetime | None  # time of that bar
    value: float | None
    cost: float | None
    result: float | None  # value minus cost


@dataclass(frozen=True)
class Value:
    """A bot's value at the close of a bar."""

    at: datetime
    cash: float
    value: float


@dataclass(frozen=True)
class Booked:
    """A row of trades with its realised result."""

    at: datetime
    symbol: str
    side: str
    quantity: float
    price: float
    costs: float
    note: str | None
    result: float | None  # of a sale or dividend; None: no result, or its cost is unknown


@dataclass(frozen=True)
class BotStatement:
    """One bot. Amounts are USD."""

    name: str
    cash: float
    value: float | None  # cash and positions; None if a price is unknown
    holdings: list[Holding]
    values: list[Value]  # oldest first
    trades: list[Booked]  # oldest first
    realised: float  # from sales with a known cost, and dividends
    dividends: float  # part of `realised`
    costs: float  # of all trades
    unknown: list[str] = field(default_factory=list)  # tickers with sales of unknown cost


def read_statements(url: str, names: Sequence[str] = ()) -> list[BotStatement]:
    """Return the statements of these bots, by default of all, by name.

    Raises:
        BotError: A bot does not exist.
        DatabaseError: The database is out of reach, or has an older schema.
    """
    database = redact(url)
    if not database_exists(url):
        raise DatabaseError(f"there is no {database} yet, and no bot: {REMEDY}")
    with read_only_session(url) as session:
        found = schema_version(session.connection(), database=database)
        if found is None:
            raise DatabaseError(f"{database} is empty: {REMEDY}")
        if found != SCHEMA_VERSION:
            raise DatabaseError(
                f"{database} has an older schema: the next round or `kronosbot run` upgrades it"
            )
        known = bot_names(session)
        if unknown := [name for name in names if name not in known]:
            raise BotError(
                f"{database} has no bot {', '.join(unknown)}; it has {', '.join(known) or 'none'}"
            )
        warn_of_damaged_rows(session, OF_BOTS)
        return _readable(session, names or known)


def _readable(session: Session, names: Sequence[str]) -> list[BotStatement]:
    """Return the statements of these bots. Skip those with a damaged row, with a warning.

    Raises:
        BotError: None of them can be read; the first one's error.
    """
    found, failed = [], []
    for name in names:
        try:
            if row := read_bot(session, name):
                found.append(_statement(session, row))
        except BotError as error:
            failed.append(error)
    if failed and not found:
        raise failed[0]
    for refused in failed:
        logger.warning("%s", refused)
    return found


def _statement(session: Session, row: BotRow) -> BotStatement:
    try:
        Account(row.portfolio, {}, 0.0)
    except TradeRefused as error:  # edited by hand into something invalid
        raise BotError(f"{row.name}: {error}") from error
    book = Book()
    trades = [book.enter(trade) for trade in all_trades(session, row.name)]
    positions = read_positions(session, row.name)
    cash = float(row.portfolio.get(CASH, 0.0))
    holdings = [
        _holding(symbol, float(quantity), positions.get(symbol), book)
        for symbol, quantity in sorted(row.portfolio.items())
        if quantity and symbol != CASH
    ]
    worth = [holding.value for holding in holdings]
    known = [value for value in worth if value is not None]
    values = [Value(worth.at, worth.cash, worth.value) for worth in bot_values(session, row.name)]
    return BotStatement(
        name=row.name,
        cash=cash,
        value=cash + sum(known) if len(known) == len(worth) else None,
        holdings=holdings,
        values=values,
        trades=trades,
        realised=sum(trade.result for trade in trades if trade.result is not None),
        dividends=book.dividends,
        costs=sum(trade.costs for trade in trades),
        unknown=sorted(book.unknown),
    )


def _holding(symbol: str, quantity: float, position: BotPosition | None, book: "Book") -> Holding:
    price = as_of = None
    if position is not None and position.closes:
        newest = max(position.closes)
        price, as_of = position.closes[newest], datetime.fromisoformat(newest)
    value = None if price is None else quantity * price
    cost = book.cost(symbol, quantity)
    result = None if value is None or cost is None else value - cost
    return Holding(symbol, quantity, price, as_of, value, cost, result)


class Book:
    """Accumulates trades in order: quantities, average costs, realised results of sales."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[float, float]] = {}  # quantity, and its total cost
        self._split: dict[str, float] = {}  # cost removed by a split's sale, until its purchase
        self.dividends = 0.0
        self.unknown: set[str] = set()

    def cost(self, symbol: str, quantity: float) -> float | None:
        """Return the cost of this quantity, or None if the trades do not account for it."""
        held, cost = self._held.get(symbol, (0.0, 0.0))
        return cost if abs(held - quantity) <= _SAME * quantity else None

    def enter(self, trade: Trade) -> Booked:
        """Enter a trade; return it with its result."""
        return Booked(
            at=trade.executed_at,
            symbol=trade.symbol,
            side=trade.side,
            quantity=trade.quantity,
            price=trade.price,
            costs=trade.costs,
            note=trade.note,
            result=self._result(trade),
        )

    def _result(self, trade: Trade) -> float | None:
        symbol, amount = trade.symbol, trade.quantity * trade.price
        held, cost = self._held.get(symbol, (0.0, 0.0))
        if trade.note == "split":
            self._enter_split(trade)
            return None
        if trade.side == "dividend":
            self.dividends += amount - trade.costs
            return amount - trade.costs
        if trade.side == "buy":
            self._held[symbol] = held + trade.quantity, cost + amount + trade.costs
            return None
        if trade.quantity > held * (1 + _SAME):  # part of the position was entered by hand
            self._held[symbol] = 0.0, 0.0
            self.unknown.add(symbol)
            return None
        sold = cost * trade.quantity / held
        self._held[symbol] = max(0.0, held - trade.quantity), cost - sold
        return amount - trade.costs - sold

    def _enter_split(self, trade: Trade) -> None:
        """Enter the sale and the purchase that record a split."""
        if trade.side == "sell":
            self._split[trade.symbol] = trade.quantity
            return
        held, cost = self._held.get(trade.symbol, (0.0, 0.0))
        ratio = trade.quantity / self._split.pop(trade.symbol, trade.quantity)
        self._held[trade.symbol] = held * ratio, cost
