"""What a source of candles is."""

from datetime import datetime
from typing import Protocol, runtime_checkable

import pandas as pd


class Source(Protocol):
    """One place that candles come from."""

    remote: bool  # asked over a network: several tickers at a time, and what it answers is cached
    knows_outcomes: bool  # holds bars from after its own clock
    clock_file: str | None  # the file whose newest bar is the clock, if one is

    def symbols(self) -> list[str]:
        """The tickers it has, sorted; [] if it has more than can be listed."""
        ...

    def clock(self, horizon: int) -> datetime:
        """What time it is for this source, naive UTC."""
        ...

    def fetch(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Its bars from the day of `start` to the day of `end`, or more.

        Index: times with a zone, or naive ones: UTC, and those of daily bars the dates of their
        sessions or wall times of the exchange. Columns: PRICES and, if there is one, volume;
        missing values are NaN. `attrs["splits"]`, if the source knows them: a split's first
        day -> new shares for an old one, for which the prices of earlier bars are restated.
        `attrs["dividends"]`, likewise: the first day without one -> USD a share of today, which
        prices are not adjusted for. Raises the kinds of DataError.
        """
        ...


@runtime_checkable
class SlowToLoad(Protocol):
    """A source that imports a library which takes seconds, in which it is not asked yet."""

    def load(self) -> None:
        """Import it; called before every request, whose time it must not count against."""
        ...
