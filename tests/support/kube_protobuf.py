"""The little of protobuf that helm and kubectl send."""

import base64
from collections import defaultdict
from typing import Any

PROTOBUF = b"k8s\0"  # how a message of it begins


def decoded(message: bytes) -> dict[str, Any]:
    """Helm writes its records as secrets, and those in protobuf; so kubectl a namespace."""
    content = fields(message)
    [metadata] = map(fields, content[1])
    labels = {name: value.decode() for name, value in _map(metadata[11]).items()}
    data = {name: base64.b64encode(value).decode() for name, value in _map(content[2]).items()}
    return {"metadata": {"name": metadata[1][0].decode(), "labels": labels}, "data": data}


def fields(message: bytes) -> dict[int, list[bytes]]:
    """Field number -> its values; of texts, bytes and messages alone, as these have no others."""
    found = defaultdict(list)
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        size, at = _varint(message, at)
        if key & 7 == 2:  # else it is a number, which has just been read
            found[key >> 3].append(message[at : at + size])
            at += size
    return found


def _map(entries: list[bytes]) -> dict[str, bytes]:
    pairs = [fields(entry) for entry in entries if entry]  # a namespace has an empty one
    return {pair[1][0].decode(): pair[2][0] for pair in pairs}


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number, lowest seven bits first, and where it ends."""
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
