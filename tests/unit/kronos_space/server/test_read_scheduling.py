"""Connections are read in turn, so that none of them delays the others."""

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from kronos_space.server import connection as connection_module
from kronos_space.server import read_scheduling
from kronos_space.server.connection import HEAD_BYTES, HEAD_LINES, Connection, at_most
from kronos_space.server.read_scheduling import LINES, PIECE, ReadScheduler

WELL = PlainTextResponse("well")


@dataclass
class FakeTransport(asyncio.Transport):
    """A connection that receives, and pauses or resumes the sender."""

    sent: bytearray = field(default_factory=bytearray)
    paused: bool = False
    closed: bool = False
    aborted: bool = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def get_write_buffer_size(self) -> int:
        return len(self.sent)


async def unanswered(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.Event().wait()


def connected(
    kind: type[Connection],
    state: ServerState | None = None,
    app: ASGIApp = WELL,
) -> tuple[Connection, FakeTransport]:
    config = uvicorn.Config(app, h11_max_incomplete_event_size=HEAD_BYTES)
    config.load()
    connection, wire = kind(config, state or ServerState(), {}), FakeTransport()
    connection.connection_made(wire)
    return connection, wire


def chunked(size: int, chunks: int) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%s\r\n" % (size, b"x" * size) * chunks


@pytest.mark.parametrize(("size", "chunks"), [(1, 40_000), (7, 20_000), (100, 500), (200_000, 1)])
def test_other_work_continues_while_a_body_of_any_chunk_size_is_read(
    size: int, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_scheduling, "SECONDS", 0.0)  # one piece from each connection

    async def scenario() -> None:
        kind = at_most(10)
        (large, _), (small, wire) = connected(kind), connected(kind)
        data = chunked(size, chunks)[:262_144]
        large.data_received(data)
        small.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        rounds = 0
        while not wire.sent.endswith(b"well"):
            await asyncio.sleep(0)
            rounds += 1
        assert rounds < 10
        parsed = data[: len(data) - len(large._arrived)]
        assert len(parsed) <= (rounds + 1) * PIECE
        assert parsed.count(b"\n") <= (rounds + 1) * LINES

    asyncio.run(scenario())


def test_a_new_request_does_not_wait_for_tiny_chunks_of_many_callers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(read_scheduling, "SECONDS", 0.0)

    async def scenario() -> None:
        kind = at_most(200)
        callers = [connected(kind) for _ in range(100)]
        for connection, _ in callers:
            connection.data_received(chunked(1, 40_000))
        for _ in range(200):  # every caller's head is parsed
            await asyncio.sleep(0)
        small, wire = connected(kind)
        small.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        rounds = 0
        while not wire.sent.endswith(b"well"):
            await asyncio.sleep(0)
            rounds += 1
        assert rounds < 10

    asyncio.run(scenario())


@pytest.mark.parametrize("lines", [100, 120, 200, 4000])
def test_a_head_of_thousands_of_lines_is_refused_before_it_is_parsed(lines: int) -> None:
    async def scenario() -> bytes:
        connection, wire = connected(at_most(10))
        head = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * lines + b"\r\n"
        for _ in range(2):  # the second on the same connection
            connection.data_received(head)
            for _ in range(100):
                await asyncio.sleep(0)
        return bytes(wire.sent)

    sent = asyncio.run(scenario())
    answers = sent.count(b"HTTP/1.1 200 "), sent.count(b"HTTP/1.1 431 ")
    assert answers == ((0, 1) if lines > HEAD_LINES else (2, 0))


@pytest.mark.parametrize("lines", [100, 120, 200, 4000])
def test_trailers_of_thousands_of_lines_end_the_connection_before_they_are_parsed(
    lines: int,
) -> None:
    async def scenario() -> tuple[bytes, bool]:
        connection, wire = connected(at_most(10))
        for _ in range(2):  # the second on the same connection
            connection.data_received(chunked(1, 200) + b"0\r\n" + b"a:\r\n" * lines + b"\r\n")
            for _ in range(100):
                await asyncio.sleep(0)
        return bytes(wire.sent), wire.closed

    sent, closed = asyncio.run(scenario())
    assert closed == (lines > HEAD_LINES)
    assert sent.count(b"HTTP/1.1 ") == (1 if closed else 2)


def test_a_connection_whose_answer_is_not_read_makes_room_for_a_new_one() -> None:
    async def scenario() -> None:
        kind = at_most(1)
        state = ServerState()
        slow, slow_wire = connected(kind, state, app=unanswered)
        slow.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(5):
            await asyncio.sleep(0)
        assert slow not in kind._idle
        slow.pause_writing()
        _, wire = connected(kind, state)
        assert (slow_wire.closed, wire.closed) == (True, False)
        slow.connection_lost(None)  # as the event loop does then

    asyncio.run(scenario())


def test_a_closing_connection_ends_even_if_its_last_bytes_are_never_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "STALLED_SECONDS", 0.0)

    async def scenario() -> None:
        connection, wire = connected(at_most(10))
        connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for _ in range(1000):
            await asyncio.sleep(0)
        assert wire.closed
        assert wire.aborted

    asyncio.run(scenario())


def test_a_caller_cannot_send_faster_than_the_service_reads_even_after_an_early_answer() -> None:
    async def scenario() -> None:
        connection, wire = connected(at_most(10))
        refused = chunked(100, 40) + b"0\r\n\r\n"
        connection.data_received(refused * 50)
        most = 0
        while not wire.closed and (connection._arrived or wire.paused):
            await asyncio.sleep(0)
            if not wire.paused:  # the system's buffer would deliver data now
                most = max(most, len(connection._arrived))
        assert most == 0
        assert wire.sent.count(b"well") == 50

    asyncio.run(scenario())


@dataclass
class BusyConnection:
    """A connection that always has more data to read."""

    name: str
    scheduler: ReadScheduler
    heard: list[str]
    left: int
    is_new: bool = False
    fails: bool = False

    def parse_next(self) -> None:
        self.heard.append(self.name)
        self.left -= 1
        if self.left:
            self.scheduler.add(self)
        if self.fails:
            raise RuntimeError("nothing but trouble")


def test_a_new_request_does_not_wait_for_the_bodies_of_a_hundred_others() -> None:
    async def scenario() -> list[str]:
        queue, heard = ReadScheduler(), list[str]()
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        for number in range(100):
            queue.add(BusyConnection(f"body {number}", queue, heard, 3, fails=number == 50))
        for name in ("a", "b"):
            queue.add(BusyConnection(name, queue, heard, 1, is_new=True))
        for _ in range(1000):
            await asyncio.sleep(0)
        return heard

    heard = asyncio.run(scenario())
    assert heard[:4] == ["a", "body 0", "b", "body 1"]
    assert len(heard) == 302
    bodies = [int(name.split()[1]) for name in heard if name.startswith("body")]
    assert all(second == (first + 1) % 100 for first, second in pairwise(bodies))
