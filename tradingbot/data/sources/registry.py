"""Sources of candles by name."""

from collections.abc import Callable
from pathlib import Path

from tradingbot.data.sources.base import Source
from tradingbot.data.sources.csv_files import CsvSource
from tradingbot.data.sources.sample import SampleSource
from tradingbot.data.sources.yahoo import YahooSource
from tradingbot.errors import ConfigError
from tradingbot.settings import SOURCES, SOURCES_IN_WORDS, Timeouts, split_source

# called with a folder and time-outs
_OPENERS: dict[str, Callable[[str, Timeouts | None], Source]] = {
    "yahoo": lambda _, timeouts: YahooSource(timeouts=timeouts),
    "sample": lambda _, __: SampleSource(),
    "csv:DIR": lambda folder, _: CsvSource(Path(folder).expanduser()),
}
if _OPENERS.keys() != set(SOURCES):
    raise RuntimeError(f"sources {sorted(_OPENERS)}: settings.SOURCES has {sorted(SOURCES)}")


def open_source(name: str, timeouts: Timeouts | None = None) -> Source:
    """Open one of SOURCES.

    Raises:
        ConfigError: The source is unknown, its folder has no files, or the like.
    """
    kind, folder = split_source(name)
    if kind not in _OPENERS:
        raise ConfigError(f"data source {name!r}: expected {SOURCES_IN_WORDS}")
    return _OPENERS[kind](folder, timeouts)


def with_absolute_folder(source: str) -> str:
    """Return the source with an absolute folder: csv:candles -> csv:/home/me/candles."""
    _, folder = split_source(source)
    return f"{source.removesuffix(folder)}{Path(folder).absolute()}" if folder else source
