"""What a run of the job did: counted while it runs, shown as a table when it ends."""

import math
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from tradingbot.forecast import RAW, Forecast


@dataclass
class Report:
    """Outcomes by ticker. `forecasts` holds those made now and those that were there before."""

    started_at: datetime = field(
        default_factory=lambda: datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    )
    began: float = field(default_factory=time.monotonic)
    dry_run: bool = False
    source: str | None = None  # where candles come from
    shard: str = "0/1"  # which part of the active tickers is this run's
    database: str | None = None  # its address, without a password
    query: str | None = None  # the command that asks it for more
    exit_code: int | None = None  # None while it runs
    error: str | None = None  # the kind of what made the run as a whole fail
    message: str | None = None  # and why, or why there was nothing to do
    model: str | None = None  # as the Space named it
    symbols: list[str] = field(default_factory=list)  # the active tickers
    forecasts: dict[str, Forecast] = field(default_factory=dict)
    actual: Mapping[str, Mapping[datetime, float]] = field(
        default_factory=dict
    )  # closes since then
    made: set[str] = field(default_factory=set)  # stored by this run (dry run: forecast)
    there: set[str] = field(default_factory=set)  # stored before it
    rows: int = 0  # of kronos_predictions, written by this run
    failed: dict[str, str] = field(default_factory=dict)  # ticker -> why, one line
    kinds: dict[str, str] = field(default_factory=dict)  # ticker -> kind of its error
    seconds: dict[str, float] = field(default_factory=dict)  # by phase

    def fail(self, symbol: str, error: Exception) -> None:
        self.failed[symbol] = str(error)
        self.kinds[symbol] = type(error).__name__

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the block's wall time to the phase."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began

    def succeeded(self, min_success: float) -> bool:
        """(stored now + already there) / active >= min_success."""
        return len(self.made | self.there) >= min_success * len(self.symbols)

    def counts(self) -> dict[str, int]:
        return {
            "active": len(self.symbols),
            "stored": 0 if self.dry_run else len(self.made),
            "already_there": len(self.there),
            "failed": len(self.failed),
            "rows": self.rows,
        }

    def details(self) -> dict[str, Any]:
        """For run_logs: the model, and failures by kind and by ticker."""
        by_kind: dict[str, list[str]] = {}
        for symbol, kind in self.kinds.items():
            by_kind.setdefault(kind, []).append(symbol)
        return {
            "model": self.model,
            "source": self.source,
            "shard": self.shard,
            "failed": self.failed,
            "failed_by_kind": by_kind,
        }


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


def failures(report: Report) -> dict[tuple[str, str], list[str]]:
    """(kind, reason) -> the tickers that failed for it."""
    alike: dict[tuple[str, str], list[str]] = {}
    for symbol, reason in report.failed.items():
        cause = report.kinds[symbol], reason.removeprefix(f"{symbol}: ")
        alike.setdefault(cause, []).append(symbol)
    return alike


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
