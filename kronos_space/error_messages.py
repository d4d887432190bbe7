"""What a refusal says, and how much it repeats of what was sent: little, on one line, in words.

Validation builds an error for each wrong value, a thousand times as large as the value; what is
validated is cut first, to what a few errors tell.
"""

import json
import re
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any

from pydantic_core import ErrorDetails, PydanticCustomError

SHOWN = 60  # characters of what a caller sent that are repeated in an error
FEW = 20  # errors that are told
# Letters and marks that are printable to Python and show nothing.
_FILLERS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
NOT_PRINTABLE = "String should match pattern: 1 to 64 printable characters"


def few_keys(data: Any, known: Collection[str]) -> Any:
    """An object without most of its unknown keys; anything else as it is."""
    if not isinstance(data, dict) or len(data) <= len(known):
        return data
    unknown = islice((key for key in data if key not in known), FEW)
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
    """A value that was sent, as JSON in ASCII, shortened."""
    if isinstance(value, int) and abs(value) >= 1e18:
        return "a huge one"
    text = json.dumps(value[: SHOWN + 1] if isinstance(value, str) else value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def path_of(where: Iterable[int | str]) -> str:
    return ".".join(map(_key, where))


def _key(key: int | str) -> str:
    """A row, or a key that was sent: shortened, and without what controls a terminal."""
    text = str(key)
    if not is_visible(text):
        text = json.dumps(text[: SHOWN + 1])[1:-1]
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def in_words(where: tuple[int | str, ...], message: str) -> str:
    match where:
        case ():
            return message
        case ("ohlcv", int(row), *names):
            return ": ".join([f"row {row}", *map(_key, names), message])
        case _:
            return f"{path_of(where)}: {message}"


def symbol_shown(data: Any) -> str | None:
    """What an answer calls the series that it refuses, whatever was sent as its symbol."""
    symbol = data.get("symbol") if isinstance(data, dict) else None
    if not isinstance(symbol, str):
        return None
    return "".join(mark if is_visible(mark) else "\ufffd" for mark in symbol[:64])


def is_visible(text: str) -> bool:
    """Whether every character shows: none is a control or format character, or a filler."""
    return text.isprintable() and not _FILLERS.search(text)


def visible(symbol: str) -> str:
    """A symbol, if every character of it shows."""
    if not is_visible(symbol):
        raise PydanticCustomError("symbol", NOT_PRINTABLE)
    return symbol
