"""The parts of protobuf that helm and kubectl use."""

import base64
from collections import defaultdict
from typing import Any

PROTOBUF = b"k8s\0"  # prefix of every Kubernetes protobuf message


def decoded(message: bytes) -> dict[str, Any]:
    """Decode what arrives as protobuf: helm's release secrets and kubectl's namespaces."""
    content = fields(message)
    [metadata] = map(fields, content[1])
    labels = {name: value.decode() for name, value in _map(metadata[11]).items()}
    data = {name: base64.b64encode(value).decode() for name, value in _map(content[2]).items()}
    return {"metadata": {"name": metadata[1][0].decode(), "labels": labels}, "data": data}


def fields(message: bytes) -> dict[int, list[bytes]]:
    """Return field number -> values, for strings, bytes and messages only."""
    found = defaultdict(list)
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        size, at = _varint(message, at)
        if key & 7 == 2:  # otherwise a number, whose value was the varint just read
            found[key >> 3].append(message[at : at + size])
            at += size
    return found


def _map(entries: list[bytes]) -> dict[str, bytes]:
    pairs = [fields(entry) for entry in entries if entry]  # a namespace has an empty entry
    return {pair[1][0].decode(): pair[2][0] for pair in pairs}


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return a number, stored lowest seven bits first, and the position after it."""
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
