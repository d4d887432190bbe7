"""Run the job from the command line, and print its summary."""

import logging
import sys
from collections.abc import Callable

from tradingbot.cli.run_document import digest, document, outcome_lines
from tradingbot.cli.run_output import show
from tradingbot.errors import KronosError
from tradingbot.jobs.nightly import NightlyJob
from tradingbot.jobs.pause_unused_spaces import pause_space_of_environment
from tradingbot.jobs.summary import Ending, RunSummary
from tradingbot.monitoring.notification import announce
from tradingbot.persistence.wait_callback import bounded_waits
from tradingbot.runtime.logs import to_json
from tradingbot.runtime.progress import JsonProgressReporter, ProgressReporter, SafeConsole
from tradingbot.runtime.signals import Stopped, signals_held, stop_on_signals
from tradingbot.runtime.streams import SafeStream
from tradingbot.settings import default_timeouts

logger = logging.getLogger(__name__)


def perform(
    build: Callable[[], NightlyJob],
    reporter: ProgressReporter,
    *,
    dry_run: bool,
    local: bool,
    database_url: str | None,
) -> RunSummary:
    """Build and run the job. Return its summary, even if it failed or could not be built."""
    job = None
    try:
        job = build()
        with stop_on_signals(), bounded_waits(job.settings.timeouts):
            ending = job.run()
    except (KronosError, Stopped) as error:
        ending = Ending.by(error)
    except Exception as error:
        logger.exception("This is a bug in kronosbot, please report it")
        ending = Ending(1, type(error).__name__, f"{type(error).__name__}: {error}")
    if job is not None:
        return job.summary(ending)
    if not local:
        pause_space_of_environment(database_url, reporter)
    return RunSummary(ending, dry_run=dry_run)


def print_summary(summary: RunSummary, reporter: ProgressReporter, *, as_json: bool) -> None:
    """Post the outcome to KRONOS_NOTIFY, then print the summary on stdout.

    A failure to post or to print is only a warning, because the work is done. Signals are held back
    until the end.
    """
    with signals_held():
        announce(summary, default_timeouts())
        _print(summary, reporter, as_json=as_json)


def _print(summary: RunSummary, reporter: ProgressReporter, *, as_json: bool) -> None:
    reporter.end()
    out = SafeStream(sys.stdout)
    if as_json:
        out.write(to_json(document(summary)) + "\n")
    elif isinstance(reporter, JsonProgressReporter):
        for line in outcome_lines(summary):
            out.write(line + "\n")
    elif summary.forecasts or summary.failed:
        show(summary, SafeConsole(file=out.as_text()))
    out.flush()
    if out.error is not None and not isinstance(out.error, BrokenPipeError):
        reporter.warn(f"the report could not be shown: {out.error.strerror}")
    if isinstance(reporter, JsonProgressReporter):
        reporter.report(_ending_line(summary), digest(summary))
    elif summary.ending.message is not None:
        failed = summary.ending.error not in (None, Stopped.__name__)
        reporter.say(f"Error: {summary.ending.message}" if failed else _ending_line(summary))


def _ending_line(summary: RunSummary) -> str:
    """Return the outcome of the run in one line."""
    message = summary.ending.message
    if summary.ending.error == Stopped.__name__:
        return f"Stopped by {message}; stored forecasts stay, and the next run does the rest"
    return message or f"{len(summary.done)} of {len(summary.tickers)} tickers have a forecast"
