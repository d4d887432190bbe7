"""`kronosbot backtest`: the model's forecasts of the past, walked forward, into a CSV."""

import math
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from tradingbot.cli.output import fail
from tradingbot.errors import KronosError
from tradingbot.evaluation.metrics import MIN_FORECASTS, ForecastMetrics, MetricAccumulator
from tradingbot.evaluation.training_cutoff import trained_until
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
from tradingbot.walk_forward.results import ResultsFile, read_csv, training_counts, without_outcome
from tradingbot.walk_forward.runner import WalkForwardResult

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


def document(walked: WalkForwardResult, code: int) -> dict[str, Any]:
    """All of it, as the module's docstring shows it."""
    return {
        "exit_code": code,
        "error": None,
        "file": str(walked.path),
        "windows": walked.wanted,
        "missing": walked.missing,
        "why_missing": walked.error,
        "made": walked.made,
        "seconds": round(walked.seconds, 3),
        "settings": ResultsFile(walked.path).settings,
        "failed": walked.failed,
        "fewer": walked.fewer,
        "in_training": training_counts(walked.path),
        "without_outcome": without_outcome(walked.path),
        "jumps": _jumps(walked),
        "measures": {name: asdict(measured) for name, measured in _measured(walked).items()},
    }


def text(walked: WalkForwardResult) -> str:
    """The table of measures, then what a reader must know to believe it."""
    measured = _measured(walked)
    lines = [_HEAD[0], _HEAD[1], *(_row(name, one) for name, one in measured.items()), ""]
    counts = training_counts(walked.path)
    total = sum(counts.values())
    trained = ", ".join(f"{_KINDS[kind]} {counts[kind]:,}" for kind in _KINDS if kind in counts)
    lines.append(f"Trained   {walked.model}: {trained_until(walked.model)}")
    lines.append(f"          of {total:,} forecasts with an outcome" + (trained and f": {trained}"))
    if without := without_outcome(walked.path):
        every = total + without
        lines.append(f"No bar    {without:,} of {every:,} forecasts: no candle of their session")
    for symbol, jump in _jumps(walked).items():
        lines.append(f"Jump      {symbol}: its close was {jump}. A split that the candles do not")
        lines.append("          take into account? Then the figures above mean little")
    for symbol, count in walked.fewer.items():
        some = "1 window" if count == 1 else f"{count:,} windows"
        lines.append(f"Fewer     {symbol}: its history allows {some} only")
    for symbol, why in walked.failed.items():
        lines.append(f"Failed    {symbol}: {why.removeprefix(f'{symbol}: ')}")
    if walked.missing:
        lines.append(f"Missing   {walked.missing:,} of {walked.wanted:,} windows: {walked.error}")
        if not walked.refused:
            lines.append("          the same command again asks for them alone")
    if walked.made:
        rate = walked.made / walked.seconds
        lines.append(f"Took      {walked.seconds:.1f} s, {rate:.3g} windows a second")
    lines.append(f"File      {walked.path}; nothing went into the database")
    return "\n".join(lines)


_JUMP = math.log(1.9)  # a split of 2:1 on a day of -5 %
_KINDS = {"no": "unseen in training", "yes": "in training", "unknown": "perhaps in training"}
_HEAD = (
    "                MAE ÷ that of  CRPS below   Closes inside the band    Direction right",
    "Ahead        n  no change      random walk     50 %   80 %   90 %     (95 % interval)",
)


def _measured(walked: WalkForwardResult) -> dict[str, ForecastMetrics]:
    """By step ahead, of all, and of those that were not in training, if these are a part."""
    tally = _tally(read_csv(walked.path))
    measured = {str(step): tally.measures(step) for step in tally.steps()}
    measured["all"] = tally.measures()
    unseen = _tally(read_csv(walked.path, trained_on=["no"]))
    if 0 < len(unseen) < len(tally):
        measured["unseen"] = unseen.measures()
    return measured


def _jumps(walked: WalkForwardResult) -> dict[str, str]:
    """Of each ticker the greatest change of the close overnight, if it about doubled or halved."""
    found = {}
    for one in read_csv(walked.path):
        changes = np.diff(np.log(one.past.to_numpy("float64")))
        if len(changes) and np.abs(changes).max() > _JUMP:
            at = int(np.abs(changes).argmax())
            day = one.past.index[at + 1]
            found[one.symbol] = f"{math.exp(changes[at]):.3g} times on {day:%Y-%m-%d}"
    return found


def _tally(forecasts: Any) -> MetricAccumulator:
    tally = MetricAccumulator()
    for one in forecasts:
        tally += MetricAccumulator.of(one)
    return tally


def _row(name: str, measured: ForecastMetrics) -> str:
    start = f"{name:6}{measured.n:8,}  "
    if measured.n < MIN_FORECASTS:
        return f"{start}too few: {measured.n} of {MIN_FORECASTS} that a figure needs"
    if measured.mase is None:
        return f"{start}no figures: the closes never moved"
    direction = _share(measured.hit_rate)
    if measured.hit_low is not None and measured.hit_high is not None:
        direction += f" ({100 * measured.hit_low:.0f}–{100 * measured.hit_high:.0f})"  # noqa: RUF001
    bands = (measured.coverage_50, measured.coverage_80, measured.coverage_90)
    skill = "" if measured.crps_skill is None else f"{100 * measured.crps_skill:+.1f} %"
    return (
        f"{start}{measured.mase:<13.3f}  {skill:>11}  "
        f"{''.join(f'{_share(band):>7}' for band in bands)}     {direction}"
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
