"""`kronosbot report`: the forecasts and their record as one HTML file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tradingbot.cli.options import DatabaseOption, given_source
from tradingbot.cli.output import fail
from tradingbot.errors import KronosError
from tradingbot.runtime.signals import Stopped, stop_on_signals
from tradingbot.runtime.streams import SafeStream
from tradingbot.settings import Settings, check_symbols


def write_report(
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The file to write; an older one is replaced.")
    ] = Path("report.html"),
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Where candles come from: csv:DIR, sample, or yahoo: those that the job has "
            "stored. [env KRONOS_DATA_SOURCE; default that of the last run]",
        ),
    ] = None,
    symbols: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="These tickers only. Default: all."),
    ] = None,
    database_url: DatabaseOption = None,
) -> None:
    """Write the forecasts and their record as one HTML file.

    Each ticker's candles with the newest forecast, earlier forecasts against what came, how often
    the bands held, and how the forecasts compare with a random walk. The file needs no network:
    mail it, or put it on any web server. Reads the database and nothing from a network.

    Exit codes: 0 written; 1 nothing is there to report, or the database is out of reach; 2 a wrong
    setting, or a file that cannot be written; 130 Ctrl-C.

    \b
    Try it:
      kronosbot report
      kronosbot report --symbols SPY,QQQ --out /srv/www/kronos.html
    """
    from tradingbot.persistence.url import database_url as configured_url
    from tradingbot.reports.writer import write_report as write_file

    try:
        with stop_on_signals():
            settings = Settings.from_env()
            written = write_file(
                out,
                database_url or configured_url(),
                settings,
                source=given_source(source, settings),
                symbols=() if symbols is None else check_symbols("--symbols", symbols),
            )
    except (KronosError, Stopped) as error:
        fail(error, left=f"{out} is as it was")
    stdout = SafeStream(sys.stdout)
    stdout.write(f"{out}: {written.summary}; {written.size / 1e6:.1f} MB\n")
    stdout.flush()
