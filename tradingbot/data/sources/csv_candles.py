"""The candles of one CSV file, in any common dialect.

Dates and numbers may be written in many ways, but an ambiguous value is refused. `csv_table` finds
the columns, `csv_times` and `csv_numbers` read the cells.
"""

from collections.abc import Mapping
from itertools import chain, permutations
from pathlib import Path

import numpy as np
import pandas as pd

from tradingbot.data.sources.csv_numbers import decimal_mark, to_floats, two_readings
from tradingbot.data.sources.csv_table import Table, read_table
from tradingbot.data.sources.csv_times import (
    AmbiguousDates,
    Times,
    is_clock,
    is_time,
    padded_clock,
    read_times,
)
from tradingbot.errors import DataError
from tradingbot.markets.column_names import (
    PRICES,
    RUNNING,
    may_be_volume,
    simplified,
    unknown_volume_note,
)
from tradingbot.typing import Flags, Floats

# relative difference between the volume in one currency and volume x price in the other
_NEAR = 0.1


def read_csv(file: Path) -> pd.DataFrame:
    """Read the candles of `file`, in its order. The index is the line number in the file.

    Columns: `day` (midnight of the date as written), `instant` (naive UTC), PRICES and, if present,
    volume; missing values are NaN. `attrs["zoned"]`: whether the times have a zone.
    `attrs["notes"]`: what was left out.

    Raises:
        DataError: Names the file, the row, the value and what to do.
    """
    return _File(file, read_table(file)).candles()


