"""The summary of a run for people: the table of its forecasts, then what was done."""

import math
from collections.abc import Iterator
from datetime import datetime

from rich.console import Console
from rich.table import Table

from tradingbot.cli import invocation
from tradingbot.cli.output import plain_table, print_line, print_table
from tradingbot.combination_shares import describe_bands, mean_shares
from tradingbot.forecast import RAW, Forecast, ForecastBar
from tradingbot.formatting import model_text
from tradingbot.jobs.summary import RunSummary, TickerOutcome

RANGE = "10–90 % range"  # noqa: RUF001 - a range has an en dash


def show(summary: RunSummary, console: Console) -> None:
    """Print the table of forecasts, then what was done."""
    outcomes = [outcome for outcome in summary.tickers.values() if outcome.forecast is not None]
    if outcomes:
        print_line(console)
        print_table(console, forecast_table(outcomes))
        print_line(console)
    for line in lines_of(summary):
        print_line(console, line)


def forecast_table(outcomes: list[TickerOutcome]) -> Table:
    """Return a table with one row per future bar, grouped by ticker.

    The last column, the realised close, is present only if a close is known.
    """
    known = any(outcome.actual for outcome in outcomes)
    headings = ["Ticker", "As of", "Last\nclose", "Date", "Forecast", RANGE, "P(up)"]
    if known:
        headings.append("Actual ")  # the space leaves room for the mark *
    table = plain_table(*headings, left=("Ticker", "As of"))
    table.columns[0].style = "bold"
    table.columns[headings.index(RANGE)].justify = "center"
    for number, outcome in enumerate(outcomes):
        if number:
            table.add_row()
        for cells in _rows(outcome):
            table.add_row(*cells[: None if known else -1])
    return table


def _rows(outcome: TickerOutcome) -> Iterator[list[str]]:
    """Yield the cells of each future bar; the last one is the realised close."""
    forecast = outcome.forecast
    assert forecast is not None
    decimals = _decimals(forecast.last_close)
    for bar in forecast.bars:
        low, high = _range(bar)
        first = bar.step == 1
        close = outcome.actual.get(bar.target_date)
        mark = " " if close is None or low <= close <= high else "*"
        yield [
            forecast.symbol if first else "",
            f"{forecast.as_of:%Y-%m-%d}" if first else "",
            f"{forecast.last_close:.{decimals}f}" if first else "",
            _day(bar.target_date, forecast.interval),
            f"{bar.close:.{decimals}f}",
            f"{low:.{decimals}f}–{high:.{decimals}f}",  # noqa: RUF001
            f"{bar.prob_up:.0%}",
            "" if close is None else f"{close:.{decimals}f}{mark}",
        ]


def lines_of(summary: RunSummary) -> list[str]:
    """Return the lines after the table."""
    return [*_model_lines(summary), *_stored_lines(summary), *_next_lines(summary)]


def _model_lines(summary: RunSummary) -> Iterator[str]:
    forecasts = summary.forecasts
    if forecasts:
        example = forecasts[
            next(s for s in (*summary.already_stored, *summary.made) if s in forecasts)
        ]
        yield (
            f"Model    {model_text(example.model_name)}, {example.samples} paths per ticker; "
            f"Forecast: mean close, P(up): "
            f"{'share above the last close' if example.calibration == RAW else 'chance of a rise'}"
        )
        yield from _range_lines([*forecasts.values()], example)
    inside, of = _coverage(summary)
    if of:
        yield f"Actual   {inside} of {of} closes lie inside their 10–90 % range (* outside)"  # noqa: RUF001


def _range_lines(forecasts: list[Forecast], example: Forecast) -> Iterator[str]:
    """Yield lines about the post-processing that produced the ranges.

    `example` stands for all forecasts if no forecast is combined.
    """
    combined = [forecast for forecast in forecasts if forecast.shares is not None]
    if not combined:
        if example.calibration != RAW:
            yield f"Ranges   {describe_bands(example.calibration, None)}"
        return
    shares = mean_shares([forecast.shares for forecast in combined if forecast.shares is not None])
    yield f"Ranges   {describe_bands(combined[0].calibration, shares)}"
    if alone := [forecast for forecast in forecasts if forecast.shares is None]:
        names = _ticker_names(alone)
        yield f"         Kronos' own range for {names}: too few outcomes to combine it"
    if outside := [
        forecast for forecast in combined if any(bar.is_outside for bar in forecast.bars)
    ]:
        yield (
            f"         Kronos' own forecast lies outside the range for {_ticker_names(outside)}: "
            "its past forecasts do not justify such moves"
        )


def _ticker_names(forecasts: list[Forecast]) -> str:
    """Return the tickers of the forecasts in words, at most five by name."""
    names = ", ".join(forecast.symbol for forecast in forecasts[:5])
    return f"{names} and {len(forecasts) - 5} more" if len(forecasts) > 5 else names


def _stored_lines(summary: RunSummary) -> Iterator[str]:
    made, earlier = _tickers(len(summary.made)), _tickers(len(summary.already_stored))
    if summary.dry_run:
        yield f"Stored   nothing: a dry run ({made} forecast)"
    else:
        done = [f"{made} ({summary.rows} rows) now"] if summary.made else []
        done += [f"{earlier} already there"] if summary.already_stored else []
        yield f"Stored   {', '.join(done) or 'nothing'}: kronos_predictions in {summary.database}"
    for number, challenger in enumerate(summary.challengers):
        yield f"{'' if number else 'Beside':7}  {challenger}"
    for number, ((_, reason), symbols) in enumerate(summary.failures().items()):
        yield f"{'Failed   ' if not number else '         '}{', '.join(symbols)}: {reason}"


def _next_lines(summary: RunSummary) -> Iterator[str]:
    if not summary.forecasts or summary.database is None or summary.dry_run:
        return
    command = invocation.kronosbot()
    steps = {
        f"{command} status": "runs, and the age of forecasts",
        f"{command} report": "report.html: the quality of forecasts",
    }
    if summary.local:
        steps = {invocation.serve(): "a page to try it: http://127.0.0.1:7860", **steps}
    width = max(map(len, steps))
    for number, (step, gives) in enumerate(steps.items()):
        yield f"{'Next' if not number else '':7}  {step:{width}}  {gives}"


def _coverage(summary: RunSummary) -> tuple[int, int]:
    """Return the number of known closes inside their 10-90 % range, and of all known closes."""
    inside = of = 0
    for outcome in summary.tickers.values():
        for bar in outcome.forecast.bars if outcome.forecast else ():
            close = outcome.actual.get(bar.target_date)
            if close is not None:
                low, high = _range(bar)
                of += 1
                inside += low <= close <= high
    return inside, of


def _range(bar: ForecastBar) -> tuple[float, float]:
    return bar.close_quantiles[0.1], bar.close_quantiles[0.9]


def _decimals(price: float) -> int:
    """Return the number of decimals: 449.30, 1.0843, and five significant digits below 1."""
    if price >= 10:
        return 2
    return 4 if not 0 < price < 1 else 4 - math.floor(math.log10(price))


def _day(when: datetime, interval: str) -> str:
    return f"{when:%a} {when.day} {when:%b}" + ("" if interval == "1d" else f" {when:%H:%M}")


def _tickers(count: int) -> str:
    return f"{count} ticker" if count == 1 else f"{count} tickers"
