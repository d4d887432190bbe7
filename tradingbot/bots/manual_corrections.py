"""Manual changes to a bot's portfolio."""

from math import inf

from sqlalchemy.orm import Session

from tradingbot.bots.account import CASH, Account, Fill, ticker
from tradingbot.bots.repository import add_trade, lock_bot, put_positions, read_bot
from tradingbot.errors import BotError, TradeRefused
from tradingbot.persistence.models import BotRow
from tradingbot.runtime.clock import utcnow


def close_position(session: Session, name: str, symbol: str, price: float) -> Fill:
    """Sell a whole position at this price, without costs. The caller commits.

    Raises:
        BotError: The bot does not exist.
        TradeRefused: It does not hold the ticker, the price is invalid, or the portfolio is
            damaged.
    """
    symbol, row = ticker(symbol), _locked(session, name)
    if not 0 <= price < inf:
        raise TradeRefused(f"{symbol} at a price of {price}: expected a number from 0 on")
    held = Account(row.portfolio, {}, 0.0).held(symbol)
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


def set_quantity(session: Session, name: str, symbol: str, quantity: float) -> object:
    """Set the quantity held, in today's shares; return the previous value.

    Records no trade. The caller commits.

    Raises:
        BotError: The bot does not exist.
        TradeRefused: The quantity is invalid.
    """
    symbol, row = ticker(symbol), _locked(session, name)
    if not 0 <= quantity < inf:
        raise TradeRefused(f"{quantity} {symbol}: expected a quantity from 0 on")
    before = row.portfolio.get(symbol, 0.0)
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
