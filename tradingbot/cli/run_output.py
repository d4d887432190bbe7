"""What a run of the job did: counted while it runs, shown as a table when it ends."""

import math
import shlex
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from tradingbot import __version__
from tradingbot.forecast import RAW, Forecast, ForecastBar
from tradingbot.jobs.summary import RunSummary, failures
from tradingbot.jobs.summary import RunSummary as Report
from tradingbot.runtime.logs import log_line


def show(report: Report, console: Console) -> None:
    """The table, then what was done."""
    forecasts = [report.forecasts[s] for s in report.symbols if s in report.forecasts]
    if forecasts:
        table = forecast_table(forecasts, report.actual)
        # a price is never cut short: rather let a narrow terminal wrap the line
        natural = console.options.update(max_width=1000)
        console.width = max(console.width, console.measure(table, options=natural).maximum)
        console.print()
        console.print(table)
        console.print()
    for line in summary(report):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def forecast_table(
    forecasts: list[Forecast], actual: Mapping[str, Mapping[datetime, float]]
) -> Table:
    """One row a future bar, grouped by ticker; the last column only where the future is known."""
    known = any(actual.get(forecast.symbol) for forecast in forecasts)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("Ticker", style="bold")
    table.add_column("As of")
    table.add_column("Last\nclose", justify="right")
    table.add_column("Date", justify="right")
    table.add_column("Forecast", justify="right")
    table.add_column("10–90 % range", justify="center")  # noqa: RUF001 - a range has an en dash
    table.add_column("P(up)", justify="right")
    if known:
        table.add_column("Actual ", justify="right")  # one place more for the mark
    for number, forecast in enumerate(forecasts):
        if number:
            table.add_row()
        decimals = _decimals(forecast.last_close)
        for bar in forecast.bars:
            low, high = bar.close_quantiles[0.1], bar.close_quantiles[0.9]
            first = bar.step == 1
            cells = [
                forecast.symbol if first else "",
                f"{forecast.as_of:%Y-%m-%d}" if first else "",
                f"{forecast.last_close:.{decimals}f}" if first else "",
                _day(bar.target_date, forecast.interval),
                f"{bar.close:.{decimals}f}",
                f"{low:.{decimals}f}–{high:.{decimals}f}",  # noqa: RUF001
                f"{bar.prob_up:.0%}",
            ]
            if known:
                close = actual.get(forecast.symbol, {}).get(bar.target_date)
                outside = close is not None and not low <= close <= high
                mark = "*" if outside else " "
                cells.append("" if close is None else f"{close:.{decimals}f}{mark}")
            table.add_row(*cells)
    return table


def summary(report: Report) -> list[str]:
    """What a person wants to know after the table, a line each."""
    lines = []
    if report.forecasts:
        some = next(iter(report.forecasts.values()))
        lines.append(
            f"Model    {some.model_name}, {some.samples} paths a ticker; "
            f"Forecast: mean close, P(up): share above the last close"
        )
        if some.calibration != RAW:
            lines.append(f"Ranges   calibrated: {some.calibration}")
    inside, of = _coverage(report)
    if of:
        lines.append(f"Actual   {inside} of {of} closes lie inside their 10–90 % range (* outside)")  # noqa: RUF001
    if report.dry_run:
        lines.append(f"Stored   nothing: a dry run ({_tickers(len(report.made))} forecast)")
    else:
        now = f"{_tickers(len(report.made))} ({report.rows} rows) now"
        there = f"{_tickers(len(report.there))} already there"
        done = [text for text, some in ((now, report.made), (there, report.there)) if some]
        lines.append(
            f"Stored   {', '.join(done) or 'nothing'}: kronos_predictions in {report.database}"
        )
    for number, ((_, reason), symbols) in enumerate(failures(report).items()):
        lines.append(f"{'Failed   ' if not number else '         '}{', '.join(symbols)}: {reason}")
    if report.forecasts and report.query is not None and not report.dry_run:
        lines.append(f"Next     {report.query}")
    return lines


def query_command(url: str, variable: str | None = None) -> str | None:
    """A command for the shell that shows what is stored; None for a database in memory.

    `variable` is the environment's one that holds the address. A password is not in the command.
    """
    from sqlalchemy import make_url

    address = make_url(url)
    if address.get_backend_name() == "sqlite":
        if address.database in (None, "", ":memory:"):
            return None
        opener = f"sqlite3 {shlex.quote(address.database)}"
    elif variable:
        opener = f'psql "${variable}" -c'
    elif address.password or "password" in address.query:
        opener = "psql <your database> -c"
    else:
        opener = f"psql {shlex.quote(str(address.set(drivername='postgresql')))} -c"
    return f"{opener} 'select symbol, target_date, predicted_close from kronos_predictions'"