class _File:
    """The cells of one file, and how to read them."""

    def __init__(self, path: Path, table: Table) -> None:
        self._path = path
        self._table = table
        self._position = position = table.header.columns.position
        self._prices = {position[name]: table.column(position[name]) for name in PRICES}
        self._written = _written_times(table)
        self._notes: list[str] = []

    def candles(self) -> pd.DataFrame:
        cells = self._prices | self._volume_cells()
        mark, doubtful = decimal_mark(chain(*cells.values()))
        read = {place: to_floats(texts, mark or ".") for place, texts in cells.items()}
        bars = self._bars(read)
        self._refuse_several_tickers(bars)
        times = self._times(bars)
        if doubtful is not None and self._mark_of(doubtful, cells, times) == ",":
            read = {place: to_floats(texts, ",") for place, texts in cells.items()}
        for place, (_, wrong) in read.items():
            complaint = f"in {self._name(place)} is not a number; correct or remove the row"
            self._refuse(cells[place], wrong & bars, complaint)
        numbers = {place: values[bars] for place, (values, _) in read.items()}
        rows = pd.DataFrame({"day": times.day.to_numpy(), "instant": times.instant.to_numpy()})
        for name in PRICES:
            rows[name] = numbers[self._position[name]]
        if (volume := self._volume(numbers, rows["close"])) is not None:
            rows["volume"] = volume
        elif len(numbers) == len(PRICES):
            self._note_unknown_volumes(bars, rows["close"].to_numpy(), mark or ".")
        rows.index = pd.Index(np.array(self._table.lines)[bars])
        if not self._table.header.cells:
            self._refuse_other_order(rows)
        rows.attrs |= {"zoned": times.zoned, "notes": self._notes}
        return rows

    def _bars(self, read: Mapping[int, tuple[Floats, Flags]]) -> Flags:
        """Return which rows are bars, and not dividends, splits or footnotes.

        A row is not a bar if words stand where prices should be and at most one price is a number,
        or if the row has neither a price nor a date. A row with one number and several words is
        kept as a bar, so that the words are reported.
        """
        numbers = np.sum([~np.isnan(read[place][0]) for place in self._prices], axis=0)
        bars = np.ones(len(self._written), dtype=bool)
        for i in np.flatnonzero(numbers <= 1):
            texts = [self._prices[place][i] for place in self._prices if read[place][1][i]]
            if any(any(map(str.isalpha, text)) for text in texts):
                bars[i] = numbers[i] == 1 and len(texts) > 1
            elif not texts and numbers[i] == 0:
                bars[i] = is_time(self._written[i])
        if count := int((~bars).sum()):
            self._notes.append(f"rows without prices left out: {count}")
        if "complete" in self._position:
            states = self._table.column(self._position["complete"])
            running = bars & np.array([state.lower() in RUNNING for state in states])
            if count := int(running.sum()):
                self._notes.append(f"bars left out because the file says they are running: {count}")
            bars &= ~running
        if not (numbers[bars] > 0).any():
            raise DataError(f"{self._path}: no row has prices; expected one row per bar")
        return bars

    def _times(self, bars: Flags) -> Times:
        written = [text for text, kept in zip(self._written, bars, strict=True) if kept]
        line = self._table.lines[int(np.argmax(bars))]
        try:
            times = read_times(written)
        except AmbiguousDates as error:
            i = int(np.flatnonzero(bars)[error.position])
            row = self._table.lines[i]
            raise DataError(f"{self._path} row {row}: {self._written[i]!r} {error}") from None
        wrong = np.zeros(len(bars), dtype=bool)
        wrong[bars] = times.day.isna().to_numpy()
        like = f"one like {times.like} in row {line}" if times.like == written[0] else times.like
        if pd.isna(times.day.iloc[0]):
            like = "2024-01-31"
        self._refuse(self._written, wrong, f"is not a date; expected {like}")
        return times

    def _mark_of(self, doubtful: str, cells: Mapping[int, list[str]], times: Times) -> str:
        """Return the decimal mark of a file whose numbers are all ambiguous, such as 1.234.

        The kind of file decides. If it does not, raise DataError.
        """
        header = self._table.header
        by_program = times.by_program or not header.cells or header.of_a_program
        if "." in doubtful and by_program:
            return "."
        if "," in doubtful and header.separator == ";":
            return ","
        place, texts = next((p, texts) for p, texts in cells.items() if doubtful in texts)
        row = self._table.lines[texts.index(doubtful)]
        raise DataError(
            f"{self._path} row {row}: {doubtful!r} in {self._name(place)} {two_readings(doubtful)}"
        )

    def _volume_cells(self) -> dict[int, list[str]]:
        columns = self._table.header.columns
        named = [self._position[name] for name in ("volume", "ticks") if name in self._position]
        return {place: self._table.column(place) for place in (*named, *columns.volumes)}

    def _volume(self, numbers: Mapping[int, Floats], close: pd.Series) -> Floats | None:
        """Return the volume in units of the traded asset, or None."""
        if choices := self._table.header.columns.volumes:
            base = self._base_volume({place: numbers[place] for place in choices}, close)
            return None if base is None else numbers[base]
        volumes = [numbers[self._position[n]] for n in ("volume", "ticks") if n in self._position]
        # MetaTrader: currencies have only ticks, and a volume of 0 throughout
        return next((volume for volume in volumes if np.nan_to_num(volume).any()), None)

    def _base_volume(self, choices: Mapping[int, Floats], close: pd.Series) -> int | None:
        """Return the column to use of "Volume BTC" and "Volume USDT".

        The ticker decides, or else the numbers.
        """
        ticker = self._ticker()
        units = {place: simplified(self._name(place)).split()[1].upper() for place in choices}
        by_name = [place for place, unit in units.items() if ticker.startswith(unit)]
        by_price = [
            base
            for base, quote in permutations(choices, 2)
            if _are_near(choices[base] * close, choices[quote])
        ]
        alone = [place for place, unit in units.items() if not ticker.endswith(unit)]
        for found in (by_name, by_price, alone if len(choices) == 1 else []):
            if len(found) == 1:
                return found[0]
        names = " and ".join(map(self._name, choices))
        self._notes.append(f"no volume: none of {names} is known to be in units of {ticker}")
        return None

    def _note_unknown_volumes(self, bars: Flags, close: Floats, mark: str) -> None:
        headings = [
            cell.strip()
            for place, cell in enumerate(self._table.header.cells)
            if place not in self._position.values()
            and may_be_volume(cell, to_floats(self._table.column(place), mark)[0][bars], close)
        ]
        if headings:
            self._notes.append(unknown_volume_note(headings))

    def _ticker(self) -> str:
        """Return the letters and digits of a ticker in a column or of the file name."""
        text = self._path.stem
        if "symbol" in self._position:
            text = next(filter(None, self._table.column(self._position["symbol"])), text)
        return "".join(filter(str.isalnum, text)).upper()

    def _name(self, place: int) -> str:
        return self._table.header.name(place)

    def _refuse(self, texts: list[str], wrong: Flags, complaint: str) -> None:
        if wrong.any():
            i = int(np.argmax(wrong))
            row = self._table.lines[i]
            raise DataError(f"{self._path} row {row}: {texts[i]!r} {complaint}")

    def _refuse_several_tickers(self, bars: Flags) -> None:
        if "symbol" in self._position:
            names = self._table.column(self._position["symbol"])
            first = names[int(np.argmax(bars))]
            wrong = np.array([name != first for name in names]) & bars
            self._refuse(names, wrong, f"follows {first!r}; expected the rows of one ticker")

    def _refuse_other_order(self, rows: pd.DataFrame) -> None:
        """Refuse a file without header unless its columns are open, high, low, close."""
        high, low = rows[PRICES].max(axis=1), rows[PRICES].min(axis=1)
        if ((rows["high"] < high) | (rows["low"] > low)).mean() > 0.01:
            raise DataError(
                f"{self._path}: no header, and the columns are not in the order open, high, low, "
                "close; write a first line as timestamp,open,high,low,close,volume"
            )


def _written_times(table: Table) -> list[str]:
    """Return the dates as written, with the time of day if that has its own column."""
    position = table.header.columns.position
    written = [text.strip("'") for text in table.column(position["time"])]
    clocks = table.column(position["clock"]) if "clock" in position else []
    if not any(is_clock(padded_clock(clock)) for clock in clocks[:1]) or ":" in written[0]:
        return written
    return [f"{day} {clock}".strip() for day, clock in zip(written, clocks, strict=True)]


def _are_near(values: pd.Series, other: Floats) -> bool:
    ratio = float((values / np.where(other > 0, other, np.nan)).median())
    return abs(ratio - 1) < _NEAR
