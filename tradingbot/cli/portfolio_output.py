"""What `kronosbot portfolio` prints: tables, or one JSON document.

    {"exit_code": 0, "error": null, "database": "postgresql+psycopg2://me:***@db/bots",
     "bots": [{"name": "my-bot", "cash": 5.0, "value": 10234.0,         null: a price is not known
               "holdings": [{"symbol": "AAPL", "quantity": 99.95, "price": 102.3,
                             "as_of": "2024-05-16T00:00:00", "value": …, "cost": …,
                             "result": …}],                             null: cost not known
               "values": [{"at": …, "cash": …, "value": …}, …],         oldest first
               "trades": [{"at": …, "symbol": …, "side": "buy", "quantity": …, "price": …,
                           "costs": …, "note": null, "result": null}, …],
               "realised": 120.5, "dividends": 3.2, "costs": 14.1,
               "unknown": []}]}                                         tickers without a cost

If nothing can be read, the document is {"exit_code": 1, "error": {"kind": …, "message": …}}.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC
from typing import Any

from rich.console import Console
from rich.table import Table

from tradingbot.bots.statement import Booked, BotStatement
from tradingbot.cli.output import plain_table, print_line, print_table
from tradingbot.formatting import price_text

MAX_LINES = 10  # lines of values and trades; the JSON document has all
UNKNOWN = "not known"


def portfolio_document(database: str, found: Sequence[BotStatement]) -> dict[str, Any]:
    """Return the JSON document. Times of trades have a zone; times of bars do not."""
    bots = [asdict(statement) for statement in found]
    for bot in bots:
        for trade in bot["trades"]:
            trade["at"] = trade["at"].replace(tzinfo=UTC)
    return {"exit_code": 0, "error": None, "database": database, "bots": bots}


def show_portfolios(database: str, found: Sequence[BotStatement], console: Console) -> None:
    """Print holdings, values, trades and results of each bot."""
    print_line(console, f"Database  {database}")
    if not found:
        print_line(console, "Bots      none yet: a bot's first round creates it")
    for bot in found:
        print_line(console)
        print_line(console, bot.name)
        print_table(console, _holdings_table(bot))
        print_line(console)
        if bot.values:
            print_table(console, _values_table(bot))
            print_line(console)
        if bot.trades:
            print_table(console, _trades_table(bot))
            print_line(console)
        for line in _result_lines(bot):
            print_line(console, line)


def _holdings_table(bot: BotStatement) -> Table:
    table = plain_table(
        "Holding", "Quantity", "Price", "As of", "Value", "Cost", "Result", left=("Holding",)
    )
    for holding in bot.holdings:
        table.add_row(
            holding.symbol,
            f"{holding.quantity:.6g}",
            UNKNOWN if holding.price is None else price_text(holding.price),
            "" if holding.as_of is None else f"{holding.as_of:%Y-%m-%d}",
            _money(holding.value),
            _money(holding.cost),
            _money(holding.result, signed=True),
        )
    table.add_row("Cash", "", "", "", _money(bot.cash), "", "")
    table.add_row("In all", "", "", "", _money(bot.value), "", "")
    return table


def _values_table(bot: BotStatement) -> Table:
    """Return a table of the newest values, each with its change since the bot's oldest value."""
    table = plain_table("Value at the close of", "Cash", "In all", "Change", left=())
    first = bot.values[0].value
    for value in bot.values[-MAX_LINES:]:
        change = f"{value.value / first - 1:+.1%}" if first else ""
        table.add_row(f"{value.at:%Y-%m-%d}", _money(value.cash), _money(value.value), change)
    return table


def _trades_table(bot: BotStatement) -> Table:
    table = plain_table(
        *("Trade (UTC)", "Ticker", "Side", "Quantity", "Price", "Costs", "Result", "Note"),
        left=("Trade (UTC)", "Ticker", "Side", "Note"),
    )
    for trade in bot.trades[-MAX_LINES:]:
        table.add_row(
            f"{trade.at:%Y-%m-%d %H:%M}",
            trade.symbol,
            trade.side,
            f"{trade.quantity:.6g}",
            price_text(trade.price),
            f"{trade.costs:.2f}",
            _result_text(trade),
            trade.note or "",
        )
    return table


def _result_text(trade: Booked) -> str:
    if trade.side == "buy" or trade.note == "split":
        return ""
    return _money(trade.result, signed=True)


def _result_lines(bot: BotStatement) -> Iterator[str]:
    sales = sum(trade.side == "sell" and trade.note != "split" for trade in bot.trades)
    yield (
        f"Realised  {bot.realised:+,.2f} USD by {sales} sales and {bot.dividends:,.2f} of "
        f"dividends; costs of all trades {bot.costs:,.2f}"
    )
    if bot.unknown:
        yield f"Note      written by hand, so without a known cost: {', '.join(bot.unknown)}"
    if max(len(bot.trades), len(bot.values)) > MAX_LINES:
        yield f"Note      the newest {MAX_LINES} values and trades: --json has them all"
    yield "Note      dividends are credited if the source reports them, as yahoo does"


def _money(amount: float | None, *, signed: bool = False) -> str:
    if amount is None:
        return UNKNOWN
    return f"{amount:+,.2f}" if signed else f"{amount:,.2f}"
