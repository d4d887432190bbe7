"""uvicorn's HTTP connection with time-outs, so that idle callers cannot block the service.

By default uvicorn waits without limit for the head of a request, and for a caller that does not
read its answer. Many such callers would use up all file descriptors, or memory for answers. When
the number of connections is at its limit, a new one replaces the one that has been idle longest.
Received bytes of all connections are parsed in turn, a few at a time.
"""

import asyncio
import select
import uuid
from http import HTTPStatus
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from kronos_space.server.errors import ApiError
from kronos_space.server.read_scheduling import LINES, ReadScheduler, ResumableFlow, piece_length

HEAD_BYTES = 2**14  # largest head of a request; browsers and proxies send less than 8 KiB
# The same in lines, also for the trailers after a chunked body: thousands take 20 ms, and browsers
# send about twenty.
HEAD_LINES = 128
HEAD_SECONDS = 20.0  # from the connection's start, or the last answer, to the end of a head
STALLED_SECONDS = 60.0  # during an answer, without the caller reading a byte
HUNG_UP_SECONDS = 1.0  # between two looks whether a caller that is not read has hung up
_HUNG_UP = getattr(select, "POLLRDHUP", 0)  # Linux; elsewhere poll() reports resets only


class Connection(H11Protocol):
    """HTTP/1.1 with time-outs. Anything that is not HTTP gets the common error body."""

    limit: ClassVar[int] = 1000  # number of connections; set by `at_most`
    _idle: ClassVar[dict["Connection", None]] = {}  # those that wait for the caller, longest first
    _scheduler: ClassVar[ReadScheduler] = ReadScheduler()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: asyncio.TimerHandle | None = None  # time-out for the head of a request
        self._unread: asyncio.TimerHandle | None = None  # time-out for an unread answer
        self._arrived = bytearray()  # received, not parsed yet
        self._in_turn = False
        self._looking: asyncio.TimerHandle | None = None  # for a caller that has hung up

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = ResumableFlow(transport, wanted=self._go_on)
        if len(self.connections) > self.limit:
            self._make_room()
        self._watch()

    def data_received(self, data: bytes) -> None:
        self._arrived += data
        self._go_on()

    @property
    def is_new(self) -> bool:
        return self.conn.their_state is h11.IDLE

    def parse_next(self) -> None:
        """Parse the next received bytes."""
        self._in_turn = False
        if self.transport.is_closing() or self.flow.read_paused:
            return
        length = piece_length(self._arrived)
        piece = bytes(self._arrived[:length])
        del self._arrived[:length]
        if self._lines() + piece.count(b"\n") > HEAD_LINES:
            message = f"the head of the request, or its trailers, have over {HEAD_LINES} lines"
            self._refuse(ApiError(431, "head_too_large", message))
            return
        try:
            super().data_received(piece)
        except Exception:
            self.transport.abort()
            raise
        self._watch()
        self._go_on()

    def _lines(self) -> int:
        """Return the number of received lines of an incomplete head, or of incomplete trailers."""
        if self.conn.their_state is h11.DONE:  # the next request of an active connection
            return -LINES
        begun, _ = self.conn.trailing_data
        return begun.count(b"\n")

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._idle.pop(self, None)
        self._arrived.clear()
        for timer in (self._waiting, self._unread, self._looking):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._idle.setdefault(self)  # one that reads a byte a minute may make room for others
        self._expect_progress()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        self._watch()

    def _should_upgrade(self) -> bool:
        return False  # no WebSockets: the request gets an HTTP answer

    def send_400_response(self, msg: str) -> None:
        self._refuse(ApiError(400, "bad_request", msg))

    def _go_on(self) -> None:
        """Queue received bytes for parsing; pause reading from the socket meanwhile."""
        if not self._arrived and not self.flow.read_paused:
            self.transport.resume_reading()
            return
        self.transport.pause_reading()
        if self._arrived and not self.flow.read_paused and not self._in_turn:
            self._in_turn = True
            self._scheduler.add(self)

    def _watch(self) -> None:
        """Run the time-out for a request's head while no request is active."""
        if self not in self.connections:
            return
        if self.transport.is_closing():  # once the caller has read the rest
            self._idle.setdefault(self)
            if self._unread is None:
                self._expect_progress()
            return
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            self._idle.setdefault(self)
        else:
            self._idle.pop(self, None)
        if self.cycle is not None and not self.cycle.response_complete:
            if self._waiting is not None:
                self._waiting.cancel()
            self._waiting = None
            if self._looking is None:
                self._looking = self.loop.call_later(HUNG_UP_SECONDS, self._look_for_hang_up)
        elif self._waiting is None:
            self._waiting = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _look_for_hang_up(self) -> None:
        """Close the connection if the caller has hung up; repeat this until the answer is sent.

        asyncio notices it only while it reads. It does not read while the bytes of the caller's
        next request wait for the end of this answer.
        """
        self._looking = None
        if self.transport.is_closing() or self.cycle.response_complete:
            return
        if not self.transport.is_reading():
            looked = select.poll()
            looked.register(self.transport.get_extra_info("socket"), _HUNG_UP)
            if looked.poll(0):
                self.transport.abort()
                return
        self._looking = self.loop.call_later(HUNG_UP_SECONDS, self._look_for_hang_up)

    def _make_room(self) -> None:
        """Close the connection that has been idle longest, or this one if none is idle."""
        longest = next(iter(self._idle), None)
        if longest is None:
            headers = {"Retry-After": "5"}
            message = "too many connections are open; try again in 5 s"
            self._refuse(ApiError(503, "too_many_connections", message, headers=headers))
        else:
            del self._idle[longest]
            longest.transport.abort()

    def _give_up(self) -> None:
        if self.transport.is_closing():
            self._watch()
            return
        begun, _ = self.conn.trailing_data
        if not begun:  # a browser may open a connection before it has a request
            self.transport.close()
            return
        message = f"the head of the request did not arrive within {HEAD_SECONDS:g} s"
        self._refuse(ApiError(408, "request_timeout", message))

    def _refuse(self, error: ApiError) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # a request in progress has no other answer
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response, reason = error.response(), HTTPStatus(error.status).phrase
            headers = [
                *response.raw_headers,
                (b"x-request-id", uuid.uuid4().hex.encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"connection", b"close"),
            ]
            for event in (
                h11.Response(status_code=error.status, headers=headers, reason=reason),
                h11.Data(data=bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._watch()

    def _expect_progress(self) -> None:
        unsent = self.transport.get_write_buffer_size()

        def look() -> None:
            if self.transport.get_write_buffer_size() >= unsent:
                self.transport.abort()
            else:
                self._expect_progress()

        self._unread = self.loop.call_later(STALLED_SECONDS, look)


def at_most(connections: int) -> type[Connection]:
    """Return a Connection class for a server that is limited to this many connections."""

    class Bounded(Connection):
        limit = connections
        _idle: ClassVar[dict[Connection, None]] = {}
        _scheduler: ClassVar[ReadScheduler] = ReadScheduler()

    return Bounded
