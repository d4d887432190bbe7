"""What the quantities of a bot are counted in, and what the source knows of them."""

from datetime import datetime

import pandas as pd
from sqlalchemy.orm import Session

from tradingbot.bots.account import CASH
from tradingbot.bots.repository import last_trades, read_bot, read_positions
from tradingbot.bots.splits import Basis
from tradingbot.bots.ticker_lookup import Frames, TickerFacts, TickerLookup, bar_end
from tradingbot.persistence.models import BotPosition, BotRow, Trade
from tradingbot.typing import SessionFactory


def look_up_held(
    name: str, interval: str, frames: Frames, look_up: TickerLookup, sessions: SessionFactory
) -> dict[str, TickerFacts]:
    """What the source knows of the tickers that the bot holds, watched or not.

    It is asked before the bot is locked; `frames` are those of the tickers that are watched.
    """
    with sessions() as session:
        row = read_bot(session, name)
        bases = {} if row is None else _bases(session, row, interval)
    return {symbol: look_up.known(symbol, basis, frames) for symbol, basis in bases.items()}


def _bases(session: Session, row: BotRow, interval: str) -> dict[str, Basis]:
    """What each quantity is counted in that is held, or was and has dividends to come."""
    positions = read_positions(session, row.name)
    trades = {trade.symbol: trade for trade in last_trades(session, row.name)}
    return {
        symbol: basis_of(positions.get(symbol), trades.get(symbol), row, interval)
        for symbol, quantity in row.portfolio.items()
        if symbol != CASH and (quantity or _is_owed(positions.get(symbol), trades.get(symbol)))
    }


def _is_owed(position: BotPosition | None, trade: Trade | None) -> bool:
    """Whether it was traded after the bar up to which its dividends are known."""
    if position is None or trade is None:
        return False
    return trade.executed_at > bar_end(position.symbol, position.as_of, position.interval)


def basis_of(
    position: BotPosition | None, trade: Trade | None, row: BotRow, interval: str
) -> Basis:
    """What is known of a position, of its newest trade, or of the bot's row where there is none."""
    if position is not None:
        closes = {datetime.fromisoformat(time): close for time, close in position.closes.items()}
        return Basis(position.as_of, position.interval, closes)
    if trade is not None:  # of a database from before there were positions
        return Basis(trade.executed_at, interval, {})
    return Basis(row.updated_at, interval, {})  # written there by hand, and never looked at


def of_trade(trade: Trade, basis: Basis, closes: "pd.Series[float]") -> Basis:
    """The basis with the price of the trade as the close of its bar."""
    end = int(closes.index.searchsorted(pd.Timestamp(trade.executed_at), side="right"))
    for at in range(max(0, end - 3), end):  # a session closes a day after its date at most
        time = closes.index[at].to_pydatetime()
        if bar_end(trade.symbol, time, basis.interval) == trade.executed_at:
            return Basis(basis.as_of, basis.interval, {time: trade.price})
    return basis
