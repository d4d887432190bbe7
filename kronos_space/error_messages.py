"""Messages of refused requests: one line, with little of what was sent.

Validation builds an error for each wrong value, and an error needs a thousand times the memory of
the value. So a request is shortened before validation until it can cause only a few errors.
"""

import json
import re
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any

from pydantic_core import ErrorDetails, PydanticCustomError

SHOWN = 60  # characters of a caller's input repeated in an error
MAX_ERRORS = 20  # errors that are reported
# Letters and marks that Python considers printable and that show nothing.
_FILLERS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
NOT_PRINTABLE = "String should match pattern: 1 to 64 printable characters"


def few_keys(data: Any, known: Collection[str]) -> Any:
    """Return an object with its known keys and at most MAX_ERRORS of its unknown keys.

    Values that are not objects are returned unchanged.
    """
    if not isinstance(data, dict) or len(data) <= len(known):
        return data
    unknown = islice((key for key in data if key not in known), MAX_ERRORS)
    return {key: data[key] for key in [*(key for key in known if key in data), *unknown]}


def message_of(detail: ErrorDetails) -> str:
    message, value = detail["msg"], detail["input"]
    if detail["type"] == "model_type":
        return "Input should be a JSON object"
    if detail["type"] == "string_pattern_mismatch" and detail["loc"] == ("symbol",):
        message = NOT_PRINTABLE
    if detail["type"] == "string_pattern_mismatch" and "timestamp" in str(detail["loc"]):
        message = "Input should be an ISO 8601 date, or date and time"
    if detail["type"] in ("missing", "extra_forbidden", "event") or isinstance(value, dict | list):
        return message
    return f"{message}, got {shown(value)}"


def shown(value: Any) -> str:
    """Return a value from a request as shortened ASCII JSON."""
    if isinstance(value, int) and abs(value) >= 1e18:
        return "a huge one"
    text = json.dumps(value[: SHOWN + 1] if isinstance(value, str) else value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def path_of(location: Iterable[int | str]) -> str:
    return ".".join(map(_key, location))


def _key(key: int | str) -> str:
    """Return a row number or a key from a request, shortened, without control characters."""
    text = str(key)
    if not is_visible(text):
        text = json.dumps(text[: SHOWN + 1])[1:-1]
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def in_words(location: tuple[int | str, ...], message: str) -> str:
    match location:
        case ():
            return message
        case ("ohlcv", int(row), *names):
            return ": ".join([f"row {row}", *map(_key, names), message])
        case _:
            return f"{path_of(location)}: {message}"


def symbol_shown(data: Any) -> str | None:
    """Return the symbol of a refused series for the answer; any input is allowed."""
    symbol = data.get("symbol") if isinstance(data, dict) else None
    if not isinstance(symbol, str):
        return None
    return "".join(mark if is_visible(mark) else "\ufffd" for mark in symbol[:64])


def is_visible(text: str) -> bool:
    """Return whether every character is visible: no control or format character, no filler."""
    return text.isprintable() and not _FILLERS.search(text)


def visible(symbol: str) -> str:
    """Return the symbol if every character of it is visible; otherwise raise an error."""
    if not is_visible(symbol):
        raise PydanticCustomError("symbol", NOT_PRINTABLE)
    return symbol
