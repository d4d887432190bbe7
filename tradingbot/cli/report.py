"""`kronosbot report`: the forecasts and their record as one HTML file."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tradingbot.cli.options import DatabaseOption, given_source
from tradingbot.cli.output import fail
from tradingbot.errors import ConfigError, KronosError
from tradingbot.runtime.signals import Stopped, signals_held, stop_on_signals
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
    said = SafeStream(sys.stdout)
    try:
        with stop_on_signals():
            told = _write(out, source, symbols, database_url)
    except (KronosError, Stopped) as error:
        fail(error, left=f"{out} is as it was")
    said.write(told + "\n")
    said.flush()


def _write(out: Path, source: str | None, symbols: str | None, url: str | None) -> str:
    """The file; what is in it, in a line."""
    from tradingbot.persistence.url import database_url
    from tradingbot.reports.page import packed_plotly, render_page
    from tradingbot.reports.record import read_record

    settings = Settings.from_env()
    source = given_source(source, settings)
    wanted = () if symbols is None else check_symbols("--symbols", symbols)
    plotly = packed_plotly()
    with _place_for(out) as put:
        record = read_record(url or database_url(), settings, source=source, symbols=wanted)
        size = put(render_page(record, plotly))
    return f"{out}: {record.summary}; {size / 1e6:.1f} MB"


@contextmanager
def _place_for(out: Path) -> Iterator[Callable[[str], int]]:
    """What writes a text to `out`, and says how many bytes it has.

    A reader, or a web server, finds the old file or the new one, whole. Where no file can be
    written that is a ConfigError, before anything else is done.
    """
    target = out.resolve()  # what a link points to is replaced, not the link
    if target.exists() and not target.is_file():
        raise ConfigError(f"--out={str(out)!r} is no file; expected one such as report.html")
    try:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise _unwritable(out, error) from error
    os.close(descriptor)
    beside = Path(name)

    def put(content: str) -> int:
        try:
            written = beside.write_bytes(content.encode())
            beside.chmod(0o644)  # mkstemp's are for their owner alone
            beside.replace(target)
        except OSError as error:
            raise _unwritable(out, error) from error
        return written

    try:
        yield put
    finally:
        with signals_held():
            beside.unlink(missing_ok=True)


def _unwritable(out: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"--out={str(out)!r} cannot be written: {error.strerror}; give a file in a folder that "
        "is there and writable"
    )