def _coverage(report: Report) -> tuple[int, int]:
    """How many known closes lie inside their 10-90 % range, of how many."""
    inside = of = 0
    for symbol, forecast in report.forecasts.items():
        for bar in forecast.bars:
            close = report.actual.get(symbol, {}).get(bar.target_date)
            if close is not None:
                of += 1
                inside += bar.close_quantiles[0.1] <= close <= bar.close_quantiles[0.9]
    return inside, of


def _decimals(price: float) -> int:
    """449.30, 1.0843, and five digits that say something of whatever costs less than 1."""
    if price >= 10:
        return 2
    return 4 if not 0 < price < 1 else 4 - math.floor(math.log10(price))


def _day(when: datetime, interval: str) -> str:
    return f"{when:%a} {when.day} {when:%b}" + ("" if interval == "1d" else f" {when:%H:%M}")


def _tickers(count: int) -> str:
    return f"{count} ticker" if count == 1 else f"{count} tickers"


def document(report: RunSummary) -> dict[str, Any]:
    """All of it, as the module's docstring shows it."""
    return {
        "version": __version__,
        "message": report.message,
        **digest(report),
        "tickers": {symbol: _ticker(report, symbol) for symbol in report.symbols},
    }


def digest(report: RunSummary) -> dict[str, Any]:
    """What holds for the run as a whole."""
    return {
        "started_at": report.started_at.replace(tzinfo=UTC),
        "seconds": round(time.monotonic() - report.began, 3),
        "exit_code": report.exit_code,
        "error": {"kind": report.error, "message": report.message} if report.error else None,
        "model": report.model,
        "as_of": max((forecast.as_of for forecast in report.forecasts.values()), default=None),
        "source": report.source,
        "shard": report.shard,
        "database": report.database,
        "dry_run": report.dry_run,
        "counts": report.counts(),
        "durations": {name: round(took, 3) for name, took in report.seconds.items()},
        "failures": [
            {"kind": kind, "reason": reason, "symbols": symbols}
            for (kind, reason), symbols in failures(report).items()
        ],
    }


def outcome_lines(report: RunSummary) -> Iterator[str]:
    """A line of the log for every ticker: the table, for what collects logs."""
    for symbol in report.symbols:
        if forecast := report.forecasts.get(symbol):
            first = forecast.bars[0]
            yield log_line(
                "INFO",
                f"{symbol}: {first.close:.6g} on {first.target_date:%Y-%m-%d}, "
                f"{forecast.last_close:.6g} as of {forecast.as_of:%Y-%m-%d}",
                event="forecast",
                symbol=symbol,
                status=_status(report, symbol),
                as_of=forecast.as_of,
                last_close=forecast.last_close,
                bars=[_bar_in_short(bar) for bar in forecast.bars],
            )
        elif symbol in report.failed:
            yield log_line(
                "WARNING",
                f"{symbol}: {report.failed[symbol].removeprefix(f'{symbol}: ')}",
                event="failure",
                symbol=symbol,
                kind=report.kinds[symbol],
            )


def _ticker(report: RunSummary, symbol: str) -> dict[str, Any]:
    outcome: dict[str, Any] = {"status": _status(report, symbol)}
    if symbol in report.failed:
        outcome |= {"kind": report.kinds[symbol], "reason": report.failed[symbol]}
    if forecast := report.forecasts.get(symbol):
        outcome |= _forecast(forecast, report.actual.get(symbol, {}))
    return outcome


def _status(report: RunSummary, symbol: str) -> str:
    if symbol in report.made:
        return "forecast" if report.dry_run else "stored"
    if symbol in report.there:
        return "already_there"
    return "failed" if symbol in report.failed else "not_reached"


def _forecast(forecast: Forecast, actual: Mapping[datetime, float]) -> dict[str, Any]:
    return {
        "interval": forecast.interval,
        "as_of": forecast.as_of,
        "last_close": forecast.last_close,
        "model": forecast.model_name,
        "model_revision": forecast.model_revision,
        "made_at": forecast.made_at.replace(tzinfo=UTC),
        "samples": forecast.samples,
        "calibration": forecast.calibration,
        "bars": [
            {
                "step": bar.step,
                "target_date": bar.target_date,
                "open": bar.open,
                "high": bar.high,
                "low": bar.low,
                "close": bar.close,
                "volume": bar.volume,
                "quantiles": bar.close_quantiles,
                "prob_up": bar.prob_up,
                "actual": actual.get(bar.target_date),
            }
            for bar in forecast.bars
        ],
    }


def _bar_in_short(bar: ForecastBar) -> dict[str, Any]:
    return {
        "target_date": bar.target_date,
        "close": bar.close,
        **{f"close_p{level * 100:.0f}": bar.close_quantiles[level] for level in (0.1, 0.5, 0.9)},
        "prob_up": bar.prob_up,
    }
