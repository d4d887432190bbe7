"""Read-only tools with which a language model can inspect a bot."""

from typing import Any

import pandas as pd
from langchain_core.tools import BaseTool, tool

from tradingbot.ai.forecast_answer import MAX_DAYS
from tradingbot.ai.forecast_document import forecast_document, no_forecast
from tradingbot.ai.forecast_text import forecast_text
from tradingbot.ai.sanitising import name_text
from tradingbot.bots.account import CASH
from tradingbot.bots.bot import Bot
from tradingbot.bots.repository import newest_trades
from tradingbot.data.adjusted_close import adjusted_close
from tradingbot.errors import DataError
from tradingbot.formatting import amount_text, bar_text, price_text, quoted
from tradingbot.markets.calendars import latest_complete_session
from tradingbot.persistence.forecast_queries import newest_ahead

MAX_ROWS = 60


def bot_tools(bot: Bot) -> list[BaseTool]:
    """Return price_history, portfolio, recent_trades and stored_forecasts of `bot`, read-only."""
    reader = BotReader(bot)
    return [
        *(
            tool(parse_docstring=True)(method)
            for method in (reader.price_history, reader.portfolio, reader.recent_trades)
        ),
        tool(parse_docstring=True, response_format="content_and_artifact")(reader.stored_forecasts),
    ]


class BotReader:
    """Describe one bot in text. The methods' docstrings are sent to the language model."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot

    def price_history(self, symbol: str, bars: int = 20) -> str:
        """The newest complete candles of a ticker: open, high, low, close, volume.

        Args:
            symbol: Ticker, such as AAPL.
            bars: Number of candles, 1 to 60.
        """
        ticker, interval = symbol.strip().upper(), self._bot.interval
        try:
            frame = self._candles(ticker)
        except DataError as error:
            return f"No prices: {quoted(error)}."
        rows = [f"{name_text(ticker)}, {name_text(interval)} bars, the newest last."]
        newest = frame.tail(max(1, min(bars, MAX_ROWS)))
        for time, row in zip(
            pd.DatetimeIndex(newest.index), newest.to_dict("records"), strict=True
        ):
            prices = " ".join(price_text(row[name]) for name in ("open", "high", "low", "close"))
            volume = f" volume {amount_text(row['volume'], 0)}" if "volume" in row else ""
            rows.append(f"{bar_text(time, interval)}: {prices}{volume}")
        return "\n".join(rows)

    def portfolio(self) -> str:
        """The bot's holdings: cash in USD and quantities, with their value at the newest closes."""
        rows = []
        for symbol, amount in sorted(self._bot.portfolio.items(), key=_cash_first):
            name = name_text(symbol)
            if symbol == CASH:
                rows.append(f"{CASH} {amount_text(amount)} in cash")
            elif not amount:
                rows.append(f"{name}: none held, watched")
            else:
                rows.append(f"{name}: {amount:.6g} held{self._worth(symbol, amount)}")
        return "\n".join(rows)

    def recent_trades(self, count: int = 10) -> str:
        """The bot's newest paper trades, newest first, with splits, dividends and delistings.

        Args:
            count: Number of trades, 1 to 60.
        """
        with self._bot.sessions() as session:
            trades = newest_trades(session, self._bot.name, max(1, min(count, MAX_ROWS)))
        rows = [
            f"{trade.executed_at:%Y-%m-%d %H:%M} UTC: {name_text(trade.side)} "
            f"{trade.quantity:.6g} {name_text(trade.symbol)} at {price_text(trade.price)}, "
            f"costs {amount_text(trade.costs)}"
            + (f" ({name_text(trade.note)})" if trade.note else "")
            for trade in trades
        ]
        return "\n".join(rows) or "No trades yet."

    def stored_forecasts(self, symbol: str) -> tuple[str, dict[str, Any]]:
        """The newest stored Kronos forecast of a ticker, if it is still in the future.

        Args:
            symbol: Ticker, such as AAPL.
        """
        ticker = symbol.strip().upper()
        nothing = f"No forecast of {name_text(ticker)} that lies ahead is stored."
        try:
            latest = latest_complete_session(ticker, self._bot.data.now())
        except DataError as error:
            text = f"{nothing} {quoted(error)}."
            return text, no_forecast(ticker, error, text).model_dump(mode="json")
        with self._bot.sessions() as session:
            found = newest_ahead(
                session, ticker, MAX_DAYS, latest, close_at=adjusted_close(self._bot.data, ticker)
            )
        if found is None:
            return nothing, no_forecast(ticker, "nothing_stored", nothing).model_dump(mode="json")
        document = forecast_document(found, latest, "stored")
        return forecast_text(document), document.model_dump(mode="json")

    def _candles(self, symbol: str) -> pd.DataFrame:
        return self._bot.data.history(symbol, interval=self._bot.interval, bars=MAX_ROWS)

    def _worth(self, symbol: str, amount: float) -> str:
        try:
            frame = self._candles(symbol)
        except DataError as error:
            return f", worth unknown: {quoted(error)}"
        close = float(frame["close"].iloc[-1])
        day = bar_text(frame.index[-1], self._bot.interval)
        return (
            f", worth {amount_text(amount * close)} USD at the close of {day}, {price_text(close)}"
        )


def _cash_first(item: tuple[str, float]) -> tuple[bool, str]:
    return item[0] != CASH, item[0]
