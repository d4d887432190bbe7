"""`kronosbot`, the command: its subcommands and options."""

import sys
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from tradingbot import __version__
from tradingbot.utils.errors import KronosError
from tradingbot.utils.job import exit_code, nightly
from tradingbot.utils.narrator import Narrator
from tradingbot.utils.report import Report, show
from tradingbot.utils.settings import (
    MAX_HORIZON,
    Settings,
    check_source,
    check_symbols,
    check_whole,
)
from tradingbot.utils.signals import Stopped, signals_held, stop_on_signals
from tradingbot.utils.streams import SafeStream

app = typer.Typer(
    help="Forecast every active ticker with Kronos and store what comes back.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def command() -> None:
    """`kronosbot`. Without a subcommand it is `run`, so a cronjob needs no arguments."""
    arguments = sys.argv[1:]
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in _OWN_OPTIONS):
        arguments = ["run", *arguments]
    app(args=arguments, prog_name="kronosbot")


_OWN_OPTIONS = ("--help", "--version")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kronosbot {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def run(
    local: Annotated[
        bool,
        typer.Option("--local", help="Start a Space on this machine, and stop it at the end."),
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Where candles come from: yahoo, csv:DIR (one file a ticker), or sample "
            "(real candles, no network). [env KRONOS_DATA_SOURCE; default yahoo]",
        ),
    ] = None,
    symbols: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="These tickers only. Default: those of the bots and KRONOS_EXTRA_SYMBOLS; "
            "with csv and sample the source's own.",
        ),
    ] = None,
    horizon: Annotated[
        str | None,
        typer.Option(metavar="BARS", help="Days ahead. [env KRONOS_HORIZON; default 5]"),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where forecasts are stored. [env DATABASE_URL, POSTGRES_*; "
            "default sqlite:///kronos.db]",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Forecast and print, but store nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Forecast anew what is already stored.")
    ] = False,
) -> None:
    """Forecast the active tickers once: the nightly job.

    A second run does only what is missing. Exit codes: 0 done; 1 too few forecasts, or the Hub,
    the Space or the database out of reach; 2 a wrong setting; 130 Ctrl-C; 143 SIGTERM;
    129 the terminal was closed.

    Try it: kronosbot run --local --source sample
    """
    narrator = Narrator()
    report = Report(dry_run=dry_run)
    try:
        settings = Settings.from_env()
        if source is not None:
            settings = replace(settings, data_source=check_source("--source", source))
        if horizon is not None:
            bars = check_whole("--horizon", horizon, 1, MAX_HORIZON)
            settings = replace(settings, horizon=bars)
        tickers = () if symbols is None else check_symbols("--symbols", symbols)
        _import_parts()
        with stop_on_signals(), narrator:
            code = nightly(
                settings,
                report,
                narrator,
                local=local,
                tickers=tickers,
                url=database_url,
                force=force,
            )
        failure = None if report.message is None else f"Error: {report.message}"
    except (KronosError, Stopped) as error:
        code, failure = exit_code(error), _in_words(error)
    with signals_held():
        if report.forecasts or report.failed:
            _show(report, narrator)
        if failure is not None:
            narrator.say(failure)
    raise typer.Exit(code)


def _import_parts() -> None:
    """What takes long to import, while a signal may still end the process at once."""
    import tradingbot.utils.data_service
    import tradingbot.utils.kronos_client
    import tradingbot.utils.predictions  # noqa: F401


def _show(report: Report, narrator: Narrator) -> None:
    """The report on stdout. That it cannot be shown is a warning: the work is done."""
    out = SafeStream(sys.stdout)
    show(report, Console(file=out.as_text()))
    if out.error is not None and not isinstance(out.error, BrokenPipeError):
        narrator.say(f"Warning: the report could not be shown: {out.error.strerror}")


def _in_words(error: BaseException) -> str:
    if isinstance(error, Stopped):
        return f"Stopped by {error}; what was stored stays, and the next run does the rest"
    return f"Error: {error}"
