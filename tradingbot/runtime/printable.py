"""Make foreign text safe for a log or a terminal."""

import re

MAX_LENGTH = 500  # maximum length of a foreign message

# Characters that are invisible but affect a terminal or an editor, and that JSON does not escape:
# DEL, C1, line separators, and marks of the writing direction.
_ACTS = re.compile("[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Replace each control character except line ends with a space."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def shortened(text: str, limit: int = MAX_LENGTH) -> str:
    """Return `text`, or only its beginning and its end if it exceeds `limit` characters.

    The end is kept because error messages often say there what to do.
    """
    if len(text) <= limit:
        return text
    end = limit // 3
    return f"{text[: limit - end - 3]} … {text[-end:]}"


def escaped(document: str) -> str:
    """Escape invisible characters that affect a terminal or an editor in a JSON document."""
    return _ACTS.sub(lambda found: f"\\u{ord(found[0]):04x}", document)
