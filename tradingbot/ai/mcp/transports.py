"""Transports of the server: standard input and output, or HTTP on this machine."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

import uvicorn
from mcp.server.stdio import stdio_server

from tradingbot.errors import KronosError

HOST = "127.0.0.1"
PATH = "/mcp"
MAX_BODY = 2**16  # bytes; more than any call needs
BACKLOG = 128


def serve_stdio(server: Any) -> None:
    """Serve one client until standard input ends. Standard output carries only the protocol.

    A client that disconnects is not an error.

    Raises:
        KronosError: A stream is closed or cannot be written.
    """
    if sys.stdin is None or sys.stdout is None:
        raise KronosError(
            "standard input or output is closed: an assistant starts this command with both; "
            "--http needs neither"
        )
    failure: OSError | None = None
    try:
        asyncio.run(_stdio(server))
    except* BrokenPipeError:
        pass
    except* OSError as group:
        failure = next(_members(group))
    if failure:  # raised here, because Python before 3.11.4 makes a group of it in `except*`
        raise KronosError(f"standard output cannot be written: {failure}") from failure


def _members(group: ExceptionGroup[OSError]) -> Iterator[OSError]:
    """Yield the errors of a group, and of the groups in it."""
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _members(error)
        else:
            yield error


async def _stdio(server: Any) -> None:
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


def listen(port: int) -> socket.socket:
    """Bind a port of the loopback address; 0 for any free port.

    Raises:
        KronosError: The port is taken, or binding is not permitted.
    """
    try:
        return socket.create_server((HOST, port), backlog=BACKLOG)
    except OSError as error:
        raise KronosError(
            f"cannot listen on {HOST}:{port}: {os.strerror(error.errno or 0)}; stop what listens "
            "there, or choose another port with --port"
        ) from error


def serve_http(server: Any, listener: socket.socket) -> None:
    """Serve any number of local clients, each request independently, until a signal."""
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=True,
        max_request_body_size=MAX_BODY,
        host=HOST,  # requires this Host header, which web pages in a browser cannot send
    )
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none")
    _Server(config).run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn without signal handlers, so that the command's own handlers stay in place."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
