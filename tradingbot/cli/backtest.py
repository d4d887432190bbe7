"""`kronosbot backtest`: walk-forward forecasts of past sessions, written to a CSV file."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from tradingbot.cli.options import (
    DayOption,
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
from tradingbot.cli.output import fail, finish
from tradingbot.errors import KronosError
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import Stopped, stop_on_signals
from tradingbot.settings import TEMPERATURE, TOP_P, Settings

MIN_CONTEXT, MAX_CONTEXT = 32, 4096  # bars; limits of the Space


def backtest(
    symbols: Annotated[
        Tickers | None,
        symbols_option(
            "The tickers. Default: those of the source csv or sample, else KRONOS_EXTRA_SYMBOLS."
        ),
    ] = None,
    count: Annotated[
        int,
        typer.Option(
            "--windows", metavar="N", min=1, max=100_000, help="Number of forecasts per ticker."
        ),
    ] = 100,
    stride: Annotated[
        int,
        typer.Option(metavar="BARS", min=1, max=10_000, help="Bars between two forecasts."),
    ] = 5,
    horizon: HorizonOption = None,
    samples: SamplesOption = None,
    context: Annotated[
        int,
        typer.Option(
            metavar="BARS",
            min=MIN_CONTEXT,
            max=MAX_CONTEXT,
            help="Bars of history for each forecast.",
        ),
    ] = 500,
    temperature: TemperatureOption = TEMPERATURE,
    top_p: TopPOption = TOP_P,
    until: DayOption = None,
    model: ModelOption = None,
    local: LocalOption = False,
    source: SourceOption = None,
    allow_jumps: JumpsOption = False,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Results file; an existing one is resumed.")
    ] = Path("backtest.csv"),
    as_json: JsonOption = False,
) -> None:
    """Forecast the past, window by window, and measure the forecasts against the closes.

    At each window the Space sees only the bars up to it. Forecasts are written to the CSV as they
    arrive, and not to the database. Repeat the command to compute what is missing,
    even after Ctrl-C or a crash. More --windows or --symbols add to the file.

    Exit codes: 0 done; 1 some or all tickers or windows are missing; 2 a wrong setting, or
    a file made with other settings; 130 Ctrl-C; 143 SIGTERM.

    \b
    Try it:
      kronosbot backtest --local --source sample --windows 20
    """
    from tradingbot.cli.backtest_output import backtest_document, show_backtest
    from tradingbot.walk_forward.evaluation import evaluate
    from tradingbot.walk_forward.runner import WalkForwardConfig, WalkForwardResult, run

    reporter = ProgressReporter()
    walked = WalkForwardResult(out)
    with reporter:
        try:
            settings = Settings.from_env()
            settings = replace(
                settings,
                data_source=source or settings.data_source,
                samples=samples or settings.samples,
                horizon=horizon or settings.horizon,
                max_jump=math.inf if allow_jumps else settings.max_jump,
            )
            config = WalkForwardConfig(
                tickers=symbols or (),
                windows=count,
                stride=stride,
                context=context,
                temperature=temperature,
                top_p=top_p,
                until=until,
                model=model,
                local=local,
            )
            with stop_on_signals():
                run(settings, config, walked, reporter)
            evaluation = evaluate(out)
        except (KronosError, Stopped) as error:
            reporter.end()
            fail(error, as_json=as_json, left=f"{walked.progress()}, the same command resumes it")
        reporter.end()
    code = 1 if walked.failed or walked.missing else 0
    finish(
        code,
        as_json=as_json,
        document=lambda: {"exit_code": code, **backtest_document(walked, evaluation)},
        show=partial(show_backtest, walked, evaluation),
    )
