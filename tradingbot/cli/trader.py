"""`python -m tradingbot.kronostraderbot` and its options."""

from dataclasses import replace
from functools import partial

from tradingbot.bots.account import CASH
from tradingbot.bots.command import Options, run_command
from tradingbot.bots.kronos_trader import KronosTraderBot
from tradingbot.bots.parameters import parameters_of
from tradingbot.bots.repository import read_portfolio
from tradingbot.cli.command import Command
from tradingbot.data.service import DataService
from tradingbot.persistence.engine import get_db_session, get_engine, rehearsal_session
from tradingbot.settings import DEFAULT_SOURCE, Settings

NAME = "kronostraderbot"


def command() -> None:
    """Parse the arguments and run a round or a backtest."""
    run_command(
        _bot,
        "Trade on the forecasts that kronosbot has stored,",
        parameters_of(KronosTraderBot),
        symbols_help="Trade these tickers. Default: KRONOS_EXTRA_SYMBOLS and all holdings; with "
        "csv and sample the source's own.",
        cls=Command,
        prog_name="python -m tradingbot.kronostraderbot",
    )


def _bot(options: Options) -> KronosTraderBot:
    """Return the bot.

    With a source other than yahoo the bot has a different name, and thus a separate portfolio.
    """
    settings, url = Settings.from_env(), options.database_url
    if options.source is not None:
        settings = replace(settings, data_source=options.source)
    kind = settings.data_source.partition(":")[0]
    name = NAME if kind == DEFAULT_SOURCE else f"{NAME}-{kind}"
    get_engine(url)  # reject an invalid address before fetching anything
    sessions = partial(get_db_session if options.writes else rehearsal_session, url)
    data = DataService(
        settings.data_source,
        horizon=settings.horizon,
        min_bars=1,
        sessions=sessions,
        timeouts=settings.timeouts,
        max_jump=settings.max_jump,
    )
    if options.symbols is not None:
        tickers = list(options.symbols)
    elif listed := data.symbols():
        tickers = listed
    else:
        with sessions() as session:
            owned = read_portfolio(session, name)
        held = [ticker for ticker, amount in owned.items() if amount and ticker != CASH]
        tickers = [*settings.extra_symbols, *held]
    return KronosTraderBot(
        name,
        tickers=tickers,
        data=data,
        sessions=sessions,
        settings=settings,
        **options.parameters,
    )
