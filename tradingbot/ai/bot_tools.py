"""What a language model may read of a bot. Nothing here writes."""

from typing import TYPE_CHECKING

import pandas as pd
from langchain_core.tools import BaseTool, tool
from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from tradingbot.ai.forecast_tool import MOST_DAYS, forecast_text, newest_stored
from tradingbot.bots.account import CASH
from tradingbot.errors import DataError
from tradingbot.formatting import bar_text, price_text
from tradingbot.markets.calendars import latest_complete_session
from tradingbot.persistence.models import Base, KronosForecast, Trade

if TYPE_CHECKING:
    from tradingbot.bots.bot import Bot


MOST_ROWS = 60


def bot_tools(bot: "Bot") -> list[BaseTool]:
    """price_history, portfolio, recent_trades and stored_forecasts of `bot`, read-only."""

    @tool(parse_docstring=True)
    def price_history(symbol: str, bars: int = 20) -> str:
        """The newest complete candles of a ticker: open, high, low, close, volume.

        Args:
            symbol: Ticker, such as AAPL.
            bars: How many, 1 to 60.
        """
        try:
            frame = bot.data.history(symbol.strip().upper(), interval=bot.interval, bars=MOST_ROWS)
        except DataError as error:
            return f"No prices: {error}."
        rows = [f"{symbol.strip().upper()}, {bot.interval} bars, the newest last."]
        newest = frame.tail(max(1, min(bars, MOST_ROWS)))
        for time, row in zip(
            pd.DatetimeIndex(newest.index), newest.to_dict("records"), strict=True
        ):
            prices = " ".join(price_text(row[name]) for name in ("open", "high", "low", "close"))
            volume = f" volume {row['volume']:.0f}" if "volume" in row else ""
            rows.append(f"{bar_text(time, bot.interval)}: {prices}{volume}")
        return "\n".join(rows)

    @tool
    def portfolio() -> str:
        """What the bot owns: cash in USD and quantities, with their worth at the newest closes."""
        rows = []
        for symbol, amount in sorted(bot.portfolio.items(), key=_cash_first):
            if symbol == CASH:
                rows.append(f"{CASH} {amount:.2f} in cash")
            elif not amount:
                rows.append(f"{symbol}: none held, watched")
            else:
                rows.append(f"{symbol}: {amount:.6g} held{_worth(bot, symbol, amount)}")
        return "\n".join(rows)

    @tool(parse_docstring=True)
    def recent_trades(count: int = 10) -> str:
        """The bot's newest paper trades, newest first.

        Args:
            count: How many, 1 to 60.
        """
        with bot.sessions() as session:
            if not _has(session, Trade):
                return "No trades yet."
            rows = session.scalars(
                select(Trade)
                .where(Trade.bot_name == bot.name)
                .order_by(Trade.id.desc())
                .limit(max(1, min(count, MOST_ROWS)))
            ).all()
        return (
            "\n".join(
                f"{row.executed_at:%Y-%m-%d %H:%M} UTC: {row.side} {row.quantity:.6g} {row.symbol} "
                f"at {price_text(row.price)}, costs {row.costs:.2f}"
                for row in rows
            )
            or "No trades yet."
        )

    @tool(parse_docstring=True)
    def stored_forecasts(symbol: str) -> str:
        """The newest Kronos forecast of a ticker that is stored, if it still lies ahead.

        Args:
            symbol: Ticker, such as AAPL.
        """
        ticker = symbol.strip().upper()
        nothing = f"No forecast of {ticker} that lies ahead is stored."
        try:
            latest = latest_complete_session(ticker, bot.data.now())
        except DataError as error:
            return f"{nothing} {error}."
        with bot.sessions() as session:
            if not _has(session, KronosForecast):
                return nothing
            found = newest_stored(session, ticker, MOST_DAYS, latest)
        return forecast_text(found, latest, "from the database") if found else nothing

    return [price_history, portfolio, recent_trades, stored_forecasts]


def _cash_first(item: tuple[str, float]) -> tuple[bool, str]:
    return item[0] != CASH, item[0]


def _worth(bot: "Bot", symbol: str, amount: float) -> str:
    try:
        frame = bot.data.history(symbol, interval=bot.interval, bars=MOST_ROWS)
    except DataError as error:
        return f", worth unknown: {error}"
    close, day = float(frame["close"].iloc[-1]), bar_text(frame.index[-1], bot.interval)
    return f", worth {amount * close:.2f} USD at the close of {day}, {price_text(close)}"


def _has(session: Session, table: type[Base]) -> bool:
    return inspect(session.connection()).has_table(table.__tablename__)
