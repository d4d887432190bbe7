"""`kronosbot run`: the nightly job."""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from tradingbot.cli.command import Command
from tradingbot.cli.options import (
    DatabaseOption,
    HorizonOption,
    JsonOption,
    JumpsOption,
    LocalOption,
    ModelOption,
    SamplesOption,
    SourceOption,
    TemperatureOption,
    Tickers,
    TopPOption,
    symbols_option,
)
from tradingbot.environment import environment
from tradingbot.errors import KronosError
from tradingbot.jobs.sharding import Shard
from tradingbot.runtime.logs import likely_log_format, log_format
from tradingbot.runtime.progress import JsonProgressReporter, ProgressReporter
from tradingbot.settings import TEMPERATURE, TOP_P, Settings

if TYPE_CHECKING:
    from tradingbot.jobs.nightly import NightlyJob


class RunCommand(Command):
    """The command `run`.

    A run that ends with a wrong option prints a summary like any other run.
    """

    def refuse(self, ctx: Any, error: KronosError) -> NoReturn:
        """Print the summary of a run that did nothing, and end the command."""
        from tradingbot.cli.run_result import print_summary
        from tradingbot.jobs.pause_unused_spaces import pause_space_of_environment
        from tradingbot.jobs.summary import Ending, RunSummary

        summary = RunSummary(Ending.by(error), dry_run=bool(ctx.params.get("dry_run")))
        with _reporter(sys.argv[1:]) as reporter:
            if "--local" not in sys.argv:
                pause_space_of_environment(ctx.params.get("database_url"), reporter)
            print_summary(summary, reporter, as_json=bool(ctx.params.get("as_json")))
        raise typer.Exit(summary.ending.exit_code)


def run(
    local: LocalOption = False,
    source: SourceOption = None,
    symbols: Annotated[
        Tickers | None,
        symbols_option(
            "These tickers only. Default: those of the bots and KRONOS_EXTRA_SYMBOLS; "
            "with csv and sample the source's own."
        ),
    ] = None,
    horizon: HorizonOption = None,
    samples: SamplesOption = None,
    model: ModelOption = None,
    temperature: TemperatureOption = TEMPERATURE,
    top_p: TopPOption = TOP_P,
    shard: Annotated[
        Shard | None,
        typer.Option(
            metavar="I/N",
            parser=Shard.parse,
            help="Forecast only part I (from 0) of N parts of the tickers, so that N runs can "
            "share them. "
            "[env JOB_COMPLETION_INDEX and KRONOS_SHARDS; default all]",
        ),
    ] = None,
    database_url: DatabaseOption = None,
    dry_run: Annotated[
        bool,  # eager, like --json, because the summary of a run with a wrong option contains it
        typer.Option("--dry-run", is_eager=True, help="Forecast and print, but store nothing."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Forecast again what is already stored.")
    ] = False,
    allow_jumps: JumpsOption = False,
    log_lines: Annotated[
        Literal["auto", "text", "json"] | None,
        typer.Option(
            "--log-format",
            metavar="auto|text|json",
            help="Format of the progress on stderr: text, or one JSON object per line. "
            "[env KRONOS_LOG_FORMAT; default auto: json in a Kubernetes pod]",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Forecast the active tickers once: the nightly job.

    KRONOS_SPACE_URL is the address of the forecasting Space, or HF_SPACE_REPO its name on the Hub.
    With HF_TOKEN, a write token of its owner, the Space is woken first and paused at the end. With
    --local, none of these is needed.

    A second run forecasts only what is missing. Progress goes to stderr, the report to stdout.

    Exit codes: 0 done; 1 too few forecasts, or the Hub, the Space or the database out of reach;
    2 a wrong setting; 130 Ctrl-C; 143 SIGTERM; 129 the terminal was closed.

    \b
    Try it:
      kronosbot run --local --source sample
      kronosbot run --local --symbols SPY,BTC-USD --json | jq .counts
    """
    reporter = _reporter([] if log_lines is None else ["--log-format", log_lines])
    with reporter:
        from tradingbot.cli.run_result import perform, print_summary
        from tradingbot.monitoring.notification import configured_target

        def build() -> "NightlyJob":
            from tradingbot.jobs.building import build_job
            from tradingbot.jobs.options import JobOptions

            configured_target()  # check the target before doing any work
            log_format(log_lines, environment())  # checks KRONOS_LOG_FORMAT strictly
            settings = Settings.from_env()
            settings = replace(
                settings,
                data_source=source or settings.data_source,
                horizon=horizon or settings.horizon,
                samples=samples or settings.samples,
                max_jump=math.inf if allow_jumps else settings.max_jump,
            )
            options = JobOptions(
                symbols=symbols or (),
                shard=shard or Shard.of(settings),
                force=force,
                dry_run=dry_run,
                local=local,
                database_url=database_url,
                model=model,
                temperature=temperature,
                top_p=top_p,
            )
            return build_job(settings, options, reporter)

        summary = perform(build, reporter, dry_run=dry_run, local=local, database_url=database_url)
        print_summary(summary, reporter, as_json=as_json)
    raise typer.Exit(summary.ending.exit_code)


def _reporter(arguments: Sequence[str]) -> ProgressReporter:
    in_json = likely_log_format(arguments, environment()) == "json"
    return JsonProgressReporter() if in_json else ProgressReporter()
