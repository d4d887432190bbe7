"""`kronosbot run`: the nightly job."""

import logging
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tradingbot.cli.run_document import digest, document, outcome_lines
from tradingbot.cli.run_output import show
from tradingbot.errors import KronosError
from tradingbot.jobs.sharding import Shard
from tradingbot.jobs.summary import Ending, RunSummary
from tradingbot.persistence.wait_callback import bounded_waits
from tradingbot.runtime.logs import likely_log_format, log_format, to_json
from tradingbot.runtime.progress import JsonProgressReporter, ProgressReporter
from tradingbot.runtime.signals import Stopped, signals_held, stop_on_signals
from tradingbot.runtime.streams import SafeStream
from tradingbot.settings import MAX_HORIZON, Settings, check_source, check_symbols, check_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from tradingbot.jobs.nightly import NightlyJob

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
    given = [] if log_lines is None else ["--log-format", log_lines]
    reporter = JsonProgressReporter() if likely_log_format(given) == "json" else ProgressReporter()

    def build() -> "NightlyJob":
        from tradingbot.jobs.nightly import JobOptions, build_job

        log_format(log_lines)  # now strictly
        settings = Settings.from_env()
        if source is not None:
            settings = replace(settings, data_source=check_source("--source", source))
        if horizon is not None:
            bars = check_whole("--horizon", horizon, 1, MAX_HORIZON)
            settings = replace(settings, horizon=bars)
        options = JobOptions(
            symbols=() if symbols is None else check_symbols("--symbols", symbols),
            shard=Shard.chosen(settings, shard),
            force=force,
            dry_run=dry_run,
            local=local,
            database_url=database_url,
        )
        return build_job(settings, options, reporter)

    with reporter:
        summary = _perform(build, dry_run=dry_run)
        with signals_held():
            _tell(summary, reporter, as_json=as_json)
    raise typer.Exit(summary.ending.exit_code)


def _perform(build: "Callable[[], NightlyJob]", *, dry_run: bool) -> RunSummary:
    """What came of the job, also where it failed, or could not be built."""
    job = None
    try:
        job = build()
        with stop_on_signals(), bounded_waits(job.settings.timeouts):
            ending = job.run()
    except (KronosError, Stopped) as error:
        ending = Ending.by(error)
    except Exception as error:
        logger.exception("This is a mistake in kronosbot, please report it")
        ending = Ending(1, type(error).__name__, f"{type(error).__name__}: {error}")
    return job.summary(ending) if job else RunSummary(ending, dry_run=dry_run)


def _tell(summary: RunSummary, reporter: ProgressReporter, *, as_json: bool) -> None:
    """The summary on stdout. That it cannot be shown is a warning: the work is done."""
    reporter.end()
    out = SafeStream(sys.stdout)
    if as_json:
        out.write(to_json(document(summary)) + "\n")
    elif isinstance(reporter, JsonProgressReporter):
        for line in outcome_lines(summary):
            out.write(line + "\n")
    elif summary.forecasts or summary.failed:
        show(summary, Console(file=out.as_text()))
    out.flush()
    if out.error is not None and not isinstance(out.error, BrokenPipeError):
        reporter.warn(f"the report could not be shown: {out.error.strerror}")
    if isinstance(reporter, JsonProgressReporter):
        reporter.report(_in_words(summary), digest(summary))
    elif summary.ending.message is not None:
        failed = summary.ending.error not in (None, Stopped.__name__)
        reporter.say(f"Error: {summary.ending.message}" if failed else _in_words(summary))


def _in_words(summary: RunSummary) -> str:
    """What became of the run, in one line."""
    message = summary.ending.message
    if summary.ending.error == Stopped.__name__:
        return f"Stopped by {message}; what was stored stays, and the next run does the rest"
    return message or f"{len(summary.done)} of {len(summary.tickers)} tickers have a forecast"
