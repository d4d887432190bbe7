"""Standard output and error that survive a closed pipe or terminal."""

import io
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, TextIO, cast


class SafeStream:
    """A text stream for printing that never raises.

    Characters that cannot be encoded are replaced. The first error is stored in `error`. After the
    first error nothing more is written, and the interpreter's flush at exit cannot fail.
    """

    def __init__(self, stream: TextIO | None) -> None:  # None: the stream was closed from the start
        self._stream = stream
        self.encoding = (stream and stream.encoding) or "utf-8"
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        if self._stream is not None and self.error is None:
            try:
                self._stream.write(self._encodable(text))
            except OSError as error:
                self._give_up(self._stream, error)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None and self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(self._stream, error)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        if self._stream is None:
            raise OSError("the stream is closed")
        return self._stream.fileno()

    def as_text(self) -> IO[str]:
        """Return self, for a caller that requires a file but only writes."""
        return cast("IO[str]", self)

    def _encodable(self, text: str) -> str:
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            dashed = text.replace("–", "-")  # noqa: RUF001 - 1.05-1.14 reads better than 1.05?1.14
            return dashed.encode(self.encoding, "replace").decode(self.encoding)
        return text

    def _give_up(self, stream: TextIO, error: OSError) -> None:
        self.error = error
        # the interpreter flushes the rest of the buffer to devnull at exit
        with suppress(OSError), Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), stream.fileno())


class LineStream(io.TextIOBase):
    """A text stream that passes every non-blank line to `take`."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._rest = ""

    def write(self, text: str) -> int:
        # a library's progress bar writes "\r" instead of a line end
        *lines, self._rest = (self._rest + text.replace("\r", "\n")).split("\n")
        for line in lines:
            if line.strip():
                self._take(line)
        return len(text)

    def close(self) -> None:
        """Pass the text after the last line end to `take`, then close the stream."""
        if self._rest:
            self.write("\n")
        super().close()
