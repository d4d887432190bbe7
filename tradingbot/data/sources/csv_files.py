"""A folder of CSV files, one per ticker."""

import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from tradingbot.data.sources.csv_candles import read_csv
from tradingbot.errors import ConfigError, DataError, UnknownSymbol
from tradingbot.markets.calendars import session_close
from tradingbot.markets.session_dates import as_utc, session_days
from tradingbot.runtime.clock import utcnow

logger = logging.getLogger(__name__)


class CsvSource:
    """A folder with one file per ticker: AAPL.csv with a date, open, high, low, close, [volume]."""

    remote = False
    knows_outcomes = True

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ConfigError(f"csv:{folder}: no such folder; expected one with files as AAPL.csv")
        self._folder = folder
        self._files: dict[str, Path] = {}
        self._doubled: dict[str, str] = {}  # ticker -> the names of its files
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() == ".csv":
                first = self._files.setdefault(file.stem.upper(), file)
                if first is not file:
                    self._doubled[file.stem.upper()] = f"{first.name} and {file.name}"
        if not self._files:
            raise ConfigError(
                f"csv:{folder}: no .csv file in it; expected one per ticker: AAPL.csv"
            )
        self._read: dict[str, pd.DataFrame] = {}
        self._clock: datetime | None = None
        self.clock_file: str | None = None

    def symbols(self) -> list[str]:
        return sorted(self._files)

    def clock(self, horizon: int) -> datetime:
        """Return the close of the newest bar of all files.

        Unreadable files and files with future bars are skipped; their `fetch` raises the error. If
        no file is left, return the current time.
        """
        if self._clock is None:
            closes = []
            for symbol in self._files:
                try:
                    rows = self._rows(symbol).dropna(subset="close")
                    if len(rows):
                        closes.append((_last_close(symbol, rows), symbol))
                except DataError:
                    continue
            if closes:
                self._clock, newest_of_all = max(closes)
                self.clock_file = self._files[newest_of_all].name
            else:
                self._clock = utcnow()
        return self._clock

    def fetch(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        rows = self._rows(symbol)
        if interval == "1d":
            _refuse_two_bars_a_day(self._files[symbol.upper()], rows)
        rows = rows.set_axis(_times(rows).rename("timestamp"), axis=0)
        return rows.drop(columns=["instant", "day"])

    def _rows(self, symbol: str) -> pd.DataFrame:
        key = symbol.upper()
        if key not in self._files:
            have = ", ".join(self.symbols()[:5]) + (", …" if len(self._files) > 5 else "")
            raise UnknownSymbol(
                f"no file {symbol}.csv in {self._folder}, which has {have}", symbol=symbol
            )
        if key in self._doubled:
            raise DataError(
                f"{self._doubled[key]} in {self._folder} are both of this ticker; "
                "remove or rename one",
                symbol=symbol,
            )
        if key not in self._read:
            rows = read_csv(self._files[key])
            for note in rows.attrs["notes"]:
                logger.warning("%s: %s", self._files[key], note)
            _refuse_the_future(self._files[key], rows)
            self._read[key] = rows
        return self._read[key]


def _last_close(symbol: str, rows: pd.DataFrame) -> datetime:
    """Return the close of the newest bar. A file with several bars per day has intraday bars."""
    if rows["day"].duplicated().any() and rows["instant"].nunique() > rows["day"].nunique():
        times = as_utc(symbol, _times(rows)).unique().sort_values()
        steps = pd.Series(times).diff()
        length = steps[steps < pd.Timedelta(days=1)].median()
        return (times[-1] + length).to_pydatetime()
    days = session_days(symbol, _times(rows))
    return session_close(symbol, days.max().to_pydatetime())


def _times(rows: pd.DataFrame) -> pd.DatetimeIndex:
    """Return the times of the rows as written: in UTC if they have a zone, or else naive."""
    times = pd.DatetimeIndex(rows["instant"])
    return times.tz_localize("UTC") if rows.attrs["zoned"] else times


def _refuse_the_future(file: Path, rows: pd.DataFrame) -> None:
    now = utcnow()
    # one day of tolerance, because a date begins earlier east of Greenwich
    ahead = rows["day"] > now + timedelta(days=1)
    if ahead.any():
        row: Any = ahead.idxmax()
        raise DataError(
            f"{file} row {row}: {rows['day'][row]:%Y-%m-%d} is in the future, "
            f"today is {now:%Y-%m-%d}; correct or remove the row"
        )


def _refuse_two_bars_a_day(file: Path, rows: pd.DataFrame) -> None:
    if not rows["day"].duplicated().any():
        return
    bars = rows.drop_duplicates("instant")
    again = bars["day"].duplicated()
    if again.any():
        row: Any = again.idxmax()
        raise DataError(
            f"{file} row {row}: a second bar of {bars['day'][row]:%Y-%m-%d}, "
            f"at {bars['instant'][row]:%H:%M}; daily bars have one row per session"
        )
