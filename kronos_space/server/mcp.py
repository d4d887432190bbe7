"""`/mcp`: forecasts for AI assistants that speak the Model Context Protocol.

Every request is an independent JSON-RPC message: no state is kept between requests, so any proxy
works. Key, size and media type are checked before the SDK handles a request. The arguments of a
tool never reach it, because it would parse them on the event loop. The SDK is imported by the first
request: importing it takes a third as long as the service's start.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fastapi import Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kronos_space import __version__
from kronos_space.exceptions import QueueFull
from kronos_space.server import mcp_tools
from kronos_space.server.bodies import check_media_type
from kronos_space.server.errors import ApiError
from kronos_space.server.mcp_messages import OUTLINE, REFERENCE, ReadMessage
from kronos_space.server.mcp_tools import Tool
from kronos_space.settings import Settings

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

FAN = "ui://kronos/fan.html"
AT_ONCE = 16  # requests handled at a time; the bodies of waiting ones count as held
WAITING = 64  # further requests that may wait: each keeps a connection, and these are limited
ROW = 256  # bytes; a row of candles has about 120
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Assistants:
    """The MCP server at /mcp, built on the SDK. `settings` limits the candles of one call."""

    def __init__(self, service: Any, settings: Settings) -> None:
        self._service = service
        self._tools = mcp_tools.tools(settings)
        self._largest = 2**18 + ROW * settings.max_history  # bytes
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._accepted = 0  # requests handled or waiting
        self._arguments: dict[str, dict[str, Any]] = {}  # of the calls in progress
        self._app: asyncio.Future[ASGIApp] | None = None
        self._running: asyncio.Task[None] | None = None

    async def app(self) -> ASGIApp:
        """Return the SDK's application, created by the first request. Raises ApiError 501."""
        if self._app is None:
            self._app = asyncio.get_running_loop().create_future()
            self._running = asyncio.create_task(self._run(self._app))
        return await asyncio.shield(self._app)  # other requests wait for it too

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _run(self, app: "asyncio.Future[ASGIApp]") -> None:
        """Run the SDK's tasks from the first request to the end of the service."""
        try:
            manager = await asyncio.to_thread(_manager, self)
        except Exception as error:  # passed on to the waiting requests
            message = "/mcp needs the package mcp: pip install 'mcp>=2.3,<3'"
            missing = isinstance(error, ImportError)
            app.set_exception(ApiError(501, "not_installed", message) if missing else error)
            self._app = None
            return
        async with manager.run():
            app.set_result(manager.handle_request)
            await asyncio.Event().wait()

    def answer(self, request: Request) -> "Exchange":
        """Return the response to a request. Raises ApiError for requests from web pages."""
        check_origin(request)
        check_media_type(request)
        return Exchange(self, request)

    @contextmanager
    def accepted(self) -> Iterator[None]:
        """Count a request. Raises QueueFull if too many wait."""
        if self._accepted >= AT_ONCE + WAITING:
            raise QueueFull("too many calls of /mcp are waiting", retry_after=5)
        self._accepted += 1
        try:
            yield
        finally:
            self._accepted -= 1

    @contextmanager
    def holding(self, message: ReadMessage) -> Iterator[None]:
        """Keep the arguments of a call for `call` while the SDK handles the rest of it."""
        self._arguments[message.reference] = message.arguments
        try:
            yield
        finally:
            del self._arguments[message.reference]

    async def call(self, tool: Tool, arguments: dict[str, Any]) -> Any:
        """Return the result of a tool, given the arguments as the SDK has them."""
        reference = arguments.get(REFERENCE)
        given = self._arguments.get(reference) if isinstance(reference, str) else None
        return await tool.answer(self._service, arguments if given is None else given)


