"""Decode a file of candles: UTF-8, UTF-16 (written by spreadsheets) or Windows-1252.

The Space's page follows the same rules (`textOf` in kronos_space/static/candles.js).
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from tradingbot.errors import DataError

# Encodings that are recognised by the decoded headings, and refused. Most of them decode any bytes,
# so the recognised encoding can be wrong.
_OTHERS = {
    "GBK": "gbk",
    "Shift-JIS": "cp932",
    "Big5": "big5",
    "EUC-KR": "cp949",
    "EUC-JP": "euc_jp",
    "Windows-1251": "cp1251",
    "Windows-1250": "cp1250",
}


def read_text(file: Path, has_header: Callable[[str], bool]) -> str:
    """Return the text of `file`. `has_header` returns whether a text begins as candles do.

    Raises:
        DataError: The file cannot be read, or is in another encoding. The error names the encoding
            if the headings can be read in it.
    """
    try:
        content = _content(file)
        text = _unicode(content)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    if text is None and b"\0" not in content:
        text = _by_headings(file, content, has_header)
    if text is None or "\0" in text:
        raise DataError(f"{file}: cannot be read: it is not text; save it as CSV")
    return text.removeprefix("\ufeff")


def _content(file: Path) -> bytes:
    """Read a regular file. Raise OSError for a FIFO or a device, which may never end."""
    # O_NONBLOCK: opening a FIFO without a writer would block
    opened = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError("it is not a regular file")
    with os.fdopen(opened, "rb") as stream:
        return stream.read()


def _unicode(content: bytes) -> str | None:
    """Decode UTF-16 or UTF-8. Return None if it is neither."""
    encoding = "utf-8-sig"
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif b"\0" in content[:2]:  # no byte order mark; the first letter is ASCII
        encoding = "utf-16-be" if content[0] == 0 else "utf-16-le"
    return _decoded(content, encoding)


def _by_headings(file: Path, content: bytes, has_header: Callable[[str], bool]) -> str:
    western = _decoded(content, "cp1252")
    if western is not None and has_header(western):
        return western
    for name, encoding in _OTHERS.items():
        text = _decoded(content, encoding)
        if text is not None and has_header(text):
            raise DataError(
                f"{file}: cannot be read: it is not UTF-8 but {name}; save it as UTF-8, "
                f"for example with iconv -f {name.upper()} -t UTF-8"
            )
    raise DataError(
        f"{file}: cannot be read: it is not UTF-8, and as Windows-1252 it has no known headings; "
        "save it as UTF-8 with a first line as timestamp,open,high,low,close,volume"
    )


def _decoded(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None
