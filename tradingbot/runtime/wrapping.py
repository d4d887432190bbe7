"""Wrap messages at words, to the width of the terminal or COLUMNS."""

import os
import re
import textwrap
from typing import IO

from rich.console import Console

from tradingbot.environment import environment

MIN_WIDTH = 20  # minimum columns
_LABEL = re.compile(r" *(\S+ {2,})? *")  # "Stored   4 tickers": further lines begin below "4"


def width_of(stream: IO[str] | None) -> int | None:
    """Return the number of columns of `stream`, or None if it is unlimited.

    The width of a file or a pipe is unlimited, so that a message is one line for `grep`.
    """
    if columns := given_columns():
        return columns
    try:
        if stream is None or not stream.isatty():
            return None
        return max(MIN_WIDTH, os.get_terminal_size(stream.fileno()).columns) or None
    except OSError:
        return None


def given_columns() -> int | None:
    """Return the number in COLUMNS, or None if it is unset or 0, as in some shells."""
    given = environment().get("COLUMNS", "")
    columns = int(given) if given.isdecimal() and len(given) < 10 else 0
    return max(MIN_WIDTH, columns) if columns else None


def width_of_console(console: Console) -> int | None:
    """Return the number of columns of a rich console, or None if unlimited."""
    return console.width if console.is_terminal or given_columns() else None


def wrapped(text: str, width: int | None) -> str:
    """Break each line of `text` between words. Words longer than a line are not broken."""
    if width is None:
        return text
    return "\n".join(_wrapped(line, width) for line in text.split("\n"))


def _wrapped(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    label = _LABEL.match(line)
    head = label[0] if label and len(label[0]) <= width // 2 else ""
    lines = textwrap.wrap(
        line[len(head) :],
        width - len(head),
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
    return head + f"\n{' ' * len(head)}".join(lines)
