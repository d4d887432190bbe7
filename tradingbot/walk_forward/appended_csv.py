"""A CSV file that one process at a time appends to."""

import csv
import fcntl
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tradingbot.errors import ConfigError, KronosError
from tradingbot.walk_forward.schema import content_of, whole_lines


class AppendedCsv:
    """An append-only CSV file. `content` holds its complete lines at construction.

    Nothing is written before `open`.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Read the file. A new file gets `columns`; an existing file keeps its own columns."""
        self.path = path
        content = content_of(path)
        self._size = len(content)
        self.content = whole_lines(content)
        head = self.content.decode(errors="replace").splitlines()[:1]
        self._columns = next(csv.reader(head), list(columns))
        self._file: io.FileIO | None = None

    def open(self, *, keep: int | None = None) -> None:
        """Lock the file for this process, and keep its first `keep` lines, by default all.

        Raises:
            ConfigError: The file cannot be written, or another backtest is writing or has written
                to it.
        """
        try:
            # unbuffered, so that each batch is one write and is not lost if the process is killed
            file = io.FileIO(self.path, "a")
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written: {error.strerror}") from error
        self._file = file
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise ConfigError(f"{self.path}: another backtest is writing to it") from None
        if os.fstat(file.fileno()).st_size != self._size:
            file.close()
            raise ConfigError(f"{self.path} was changed meanwhile, by another backtest?")
        lines = self.content.splitlines(keepends=True)[:keep]
        os.ftruncate(file.fileno(), sum(map(len, lines)))
        if not lines:
            self._write(",".join(self._columns) + "\n")

    def close(self) -> None:
        """Unlock and close the file; do nothing if it is not open."""
        if self._file is not None:
            self._file.close()

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows in one write. Raises KronosError if writing fails."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n", extrasaction="ignore")
        writer.writerows(rows)
        self._write(text.getvalue())

    def _write(self, text: str) -> None:
        assert self._file is not None
        left = memoryview(text.encode())
        try:
            while left:
                left = left[self._file.write(left) or 0 :]
        except OSError as error:
            raise KronosError(
                f"{self.path} cannot be written: {error.strerror}; repeat the command with the "
                "same --out to add the rest"
            ) from error
