"""Read a message of `/mcp` before the SDK does, in a thread.

The SDK parses a message on the event loop, and repeats its id and an unknown method. So it gets an
outline: the message with a reference in place of the tool's arguments, which are nearly all of it.
"""

import uuid
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json, to_json

from kronos_space.exceptions import InvalidRequest

OUTLINE = 2**16  # bytes of a message besides the arguments
NAME = 128  # characters of an id, and of a method
REFERENCE = "kronos_space_arguments"  # the only argument in an outline


@dataclass(frozen=True)
class ReadMessage:
    """A message as the SDK gets it, and the arguments for which its reference stands."""

    outline: bytes
    arguments: dict[str, Any] = field(default_factory=dict)
    reference: str = field(default_factory=lambda: uuid.uuid4().hex)


def read_message(body: bytes) -> ReadMessage:
    """Take the arguments out of a message. What is wrong with a small one is left to the SDK.

    Raises InvalidRequest for a large outline, a long id and a long method.
    """
    message: Any = None
    try:
        message = from_json(body)
    except ValueError as error:
        if len(body) > OUTLINE:
            raise InvalidRequest(f"the body is not JSON: {error}") from None
    read = ReadMessage(body)
    if isinstance(message, dict):
        for name in ("id", "method"):
            if len(str(message.get(name))) > NAME:
                raise InvalidRequest(f"{name}: expected at most {NAME} characters")
        params = message.get("params")
        if isinstance(params, dict) and isinstance(arguments := params.get("arguments"), dict):
            read = ReadMessage(b"", arguments)
            params["arguments"] = {REFERENCE: read.reference}
            outline = to_json(message, inf_nan_mode="constants")
            read = ReadMessage(outline, arguments, read.reference)
    if len(read.outline) > OUTLINE:
        raise InvalidRequest(
            f"the message has more than {OUTLINE // 1024} KiB besides a tool's arguments"
        )
    return read
