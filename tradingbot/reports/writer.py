"""Write the report's file. An older file is replaced only when the new one is complete."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tradingbot.reports.backtest_record import read_backtest
from tradingbot.reports.page import packed_plotly, render_page
from tradingbot.reports.record import read_record
from tradingbot.runtime.files import replaced
from tradingbot.settings import Settings


@dataclass(frozen=True)
class WrittenReport:
    """Result of `write_report`."""

    summary: str  # summary of its content
    size: int  # bytes


def write_report(
    out: Path,
    url: str,
    settings: Settings,
    *,
    source: str | None,
    symbols: Sequence[str],
    backtest: Path | None = None,
) -> WrittenReport:
    """Write the report of the database `url` to `out`, replacing an older file.

    Args:
        symbols: The tickers in the report; empty: all tickers.
        source: Source of the candles; None: the source of the last run.
        backtest: A backtest file to report on instead of the database.

    Raises:
        ConfigError: A setting is wrong, or `out` cannot be written.
        DatabaseError: The database is out of reach, or has no forecast.
    """
    plotly = packed_plotly()
    with replaced_file(out) as put:
        if backtest is None:
            record = read_record(url, settings, source=source, symbols=symbols)
        else:
            record = read_backtest(backtest, symbols)
        size = put(render_page(record, plotly))
    return WrittenReport(record.summary, size)


@contextmanager
def replaced_file(out: Path) -> Iterator[Callable[[str], int]]:
    """Yield a function that writes a text and returns its size in bytes; see `replaced`."""
    with replaced(out) as temporary:
        yield lambda content: temporary.write_bytes(content.encode())
