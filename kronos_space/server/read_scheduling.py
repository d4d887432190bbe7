"""Parse received bytes a few at a time, so that no connection blocks the event loop.

Parsing HTTP takes about 10 µs per chunk of a body, and a chunk may be one byte. The 256 KiB that
may arrive at once could block the event loop for half a second. An answer needs several rounds of
the event loop, so each round must be short. So a piece is limited in bytes and in lines; a line
ends a chunk.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl

PIECE = 4096  # bytes of a connection parsed at a time
LINES = 128  # the same in lines: 64 chunks, less than 1 ms
SECONDS = 0.002  # of parsing before other tasks run


def piece_length(received: bytearray) -> int:
    """Return how many of the bytes to parse at a time: PIECE bytes or LINES lines at most."""
    end = 0
    for _ in range(LINES):
        end = received.find(b"\n", end, PIECE) + 1
        if not end:
            return min(PIECE, len(received))
    return end


class Readable(Protocol):
    """A connection with received bytes. is_new: it is before or in the head of a request."""

    @property
    def is_new(self) -> bool: ...
    def parse_next(self) -> None: ...


class ReadScheduler:
    """Connections with bytes to parse. New requests do not wait for long bodies."""

    def __init__(self) -> None:
        self._new: deque[Readable] = deque()
        self._others: deque[Readable] = deque()
        self._due = False

    def add(self, connection: Readable) -> None:
        """Schedule the connection once to parse some of its bytes."""
        (self._new if connection.is_new else self._others).append(connection)
        self._schedule()

    def _schedule(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._go)

    def _go(self) -> None:
        self._due = False
        end = time.monotonic() + SECONDS
        try:
            while self._new or self._others:
                for queue in (self._new, self._others):
                    if queue:
                        queue.popleft().parse_next()
                if time.monotonic() >= end:
                    break
        finally:
            if self._new or self._others:
                self._schedule()


class ResumableFlow(FlowControl):
    """A flow control that lets the connection parse its remaining bytes before it reads more."""

    def __init__(self, transport: asyncio.Transport, wanted: Callable[[], None]) -> None:
        super().__init__(transport)
        self._wanted = wanted

    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self._wanted()
