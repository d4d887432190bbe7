"""Sources of candles by name: yahoo, csv:DIR and sample."""

from pathlib import Path

from tradingbot.data.sources.base import Source
from tradingbot.data.sources.csv_files import CsvSource
from tradingbot.data.sources.sample import SampleSource
from tradingbot.data.sources.yahoo import YahooSource
from tradingbot.errors import ConfigError
from tradingbot.settings import Timeouts


def open_source(name: str, timeouts: Timeouts | None = None) -> Source:
    """yahoo, csv:DIR or sample; ConfigError for another, a folder without files, and the like."""
    if name == "yahoo":
        return YahooSource(timeouts=timeouts)
    if name == "sample":
        return SampleSource()
    kind, _, folder = name.partition(":")
    if kind == "csv" and folder:
        return CsvSource(Path(folder).expanduser())
    raise ConfigError(f"data source {name!r}: expected yahoo, sample or csv:DIR")


def lasting(source: str) -> str:
    """csv:candles -> csv:/home/me/candles, which means the same wherever it is read."""
    return f"csv:{Path(source[4:]).absolute()}" if source.startswith("csv:") else source
