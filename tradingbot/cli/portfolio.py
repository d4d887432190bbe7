"""`kronosbot portfolio`: show the bots' holdings and results, and correct holdings by hand."""

from functools import partial
from typing import Annotated

import typer

from tradingbot.cli.command import Command, Group
from tradingbot.cli.options import DatabaseOption, JsonOption
from tradingbot.cli.output import fail, finish
from tradingbot.errors import KronosError
from tradingbot.formatting import quoted

portfolio_app = typer.Typer(
    subcommand_metavar="COMMAND [ARGS]",
    cls=Group,
    rich_markup_mode=None,
    invoke_without_command=True,
    context_settings={"help_option_names": ["--help", "-h"]},
)

BotArgument = Annotated[str, typer.Argument(metavar="BOT", help="The bot's name.")]
TickerArgument = Annotated[str, typer.Argument(metavar="TICKER", help="Such as AAPL.")]


@portfolio_app.callback()
def portfolio(
    ctx: typer.Context,
    bot: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="This bot only; may be repeated. Default: all."),
    ] = None,
    database_url: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every bot's holdings, value over time, trades and realised result.

    Reads only the database. Prices are the newest closes that the bots have seen.
    Money is USD.

    Exit codes: 0 shown; 1 there is no bot, or the database is out of reach; 2 a wrong setting.

    \b
    Try it:
      kronosbot portfolio
      kronosbot portfolio --bot my-bot --json
    """
    if ctx.invoked_subcommand is not None:
        return
    from tradingbot.bots.statement import read_statements
    from tradingbot.cli.portfolio_output import portfolio_document, show_portfolios
    from tradingbot.persistence.url import database_url as configured_url
    from tradingbot.persistence.url import redact

    try:
        url = database_url or configured_url()
        found = read_statements(url, bot or ())
    except KronosError as error:
        fail(error, as_json=as_json)
    finish(
        0,
        as_json=as_json,
        document=lambda: portfolio_document(redact(url), found),
        show=partial(show_portfolios, redact(url), found),
    )


@portfolio_app.command("close", cls=Command)
def close(
    bot: BotArgument,
    ticker: TickerArgument,
    price: Annotated[float, typer.Option(metavar="USD", help="Price of one unit; may be 0.")],
    database_url: DatabaseOption = None,
) -> None:
    """Sell a bot's whole holding of a ticker at a given price.

    For a ticker without prices, such as a company that was taken over or delisted. No costs are
    charged. A round does this automatically at the last price after 20 sessions without a bar.

    Exit codes: 0 sold; 1 there is no such bot or holding, or the database is out of reach; 2 a
    wrong setting.

    Try it: kronosbot portfolio close my-bot TWTR --price 54.20
    """
    from tradingbot.bots.manual_corrections import close_position
    from tradingbot.persistence.engine import get_db_session

    try:
        with get_db_session(database_url) as session:
            fill = close_position(session, bot, ticker, price)
    except KronosError as error:
        fail(error)
    worth = fill.quantity * fill.price
    typer.echo(f"Sold {fill.quantity:.6g} {fill.symbol} at {fill.price:g}: {worth:,.2f} USD")


@portfolio_app.command("set", cls=Command)
def set_quantity(
    bot: BotArgument,
    ticker: TickerArgument,
    quantity: Annotated[
        float, typer.Argument(metavar="QUANTITY", help="Units, in today's shares.")
    ],
    database_url: DatabaseOption = None,
) -> None:
    """Set the number of units of a ticker that a bot holds, in today's shares.

    For a holding that is not traded because it is unclear whether it already includes a split.
    Cash does not change, and no trade is recorded.

    Exit codes: 0 written; 1 there is no such bot, or the database is out of reach; 2 a wrong
    setting.

    Try it: kronosbot portfolio set my-bot AAPL 40
    """
    from tradingbot.bots.manual_corrections import set_quantity as set_by_hand
    from tradingbot.persistence.engine import get_db_session

    try:
        with get_db_session(database_url) as session:
            before = set_by_hand(session, bot, ticker, quantity)
    except KronosError as error:
        fail(error)
    previous = f"{before:.6g}" if isinstance(before, float) else quoted(str(before))
    typer.echo(f"{bot} holds {quantity:.6g} {ticker.strip().upper()}; before: {previous}")
