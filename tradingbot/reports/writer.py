"""The report's file: written beside its place, and put there when it is whole."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tradingbot.errors import ConfigError
from tradingbot.reports.page import packed_plotly, render_page
from tradingbot.reports.record import read_record
from tradingbot.runtime.signals import signals_held
from tradingbot.settings import Settings


@dataclass(frozen=True)
class WrittenReport:
    """What `write_report` has written."""

    summary: str  # what is in it
    size: int  # bytes


def write_report(
    out: Path, url: str, settings: Settings, *, source: str | None, symbols: Sequence[str]
) -> WrittenReport:
    """Write the report of the database `url` to `out`; an older file there is replaced.

    `symbols` are the tickers in it, all if empty; `source` is where candles come from, by default
    that of the last run.

    Raises:
        ConfigError: A setting is wrong, or `out` cannot be written.
        DatabaseError: The database is out of reach, or has no forecast.
    """
    plotly = packed_plotly()
    with replaced_file(out) as put:
        record = read_record(url, settings, source=source, symbols=symbols)
        size = put(render_page(record, plotly))
    return WrittenReport(record.summary, size)


@contextmanager
def replaced_file(out: Path) -> Iterator[Callable[[str], int]]:
    """Yield what writes a text to `out` and returns its number of bytes.

    A reader, or a web server, finds the old file or the new one, whole.

    Raises:
        ConfigError: No file can be written there; raised before anything else is done.
    """
    target = out.resolve()  # what a link points to is replaced, not the link
    if target.exists() and not target.is_file():
        raise ConfigError(f"--out={str(out)!r} is no file; expected one such as report.html")
    try:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise _unwritable(out, error) from error
    os.close(descriptor)
    beside = Path(name)

    def put(content: str) -> int:
        try:
            written = beside.write_bytes(content.encode())
            beside.chmod(0o644)  # mkstemp's are for their owner alone
            beside.replace(target)
        except OSError as error:
            raise _unwritable(out, error) from error
        return written

    try:
        yield put
    finally:
        with signals_held():
            beside.unlink(missing_ok=True)


def _unwritable(out: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"--out={str(out)!r} cannot be written: {error.strerror}; give a file in a folder that "
        "is there and writable"
    )
