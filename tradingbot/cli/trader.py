"""`python -m tradingbot.kronostraderbot`: its options."""

from dataclasses import replace
from functools import partial
from typing import Annotated

import typer

from tradingbot.bots.account import CASH
from tradingbot.bots.console import lines, run_as_command
from tradingbot.bots.kronos_trader import KronosTraderBot
from tradingbot.bots.repository import read_portfolio
from tradingbot.cli.command import Command
from tradingbot.cli.options import DatabaseOption, SourceOption, Tickers, symbols_option
from tradingbot.data.service import DataService
from tradingbot.persistence.engine import get_db_session, get_engine
from tradingbot.settings import DEFAULT_SOURCE, Settings

NAME = "kronostraderbot"


def command() -> None:
    """Read the arguments and run a round."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(cls=Command)(run)
    app(prog_name="python -m tradingbot.kronostraderbot")


def run(
    source: SourceOption = None,
    symbols: Annotated[
        Tickers | None,
        symbols_option(
            "Trade these tickers. Default: KRONOS_EXTRA_SYMBOLS and what is held; with csv and "
            "sample the source's own."
        ),
    ] = None,
    database_url: DatabaseOption = None,
) -> None:
    """Trade on paper, once, on the forecasts that kronosbot has stored.

    With another source than yahoo the bot has another name, such as kronostraderbot-sample, and
    so a portfolio of its own. Exit codes: 0 done; 1 no ticker could be decided, or the database
    is out of reach; 2 a wrong setting; 130 Ctrl-C; 143 SIGTERM.
    """
    run_as_command(
        lambda: _bot(source, symbols, database_url).run(), lambda done: "\n".join(lines(done))
    )


def _bot(source: str | None, symbols: Tickers | None, url: str | None) -> KronosTraderBot:
    settings = Settings.from_env()
    if source is not None:
        settings = replace(settings, data_source=source)
    kind = settings.data_source.partition(":")[0]
    name = NAME if kind == DEFAULT_SOURCE else f"{NAME}-{kind}"
    get_engine(url)  # an address that cannot be read is refused before anything is fetched
    sessions = partial(get_db_session, url)
    data = DataService(
        settings.data_source,
        horizon=settings.horizon,
        min_bars=1,
        sessions=sessions,
        timeouts=settings.timeouts,
        max_jump=settings.max_jump,
    )
    if symbols is not None:
        tickers = list(symbols)
    elif listed := data.symbols():
        tickers = listed
    else:
        with sessions() as session:
            owned = read_portfolio(session, name)
        held = [ticker for ticker, amount in owned.items() if amount and ticker != CASH]
        tickers = [*settings.extra_symbols, *held]
    return KronosTraderBot(name, tickers=tickers, data=data, sessions=sessions, settings=settings)
