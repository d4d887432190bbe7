"""Prices, dates, durations and one-line reasons as text."""

import math
import re
from datetime import datetime

FOR_TRYING = {"kronos-nano"}  # models that come with the project
MOST_FIXED = 1e15  # larger numbers are written with an exponent
# what libraries add to their messages: where their own manual is
_ADVICE = re.compile(
    r"[.\s(\[]*\b(?:See|Background on this error at|For (?:further|more) (?:information|details))\b"
    r"[^.()]{0,20}https?://\S*(?: first for more details)?[\s.)\]]*"
)
_CURL = re.compile(r"Failed to perform, curl: \(\d+\) ")


def price_text(price: float) -> str:
    """449.30, 1.0843, and five digits that say something of whatever costs less than 1."""
    if not 1e-12 < abs(price) < MOST_FIXED and price:
        return f"{price:.5g}"
    if price >= 10:
        return f"{price:.2f}"
    return f"{price:.{4 if not 0 < price < 1 else 4 - math.floor(math.log10(price))}f}"


def amount_text(amount: float, decimals: int = 2) -> str:
    """An amount with so many decimals; 1e+300 is not written out."""
    return f"{amount:.{decimals}f}" if abs(amount) < MOST_FIXED else f"{amount:.5g}"


def change_text(share: float) -> str:
    """+3.0%; 1e+300% is not written out."""
    return f"{share:+.1%}" if abs(share) < MOST_FIXED else f"{100 * share:+.5g}%"


def model_text(name: str) -> str:
    """The model's name, and of the small one that comes with the project what it is not for."""
    return f"{name} (not meant for trading)" if name in FOR_TRYING else name


def storable(text: object) -> str:
    """As text that every database and terminal takes: no NUL, no half of a surrogate pair."""
    return str(text).replace("\0", "").encode("utf-8", "replace").decode()


def one_line(text: object) -> str:
    """`storable`, and without the line breaks."""
    return " ".join(storable(text).split())


def quoted(text: object, limit: int = 500) -> str:
    """What somebody else says, for a log or a terminal: one line, visible characters, not long.

    A library's advice to read its own manual is left out.
    """
    line = _ADVICE.sub(" ", " ".join(visible(text, 4 * limit).split())).strip()
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def cause_text(error: BaseException, limit: int = 200) -> str:
    """Why a library's call failed: "Connection refused", "Could not resolve host: example.org"."""
    if isinstance(error, OSError) and error.strerror:
        return quoted(error.strerror, limit)
    said, by_curl = _CURL.subn("", str(error), count=1)
    return quoted(said if by_curl else f"{type(error).__name__}: {said}".rstrip(": "), limit)


def innermost(error: BaseException) -> BaseException:
    """The error that the others of a chain were made from."""
    for _ in range(20):  # a chain may bite its own tail
        reason = getattr(error, "reason", None)
        inner = reason if isinstance(reason, BaseException) else error.__cause__
        inner = inner or error.__context__
        if inner is None:
            break
        error = inner
    return error


def visible(text: object, limit: int) -> str:
    """The first `limit` characters, with a space for each that would control a terminal."""
    return "".join(c if c.isprintable() else " " for c in str(text)[:limit])


def bar_text(bar: datetime, interval: str) -> str:
    """Thu 2013-02-21, and the time of day where bars are shorter than a day."""
    return f"{bar:%a %Y-%m-%d}" + ("" if interval == "1d" else f" {bar:%H:%M}")


def duration(seconds: float) -> str:
    """41 s, 3 min, 1 h 02 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
