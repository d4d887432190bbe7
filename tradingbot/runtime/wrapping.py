"""Break messages at words, where a terminal, or COLUMNS, says how wide a line may be."""

import os
import re
import textwrap
from typing import IO

from rich.console import Console

from tradingbot.environment import environment

LEAST = 20  # columns; nobody reads fewer
_LABEL = re.compile(r" *(\S+ {2,})? *")  # "Stored   4 tickers": what follows stays below "4"


def width_of(stream: IO[str] | None) -> int | None:
    """Return how many columns what is written to `stream` has; None where it may be any number.

    A file or a pipe has lines of any length, so that a message is one line to `grep`.
    """
    given = environment().get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return max(LEAST, int(given))
    try:
        if stream is None or not stream.isatty():
            return None
        return max(LEAST, os.get_terminal_size(stream.fileno()).columns) or None
    except OSError:
        return None


def width_of_console(console: Console) -> int | None:
    """Return the same of rich's console."""
    return console.width if console.is_terminal or "COLUMNS" in environment() else None


def wrapped(text: str, width: int | None) -> str:
    """Break each line of `text` between words; a longer word stands alone and whole."""
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
