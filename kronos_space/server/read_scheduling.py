"""Bytes that have arrived, read a few at a time, so that the event loop stops for nobody.

Reading HTTP takes some 10 µs for each chunk of a body, and one byte may be a chunk: 256 KiB, which
is what may arrive at once, would stop everything else for half a second.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl

PIECE = 4096  # bytes of a connection that are read together
SECONDS = 0.005  # of reading, after which everything else is due


class Readable(Protocol):
    """A connection whose bytes wait. is_new: few bytes of its request have been read so far."""

    @property
    def is_new(self) -> bool: ...
    def read_some(self) -> None: ...


class ReadScheduler:
    """Connections that have bytes to read. Requests that begin do not wait for long bodies."""

    def __init__(self) -> None:
        self._new: deque[Readable] = deque()
        self._others: deque[Readable] = deque()
        self._due = False

    def add(self, connection: Readable) -> None:
        """Let the connection read some of its bytes soon, once."""
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
                        queue.popleft().read_some()
                if time.monotonic() >= end:
                    break
        finally:
            if self._new or self._others:
                self._schedule()


class ResumableFlow(FlowControl):
    """Tells the connection when its bytes are wanted again, which has some left to read first."""

    def __init__(self, transport: asyncio.Transport, wanted: Callable[[], None]) -> None:
        super().__init__(transport)
        self._wanted = wanted

    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self._wanted()
