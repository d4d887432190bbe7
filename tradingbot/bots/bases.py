"""Look up what a source of candles knows about the tickers that a bot holds.

Each quantity has a basis: the bar up to which splits are included in it, see `split_factors.Basis`.
"""

from datetime import datetime

import pandas as pd
from sqlalchemy.orm import Session

from tradingbot.bots.account import CASH
from tradingbot.bots.orders import read_orders
from tradingbot.bots.repository import last_trades, read_bot, read_positions, waiting_orders
from tradingbot.bots.split_factors import Basis
from tradingbot.bots.ticker_lookup import Frames, TickerFacts, TickerLookup, bar_end
from tradingbot.persistence.models import BotPosition, BotRow, Trade
from tradingbot.typing import SessionFactory


def look_up_held(
    name: str, interval: str, frames: Frames, look_up: TickerLookup, sessions: SessionFactory
) -> dict[str, TickerFacts]:
    """Return the source's facts about the tickers that the bot holds, watched or not.

    The source is asked before the bot is locked. `frames` are those of the watched tickers.
    """
    with sessions() as session:
        row = read_bot(session, name)
        bases = {} if row is None else _bases(session, row, interval)
    return {symbol: look_up.known(symbol, basis, frames) for symbol, basis in bases.items()}


def _bases(session: Session, row: BotRow, interval: str) -> dict[str, Basis]:
    """Return the basis of each quantity that is held, or that may still earn dividends."""
    positions = read_positions(session, row.name)
    trades = {trade.symbol: trade for trade in last_trades(session, row.name)}
    orders = read_orders(waiting_orders(session, row.name))
    # an order may be filled before a dividend, on a bar that the bot's period does not reach
    earning = positions.keys() & {order.symbol for order in orders if order.decision > 0}
    earning |= {symbol for symbol in trades if _is_owed(positions.get(symbol), trades[symbol])}
    return {
        symbol: basis_of(positions.get(symbol), trades.get(symbol), row, interval)
        for symbol, quantity in row.portfolio.items()
        if symbol != CASH and (quantity or symbol in earning)
    }


def _is_owed(position: BotPosition | None, trade: Trade) -> bool:
    """Return whether the ticker was traded after the bar up to which its dividends are known."""
    if position is None:
        return False
    return trade.executed_at > bar_end(position.symbol, position.as_of, position.interval)


def basis_of(
    position: BotPosition | None, trade: Trade | None, row: BotRow, interval: str
) -> Basis:
    """Return the basis of a position, or else of its newest trade, or else of the bot's row."""
    if position is not None:
        closes = {datetime.fromisoformat(time): close for time, close in position.closes.items()}
        return Basis(position.as_of, position.interval, closes)
    if trade is not None:  # in a database from before the table of positions
        return Basis(trade.executed_at, interval, {})
    return Basis(row.updated_at, interval, {})  # written by hand, and never checked


def of_trade(trade: Trade, basis: Basis, closes: "pd.Series[float]") -> Basis:
    """Return the basis with the trade's price as the close of its bar."""
    end = int(closes.index.searchsorted(pd.Timestamp(trade.executed_at), side="right"))
    for at in range(max(0, end - 3), end):  # a session closes at most a day after its date
        time = closes.index[at].to_pydatetime()
        if bar_end(trade.symbol, time, basis.interval) == trade.executed_at:
            return Basis(basis.as_of, basis.interval, {time: trade.price})
    return basis
