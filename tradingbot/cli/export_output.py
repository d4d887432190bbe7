"""Write rows as CSV, JSON or Parquet, to a file or to standard output."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import IO, Any

import orjson
import pandas as pd

from tradingbot.cli.options import Format
from tradingbot.cli.output import fail
from tradingbot.errors import ConfigError, DatabaseError, KronosError
from tradingbot.install_command import install_command
from tradingbot.persistence.damage import warn_of_damaged_rows
from tradingbot.persistence.engine import read_only_session
from tradingbot.persistence.url import database_exists, redact
from tradingbot.persistence.url import database_url as configured_url
from tradingbot.runtime.files import replaced
from tradingbot.runtime.signals import Stopped, stop_on_signals
from tradingbot.runtime.streams import SafeStream
from tradingbot.walk_forward.schema import COLUMNS, rows_of

Row = Mapping[str, Any]


def export(rows: Iterable[Row], out: Path | None, form: Format, *, nothing: str) -> None:
    """Write the rows and print their number, or end the command with an error.

    Args:
        rows: Rows to write.
        out: The file; None for standard output. If there are no rows, an existing file does not
            change.
        form: The format.
        nothing: The error message if there are no rows.
    """
    try:
        with stop_on_signals():
            count = write_rows(_non_empty(rows, nothing), out, form)
    except (KronosError, Stopped) as error:
        fail(error, left="" if out is None else f"{out} is unchanged")
    if out is not None:
        stdout = SafeStream(sys.stdout)
        stdout.write(f"{out}: {count:,} rows\n")
        stdout.flush()


def write_rows(rows: Iterable[Row], out: Path | None, form: Format) -> int:
    """Write the rows, to standard output if `out` is None, and return their number.

    Raises:
        ConfigError: `out` cannot be written, or Parquet has no file or no package to write it.
    """
    if form is Format.PARQUET:
        return _write_parquet(rows, out)
    write = {Format.CSV: _write_csv, Format.JSON: _write_json}[form]
    if out is None:
        stream = SafeStream(sys.stdout)
        count = write(rows, stream.as_text())
        stream.flush()
        return count
    with replaced(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        return write(rows, file)


def stored(url: str | None, read: Callable[..., Iterator[Row]], **selection: Any) -> Iterator[Row]:
    """Yield the rows of `read(session, **selection)`.

    Raises:
        DatabaseError: The database does not exist.
    """
    url = url or configured_url()
    if not database_exists(url):
        raise DatabaseError(f"there is no {redact(url)} yet: the first `kronosbot run` creates it")
    with read_only_session(url) as session:
        warn_of_damaged_rows(session)
        yield from read(session, **selection)


def backtested(path: Path, *, closes: bool) -> Iterator[Row]:
    """Yield the forecasts of a backtest, or the realised closes.

    Raises:
        ConfigError: The file does not exist, or is not a backtest's.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file; `kronosbot backtest` writes one")
    table = rows_of(path)
    if closes:
        table = table[table["step"] == 0][["symbol", "interval", "as_of", "actual"]]
        yield from _records(table.rename(columns={"actual": "close"}))
    else:
        yield from _records(table[table["step"] > 0][COLUMNS].astype({"step": "int64"}))


def _non_empty(rows: Iterable[Row], nothing: str) -> Iterator[Row]:
    """Yield the rows, and raise DatabaseError if there are none."""
    none = True
    for row in rows:
        none = False
        yield row
    if none:
        raise DatabaseError(nothing)


def _records(table: pd.DataFrame) -> list[Row]:
    return [
        {str(name): None if value != value else value for name, value in row.items()}
        for row in table.to_dict("records")
    ]


def _write_csv(rows: Iterable[Row], file: IO[str]) -> int:
    rows, count = iter(rows), 0
    first = next(rows, None)
    if first is None:
        return 0
    writer = csv.DictWriter(file, list(first), lineterminator="\n")
    writer.writeheader()
    for row in chain([first], rows):
        writer.writerow({name: _as_text(value) for name, value in row.items()})
        count += 1
    return count


def _as_text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _write_json(rows: Iterable[Row], file: IO[str]) -> int:
    count = 0
    for row in rows:
        file.write("[\n" if count == 0 else ",\n")
        file.write(_json(row))
        count += 1
    file.write("\n]\n" if count else "[]\n")
    return count


def _json(row: Row) -> str:
    try:
        return orjson.dumps(dict(row)).decode()
    except (TypeError, ValueError):  # an unpaired surrogate, or an integer that is too large
        return json.dumps({name: _as_text(value) for name, value in row.items()})


def _write_parquet(rows: Iterable[Row], out: Path | None) -> int:
    if out is None:
        raise ConfigError("--format parquet: give a file with --out")
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--format parquet: the package pyarrow is missing: {install_command('parquet')}"
        ) from error
    table = pd.DataFrame([dict(row) for row in rows])
    with replaced(out) as temporary:
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        temporary.write_bytes(buffer.getvalue())
    return len(table)
