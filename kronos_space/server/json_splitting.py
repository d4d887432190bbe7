"""Split a body into its series before parsing.

Parsed JSON takes up to forty times the memory of its text, and a parser blocks the event loop. So a
batch is split at the commas of its list, and its series are parsed one by one. The split trusts
nothing: every piece, and the rest without the pieces, must be valid JSON.

    outline, spans = split_lists(b'{"requests": [{"a": 1}, 2]}', most=256)
    outline                     # b'{"requests": [0,1]}'
    [body[a:b] for a, b in spans]  # [b'{"a": 1}', b' 2']
"""

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

CHUNK = 2**16  # bytes scanned at a time
OPEN, COMMA, CLOSE = b"[,]"
SPARE = 100  # marks of further lists beyond the expected one
LEVEL = 2  # nesting level of a list directly in the top-level object

Body = bytes | bytearray
Marks = tuple[NDArray[np.int64], NDArray[np.uint8]]  # positions, and the bytes at them
_KEY = re.compile(rb'"([^"\\]{1,64})"\s*:\s*\Z')


class TooManyElements(ValueError):
    """A list has too many elements. count: how many."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} elements")
        self.count = count


def split_lists(body: Body, most: int) -> tuple[bytes, list[tuple[int, int]]]:
    """Return the body with a number in place of each list element, and the elements' spans.

    Only lists directly in the top-level object are split: `requests` of a batch. Raises
    TooManyElements.
    """
    marks: list[Marks] = []
    commas = kept = 0
    for positions, kinds in _marks(body):
        commas += int(np.count_nonzero(kinds == COMMA))
        kept += len(kinds)
        if kept <= most + SPARE:  # further elements are counted, not kept
            marks.append((positions, kinds))
    if commas >= most or kept > most + SPARE:
        raise TooManyElements(commas + 1)
    spans: list[tuple[int, int]] = []
    outline, copied, begun = bytearray(), 0, 0
    for positions, kinds in marks:
        for at, kind in zip(positions.tolist(), kinds.tolist(), strict=True):
            if kind == OPEN:
                outline += body[copied : at + 1]
            elif kind == COMMA or outline.endswith(b",") or body[begun:at].strip():
                outline += b"%d" % len(spans)
                spans.append((begun, at))
            if kind == COMMA:
                outline += b","
            begun = copied = at + (kind != CLOSE)
    return bytes(outline + body[copied:]), spans


def longest_list(body: Body) -> tuple[str, int]:
    """Return key and length of the longest list directly in an object, or ("", 0)."""
    longest = running = 0
    at = start = -1
    for positions, kinds in _marks(body):
        opened = np.flatnonzero(kinds == OPEN)
        commas = np.concatenate([[0], np.cumsum(kinds == COMMA)])
        edges = np.concatenate([[0], opened, [len(kinds)]])
        counts = np.diff(commas[edges])
        counts[0] += running
        starts = np.concatenate([[start], positions[opened]])
        if counts.max() > longest:
            longest, at = int(counts.max()), int(starts[counts.argmax()])
        running, start = int(counts[-1]), int(starts[-1])
    key = _KEY.search(bytes(body[max(0, at - 100) : max(0, at)]))
    return (key[1].decode(errors="replace"), longest + 1) if key else ("", 0)


def _marks(body: Body) -> Iterator[Marks]:
    """Find brackets and commas of lists nested in another bracket, one chunk at a time."""
    begin, depth, inside, in_list = 0, 0, np.uint8(0), False
    while begin < len(body):
        chunk = bytes(body[begin : begin + CHUNK])
        backslashes = len(chunk) - len(chunk.rstrip(b"\\"))
        if backslashes % 2 and begin + len(chunk) < len(body):
            chunk = chunk[:-1]  # the escaped character is in the next chunk
        size = len(chunk)
        if b"\\" in chunk:
            chunk = chunk.replace(b"\\\\", b"__").replace(b'\\"', b"__")
        text = np.frombuffer(chunk, np.uint8)
        quoted = np.add.accumulate(text == ord('"'), dtype=np.uint8)
        quoted += inside
        quoted &= 1
        inside = quoted[-1]
        folded = text | 0x20  # makes [ equal to {, and ] to }
        places = np.flatnonzero(
            ((folded == 0x7B) | (folded == 0x7D) | (text == COMMA)) & (quoted == 0)
        )
        kinds, turns = text[places], folded[places]
        opens = turns == 0x7B
        after = depth + np.cumsum(opens.astype(np.int32) - (turns == 0x7D))
        depth = int(after[-1]) if len(after) else depth
        # a closing bracket belongs to the level that it closes
        at_level = np.flatnonzero(after + (turns == 0x7D) == LEVEL)
        positions, kinds, opens = places[at_level] + begin, kinds[at_level], opens[at_level]
        begin += size
        if not len(at_level):
            continue
        latest = np.maximum.accumulate(np.where(opens, np.arange(len(at_level)), -1))
        of_list = np.where(latest >= 0, kinds[latest] == OPEN, in_list)
        in_list = bool(of_list[-1])
        yield positions[of_list], kinds[of_list]
