"""Make text safe for a conversation: valid characters, limited length, one line."""

from collections.abc import Mapping, Sequence
from typing import Any

from tradingbot.formatting import quoted

MAX_CHARACTERS = 30_000  # of a tool's result
MOST_NAME = 80  # characters of a name chosen by others


def name_text(name: object) -> str:
    """Return a stored name on one short line, so that it cannot act as an instruction."""
    return quoted(name, MOST_NAME)


def clean(text: str) -> str:
    """Remove NUL and unpaired surrogates, which servers refuse. Surrogate pairs are joined."""
    text = text.replace("\0", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def cleaned(value: Any) -> Any:
    """Apply `clean` to all texts in a JSON-like value."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {cleaned(key): cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(item) for item in value]
    return value


def bounded(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Return the first `limit` characters, and a note with the original length."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n[Cut: these are the first {limit:,} of {len(text):,} characters.]"


def bounded_content(content: str | Sequence[Any]) -> str | list[Any]:
    """Apply `clean` and `bounded` to a tool's result.

    The result is a text or, from MCP tools, a list of blocks.
    """
    if isinstance(content, str):
        return bounded(clean(content))
    blocks: list[Any] = []
    left = MAX_CHARACTERS
    for number, block in enumerate(content):
        if left <= 0:
            blocks.append(_text_block(f"[Cut: {len(content) - number} more blocks.]"))
            break
        blocks.append(_bounded_block(cleaned(block), left))
        left -= len(_text(blocks[-1]) or str(blocks[-1]))
    return blocks


def _bounded_block(block: Any, limit: int) -> Any:
    text = _text(block)
    if text is not None:
        return (
            bounded(text, limit)
            if isinstance(block, str)
            else {**block, "text": bounded(text, limit)}
        )
    size = len(str(block))
    if size <= limit:
        return block
    kind = block.get("type", "unknown") if isinstance(block, Mapping) else type(block).__name__
    return _text_block(f"[Left out: a block of type {name_text(kind)}, {size:,} characters.]")


def _text(block: Any) -> str | None:
    if isinstance(block, str):
        return block
    text = block.get("text") if isinstance(block, Mapping) else None
    return text if isinstance(text, str) else None


def _text_block(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}