class Exchange(Response):
    """One request, passed whole to the SDK, and its response."""

    def __init__(self, assistants: Assistants, request: Request) -> None:
        super().__init__()
        self._assistants = assistants
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond. Raises ApiError, QueueFull and InvalidRequest before anything is sent."""
        assistants = self._assistants
        service = assistants._service
        with assistants.accepted():
            async with (
                service.bodies.of(self._request, max_bytes=assistants._largest) as body,
                assistants._slots,
            ):
                message = await service.reader.message(body)
                app = await assistants.app()
                with assistants.holding(message):
                    await app(_plain(scope), _again(message.outline, receive), send)


def check_origin(request: Request) -> None:
    """Raise ApiError 403 for a web page that is neither from this machine nor from this Space.

    By DNS rebinding a web page can make its own host name resolve to this machine, and so reach a
    service that listens only locally. That is impossible with another's name below hf.space.
    """
    origin = request.headers.get("origin")
    if origin is None:  # not a browser
        return
    name = _host(origin)
    this_host = _host(f"//{request.headers.get('host', '')}")
    if name in _LOOPBACK or (name == this_host and name.endswith(".hf.space")):
        return
    shown = ascii(origin if len(origin) <= 60 else origin[:60] + "…")
    raise ApiError(403, "wrong_origin", f"Origin: {shown}: pages of other sites are refused")


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _plain(scope: Scope) -> Scope:
    """Return the scope with the Content-Type that the SDK requires; a missing one means JSON."""
    replaced = (b"content-type", b"content-length")
    headers = [(name, value) for name, value in scope["headers"] if name not in replaced]
    return {**scope, "headers": [*headers, (b"content-type", b"application/json")]}


def _again(body: bytes, receive: Receive) -> Receive:
    """Replay the body, which is already read, and then pass on later events (disconnect)."""
    unread = [body]

    async def receive_again() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return receive_again


def _manager(assistants: Assistants) -> Any:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    logging.getLogger("mcp").setLevel(logging.WARNING)  # the service logs requests itself
    return StreamableHTTPSessionManager(
        _server(assistants), stateless=True, max_request_body_size=OUTLINE + 1024
    )


def _server(assistants: Assistants) -> "Server[Any]":
    """Return the SDK's server with the tools."""
    import mcp_types as types
    from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID
    from mcp.server.lowlevel import Server
    from mcp.shared.exceptions import MCPError

    by_name = {tool.name: tool for tool in assistants._tools}
    html = (Path(__file__).parent.parent / "static" / "fan.html").read_text(encoding="utf-8")

    async def list_tools(_context: Any, _params: Any) -> Any:
        return types.ListToolsResult(tools=listed)

    async def call_tool(_context: Any, params: Any) -> Any:
        tool = by_name.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"unknown tool: there are {', '.join(by_name)}")
        try:
            text, document = await assistants.call(tool, params.arguments or {})
        except Exception as error:
            words = mcp_tools.failure(tool.name, error)
            content = [types.TextContent(type="text", text=words)]
            return types.CallToolResult(content=content, is_error=True)
        content = [types.TextContent(type="text", text=text)]
        return types.CallToolResult(content=content, structured_content=document)

    async def list_resources(_context: Any, _params: Any) -> Any:
        fan = types.Resource(
            uri=FAN,
            name="fan",
            title="Kronos forecast as a fan",
            description="A forecast's median and bands, bar by bar, for clients with MCP Apps.",
            mime_type=APP_MIME_TYPE,
        )
        return types.ListResourcesResult(resources=[fan])

    async def read_resource(_context: Any, params: Any) -> Any:
        if str(params.uri) != FAN:
            raise MCPError(types.INVALID_PARAMS, f"unknown resource: there is {FAN}")
        meta = {"ui": {"prefersBorder": True}}
        page = types.TextResourceContents(uri=FAN, mime_type=APP_MIME_TYPE, text=html, _meta=meta)
        return types.ReadResourceResult(contents=[page])

    listed = [
        types.Tool(
            name=tool.name,
            title=tool.title,
            description=tool.about,
            input_schema=tool.arguments,
            output_schema=tool.document,
            annotations=types.ToolAnnotations(
                read_only_hint=True,
                destructive_hint=False,
                idempotent_hint=True,
                open_world_hint=False,
            ),
            _meta={"ui": {"resourceUri": FAN}} if tool.is_drawn else None,
        )
        for tool in assistants._tools
    ]
    server = Server(
        "kronos-space",
        version=__version__,
        title="Kronos forecasts",
        instructions=mcp_tools.INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_read_resource=read_resource,
    )
    server.extensions[EXTENSION_ID] = {}
    return server
