"""What each bot owns, what it was worth over time, what it traded, and with which result.

What is held counts at its average cost, the costs of the trades included. A split changes the
quantity and not the cost; a dividend is a result of its own. What was written into a portfolio by
hand has no cost, and so no result.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from tradingbot.bots.account import CASH, Account
from tradingbot.bots.repository import all_trades, bot_values, read_bots, read_positions
from tradingbot.errors import BotError, DatabaseError, TradeRefused
from tradingbot.persistence.engine import read_only_session
from tradingbot.persistence.models import SCHEMA_VERSION, BotPosition, BotRow, Trade
from tradingbot.persistence.schema import schema_version
from tradingbot.persistence.url import database_exists, redact

WAY_OUT = "a bot's first round makes it; or set DATABASE_URL, or say --database-url"
_SAME = 1e-9  # quantities that differ by less than this share differ by rounding


@dataclass(frozen=True)
class Holding:
    """One ticker that a bot holds. Money is USD; None: not known."""

    symbol: str
    quantity: float
    price: float | None  # the newest close that the bot has seen
    as_of: datetime | None  # of that bar
    value: float | None
    cost: float | None
    result: float | None  # value - cost


@dataclass(frozen=True)
class Value:
    """What a bot was worth at the close of a bar."""

    at: datetime
    cash: float
    value: float


@dataclass(frozen=True)
class Booked:
    """A row of trades, with what it realised."""

    at: datetime
    symbol: str
    side: str
    quantity: float
    price: float
    costs: float
    note: str | None
    result: float | None  # of a sale or dividend; None: no result, or its cost is not known


@dataclass(frozen=True)
class BotStatement:
    """One bot. Money is USD."""

    name: str
    cash: float
    value: float | None  # cash and holdings; None where a price is not known
    holdings: list[Holding]
    values: list[Value]  # oldest first
    trades: list[Booked]  # oldest first
    realised: float  # by sales whose cost is known, and dividends
    dividends: float  # of that
    costs: float  # of all trades
    unknown: list[str] = field(default_factory=list)  # tickers whose sales have no known cost


def read_statements(url: str, names: Sequence[str] = ()) -> list[BotStatement]:
    """Return the statements of these bots, by default of all, by name.

    Raises:
        BotError: There is no such bot.
        DatabaseError: The database is out of reach, or as an older version left it.
    """
    database = redact(url)
    if not database_exists(url):
        raise DatabaseError(f"there is no {database} yet, and no bot: {WAY_OUT}")
    with read_only_session(url) as session:
        found = schema_version(session.connection(), database=database)
        if found is None:
            raise DatabaseError(f"{database} is empty: {WAY_OUT}")
        if found != SCHEMA_VERSION:
            raise DatabaseError(
                f"{database} is as an older version left it: the next round or `kronosbot run` "
                "upgrades it"
            )
        rows = {row.name: row for row in read_bots(session)}
        if unknown := [name for name in names if name not in rows]:
            there = ", ".join(rows) or "none"
            raise BotError(f"{database} has no bot {', '.join(unknown)}; it has {there}")
        return [_statement(session, rows[name]) for name in names or rows]


def _statement(session: Session, row: BotRow) -> BotStatement:
    try:
        Account(row.portfolio, {}, 0.0)
    except TradeRefused as error:  # somebody wrote something else in there
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
    values = [Value(one.at, one.cash, one.value) for one in bot_values(session, row.name)]
    return BotStatement(
        name=row.name,
        cash=cash,
        value=cash + sum(known) if len(known) == len(worth) else None,
        holdings=holdings,
        values=values,
        trades=trades,
        realised=sum(one.result for one in trades if one.result is not None),
        dividends=book.dividends,
        costs=sum(one.costs for one in trades),
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
    """Trades entered one after the other: quantities, their average costs, what sales realised."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[float, float]] = {}  # quantity, and what it cost in all
        self._split: dict[str, float] = {}  # what a split took out, before it is put in again
        self.dividends = 0.0
        self.unknown: set[str] = set()

    def cost(self, symbol: str, quantity: float) -> float | None:
        """What this quantity cost; None where trades do not account for it."""
        held, cost = self._held.get(symbol, (0.0, 0.0))
        return cost if abs(held - quantity) <= _SAME * quantity else None

    def enter(self, trade: Trade) -> Booked:
        """The trade, with its result."""
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
        if trade.quantity > held * (1 + _SAME):  # some of it was written there by hand
            self._held[symbol] = 0.0, 0.0
            self.unknown.add(symbol)
            return None
        sold = cost * trade.quantity / held
        self._held[symbol] = max(0.0, held - trade.quantity), cost - sold
        return amount - trade.costs - sold

    def _enter_split(self, trade: Trade) -> None:
        """A sale of all there was, then a purchase of what it has become."""
        if trade.side == "sell":
            self._split[trade.symbol] = trade.quantity
            return
        held, cost = self._held.get(trade.symbol, (0.0, 0.0))
        ratio = trade.quantity / self._split.pop(trade.symbol, trade.quantity)
        self._held[trade.symbol] = held * ratio, cost
