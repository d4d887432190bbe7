"""`kronosbot backtest`: the model's forecasts of the past, walked forward, into a CSV."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tradingbot.errors import KronosError
from tradingbot.runtime.logs import to_json
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import Stopped, stop_on_signals
from tradingbot.runtime.streams import SafeStream
from tradingbot.settings import (
    MAX_HORIZON,
    MAX_SAMPLES,
    Settings,
    check_date,
    check_number,
    check_source,
    check_symbols,
    check_whole,
)
from tradingbot.space.wire import TEMPERATURE, TOP_P
from tradingbot.utils.command_parts import fail

MIN_CONTEXT, MAX_CONTEXT = 32, 4096  # bars, what a Space accepts


def backtest(
    symbols: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="The tickers. Default: those of the source csv or sample, else "
            "KRONOS_EXTRA_SYMBOLS.",
        ),
    ] = None,
    count: Annotated[
        str, typer.Option("--windows", metavar="N", help="Forecasts a ticker, the newest.")
    ] = "100",
    stride: Annotated[
        str, typer.Option(metavar="BARS", help="From one forecast to the next.")
    ] = "5",
    horizon: Annotated[
        str | None,
        typer.Option(metavar="BARS", help="Days ahead. [env KRONOS_HORIZON; default 5]"),
    ] = None,
    samples: Annotated[
        str | None,
        typer.Option(metavar="PATHS", help="Paths a forecast. [env KRONOS_SAMPLES; default 50]"),
    ] = None,
    context: Annotated[
        str, typer.Option(metavar="BARS", help="Bars of history that each forecast is made from.")
    ] = "500",
    temperature: Annotated[
        str, typer.Option(metavar="T", help="How freely paths are drawn.")
    ] = f"{TEMPERATURE:g}",
    top_p: Annotated[
        str, typer.Option("--top-p", metavar="P", help="Leave out the least likely 1 - P.")
    ] = f"{TOP_P:g}",
    until: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="Nothing after this day counts as known. Default: that of the file, else the "
            "newest bar.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="With --local the model to load [env KRONOS_MODEL]; else the one that the Space "
            "must have.",
        ),
    ] = None,
    local: Annotated[
        bool,
        typer.Option("--local", help="Start a Space on this machine, and stop it at the end."),
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Where candles come from: yahoo, csv:DIR or sample. "
            "[env KRONOS_DATA_SOURCE; default yahoo]",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The CSV; one that is there is gone on with.")
    ] = Path("backtest.csv"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the measures as one JSON document on stdout.")
    ] = False,
) -> None:
    """Forecast the past, window by window, and measure it against what came.

    At each window the Space sees only the bars up to it. Every forecast goes into the CSV as it
    comes, and nowhere else: not into the database. The same command again does what is missing,
    after Ctrl-C or a crash too, and more --windows or --symbols add to the file.

    Exit codes: 0 done; 1 a ticker or windows are missing, or all of them; 2 a wrong setting, or
    a file that was made with others; 130 Ctrl-C; 143 SIGTERM.

    \b
    Try it:
      kronosbot backtest --local --source sample --windows 20
    """
    from tradingbot.utils.backtest_view import document, text
    from tradingbot.walk_forward.runner import WalkForwardConfig, WalkForwardResult, run

    narrator = ProgressReporter()
    walked = WalkForwardResult(out)
    with narrator:
        try:
            settings = Settings.from_env()
            if source is not None:
                settings = replace(settings, data_source=check_source("--source", source))
            if samples is not None:
                settings = replace(
                    settings, samples=check_whole("--samples", samples, 1, MAX_SAMPLES)
                )
            if horizon is not None:
                bars = check_whole("--horizon", horizon, 1, MAX_HORIZON)
                settings = replace(settings, horizon=bars)
            wish = WalkForwardConfig(
                tickers=() if symbols is None else check_symbols("--symbols", symbols),
                windows=check_whole("--windows", count, 1, 100_000),
                stride=check_whole("--stride", stride, 1, 10_000),
                context=check_whole("--context", context, MIN_CONTEXT, MAX_CONTEXT),
                temperature=check_number("--temperature", temperature, 0.001, 100),
                top_p=check_number("--top-p", top_p, 0.001, 1),
                until=None if until is None else check_date("--until", until),
                model=model,
                local=local,
            )
            with stop_on_signals():
                run(settings, wish, walked, narrator)
            code = 1 if walked.failed or walked.missing else 0
        except (KronosError, Stopped) as error:
            narrator.end()
            fail(error, as_json=as_json, left=f"{walked.there()}, the same command goes on")
        narrator.end()
    said = SafeStream(sys.stdout)
    said.write((to_json(document(walked, code)) if as_json else text(walked)) + "\n")
    said.flush()
    raise typer.Exit(code)
