"""`kronosbot report`: write the forecasts and their scores to one HTML file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tradingbot.cli.options import LAST_SOURCE, DatabaseOption, SymbolsOption, source_option
from tradingbot.cli.output import fail
from tradingbot.errors import KronosError
from tradingbot.runtime.signals import Stopped, stop_on_signals
from tradingbot.runtime.streams import SafeStream
from tradingbot.settings import Settings


def write_report(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write or replace.")] = Path(
        "report.html"
    ),
    source: Annotated[
        str | None,
        source_option(
            "Source of candles: csv:DIR, sample, or yahoo, which means those that the job has "
            "stored. "
            f"{LAST_SOURCE}"
        ),
    ] = None,
    symbols: SymbolsOption = None,
    backtest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Report on this file, written by `kronosbot backtest`; no database is read.",
        ),
    ] = None,
    database_url: DatabaseOption = None,
) -> None:
    """Write the forecasts and their scores to one HTML file.

    Each ticker's candles with the newest forecast, earlier forecasts against the closes, how often
    the bands held, and how the forecasts compare with a random walk. The file needs no network:
    mail it, or put it on any web server. Reads only the database, and nothing from a network.

    Exit codes: 0 written; 1 there is nothing to report, or the database is out of reach; 2 a wrong
    setting, or a file that cannot be written; 130 Ctrl-C.

    \b
    Try it:
      kronosbot report
      kronosbot report --symbols SPY,QQQ --out /srv/www/kronos.html
      kronosbot report --backtest backtest.csv
    """
    from tradingbot.errors import ConfigError
    from tradingbot.persistence.url import database_url as configured_url
    from tradingbot.reports.writer import write_report as write_file

    try:
        with stop_on_signals():
            if backtest is not None and (source or database_url):
                other = "--source" if source else "--database-url"
                raise ConfigError(f"--backtest={str(backtest)!r} has its own candles: no {other}")
            written = write_file(
                out,
                database_url or configured_url(),
                Settings.from_env(),
                source=source,
                symbols=symbols or (),
                backtest=backtest,
            )
    except (KronosError, Stopped) as error:
        fail(error, left=f"{out} is unchanged")
    stdout = SafeStream(sys.stdout)
    stdout.write(f"{out}: {written.summary}; {written.size / 1e6:.1f} MB\n")
    stdout.flush()
