"""Text that may stand in a conversation: storable characters, a bounded length, one line."""

from collections.abc import Mapping, Sequence
from typing import Any

from tradingbot.formatting import quoted

MOST_CHARACTERS = 30_000  # of one tool's result
MOST_NAME = 80  # characters of a name that somebody else chose


def name_text(name: object) -> str:
    """A stored name on one line, shortened: it must not read as an instruction to the model."""
    return quoted(name, MOST_NAME)


def clean(text: str) -> str:
    """Without NUL and halves of surrogate pairs, which no server takes; whole pairs are joined."""
    text = text.replace("\0", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def cleaned(value: Any) -> Any:
    """`clean` for all texts in a JSON-like value."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {cleaned(key): cleaned(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(one) for one in value]
    return value


def bounded(text: str, limit: int = MOST_CHARACTERS) -> str:
    """The first `limit` characters, and how many there were."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n[Cut: these are the first {limit:,} of {len(text):,} characters.]"


def bounded_content(content: str | Sequence[Any]) -> str | list[Any]:
    """A tool's result, clean and `bounded`; it is a text or, as MCP tools give it, blocks."""
    if isinstance(content, str):
        return bounded(clean(content))
    blocks: list[Any] = []
    left = MOST_CHARACTERS
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
