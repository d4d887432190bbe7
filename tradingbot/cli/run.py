"""`kronosbot run`: the nightly job."""

import logging
import sys
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from tradingbot.cli.run_output import digest, document, outcome_lines, show
from tradingbot.errors import KronosError
from tradingbot.jobs.nightly import exit_code, nightly
from tradingbot.jobs.sharding import Shard
from tradingbot.jobs.summary import RunSummary
from tradingbot.persistence.wait_callback import bounded_waits
from tradingbot.runtime.logs import likely_log_format, log_format, to_json
from tradingbot.runtime.progress import JsonProgressReporter, ProgressReporter
from tradingbot.runtime.signals import Stopped, signals_held, stop_on_signals
from tradingbot.runtime.streams import SafeStream
from tradingbot.settings import MAX_HORIZON, Settings, check_source, check_symbols, check_whole

logger = logging.getLogger(__name__)


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
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Take part I, from 0, of the tickers dealt into N, so that N runs can share them. "
            "[env JOB_COMPLETION_INDEX and KRONOS_SHARDS; default all]",
        ),
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
    log_lines: Annotated[
        str | None,
        typer.Option(
            "--log-format",
            metavar="auto|text|json",
            help="How progress is told on stderr: as text, or one JSON object a line. "
            "[env KRONOS_LOG_FORMAT; default auto: json in a Kubernetes pod]",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the whole report as one JSON document on stdout."),
    ] = False,
) -> None:
    """Forecast the active tickers once: the nightly job.

    KRONOS_SPACE_URL is the address of the Space that forecasts. With HF_TOKEN, a write token of
    its owner, and HF_SPACE_REPO it is woken first and paused at the end. With --local none of
    them is needed.

    A second run does only what is missing. Progress is told on stderr, the report on stdout.

    Exit codes: 0 done; 1 too few forecasts, or the Hub, the Space or the database out of reach;
    2 a wrong setting; 130 Ctrl-C; 143 SIGTERM; 129 the terminal was closed.

    \b
    Try it:
      kronosbot run --local --source sample
      kronosbot run --local --symbols SPY,BTC-USD --json | jq .counts
    """
    report = RunSummary(dry_run=dry_run)
    given = [] if log_lines is None else ["--log-format", log_lines]
    narrator = JsonProgressReporter() if likely_log_format(given) == "json" else ProgressReporter()
    with narrator:
        try:
            log_format(log_lines)  # now strictly
            settings = Settings.from_env()
            if source is not None:
                settings = replace(settings, data_source=check_source("--source", source))
            if horizon is not None:
                bars = check_whole("--horizon", horizon, 1, MAX_HORIZON)
                settings = replace(settings, horizon=bars)
            tickers = () if symbols is None else check_symbols("--symbols", symbols)
            part = Shard.chosen(settings, shard)
            _import_parts()
            with stop_on_signals(), bounded_waits(settings.timeouts):
                report.exit_code = nightly(
                    settings,
                    report,
                    narrator,
                    local=local,
                    tickers=tickers,
                    url=database_url,
                    force=force,
                    shard=part,
                )
            if report.exit_code:
                report.error = "TooFewForecasts"
        except (KronosError, Stopped) as error:
            report.exit_code = exit_code(error)
            report.error, report.message = type(error).__name__, str(error)
        except Exception as error:
            logger.exception("This is a mistake in kronosbot, please report it")
            report.exit_code, report.error = 1, type(error).__name__
            report.message = f"{report.error}: {error}"
        with signals_held():
            _tell(report, narrator, as_json=as_json)
    raise typer.Exit(report.exit_code)


def _import_parts() -> None:
    """What takes long to import, while a signal may still end the process at once."""
    import tradingbot.persistence.forecasts  # noqa: F401


def _tell(report: RunSummary, narrator: ProgressReporter, *, as_json: bool) -> None:
    """The report on stdout. That it cannot be shown is a warning: the work is done."""
    narrator.end()
    out = SafeStream(sys.stdout)
    if as_json:
        out.write(to_json(document(report)) + "\n")
    elif isinstance(narrator, JsonProgressReporter):
        for line in outcome_lines(report):
            out.write(line + "\n")
    elif report.forecasts or report.failed:
        show(report, Console(file=out.as_text()))
    out.flush()
    if out.error is not None and not isinstance(out.error, BrokenPipeError):
        narrator.warn(f"the report could not be shown: {out.error.strerror}")
    if isinstance(narrator, JsonProgressReporter):
        narrator.report(_in_words(report), digest(report))
    elif report.message is not None:
        failed = report.error and report.error != Stopped.__name__
        narrator.say(f"Error: {report.message}" if failed else _in_words(report))


def _in_words(report: RunSummary) -> str:
    """What became of the run, in one line."""
    if report.error == Stopped.__name__:
        return f"Stopped by {report.message}; what was stored stays, and the next run does the rest"
    done = len(report.made | report.there)
    return report.message or f"{done} of {len(report.symbols)} tickers have a forecast"
