"""What others say, made fit for a log or a terminal."""

import re

LONGEST = 500  # characters of a message of others

# What is not visible but acts on a terminal or an editor, and stands as it is in JSON: DEL, C1,
# line separators, and what turns the direction of writing.
_ACTS = re.compile("[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """`text` with a space for each character that would control a terminal, but for line ends."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def shortened(text: str, limit: int = LONGEST) -> str:
    """`text`, or its beginning and its end, where the way out of an error stands."""
    if len(text) <= limit:
        return text
    end = limit // 3
    return f"{text[: limit - end - 3]} … {text[-end:]}"


def escaped(document: str) -> str:
    """A JSON document that shows such characters by their numbers."""
    return _ACTS.sub(lambda found: f"\\u{ord(found[0]):04x}", document)
