"""Changes to a bot's portfolio that no round makes: a person says what is so."""

from math import inf

from sqlalchemy.orm import Session

from tradingbot.bots.account import CASH, Fill, ticker
from tradingbot.bots.repository import add_trade, lock_bot, put_positions, read_bot
from tradingbot.errors import BotError, TradeRefused
from tradingbot.persistence.models import BotRow
from tradingbot.runtime.clock import utcnow


def close_position(session: Session, name: str, symbol: str, price: float) -> Fill:
    """Sell all of a ticker at this price, without costs; the caller commits.

    Raises:
        BotError: There is no such bot.
        TradeRefused: It holds none of it, or the price is none.
    """
    symbol, row = ticker(symbol), _locked(session, name)
    if not 0 <= price < inf:
        raise TradeRefused(f"{symbol} at a price of {price}: expected a number from 0 on")
    held = float(row.portfolio.get(symbol, 0.0))
    if not held:
        owned = ", ".join(sorted(key for key, amount in row.portfolio.items() if amount))
        raise TradeRefused(f"{name} holds no {symbol}; it has {owned or 'nothing'}")
    fill = Fill(symbol, "sell", held, price, 0.0)
    row.portfolio = {
        **row.portfolio,
        CASH: float(row.portfolio.get(CASH, 0.0)) + held * price,
        symbol: 0.0,
    }
    add_trade(session, name, fill, utcnow(), "closed by hand")
    return fill


def set_quantity(session: Session, name: str, symbol: str, quantity: float) -> float:
    """Write down how many units are held, in shares of today; return how many there were before.

    No trade is recorded; the caller commits.

    Raises:
        BotError: There is no such bot.
        TradeRefused: The quantity is none.
    """
    symbol, row = ticker(symbol), _locked(session, name)
    if not 0 <= quantity < inf:
        raise TradeRefused(f"{quantity} {symbol}: expected a quantity from 0 on")
    before = float(row.portfolio.get(symbol, 0.0))
    row.portfolio = {**row.portfolio, symbol: float(quantity)}
    session.flush()
    new = {"bot_name": name, "symbol": symbol, "quantity": float(quantity), "as_of": utcnow()}
    put_positions(session, [{**new, "interval": "1d", "closes": {}}])
    return before


def _locked(session: Session, name: str) -> BotRow:
    if read_bot(session, name) is None:
        raise BotError(f"there is no bot {name!r} in this database")
    session.rollback()  # SQLite takes its lock at the beginning of a transaction
    return lock_bot(session, name)
