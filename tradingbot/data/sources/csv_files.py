"""A folder of CSV files, one a ticker."""

import csv
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from tradingbot.errors import ConfigError, DataError, UnknownSymbol
from tradingbot.markets.calendars import session_close
from tradingbot.markets.candles import PRICES
from tradingbot.runtime.clock import utcnow


class CsvSource:
    """A folder with one file a ticker: AAPL.csv with a date, open, high, low, close, [volume]."""

    remote = False
    knows_outcomes = True

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ConfigError(f"csv:{folder}: no such folder; expected one with files as AAPL.csv")
        self._folder = folder
        self._files = {
            file.stem.upper(): file
            for file in sorted(folder.iterdir())
            if file.suffix.lower() == ".csv"
        }
        if not self._files:
            raise ConfigError(f"csv:{folder}: no .csv file in it; expected one a ticker: AAPL.csv")
        self._read: dict[str, pd.DataFrame] = {}
        self._clock: datetime | None = None
        self.clock_file: str | None = None

    def symbols(self) -> list[str]:
        return sorted(self._files)

    def clock(self, horizon: int) -> datetime:
        """When the newest bar of all files was complete.

        Files that cannot be read do not count, nor those with bars of the future: their tickers'
        own `fetch` says why. If none is left, it is the wall's time.
        """
        if self._clock is None:
            closes = []
            for symbol in self._files:
                try:
                    newest = self._rows(symbol).dropna(subset="close")["day"].max()
                    if not pd.isna(newest):
                        closes.append((session_close(symbol, newest.to_pydatetime()), symbol))
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
        rows = rows.set_index("day" if interval == "1d" else "instant").rename_axis("timestamp")
        return rows.drop(columns=["instant", "day"], errors="ignore")

    def _rows(self, symbol: str) -> pd.DataFrame:
        key = symbol.upper()
        if key not in self._files:
            have = ", ".join(self.symbols()[:5]) + (", …" if len(self._files) > 5 else "")
            raise UnknownSymbol(
                f"no file {symbol}.csv in {self._folder}, which has {have}", symbol=symbol
            )
        if key not in self._read:
            rows = read_csv(self._files[key])
            _refuse_the_future(self._files[key], rows)
            self._read[key] = rows
        return self._read[key]


_TIME_COLUMNS = ("timestamp", "date", "datetime")
_MISSING = ("", "null", "nan", "na", "n/a", "none", "-")


def read_csv(file: Path) -> pd.DataFrame:
    """The rows of one file, in its order.

    Columns: `day` (midnight of the date as written), `instant` (naive UTC), PRICES and, if the
    file has it, volume. The names of the file's columns may be in any case and order, others are
    left aside. DataError names the file and the row as an editor counts it.
    """
    header, table = _text_table(file)
    columns = {name.strip().lower(): position for position, name in enumerate(header)}
    time = next((columns[name] for name in _TIME_COLUMNS if name in columns), None)
    wanted = [name for name in PRICES if name not in columns]
    if time is None or wanted:
        wanted = ([] if time is not None else ["timestamp"]) + wanted
        raise DataError(
            f"{file}: no column {', '.join(wanted)}; the first line has {', '.join(header)}; "
            "expected timestamp,open,high,low,close,volume"
        )
    text = table[time].str.strip()
    day = pd.to_datetime(text.str[:10], format="%Y-%m-%d", errors="coerce")
    instant = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
    _refuse(file, text, day.isna() | instant.isna(), "is no date; expected 2024-01-31")
    rows = pd.DataFrame({"day": day, "instant": instant.dt.tz_localize(None)})
    for name in [*PRICES, "volume"]:
        if name in columns:
            text = table[columns[name]]
            rows[name] = pd.to_numeric(text, errors="coerce").astype("float64")
            unread = text[rows[name].isna()].str.strip()
            missing = unread.str.lower().isin(_MISSING)
            _refuse(file, unread, ~missing, f"in {name} is no number")
    return rows


def _text_table(file: Path) -> tuple[list[str], pd.DataFrame]:
    """The file's header and its rows as text, without blank ones; the index is the line."""
    rows: dict[int, list[str]] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:  # Excel writes a BOM
            reader = csv.reader(text)
            for row in reader:
                if "".join(row).strip():
                    rows[reader.line_num] = row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    if not rows:
        raise DataError(f"{file}: the file is empty; expected a header and one row a bar")
    header = rows.pop(next(iter(rows)))
    if not rows:
        raise DataError(f"{file}: the file has a header and no bars; expected one row a bar")
    width = len(header)
    for line, row in rows.items():
        if any(row[width:]):
            raise DataError(
                f"{file} row {line}: {len(row)} values under a header of {width}; "
                "numbers are written without thousands separators"
            )
    cells = [row[:width] + [""] * (width - len(row)) for row in rows.values()]
    return header, pd.DataFrame(cells, index=list(rows), dtype="str")


def _refuse(file: Path, text: pd.Series, wrong: pd.Series, complaint: str) -> None:
    if wrong.any():
        row: Any = wrong.idxmax()
        raise DataError(f"{file} row {row}: {text[row]!r} {complaint}; mend or remove the row")


def _refuse_the_future(file: Path, rows: pd.DataFrame) -> None:
    now = utcnow()
    ahead = rows["day"] > now + timedelta(days=1)  # a day: east of Greenwich it begins earlier
    if ahead.any():
        row: Any = ahead.idxmax()
        raise DataError(
            f"{file} row {row}: {rows['day'][row]:%Y-%m-%d} is in the future, "
            f"today is {now:%Y-%m-%d}; mend or remove the row"
        )


def _refuse_two_bars_a_day(file: Path, rows: pd.DataFrame) -> None:
    bars = rows.drop_duplicates("instant")
    again = bars["day"].duplicated()
    if again.any():
        row: Any = again.idxmax()
        raise DataError(
            f"{file} row {row}: a second bar of {bars['day'][row]:%Y-%m-%d}, "
            f"at {bars['instant'][row]:%H:%M}; daily bars are one row a session"
        )
