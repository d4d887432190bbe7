"""Slow, large, rude or vanished callers do not affect others: a real process with short time-outs.

Only the service's time-outs, which are meant for people, are shortened.
"""

import json
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import requests

from tests.support.attack import peak_mb
from tests.support.candles import bars, request
from tests.support.space_server import Server, serving, until

IMPATIENT = """
import resource, sys
from kronos_space import __main__
from kronos_space.server import bodies, connection
connection.HEAD_SECONDS, connection.STALLED_SECONDS = 2.0, 1.0
bodies.BODY_SECONDS, bodies.HELD = 2, 5 * 2**20
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 600))
sys.exit(__main__.main())
"""
POST = "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
GIVEN_UP = 'kronos_http_requests_total{{method="POST",route="{path}",status="499"}}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("slow") / "server.log"
    with serving(log, command=("-c", IMPATIENT)) as server:
        yield server
        status, output = server.stop()
        assert status == 0
        assert "Traceback" not in output


@contextmanager
def caller(server: Server, *sent: bytes, buffer: int | None = None) -> Iterator[socket.socket]:
    """A connection that has sent this; closing it sends a reset, as a killed process does."""
    with socket.socket() as connection:
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.settimeout(120)
        connection.connect(server.address)
        for data in sent:
            connection.sendall(data)
        yield connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def post(path: str, body: Any, *, missing: int = 0) -> bytes:
    """Return a request without its last `missing` bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return POST.format(path=path, length=len(content) + missing).encode() + content


def everything(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    received = bytearray()
    while part := connection.recv(65536):
        received += part
    return bytes(received)


def is_served(server: Server) -> None:
    """Check that another caller gets a forecast."""
    answer = requests.post(f"{server.url}/predict", json=request(ohlcv=bars(200)), timeout=120)
    assert answer.status_code == 200


def test_hundreds_of_unfinished_requests_are_dropped_and_others_served(
    server: Server,
) -> None:
    with ExitStack() as stack:
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Slow"
        slow = [stack.enter_context(caller(server, head)) for _ in range(400)]
        is_served(server)
        answers = [everything(connection) for connection in slow]
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    body = json.loads(answers[0].partition(b"\r\n\r\n")[2])
    assert body["error"]["code"] == "request_timeout"


def test_more_connections_than_file_descriptors_block_no_caller(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(700):
            stack.enter_context(caller(server, b"POST /predict HTTP/1.1\r\nX-Slow"))
        assert requests.get(f"{server.url}/health", timeout=30).status_code == 200
        assert server.metric("process_max_fds") == 600
        is_served(server)
    assert "Too many open files" not in server.log.read_text()


def test_a_header_sent_byte_by_byte_gets_no_extra_time(server: Server) -> None:
    with caller(server) as connection:
        connection.settimeout(0.05)
        answer = b""
        for letter in "GET /health HTTP/1.1\r\nX-Long: " + "x" * 1000:
            connection.sendall(letter.encode())
            try:
                answer = connection.recv(65536)
                break
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_is_closed_without_a_message(server: Server) -> None:
    with (
        caller(server) as first,
        caller(server, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n") as next_,
    ):
        assert everything(first) == b""
        assert everything(next_).count(b"HTTP/1.1") == 1


def test_a_body_of_50_mb_is_refused_and_a_trickling_one_is_given_up(server: Server) -> None:
    with caller(server, post("/predict", b"{", missing=1000)) as trickle:
        huge = requests.post(f"{server.url}/predict", data=b" " * 50_000_000, timeout=60)
        assert huge.status_code == 413
        assert huge.json()["error"]["code"] == "body_too_large"
        is_served(server)
        trickle.settimeout(0.2)
        answer = b""
        while not answer:
            trickle.sendall(b" ")
            try:
                answer = trickle.recv(65536)
            except TimeoutError:
                continue
        trickle.settimeout(10)
        while not answer.endswith(b"}"):  # the headers may arrive before the body
            part = trickle.recv(65536)
            assert part, answer
            answer += part
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"message":"the body did not arrive within 2 s"' in answer


def test_large_bodies_cannot_fill_the_memory_together(server: Server) -> None:
    large = post("/predict/batch", b" " * 2 * 2**20, missing=10)
    with ExitStack() as stack:
        callers = [stack.enter_context(caller(server, large)) for _ in range(3)]
        # the caller that exceeded the limit
        [refused, *_], _, _ = select.select(callers, [], [], 30)
        answer = refused.recv(65536)
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 5\r\n" in answer.lower()
        is_served(server)
    until(lambda: requests.post(f"{server.url}/predict", data=b" " * 3 * 2**20).status_code == 422)


def test_a_caller_that_disconnects_mid_body_is_not_a_failure(server: Server) -> None:
    gone = GIVEN_UP.format(path="/predict")
    before = server.metric(gone)
    with caller(server, post("/predict", request(), missing=10)):
        pass
    until(lambda: server.metric(gone) == before + 1)


def test_a_caller_that_disconnects_while_waiting_frees_its_places(server: Server) -> None:
    gone = GIVEN_UP.format(path="/predict/batch")
    before = server.metric(gone)
    batch = {"requests": [request(horizon=100, samples=100)] * 60}
    with caller(server, post("/predict/batch", batch)):
        until(lambda: server.metric("kronos_queue_series") > 30)
    until(lambda: server.metric("kronos_queue_series") == 0)
    until(lambda: server.metric(gone) == before + 1)
    is_served(server)


def test_a_caller_that_disconnects_during_computation_is_dropped_immediately(
    server: Server,
) -> None:
    gone, calls = GIVEN_UP.format(path="/predict"), "kronos_engine_seconds_count"
    until(lambda: server.metric("kronos_queue_series") == 0)
    before, computed = server.metric(gone), server.metric(calls)
    long = request(horizon=200, samples=256)
    with caller(server, post("/predict", long)):
        until(lambda: server.metric("kronos_running_series") == 1)
    until(lambda: server.metric(gone) == before + 1)
    assert server.metric(calls) == computed  # still computing
    is_served(server)


def test_a_caller_that_has_sent_its_next_request_is_seen_to_hang_up_too(server: Server) -> None:
    gone, calls = GIVEN_UP.format(path="/predict"), "kronos_engine_seconds_count"
    until(lambda: server.metric("kronos_queue_series") == 0)
    before, computed = server.metric(gone), server.metric(calls)
    with caller(server, post("/predict", request(horizon=200, samples=256))) as connection:
        until(lambda: server.metric("kronos_running_series") == 1)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 4000)
        connection.shutdown(socket.SHUT_WR)  # the service has stopped reading by now
        until(lambda: server.metric(gone) == before + 1)
    assert server.metric(calls) == computed  # still computing
    is_served(server)


def test_answers_that_nobody_reads_take_little_memory(server: Server) -> None:
    ask = b"GET /static/plotly.min.js HTTP/1.1\r\nHost: x\r\n\r\n"
    requests.get(f"{server.url}/static/plotly.min.js", timeout=30)
    before = peak_mb(server.process.pid)
    with ExitStack() as stack:
        callers = [stack.enter_context(caller(server, ask, buffer=4096)) for _ in range(100)]
        for connection in callers:
            assert select.select([connection], [], [], 30)[0], "the answer has begun"
        assert peak_mb(server.process.pid) < before + 100  # whole answers are 480 MB
    is_served(server)


def test_an_answer_that_is_not_read_is_discarded(server: Server) -> None:
    path = "/static/plotly.min.js"
    whole = len(
        requests.get(server.url + path, headers={"Accept-Encoding": ""}, timeout=30).content
    )
    ask = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    idle = server.metric("process_open_fds")
    with caller(server, ask, buffer=4096) as connection:
        assert select.select([connection], [], [], 30)[0], "the answer has begun"
        until(lambda: server.metric("process_open_fds") <= idle)
        assert len(everything(connection)) < whole
    is_served(server)


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",  # without a Host header
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_invalid_http_is_refused_with_the_usual_error_format(server: Server, sent: bytes) -> None:
    with caller(server, sent) as connection:
        head, _, body = everything(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"x-request-id: " in head
    assert b"x-content-type-options: nosniff" in head
    assert json.loads(body)["error"]["code"] == "bad_request"


def test_a_websocket_request_gets_an_http_answer(server: Server) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert requests.get(f"{server.url}/health", headers=headers, timeout=10).status_code == 200
    assert "WebSocket" not in server.log.read_text()
