"""Format prices, dates, durations and one-line reasons as text."""

import math
import re
from datetime import datetime

FOR_TRYING = {"kronos-nano"}  # models bundled with the project
MAX_FIXED = 1e15  # larger numbers are written with an exponent
# links to documentation that libraries append to their messages
_ADVICE = re.compile(
    r"[.\s(\[]*\b(?:See|Background on this error at|For (?:further|more) (?:information|details))\b"
    r"[^.()]{0,20}https?://\S*(?: first for more details)?[\s.)\]]*"
)
_CURL = re.compile(r"Failed to perform, curl: \(\d+\) ")


def price_text(price: float) -> str:
    """Format a price: 449.30, 1.0843, and five significant digits below 1."""
    if not 1e-12 < abs(price) < MAX_FIXED and price:
        return f"{price:.5g}"
    if price >= 10:
        return f"{price:.2f}"
    return f"{price:.{4 if not 0 < price < 1 else 4 - math.floor(math.log10(price))}f}"


def amount_text(amount: float, decimals: int = 2) -> str:
    """Format an amount with `decimals` decimals. A huge amount gets an exponent."""
    return f"{amount:.{decimals}f}" if abs(amount) < MAX_FIXED else f"{amount:.5g}"


def change_text(share: float) -> str:
    """Format a relative change such as +3.0%. A huge change gets an exponent."""
    return f"{share:+.1%}" if abs(share) < MAX_FIXED else f"{100 * share:+.5g}%"


def model_text(name: str) -> str:
    """Return the model's name, with a warning for the small bundled model."""
    return f"{name} (not meant for trading)" if name in FOR_TRYING else name


def storable(text: object) -> str:
    """Return text without NUL and unpaired surrogates, which databases and terminals refuse."""
    return str(text).replace("\0", "").encode("utf-8", "replace").decode()


def one_line(text: object) -> str:
    """Return `storable` text without line breaks."""
    return " ".join(storable(text).split())


def quoted(text: object, limit: int = 500) -> str:
    """Quote a foreign text for a log: one printable line of at most `limit` characters.

    Links to a library's documentation are removed.
    """
    line = _ADVICE.sub(" ", " ".join(visible(text, 4 * limit).split())).strip()
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def cause_text(error: BaseException, limit: int = 200) -> str:
    """Return the reason why a library's call failed, such as "Connection refused"."""
    if isinstance(error, OSError) and error.strerror:
        return quoted(error.strerror, limit)
    message, from_curl = _CURL.subn("", str(error), count=1)
    return quoted(
        message if from_curl else f"{type(error).__name__}: {message}".rstrip(": "), limit
    )


def innermost(error: BaseException) -> BaseException:
    """Return the original error of a chain of errors."""
    for _ in range(20):  # a chain may be circular
        reason = getattr(error, "reason", None)
        inner = reason if isinstance(reason, BaseException) else error.__cause__
        inner = inner or error.__context__
        if inner is None:
            break
        error = inner
    return error


def visible(text: object, limit: int) -> str:
    """Return the first `limit` characters, with a space for each control character."""
    return "".join(c if c.isprintable() else " " for c in str(text)[:limit])


def bar_text(bar: datetime, interval: str) -> str:
    """Format a bar's time: Thu 2013-02-21, with the time of day for intraday bars."""
    return f"{bar:%a %Y-%m-%d}" + ("" if interval == "1d" else f" {bar:%H:%M}")


def duration(seconds: float) -> str:
    """Format a duration: 41 s, 3 min, 1 h 02 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
