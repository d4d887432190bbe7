"""Read a file of candles as text cells: its separator, header and rows.

The Space's page follows the same rules (kronos_space/static/candles.js). Both are tested with
tests/data/candle_files.yaml.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from pathlib import Path

from tradingbot.data.sources.csv_encoding import read_text
from tradingbot.data.sources.csv_numbers import NUMERIC
from tradingbot.data.sources.csv_times import is_clock, is_time
from tradingbot.errors import DataError
from tradingbot.markets.column_names import PRICES, Columns, find_columns

_SEPARATORS = ("\t", ";", ",", "|")
_PREAMBLE = 40  # the header is among this many first lines, not counting comments


@dataclass(frozen=True)
class Header:
    """The line where the candles begin, and the meaning of each column."""

    line: int  # line number in the file; the rows are below it
    cells: list[str]  # empty: the file has no header
    columns: Columns
    separator: str

    def name(self, position: int) -> str:
        """Return the file's name for a column."""
        if self.cells:
            return self.cells[position].strip()
        return next(name for name, place in self.columns.position.items() if place == position)

    @property
    def of_a_program(self) -> bool:
        """Return whether a program such as MetaTrader wrote it, which uses decimal points."""
        time = self.cells[self.columns.position["time"]].strip().lower()
        return time.startswith("<") or time in ("gmt time", "local time")


@dataclass(frozen=True)
class Table:
    """A header and the rows below it, with their line numbers."""

    header: Header
    lines: list[int]
    rows: list[list[str]]

    def column(self, position: int) -> list[str]:
        try:
            return list(map(str.strip, map(itemgetter(position), self.rows)))
        except IndexError:  # some rows are short
            return [row[position].strip() if position < len(row) else "" for row in self.rows]


def read_table(file: Path) -> Table:
    """Read the cells of `file`. Raises DataError if it holds no table of candles."""
    text = read_text(file, _begins_with_candles)
    if not text.strip():
        raise DataError(f"{file}: the file is empty; expected a header and one row per bar")
    if re.match(r"\s*\[\s*[\[{]", text):
        text = _from_json(file, text)
    header = _header(file, text)
    rows: dict[int, list[str]] = {}
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=header.separator, skipinitialspace=True
        )
        for row in reader:
            if reader.line_num > header.line and "".join(row).strip() and row[0][:1] != "#":
                rows[reader.line_num] = row
    except csv.Error as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    rows = _below(header, rows)
    table = Table(header, list(rows), list(rows.values()))
    if not table.rows:
        raise DataError(f"{file}: the file has a header and no bars; expected one row per bar")
    _refuse_wide_rows(file, table)
    return table


def _from_json(file: Path, text: str) -> str:
    """Convert a list of lists or of objects, as returned by APIs, to CSV lines."""
    try:
        rows = json.loads(text)
        if isinstance(rows[0], dict):
            names = list(rows[0])
            rows = [names, *([row.get(name) for name in names] for row in rows)]
        return "\n".join(",".join("" if c is None else str(c) for c in row) for row in rows)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{file}: cannot be read: it begins as JSON and is not a list of lists or of objects "
            f"({error})"
        ) from error


def _header(file: Path, text: str) -> Header:
    """Find the header, or the first row of a file without one."""
    header, nearest = _search(text)
    if header is not None:
        for doubled in header.columns.doubled.values():
            raise DataError(f"{file} row {header.line}: {doubled}")
        return header
    if nearest is None:
        raise DataError(f"{file}: the file is empty; expected a header and one row per bar")
    missing = ["timestamp" if name == "time" else name for name in nearest.columns.missing]
    which = "the first line" if nearest.line == 1 else f"line {nearest.line}"
    shown = ", ".join(cell.strip() for cell in nearest.cells)
    raise DataError(
        f"{file}: no column {', '.join(missing)}; {which} has {shown:.200}; "
        "expected timestamp,open,high,low,close,volume"
    )


def _search(text: str) -> tuple[Header | None, Header | None]:
    """Return the header, or None if there is none, and the line that is most like a header."""
    nearest: Header | None = None
    words = set()  # separators of lines that could be a header with unknown names
    for number, line in _first_lines(text):
        if found := _without_header(number, line):
            return (None if found.separator in words else found), nearest
        for header in _readings(number, line.lstrip("#% ")):
            if not header.columns.missing:
                return header, nearest
            if nearest is None or len(header.columns.missing) < len(nearest.columns.missing):
                nearest = header
            if sum(any(map(str.isalpha, cell)) for cell in header.cells) >= 4:
                words.add(header.separator)
    return None, nearest


def _begins_with_candles(text: str) -> bool:
    return text.lstrip()[:1] == "[" or _search(text)[0] is not None


def _first_lines(text: str) -> Iterator[tuple[int, str]]:
    found = 0
    for number, line in enumerate(io.StringIO(text, newline=""), start=1):
        if line.strip():
            yield number, line.strip("\r\n")
            found += line[0] != "#"
        if found == _PREAMBLE:
            return


def _readings(number: int, line: str) -> list[Header]:
    """Return the line read as a header, once per separator in it, the likeliest header first."""
    found = []
    for separator in [mark for mark in _SEPARATORS if mark in line] or [","]:
        cells = _cells(line, separator)
        found.append(Header(number, cells, find_columns(cells), separator))
    return sorted(found, key=lambda header: len(header.columns.missing))


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return []


def _without_header(number: int, line: str) -> Header | None:
    """Return the columns of a line without header: date, [time], open, high, low, close, [volume].

    Programs that write no header write times as epochs, 20260102 or 2026.01.02.
    """
    for separator in _SEPARATORS:
        cells = [cell.strip() for cell in _cells(line, separator)]
        for place, cell in enumerate(cells[:3]):
            if not is_time(cell) or cell[4:5] == "-":
                continue
            position = {"time": place}
            first = place + 1
            if is_clock("".join(cells[first : first + 1])) and len(cells) > first + 4:
                position["clock"] = first
                first += 1
            numbers = cells[first : first + 5]
            if len(numbers) >= 4 and all(map(NUMERIC.fullmatch, numbers)):
                position |= {name: first + i for i, name in enumerate([*PRICES, "volume"])}
                return Header(number - 1, [], Columns(position), separator)
    return None


def _below(header: Header, rows: dict[int, list[str]]) -> dict[int, list[str]]:
    """Return the rows without the rest of a multi-line header, as yfinance and pandas write it."""
    if not header.cells:
        return rows
    time = header.columns.position["time"]
    prices = [header.columns.position[name] for name in PRICES]
    for line, row in list(islice(rows.items(), 3)):
        begins, *values = (row[i].strip() if i < len(row) else "" for i in (time, *prices))
        if is_time(begins) or (begins != "Ticker" and any(map(NUMERIC.fullmatch, values))):
            break
        del rows[line]
    return rows


def _refuse_wide_rows(file: Path, table: Table) -> None:
    width = len(table.header.cells)
    for line, row in zip(table.lines, table.rows, strict=True):
        if width and len(row) > width and any(row[width:]):
            raise DataError(
                f"{file} row {line}: {len(row)} values under a header of {width}; "
                "numbers are written without thousands separators, or in quotes"
            )
