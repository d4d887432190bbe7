"""The interface of a source of candles."""

from datetime import datetime
from typing import Protocol, runtime_checkable

import pandas as pd


class Source(Protocol):
    """A source of candles."""

    remote: bool  # accessed over a network: tickers are fetched concurrently and cached
    knows_outcomes: bool  # has bars from after its own clock
    clock_file: str | None  # the file whose newest bar sets the clock, if any

    def symbols(self) -> list[str]:
        """Return the source's tickers, sorted, or [] if there are too many to list."""
        ...

    def clock(self, horizon: int) -> datetime:
        """Return the clock of this source, naive UTC."""
        ...

    def fetch(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Return the bars from the day of `start` to the day of `end`, or more.

        Index: times with a zone, or naive ones in UTC; for daily bars the dates of sessions or
        exchange local times. Columns: PRICES and, if available, volume; missing values are NaN.
        `attrs["splits"]`, if known: first day of a split -> new shares per old share; earlier
        prices are restated for it. `attrs["dividends"]`, if known: ex-dividend day -> USD per share
        of today; prices are not adjusted for it.

        Raises:
            DataError: The bars are not available. The error may be of a subclass.
        """
        ...


@runtime_checkable
class SlowToLoad(Protocol):
    """A source that imports a library, which takes seconds."""

    def load(self) -> None:
        """Import the library. Called before every request and not counted towards its duration."""
        ...
